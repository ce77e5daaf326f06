"""Chart of replayed compile seconds against the limit: the policies, the bound, the knee, the present setting."""

from typing import Any

import altair as alt

from ... import Curves

_MIB = 1024**2
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]


def draw(curves: Curves, policies: list[str] | None = None) -> alt.TopLevelMixin:
    """Return the chart; ``.save("curves.svg")`` writes it.

    The dashed line is the bound, which no policy can be below. The dotted vertical line is the knee of the best
    policies' curve. The black ring is the recorded setting, where that is known.

    Args:
        curves: From :func:`jaxcache.curves`.
        policies: Names of the policies to show; all if None.

    Raises:
        ValueError: If the curves have no such policy.
    """
    shown = list(curves.results) if policies is None else policies
    missing = [name for name in shown if name not in curves.results]
    if missing:
        raise ValueError(f"policies must be among {', '.join(curves.results)}, but {missing[0]!r} is not")
    limits = (curves.limits_bytes / _MIB).tolist()
    rows = [
        {"policy": name, "limit": limit, "seconds": seconds}
        for name in shown
        for limit, seconds in zip(limits, curves.compile_seconds(name).tolist(), strict=True)
    ]
    x = alt.X("limit:Q", title="memory limit (MiB)", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("seconds:Q", title="compile seconds, replayed", scale=alt.Scale(zero=True))
    lines = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.5)
    encoded = {
        "x": x,
        "y": y,
        "color": alt.Color("policy:N", title="eviction", sort=shown, scale=alt.Scale(scheme="tableau20")),
        "shape": alt.Shape("policy:N", title="eviction", sort=shown, scale=alt.Scale(range=2 * _SHAPES)),
    }
    layers: list[Any] = [
        lines.encode(x=x, y=y, color=encoded["color"]),
        alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=40).encode(**encoded),
        _line(limits, curves.lower_bound_seconds.tolist()).encode(x=x, y=y),
        alt.Chart(alt.Data(values=[{"limit": curves.knee_bytes() / _MIB}])).mark_rule(strokeDash=[2, 3]).encode(x=x),
    ]
    present = curves.present
    if present is not None:
        # A setting without a limit is drawn at the largest limit, where everything fits.
        limit = limits[-1] if present.limit_bytes is None else present.limit_bytes / _MIB
        point = [{"limit": limit, "seconds": present.compile_seconds}]
        layers.append(
            alt.Chart(alt.Data(values=point)).mark_point(size=220, color="black", strokeWidth=2).encode(x=x, y=y)
        )
    return (
        alt.layer(*layers)
        .properties(width=520, height=340)
        .configure(background="white", font="sans-serif")
        .configure_axis(grid=True, gridOpacity=0.4)
        .configure_view(stroke=None)
    )


def _line(limits: list[float], seconds: list[float]) -> alt.Chart:
    rows = [{"limit": limit, "seconds": value} for limit, value in zip(limits, seconds, strict=True)]
    return alt.Chart(alt.Data(values=rows)).mark_line(strokeDash=[6, 4], color="black")
