"""The report's charts, one function each: an aggregate -> Vega-Lite specifications without colours of their own.

Colours, and the ink of axes and text, are the theme's, so that one specification serves light and dark. Nothing is
told by colour alone: lines differ in dash and mark, bars in lightness and order, cells carry their number.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import altair as alt

from .aggregate import Group, Program, Setting
from .comparison import compare
from .decision import baseline_of, by_policy
from .trial import Course

MOST_PANELS = 12
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3], [1, 3], [6, 2, 1, 2, 1, 2]]
SOURCES = {"held": "held in memory", "loaded": "loaded from disk", "compiled": "compiled"}
_MIB = 1024**2
_HEIGHT, _ROW_HEIGHT, _BAR_HEIGHT, _MOST_BARS = 260, 44, 24, 24


@dataclass(frozen=True)
class Panel:
    """One chart: its title and its Vega-Lite specification."""

    title: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Charts of one kind, one a program.

    Attributes:
        name: What it is called in addresses and file names.
        caption: How to read it.
        panels: At most ``MOST_PANELS``.
        left_out: How many programs have no panel.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    left_out: int = 0


def figures(groups: Sequence[Group], chosen: Setting | None) -> list[Figure]:
    """Return every figure for which there is something to draw."""
    made = [
        tradeoff(groups), pareto(groups), time_spent(groups, chosen), heat_map(groups), causes(groups, chosen),
        memory(groups, chosen), latency(groups, chosen), lengths(groups),
    ]  # fmt: skip
    return [figure for figure in made if figure.panels]


def _programs(groups: Sequence[Group]) -> dict[Program, list[Group]]:
    found: dict[Program, list[Group]] = defaultdict(list)
    for group in groups:
        found[group.program].append(group)
    return found


def _title(program: Program, groups: Sequence[Group]) -> str:
    several = len({group.program.persistent for group in groups}) > 1
    return program.label + (f", disk {program.persistent}" if several else "")


def _by_program(name: str, title: str, caption: str, groups: Sequence[Group], draw: Any) -> Figure:
    programs = _programs(groups)
    panels = [
        Panel(_title(program, groups), chart if isinstance(chart, dict) else _spec(chart))
        for program, members in list(programs.items())[:MOST_PANELS]
        if (chart := draw(members)) is not None
    ]
    return Figure(name, title, caption, tuple(panels), max(0, len(programs) - MOST_PANELS))


def _spec(chart: Any, height: int = _HEIGHT) -> dict[str, Any]:
    """Return the specification with its data inside, as wide as the page gives it room."""
    with alt.data_transformers.enable("default", consolidate_datasets=False, max_rows=None):
        spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict(validate=False)
    for unused in ("config", "$schema"):
        spec.pop(unused, None)
    return spec


def _data(rows: list[dict[str, Any]]) -> Any:
    return alt.Chart(alt.Data(values=rows))


def _line_of(setting: Any, several_buckets: bool) -> str:
    return f"{setting.eviction}, {setting.buckets}" if several_buckets else setting.eviction


def _lines(groups: Sequence[Group]) -> list[str]:
    several = len({group.setting.buckets for group in groups}) > 1
    return sorted({_line_of(group.setting, several) for group in groups})


def _styles(field: str, domain: list[str], title: str, stroke: float = 2) -> dict[str, Any]:
    """Return encodings that tell lines apart thrice; ``stroke`` is the legend's, whose marks a dash would blur."""
    legend = alt.Legend(
        orient="bottom", columns=4, title=None, symbolStrokeWidth=stroke, symbolSize=80, labelLimit=220, symbolOpacity=1
    )
    shapes = [SHAPES[n % len(SHAPES)] for n in range(len(domain))]
    dashes = [DASHES[n % len(DASHES)] for n in range(len(domain))]
    return {
        "color": alt.Color(f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain)),
        "shape": alt.Shape(f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain, range=shapes)),
        "strokeDash": alt.StrokeDash(
            f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain, range=dashes)
        ),
    }


def tradeoff_layers(groups: Sequence[Group], all_groups: Sequence[Group]) -> Any:
    """Return compile seconds against the limit, a line a policy, between its frame: the means over the seeds.

    ``all_groups`` are those of every program, so that a policy looks the same in every chart.
    """
    lines, several_buckets = _lines(all_groups), len({group.setting.buckets for group in all_groups}) > 1
    unlimited = max((g.frame.unbounded_bytes for g in groups if g.frame), default=0.0) / _MIB
    rows = []
    for group in groups:
        seconds = sorted(group.seconds_by_seed.values())
        rows.append({
            "policy": _line_of(group.setting, several_buckets),
            "limit": group.setting.memory_limit / _MIB if group.setting.memory_limit else max(unlimited, 0.25),
            "seconds": round(fmean(seconds), 4), "least": round(seconds[0], 4), "most": round(seconds[-1], 4),
            "setting": group.setting.label, "seeds": len(seconds),
        })  # fmt: skip
    limits = sorted({row["limit"] for row in rows})
    x = alt.X(
        "limit:Q", title="memory limit (MiB)", axis=alt.Axis(values=limits, format="~g", grid=False),
        scale=alt.Scale(type="log", domain=[limits[0] * 0.8, limits[-1] * 1.25], nice=False),
    )  # fmt: skip
    y = alt.Y("seconds:Q", title="reference compile seconds", scale=alt.Scale(zero=True))
    tooltip = ["setting:N", "seconds:Q", "least:Q", "most:Q", "seeds:Q"]
    styles = _styles("policy", lines, "eviction", stroke=0)
    dashed = {name: styles[name] for name in ("color", "strokeDash")}
    marked = {name: styles[name] for name in ("color", "shape")}
    chart = _data(rows)
    layers = [
        chart.mark_rule(opacity=0.45, strokeWidth=1.5).encode(x=x, y="least:Q", y2="most:Q", color=styles["color"]),
        chart.mark_line(strokeWidth=2).encode(x=x, y=y, **dashed),
        chart.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, tooltip=tooltip, **marked),
        *_frame(groups, x),
    ]
    return alt.layer(*layers)


def _frame(groups: Sequence[Group], x: Any) -> list[Any]:
    """Return the lines that no setting crosses: a compile at every call, each program compiled once, the bound."""
    frame = next((group.frame for group in groups if group.frame), None)
    layers: list[Any] = []
    for name, seconds, dash, below in (
        ("nothing cached", frame and frame.uncached_seconds, [6, 4], True),
        ("nothing evicted", frame and frame.unbounded_seconds, [2, 3], False),
    ):
        if seconds is None:
            continue
        line = _data([{"seconds": seconds, "name": f"{name}: {seconds:.1f} s"}])
        layers.append(line.mark_rule(strokeDash=dash, strokeWidth=1.2).encode(y="seconds:Q"))
        text = line.mark_text(align="right", baseline="top" if below else "bottom", dx=-4, dy=3 if below else -3)
        layers.append(text.encode(y="seconds:Q", text="name:N", x=alt.value("width")))
    bounds = {g.setting.memory_limit: g.bound_seconds for g in groups if g.bound_seconds is not None}
    if bounds:
        rows = [{"limit": (limit or 0) / _MIB, "seconds": seconds} for limit, seconds in sorted(bounds.items())]
        layers.append(_data(rows).mark_line(strokeDash=[1, 2], strokeWidth=2).encode(x=x, y="seconds:Q"))
        note = _data([{**rows[-1], "name": "bound"}]).mark_text(align="left", dx=6)
        layers.append(note.encode(x=x, y="seconds:Q", text="name:N"))
    return layers


def tradeoff(groups: Sequence[Group]) -> Figure:
    """Compile seconds against the limit."""
    return _by_program(
        "tradeoff", "Compile seconds against the limit",
        "Means over the seeds; the thin bar behind a mark runs from the least seed to the most. The upper dashed line "
        "is a compile at every call, the lower dotted one each program compiled once and never evicted.",
        groups, lambda members: tradeoff_layers(members, groups),
    )  # fmt: skip


def pareto(groups: Sequence[Group]) -> Figure:
    """Compile seconds against the bytes really held, and the settings that no other beats in both."""
    lines, several = _lines(groups), len({group.setting.buckets for group in groups}) > 1

    def draw(members: list[Group]) -> Any:
        rows = [
            {
                "policy": _line_of(g.setting, several), "MiB": round(g.mean("peak_bytes") / _MIB, 4),
                "seconds": round(g.mean("cost_seconds"), 4), "setting": g.setting.label,
            }
            for g in members
        ]  # fmt: skip
        front = front_of(rows)
        x = alt.X("MiB:Q", title="most held at a time (MiB)", scale=alt.Scale(type="log", nice=False, padding=18),
                  axis=alt.Axis(format="~g", grid=False))  # fmt: skip
        y = alt.Y("seconds:Q", title="reference compile seconds", scale=alt.Scale(zero=True))
        styles = _styles("policy", lines, "eviction")
        points = _data(rows).mark_point(filled=True, size=75, opacity=1)
        named = _apart(front)
        middle = (min(row["MiB"] for row in rows) * max(row["MiB"] for row in rows)) ** 0.5
        sides = ((True, "left", 5), (False, "right", -5))  # names stay inside
        names = [
            _data(some).mark_text(align=align, dx=dx, dy=14).encode(x=x, y=y, text="setting:N")
            for light, align, dx in sides if (some := [row for row in named if (row["MiB"] <= middle) == light])
        ]  # fmt: skip
        return alt.layer(
            _data(front).mark_line(interpolate="step-after", strokeWidth=1.5, opacity=0.7).encode(x=x, y=y),
            points.encode(x=x, y=y, color=styles["color"], shape=styles["shape"],
                          tooltip=["setting:N", "MiB:Q", "seconds:Q"]),
            *names,
        )  # fmt: skip

    return _by_program(
        "pareto", "Seconds against bytes",
        "Each mark is a setting. Along the line are those that none beats in both seconds and bytes.",
        [group for group in groups if group.mean("peak_bytes") > 0], draw,
    )  # fmt: skip


def front_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other is at most as large as in both ``MiB`` and ``seconds``, ascending in bytes."""
    front: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["MiB"], row["seconds"])):
        if not front or row["seconds"] < front[-1]["seconds"]:
            front.append(row)
    return front


def _apart(front: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those along the front that are far enough from each other to be named, the best in seconds first."""
    named: list[dict[str, Any]] = []
    for row in reversed(front):
        if all(row["MiB"] < 0.85 * other["MiB"] for other in named):
            named.append(row)
    return named


_PARTS = ("compiling", "loading from disk", "running")


def time_split(group: Group) -> dict[str, float] | None:
    """Return the mean seconds by what they went to; None for results that do not hold them."""
    courses = [result.course for result in group.results if result.course is not None]
    if not courses:
        return None
    loading = fmean(course.loading_seconds for course in courses)
    compiling = max(0.0, group.mean("compile_seconds") - loading)
    return dict(zip(_PARTS, (compiling, loading, max(0.0, group.mean("serve_seconds") - compiling - loading)),
                    strict=True))  # fmt: skip


def time_spent(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """Where a run's seconds went; of many settings, those at the chosen limit."""
    many = max(len(members) for members in _programs(groups).values()) > _MOST_BARS if groups else False

    def draw(members: list[Group]) -> Any:
        rows = [
            {"setting": g.setting.label, "part": part, "seconds": round(seconds, 4), "order": _PARTS.index(part),
             "place": place}
            for place, g in enumerate(members) if (split := time_split(g)) for part, seconds in split.items()
        ]  # fmt: skip
        if not rows:
            return None
        chart = _data(rows).mark_bar(stroke="#808080", strokeWidth=0.6).encode(
            x=alt.X("seconds:Q", title="seconds of a run, as measured", axis=alt.Axis(grid=True)),
            y=alt.Y("setting:N", title=None, sort=alt.EncodingSortField("place"), axis=alt.Axis(labelLimit=220)),
            color=alt.Color("part:N", title=None, sort=list(_PARTS), scale=alt.Scale(domain=list(_PARTS), range="ramp"),
                            legend=alt.Legend(orient="bottom", columns=3)),
            order="order:Q", tooltip=["setting:N", "part:N", "seconds:Q"],
        )  # fmt: skip
        return _spec(chart, max(_HEIGHT, _BAR_HEIGHT * len(members)))

    return _by_program(
        "time", "Where the time went",
        "What a run really took, in the order of the legend: tracing, lowering and compiling; reading executables from "
        "the persistent cache; the work itself. A directory that trials share makes later ones load more.",
        _at(groups, chosen) if many else groups, draw,
    )  # fmt: skip


def heat_map(groups: Sequence[Group]) -> Figure:
    """Each policy's seconds over the baseline's, by program."""
    baseline, rows = baseline_of(groups), []
    programs = list(_programs(groups).items())
    for program, members in programs[:40]:
        for one in compare(by_policy(members), baseline):
            rows.append({
                "policy": one.first, "program": _title(program, groups), "ratio": round(one.ratio.mean, 3),
                "away": round(abs(one.ratio.mean - 1), 3), "verdict": one.verdict, "repeats": one.repeats,
                "text": f"{one.ratio.mean:.2f}" + {"less": " ▼", "more": " ▲"}.get(one.verdict, ""),
            })  # fmt: skip
    if not rows:
        return Figure("policies", "", "", ())
    furthest = max(0.05, *(row["away"] for row in rows))
    base = _data(rows).encode(
        x=alt.X("policy:N", title=None, axis=alt.Axis(labelAngle=0, orient="top", grid=False)),
        y=alt.Y("program:N", title=None, axis=alt.Axis(labelLimit=260, grid=False)),
    )
    colour = alt.Color(
        "ratio:Q", scale=alt.Scale(domain=[1 - furthest, 1, 1 + furthest], range="diverging"), legend=None
    )
    cells = base.mark_rect(stroke="#808080", strokeWidth=0.5)
    chart = alt.layer(
        cells.encode(color=colour, tooltip=["program:N", "policy:N", "ratio:Q", "verdict:N", "repeats:Q"]),
        base.mark_text(fontSize=13).encode(text="text:N"),
    )
    spec = _spec(chart, _ROW_HEIGHT * len({row["program"] for row in rows}))
    return Figure(
        "policies", f"Policy × workload, over {baseline}",
        f"Compile seconds over those of {baseline}, geometric mean over the limits, paired by seed: below 1 is less. "
        "▼ and ▲ mark differences that were shown (5 % for a row, Holm's correction); without a mark none was.",
        (Panel("", spec),), max(0, len(programs) - 40),
    )  # fmt: skip


def _at(groups: Sequence[Group], chosen: Setting | None) -> list[Group]:
    """Return the groups at the chosen limit and buckets."""
    if chosen is None:
        return list(groups)
    wanted = chosen[1:]
    return [group for group in groups if group.setting[1:] == wanted]


def causes(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """What missed, and why, under the chosen setting."""

    def draw(members: list[Group]) -> Any:
        eviction = chosen.eviction if chosen else members[0].setting.eviction
        group = next((g for g in members if g.setting.eviction == eviction), members[0])
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for result in group.results:
            stats = result.statistics
            assert stats is not None
            by_function = {name: one.misses_by_cause for name, one in stats.by_function.items()}
            for name, found in (by_function or {"all functions": stats.misses_by_cause}).items():
                for cause, count in found.items():
                    counts[name, cause] += count / len(group.results)
        rows = [
            {"function": name, "cause": cause.replace("_", " "), "misses": round(count, 1), "text": f"{count:.0f}"}
            for (name, cause), count in counts.items() if count > 0
        ]  # fmt: skip
        if not rows:
            return None
        base = _data(rows).encode(
            x=alt.X(
                "cause:N",
                title=None,
                sort=_most_first(rows, "cause"),
                axis=alt.Axis(labelAngle=0, orient="top", grid=False),
            ),
            y=alt.Y("function:N", title=None, axis=alt.Axis(labelLimit=180, grid=False)),
        )
        shade = alt.Color("misses:Q", scale=alt.Scale(type="sqrt", range="heatmap"), legend=None)
        cells = base.mark_rect(stroke="#808080", strokeWidth=0.5)
        text = base.mark_text(fontSize=13).encode(text="text:N")
        chart = alt.layer(cells.encode(color=shade, tooltip=["function:N", "cause:N", "misses:Q"]), text)
        return _spec(chart, _ROW_HEIGHT * len({row["function"] for row in rows}))

    where = f" of {chosen.label}" if chosen else ""
    return _by_program(
        "causes", "What missed, and why",
        f"Misses{where} by function and cause, means over the seeds. Evicted and not kept were compiled before: a "
        "larger limit or another policy spares them. The others are new signatures: the program or buckets do.",
        _at(groups, chosen), draw,
    )  # fmt: skip


def _most_first(rows: list[dict[str, Any]], field: str) -> list[str]:
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        total[row[field]] += row["misses"]
    return sorted(total, key=lambda name: (-total[name], name))


def memory(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """Bytes held over the requests, against the limit: the first seed of each policy."""
    lines = sorted({group.setting.eviction for group in groups})

    def draw(members: list[Group]) -> Any:
        rows = [
            {"policy": g.setting.eviction, "request": request, "MiB": round(held / _MIB, 3)}
            for g in members if (course := _first_course(g))
            for request, held in zip(course.requests, course.live_bytes, strict=True)
        ]  # fmt: skip
        if not rows:
            return None
        styles = _styles("policy", lines, "eviction")
        chart = _data(rows).mark_line(interpolate="step-after", strokeWidth=1.8).encode(
            x=alt.X("request:Q", title="requests served", axis=alt.Axis(grid=False)),
            y=alt.Y("MiB:Q", title="held (MiB)", scale=alt.Scale(zero=True)),
            color=styles["color"], strokeDash=styles["strokeDash"],
        )  # fmt: skip
        limit = members[0].setting.memory_limit
        if limit is None:
            return alt.layer(chart)
        rule = _data([{"MiB": limit / _MIB, "name": f"limit: {members[0].setting.limit}"}])
        text = rule.mark_text(align="right", baseline="bottom", dx=-4, dy=-3)
        return alt.layer(
            chart, rule.mark_rule(strokeDash=[6, 4]).encode(y="MiB:Q"),
            text.encode(y="MiB:Q", text="name:N", x=alt.value("width")),
        )  # fmt: skip

    return _by_program(
        "memory", "Memory over time, against the limit",
        "Bytes of the programs held, by the cache's own account, as requests come: the first seed of each policy.",
        _at(groups, chosen), draw,
    )  # fmt: skip


def _first_course(group: Group) -> Course | None:
    return next((result.course for result in group.results if result.course is not None), None)


def latency(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """How long a request takes, by where its programs came from."""

    def draw(members: list[Group]) -> Any:
        rows = []
        for group in members:
            found = [result.course.latency for result in group.results if result.course is not None]
            for source, name in SOURCES.items():
                known = [one[source] for one in found if source in one]
                if not known:
                    continue
                rows.append({
                    "policy": group.setting.eviction, "source": name, "requests": sum(one.requests for one in known),
                    **{q: round(1000 * fmean(getattr(one, f"{q}_seconds") for one in known), 4)
                       for q in ("p50", "p90", "p99")},
                })  # fmt: skip
        if not rows:
            return None
        title = "milliseconds a request: median ● · 90 % ❙ · 99 % ◆"
        y = alt.Y("policy:N", title=None, axis=alt.Axis(labelLimit=160))
        scale = alt.Scale(type="log", nice=False, padding=12)
        x = alt.X("p50:Q", title=title, scale=scale, axis=alt.Axis(format="~g", grid=False))
        offset = alt.YOffset("source:N", sort=list(SOURCES.values()))
        legend = alt.Legend(orient="bottom", columns=3, symbolType="stroke", symbolStrokeWidth=3)
        colour = alt.Color("source:N", title=None, sort=list(SOURCES.values()), legend=legend,
                           scale=alt.Scale(domain=list(SOURCES.values())))  # fmt: skip
        dash = alt.StrokeDash("source:N", title=None, sort=list(SOURCES.values()), legend=legend,
                              scale=alt.Scale(domain=list(SOURCES.values()), range=DASHES[:3]))  # fmt: skip
        base = _data(rows).encode(y=y, yOffset=offset, color=colour)
        tooltip = ["policy:N", "source:N", "requests:Q", "p50:Q", "p90:Q", "p99:Q"]
        chart = alt.layer(
            base.mark_rule(strokeWidth=2).encode(x=x, x2="p99:Q", strokeDash=dash),
            base.mark_point(filled=True, shape="circle", size=60, opacity=1).encode(x=x, tooltip=tooltip),
            base.mark_tick(thickness=2, size=9).encode(x="p90:Q", tooltip=tooltip),
            base.mark_point(filled=True, shape="diamond", size=60, opacity=1).encode(x="p99:Q", tooltip=tooltip),
        )
        return _spec(chart, max(_HEIGHT, _ROW_HEIGHT * len(members)))

    return _by_program(
        "latency", "Latency of requests",
        "A request counts as compiled if any of its programs was, else as loaded if any came from disk, else as held.",
        _at(groups, chosen), draw,
    )  # fmt: skip


def lengths(groups: Sequence[Group]) -> Figure:
    """How many requests came with each length, and the buckets that they were padded to."""

    def draw(members: list[Group]) -> Any:
        course = next((one for one in map(_first_course, members) if one is not None), None)
        if course is None:
            return None
        rows = [{"length": length, "requests": count} for length, count in course.lengths.items()]
        x = alt.X("length:Q", title="length of a request", axis=alt.Axis(grid=False),
                  scale=alt.Scale(zero=False, padding=8))  # fmt: skip
        bars = _data(rows).mark_rule(strokeWidth=3).encode(
            x=x, y=alt.Y("requests:Q", title="requests", scale=alt.Scale(zero=True)), y2=alt.datum(0),
            tooltip=["length:Q", "requests:Q"],
        )  # fmt: skip
        drawn = [bars]
        bucketed = next((c for g in members for c in [_first_course(g)] if c is not None and c.buckets), None)
        if bucketed is not None:
            edges = _data([{"length": length, "bucket": f"{length}"} for length in bucketed.buckets])
            drawn.append(edges.mark_rule(strokeDash=[4, 3], opacity=0.8).encode(x="length:Q"))
            drawn.append(
                edges.mark_text(baseline="bottom", dy=-4).encode(x="length:Q", text="bucket:N", y=alt.value(0))
            )
        return alt.layer(*drawn)

    return _by_program(
        "lengths", "Lengths asked for",
        "Requests of the first seed by length. Dashed lines, where there are any, are the buckets they were padded to.",
        groups, draw,
    )  # fmt: skip
