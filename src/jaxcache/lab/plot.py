"""Reference compile seconds against the memory limit: a line a policy, the frame around them."""

from typing import Any

import altair as alt

from .aggregate import Group

# Okabe and Ito's colours: told apart by colour-blind people; shapes tell the policies apart without colour.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
_MIB = 1024**2


def tradeoff(groups: tuple[Group, ...]) -> alt.TopLevelMixin | None:
    """Return the chart, one panel a program; None if there is nothing to draw.

    The dashed line above is the cost of caching nothing, the dotted one below that of never evicting: every policy
    lies between, unless it keeps nothing at all.
    """
    panels: dict[str, list[Group]] = {}
    for group in groups:
        panels.setdefault(f"{group.program.workload}, {group.program.shapes}", []).append(group)
    if not panels:
        return None
    policies = sorted({group.setting.eviction for group in groups})
    charts = [_panel(title, members, policies) for title, members in panels.items()]
    return (
        alt.concat(*charts, columns=3)
        .resolve_scale(color="shared", shape="shared", x="independent", y="independent")
        .resolve_legend(color="shared", shape="shared")
        .configure(background="white", font="sans-serif")
        .configure_axis(grid=True, gridOpacity=0.4)
        .configure_view(stroke=None)
    )


def _panel(title: str, groups: list[Group], policies: list[str]) -> Any:
    unlimited = max((g.frame.unbounded_bytes for g in groups if g.frame), default=0.0) / _MIB
    rows = [
        {
            "policy": group.setting.eviction,
            "limit": group.setting.memory_limit / _MIB if group.setting.memory_limit else unlimited,
            "seconds": seconds,
        }
        for group in groups
        for seconds in group.seconds_by_seed.values()
    ]
    limits = sorted({row["limit"] for row in rows})
    x = alt.X(
        "limit:Q",
        title="memory limit (MiB)",
        scale=alt.Scale(type="log", domain=[limits[0] * 0.8, limits[-1] * 1.25]),
        axis=alt.Axis(values=limits, format="~g"),
    )
    encoding: dict[str, Any] = {
        "x": x,
        "y": alt.Y("mean(seconds):Q", title="reference compile seconds", scale=alt.Scale(zero=True)),
        "color": alt.Color("policy:N", title="eviction", scale=alt.Scale(domain=policies, range=_COLOURS)),
        "shape": alt.Shape("policy:N", title="eviction", scale=alt.Scale(domain=policies, range=_SHAPES)),
    }
    lines = alt.Chart(alt.Data(values=rows)).mark_line(point=alt.OverlayMarkDef(size=70, filled=True, opacity=1))
    layers: list[Any] = [lines.encode(**encoding), *_frame_lines(groups)]
    return alt.layer(*layers).properties(title=title, width=280, height=260)


def _frame_lines(groups: list[Group]) -> list[Any]:
    frame = next((group.frame for group in groups if group.frame), None)
    if frame is None:
        return []
    lines: list[Any] = []
    for name, seconds, dash, side in (
        ("nothing cached", frame.uncached_seconds, [6, 4], "bottom"),
        ("nothing evicted", frame.unbounded_seconds, [2, 3], "top"),
    ):
        data = alt.Chart(alt.Data(values=[{"seconds": seconds, "name": f"{name}: {seconds:.1f} s"}]))
        lines.append(data.mark_rule(strokeDash=dash, color="#555555").encode(y="seconds:Q"))
        lines.append(
            data.mark_text(align="right", baseline="top" if side == "bottom" else "bottom", dx=-4, color="#555555",
                           dy=3 if side == "bottom" else -3)
            .encode(y="seconds:Q", text="name:N", x=alt.value(280))
        )  # fmt: skip
    return lines
