"""The map as a chart: a line a policy over the limits, between its frame, with measured trials as marks."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from ...analysis.findings import Findings
from ...analysis.map_words import limit_text
from ...analysis.policy_map import ProgramMap
from ...analysis.sweep import Group
from ..map_tables import map_title, seeds_text
from ..rows import unequal_seeds
from .panel import (
    MIB,
    MOST_PANELS,
    Figure,
    Panel,
    by_program,
    chart_of,
    line_of,
    lines_of,
    spec_of,
    styles_of,
    tooltips,
)

MAP_HEIGHT = 380
_MOST_NAMED = 7
_HEADROOM = 1.09  # above every call compiled, for its name
_NAME_HEIGHT = 0.07  # of a line's name, over the height of a panel


def map_figure(findings: Findings) -> Figure:
    """Return the map of every program; without recorded requests, the measured settings over their limits."""
    if not findings.maps:
        return measured_figure(findings.sweep.groups)
    named = named_policies(findings)
    panels = [
        Panel(
            f"{map_title(program_map)} ({seeds_text(program_map)})",
            spec_of(map_layers(findings, program_map, named), MAP_HEIGHT),
            map_alternative(findings, program_map),
        )
        for program_map in findings.maps[:MOST_PANELS]
    ]  # fmt: skip
    others = " Thin grey lines are the other policies." if len(named) < len(findings.maps[0].policies) else ""
    return Figure(
        "map", "Compile seconds of every policy over the memory limit",
        map_sentence(findings, findings.maps[0]),
        f"Lines are replayed from the recorded requests, marks are "
        f"measured trials: {findings.agreement[:1].lower()}{findings.agreement[1:]}{others} No policy can be in the "
        f"shaded part. {findings.left_out}".rstrip(),
        tuple(panels), max(0, len(findings.maps) - MOST_PANELS),
    )  # fmt: skip


def named_policies(findings: Findings) -> list[str]:
    """Return the policies that have a colour: those taken, those run, and the best of the others, sorted."""
    policies = findings.maps[0].policies
    points = [] if findings.choice is None else [findings.choice.point, *findings.choice.points]
    wanted = [point.policy for point in points]
    wanted += [check.prediction.policy for program_map in findings.maps for check in program_map.checks]
    wanted += ["lru"]
    total = {
        name: sum(program_map.seconds(name, limit) for program_map in findings.maps for limit in program_map.own_limits)
        for name in policies
    }
    wanted += sorted(policies, key=lambda name: total[name])[:2]
    return sorted([name for name in dict.fromkeys(wanted) if name in policies][:_MOST_NAMED])


def map_layers(findings: Findings, program_map: ProgramMap, named: Sequence[str]) -> Any:
    """Return the chart of one program."""
    limits = program_map.own_limits
    x = alt.X(
        "limit:Q", title="memory limit (MiB)", axis=alt.Axis(values=_ticks(limits), format="~g", grid=False),
        scale=alt.Scale(type="log", domain=[limits[0] / MIB * 0.93, limits[-1] / MIB * 1.07], nice=False),
    )  # fmt: skip
    highest = program_map.uncached_seconds * _HEADROOM or 1.0
    y = alt.Y("seconds:Q", title="compile seconds a run", scale=alt.Scale(domain=[0, highest], nice=False))
    styles = styles_of("policy", list(named), "policy", stroke=0)
    rows = [
        {"policy": name, "limit": limit / MIB, "seconds": round(program_map.seconds(name, limit), 3)}
        for name in program_map.policies for limit in limits
    ]  # fmt: skip
    bold = chart_of([row for row in rows if row["policy"] in named])
    rest = [row for row in rows if row["policy"] not in named]
    bounds = chart_of(
        [{"limit": limit / MIB, "seconds": round(program_map.bound_seconds(limit), 3)} for limit in limits]
    )
    tooltip = tooltips("policy:N", "limit:Q", "seconds:Q")
    layers: list[Any] = [bounds.mark_area(opacity=0.14).encode(x=x, y=y)]
    if rest:
        layers.append(
            chart_of(rest)
            .mark_line(strokeWidth=1, opacity=0.45)
            .encode(x=x, y=y, detail=alt.Detail("policy:N"), tooltip=tooltip)
        )
    layers += [
        bounds.mark_line(strokeDash=[1, 2], strokeWidth=2).encode(x=x, y=y),
        bold.mark_line(strokeWidth=2).encode(x=x, y=y, color=styles["color"], strokeDash=styles["strokeDash"],
                                             tooltip=tooltip),
        *_ends(program_map),
        *_bound_name(program_map, x),
        *_marks(program_map, x, y, styles),
        *_taken(findings, program_map, x),
    ]  # fmt: skip
    return alt.layer(*layers)


def _ticks(limits: Sequence[int]) -> list[float]:
    """Return the powers of two among the limits; all of them where these are few."""
    doubled = [limit / MIB for limit in limits if limit & (limit - 1) == 0]
    return doubled if len(doubled) > 2 else [limit / MIB for limit in limits]


def _ends(program_map: ProgramMap) -> list[Any]:
    """Return the lines of no limit and of every call compiled, each with its name."""
    layers: list[Any] = []
    room = program_map.unlimited_seconds > _NAME_HEIGHT * program_map.uncached_seconds
    for name, seconds, dash, below in (
        ("every call compiled", program_map.uncached_seconds, [6, 4], False),
        ("no limit (jax.jit)", program_map.unlimited_seconds, [2, 3], room),
    ):
        line = chart_of([{"seconds": round(seconds, 3), "name": f"{name}: {seconds:.1f} s"}])
        layers.append(line.mark_rule(strokeDash=dash, strokeWidth=1.2).encode(y=alt.Y("seconds:Q")))
        text = line.mark_text(align="left", baseline="top" if below else "bottom", dx=4, dy=3 if below else -3)
        layers.append(text.encode(y=alt.Y("seconds:Q"), text=alt.Text("name:N"), x=alt.XValue(0)))
    return layers


def _bound_name(program_map: ProgramMap, x: Any) -> list[Any]:
    """Return the bound's name, below its line, where that has room above the line of no limit."""
    middle = program_map.own_limits[len(program_map.own_limits) // 2]
    seconds = program_map.bound_seconds(middle)
    if seconds - program_map.unlimited_seconds < 2 * _NAME_HEIGHT * program_map.uncached_seconds:
        return []
    note = chart_of([{"limit": middle / MIB, "seconds": round(seconds, 3), "name": "bound: no policy below"}])
    return [
        note.mark_text(align="right", baseline="top", dx=-6, dy=6).encode(
            x=x, y=alt.Y("seconds:Q"), text=alt.Text("name:N")
        )
    ]


def _marks(program_map: ProgramMap, x: Any, y: Any, styles: Any) -> list[Any]:
    """Return the measured trials, means over seeds, at their limit; without a limit they stand at the largest."""
    seconds: dict[tuple[str, int | None], list[float]] = {}
    for check in program_map.checks:
        config, stats = check.result.config, check.result.statistics
        if stats is not None and config.seed in program_map.seeds:
            seconds.setdefault((config.eviction.name, config.memory_limit), []).append(stats.cost_seconds)
    rows = [
        {"policy": name, "limit": min(limit or program_map.own_limits[-1], program_map.own_limits[-1]) / MIB,
         "seconds": round(fmean(each), 3), "setting": f"{name} at {limit_text(limit)}", "trials": len(each)}
        for (name, limit), each in seconds.items()
        if limit is None or limit >= program_map.own_limits[0]
    ]  # fmt: skip
    if not rows:
        return []
    marks = chart_of(rows).mark_point(filled=True, size=95, opacity=1)
    return [marks.encode(x=x, y=y, color=styles["color"], shape=styles["shape"],
                         tooltip=tooltips("setting:N", "seconds:Q", "trials:Q"))]  # fmt: skip


def _taken(findings: Findings, program_map: ProgramMap, x: Any) -> list[Any]:
    """Return the upright at the limit to take, with its name."""
    choice = findings.choice
    limit = None if choice is None else choice.point.limit_bytes
    if choice is None or limit is None or program_map.buckets != choice.joint.buckets:
        return []
    shown = min(limit, program_map.own_limits[-1])  # from there on this program is held whole
    rule = chart_of([{"limit": shown / MIB, "name": f"take {choice.point.policy}, {limit_text(limit)}"}])
    right = shown**2 > program_map.own_limits[0] * program_map.own_limits[-1]  # past the middle of a log scale
    name = rule.mark_text(align="right" if right else "left", baseline="top", dx=-5 if right else 5, fontWeight="bold")
    return [
        rule.mark_rule(strokeWidth=1.5, strokeDash=[4, 3]).encode(x=x),
        name.encode(x=x, y=alt.YValue(34), text=alt.Text("name:N")),
    ]


def map_sentence(findings: Findings, program_map: ProgramMap) -> str:
    """Return what a map shows, in numbers."""
    limits = program_map.own_limits
    least, most = limits[0], limits[-1]
    choice = findings.choice
    middle = limits[len(limits) // 2]
    if choice is not None and choice.point.limit_bytes is not None and program_map.buckets == choice.joint.buckets:
        middle = min(choice.point.limit_bytes, most)
    seconds = {name: program_map.seconds(name, middle) for name in program_map.policies}
    first = min(seconds, key=lambda name: (seconds[name], name != "lru", name))
    last = max(seconds, key=lambda name: seconds[name])
    spread = f"from {seconds[first]:.1f} s ({first}) to {seconds[last]:.1f} s ({last})"
    if seconds[last] - seconds[first] < 0.05:
        spread = f"{seconds[first]:.1f} s whatever the policy"
    highest = program_map.seconds(program_map.best(least), least)
    return (
        f"{map_title(program_map)}: a run compiles for {highest:.1f} s at {limit_text(least)}, {spread} at "
        f"{limit_text(middle)}, and {program_map.unlimited_seconds:.1f} s where all fits."
    )


def map_alternative(findings: Findings, program_map: ProgramMap) -> str:
    """Return the chart's numbers for those who do not see it."""
    points: list[str] = []
    for limit in program_map.own_limits:
        best = program_map.best(limit)
        points.append(
            f"{limit_text(limit)}: {best} {program_map.seconds(best, limit):.1f} s, lru "
            f"{program_map.seconds('lru', limit):.1f} s, bound {program_map.bound_seconds(limit):.1f} s"
        )
    sentence = map_sentence(findings, program_map)
    return f"{sentence} The best policy, lru and the bound at each limit: {'; '.join(points)}."


# Measured settings alone, where no requests were recorded.


def measured_figure(groups: Sequence[Group]) -> Figure:
    """Return measured compile seconds against the limit; empty where there are neither two limits nor two policies."""
    if len({group.setting for group in groups}) < 2:
        return Figure("map", "", "", "", ())
    return by_program(
        "map", "Compile seconds against the limit, measured",
        f"Means over the seeds{unequal_seeds(groups)}; the thin bar behind a mark runs from the least seed to the "
        "most. The upper dashed line is every call compiled, the lower dotted one no limit.",
        groups, lambda members: measured_layers(members, groups), _measured_alternative,
    )  # fmt: skip


def _measured_alternative(groups: Sequence[Group]) -> str:
    settings = "; ".join(f"{group.setting.label}: {group.mean('cost_seconds'):.1f} s" for group in groups[:40])
    return f"Measured compile seconds a run. {settings}."


def measured_layers(groups: Sequence[Group], all_groups: Sequence[Group]) -> Any:
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
    tooltip = tooltips("setting:N", "seconds:Q", "least:Q", "most:Q", "seeds:Q")
    styles = styles_of("policy", lines, "eviction", stroke=0)
    dashed = {name: styles[name] for name in ("color", "strokeDash")}
    marked = {name: styles[name] for name in ("color", "shape")}
    chart = chart_of(rows)
    layers = [
        chart.mark_rule(opacity=0.45, strokeWidth=1.5).encode(
            x=x, y=alt.Y("least:Q"), y2=alt.Y2("most:Q"), color=styles["color"]
        ),
        chart.mark_line(strokeWidth=2).encode(x=x, y=y, **dashed),
        chart.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, tooltip=tooltip, **marked),
        *_frame(groups, x),
    ]
    return alt.layer(*layers)


def _frame(groups: Sequence[Group], x: Any) -> list[Any]:
    """Return the lines that no setting crosses: every call compiled, no limit, the bound."""
    # With buckets there are fewer programs: the frame is that of the lengths as they come, where it was run.
    framed = [group for group in groups if group.frame]
    framed.sort(key=lambda group: (group.setting.buckets != "none", -len(group.seeds)))
    frame = framed[0].frame if framed else None
    layers: list[Any] = []
    # The lines of the policies come down to the lower one: its name is below, if there is room above the axis.
    room = frame is not None and frame.unbounded_seconds > _NAME_HEIGHT * frame.uncached_seconds
    for name, seconds, dash, below in (
        ("every call compiled", frame and frame.uncached_seconds, [6, 4], True),
        ("no limit", frame and frame.unbounded_seconds, [2, 3], room),
    ):
        if seconds is None:
            continue
        line = chart_of([{"seconds": seconds, "name": f"{name}: {seconds:.1f} s"}])
        layers.append(line.mark_rule(strokeDash=dash, strokeWidth=1.2).encode(y=alt.Y("seconds:Q")))
        text = line.mark_text(align="right", baseline="top" if below else "bottom", dx=-4, dy=3 if below else -3)
        layers.append(text.encode(y=alt.Y("seconds:Q"), text=alt.Text("name:N"), x=alt.XValue("width")))
    by_seeds = sorted(groups, key=lambda group: len(group.seeds))  # of each limit, that of the most seeds stays
    bounds = {g.setting.memory_limit: g.bound_seconds for g in by_seeds if g.bound_seconds is not None}
    if bounds:
        rows = [{"limit": (limit or 0) / MIB, "seconds": seconds} for limit, seconds in sorted(bounds.items())]
        layers.append(chart_of(rows).mark_line(strokeDash=[1, 2], strokeWidth=2).encode(x=x, y=alt.Y("seconds:Q")))
        # The curve falls, and nothing is below it: there its name is clear of what policies draw.
        note = chart_of([{**rows[len(rows) // 2], "name": "bound"}])
        note = note.mark_text(align="right", baseline="top", dx=-4, dy=4)
        layers.append(note.encode(x=x, y=alt.Y("seconds:Q"), text=alt.Text("name:N")))
    return layers
