"""Charts that compare settings: seconds against the limit and against bytes, where time went, policy by workload."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from ...analysis.choice import baseline_of, by_policy
from ...analysis.paired_tests import compare
from ...analysis.ranking import find_blocks
from ...analysis.sweep import Group, Setting
from ..rows import unequal_seeds
from .panel import (
    BAR_HEIGHT,
    HEIGHT,
    MIB,
    MOST_BARS,
    ROW_HEIGHT,
    Figure,
    Panel,
    at_setting,
    by_program,
    chart_of,
    line_of,
    lines_of,
    programs_of,
    spec_of,
    styles_of,
    title_of,
)

_NAME_HEIGHT = 0.07  # of a line's name, over the height of a panel


def tradeoff_layers(groups: Sequence[Group], all_groups: Sequence[Group]) -> Any:
    """Return compile seconds against the limit, a line a policy, between its frame: the means over the seeds.

    ``all_groups`` are those of every program, so that a policy looks the same in every chart.
    """
    lines, several_buckets = lines_of(all_groups), len({group.setting.buckets for group in all_groups}) > 1
    unlimited = max((g.frame.unbounded_bytes for g in groups if g.frame), default=0.0) / MIB
    rows = []
    for group in groups:
        seconds = sorted(group.seconds_by_seed.values())
        rows.append({
            "policy": line_of(group.setting, several_buckets),
            "limit": group.setting.memory_limit / MIB if group.setting.memory_limit else max(unlimited, 0.25),
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
    styles = styles_of("policy", lines, "eviction", stroke=0)
    dashed = {name: styles[name] for name in ("color", "strokeDash")}
    marked = {name: styles[name] for name in ("color", "shape")}
    chart = chart_of(rows)
    layers = [
        chart.mark_rule(opacity=0.45, strokeWidth=1.5).encode(x=x, y="least:Q", y2="most:Q", color=styles["color"]),
        chart.mark_line(strokeWidth=2).encode(x=x, y=y, **dashed),
        chart.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, tooltip=tooltip, **marked),
        *_frame(groups, x),
    ]
    return alt.layer(*layers)


def _frame(groups: Sequence[Group], x: Any) -> list[Any]:
    """Return the lines that no setting crosses: a compile at every call, each program compiled once, the bound."""
    # With buckets there are fewer programs: the frame is that of the lengths as they come, where it was run.
    framed = [group for group in groups if group.frame]
    framed.sort(key=lambda group: (group.setting.buckets != "none", -len(group.seeds)))
    frame = framed[0].frame if framed else None
    layers: list[Any] = []
    # The lines of the policies come down to the lower one: its name is below, if there is room above the axis.
    room = frame is not None and frame.unbounded_seconds > _NAME_HEIGHT * frame.uncached_seconds
    for name, seconds, dash, below in (
        ("nothing cached", frame and frame.uncached_seconds, [6, 4], True),
        ("nothing evicted", frame and frame.unbounded_seconds, [2, 3], room),
    ):
        if seconds is None:
            continue
        line = chart_of([{"seconds": seconds, "name": f"{name}: {seconds:.1f} s"}])
        layers.append(line.mark_rule(strokeDash=dash, strokeWidth=1.2).encode(y="seconds:Q"))
        text = line.mark_text(align="right", baseline="top" if below else "bottom", dx=-4, dy=3 if below else -3)
        layers.append(text.encode(y="seconds:Q", text="name:N", x=alt.value("width")))
    by_seeds = sorted(groups, key=lambda group: len(group.seeds))  # of each limit, that of the most seeds stays
    bounds = {g.setting.memory_limit: g.bound_seconds for g in by_seeds if g.bound_seconds is not None}
    if bounds:
        rows = [{"limit": (limit or 0) / MIB, "seconds": seconds} for limit, seconds in sorted(bounds.items())]
        layers.append(chart_of(rows).mark_line(strokeDash=[1, 2], strokeWidth=2).encode(x=x, y="seconds:Q"))
        # The curve falls, and nothing is below it: there its name is clear of what policies draw.
        note = chart_of([{**rows[len(rows) // 2], "name": "bound"}])
        note = note.mark_text(align="right", baseline="top", dx=-4, dy=4)
        layers.append(note.encode(x=x, y="seconds:Q", text="name:N"))
    return layers


def tradeoff(groups: Sequence[Group]) -> Figure:
    """Compile seconds against the limit."""
    return by_program(
        "tradeoff", "Compile seconds against the limit",
        f"Means over the seeds{unequal_seeds(groups)}; the thin bar behind a mark runs from the least seed to the "
        "most. The upper dashed line is a compile at every call, the lower dotted one each program compiled once and "
        "never evicted.",
        groups, lambda members: tradeoff_layers(members, groups),
    )  # fmt: skip


def pareto(groups: Sequence[Group]) -> Figure:
    """Compile seconds against the bytes really held, and the settings that no other beats in both."""
    lines, several = lines_of(groups), len({group.setting.buckets for group in groups}) > 1

    def draw(program: list[Group]) -> Any:
        block = next(iter(find_blocks(program)), None)
        members = program if block is None else block.groups
        rows = [
            {
                "policy": line_of(g.setting, several), "MiB": round(g.mean("peak_bytes") / MIB, 4),
                "seconds": round(g.mean("cost_seconds"), 4), "setting": g.setting.label,
            }
            for g in members
        ]  # fmt: skip
        front = [] if block is None and len(program) > 1 else front_of(rows)
        x = alt.X("MiB:Q", title="most held at a time (MiB)", scale=alt.Scale(type="log", nice=False, padding=18),
                  axis=alt.Axis(format="~g", grid=False))  # fmt: skip
        y = alt.Y("seconds:Q", title="reference compile seconds", scale=alt.Scale(zero=True))
        styles = styles_of("policy", lines, "eviction")
        points = chart_of(rows).mark_point(filled=True, size=75, opacity=1)
        named = _apart(front)
        middle = (min(row["MiB"] for row in rows) * max(row["MiB"] for row in rows)) ** 0.5
        sides = ((True, "left", 5), (False, "right", -5))  # names stay inside
        names = [
            chart_of(some).mark_text(align=align, dx=dx, dy=14).encode(x=x, y=y, text="setting:N")
            for light, align, dx in sides if (some := [row for row in named if (row["MiB"] <= middle) == light])
        ]  # fmt: skip
        return alt.layer(
            chart_of(front).mark_line(interpolate="step-after", strokeWidth=1.5, opacity=0.7).encode(x=x, y=y),
            points.encode(x=x, y=y, color=styles["color"], shape=styles["shape"],
                          tooltip=["setting:N", "MiB:Q", "seconds:Q"]),
            *names,
        )  # fmt: skip

    return by_program(
        "pareto", "Seconds against bytes",
        "Each mark is a setting. Along the line are those that none beats in both seconds and bytes. Settings without "
        "the seeds of the others are compared on those that they share, or left out.",
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
    many = max(len(members) for members in programs_of(groups).values()) > MOST_BARS if groups else False

    def draw(members: list[Group]) -> Any:
        rows = [
            {"setting": g.setting.label, "part": part, "seconds": round(seconds, 4), "order": _PARTS.index(part),
             "place": place}
            for place, g in enumerate(members) if (split := time_split(g)) for part, seconds in split.items()
        ]  # fmt: skip
        if not rows:
            return None
        chart = chart_of(rows).mark_bar(stroke="#808080", strokeWidth=0.6).encode(
            x=alt.X("seconds:Q", title="seconds of a run, as measured", axis=alt.Axis(grid=True)),
            y=alt.Y("setting:N", title=None, sort=alt.EncodingSortField("place"), axis=alt.Axis(labelLimit=220)),
            color=alt.Color("part:N", title=None, sort=list(_PARTS), scale=alt.Scale(domain=list(_PARTS), range="ramp"),
                            legend=alt.Legend(orient="bottom", columns=3)),
            order="order:Q", tooltip=["setting:N", "part:N", "seconds:Q"],
        )  # fmt: skip
        return spec_of(chart, max(HEIGHT, BAR_HEIGHT * len(members)))

    return by_program(
        "time", "Where the time went",
        "What a run really took, in the order of the legend: tracing, lowering and compiling; reading executables from "
        "the persistent cache; the work itself. A directory that trials share makes later ones load more.",
        at_setting(groups, chosen) if many else groups, draw,
    )  # fmt: skip


def heat_map(groups: Sequence[Group]) -> Figure:
    """Each policy's seconds over the baseline's, by program."""
    baseline, rows = baseline_of(groups), []
    programs = list(programs_of(groups).items())
    for program, members in programs[:40]:
        for one in compare(by_policy(members), baseline):
            rows.append({
                "policy": one.first, "program": title_of(program, groups), "ratio": round(one.ratio.mean, 3),
                "away": round(abs(one.ratio.mean - 1), 3), "verdict": one.verdict, "repeats": one.repeats,
                "text": f"{one.ratio.mean:.2f}" + {"less": " ▼", "more": " ▲"}.get(one.verdict, ""),
            })  # fmt: skip
    if not rows:
        return Figure("policies", "", "", ())
    furthest = max(0.05, *(row["away"] for row in rows))
    base = chart_of(rows).encode(
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
    spec = spec_of(chart, ROW_HEIGHT * len({row["program"] for row in rows}))
    return Figure(
        "policies", f"Policy × workload, over {baseline}",
        f"Compile seconds over those of {baseline}, geometric mean over the limits, paired by seed: below 1 is less. "
        "▼ and ▲ mark differences that were shown (5 % for a row, Holm's correction); without a mark none was.",
        (Panel("", spec),), max(0, len(programs) - 40),
    )  # fmt: skip
