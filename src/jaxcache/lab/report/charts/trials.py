"""Charts of the course of trials: causes of misses, memory over time, latency, lengths."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from .... import format_size
from ...._calls.misses import REPEAT_CAUSES
from ...analysis.sweep import Group, Setting
from ...counted import counted
from ...result import Latency, Timeline
from .panel import (
    DASHES,
    HEIGHT,
    MIB,
    ROW_HEIGHT,
    SOURCES,
    Figure,
    at_setting,
    by_program,
    chart_of,
    spec_of,
    styles_of,
    tooltips,
)


def causes(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """Return the misses under the chosen setting, by function and cause."""

    def draw(members: list[Group]) -> Any:
        counts = _misses_by_cause(_of_policy(members, chosen))
        rows = [
            {"function": name, "cause": cause.replace("_", " "), "misses": round(count, 1), "text": f"{count:.0f}"}
            for (name, cause), count in counts.items() if count > 0
        ]  # fmt: skip
        if not rows:
            return None
        base = chart_of(rows).encode(
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
        text = base.mark_text(fontSize=13).encode(text=alt.Text("text:N"))
        chart = alt.layer(cells.encode(color=shade, tooltip=tooltips("function:N", "cause:N", "misses:Q")), text)
        return spec_of(chart, ROW_HEIGHT * len({row["function"] for row in rows}))

    def describe(members: list[Group]) -> str:
        group = _of_policy(members, chosen)
        counts = _misses_by_cause(group)
        total = sum(counts.values())
        again = sum(count for (_, cause), count in counts.items() if cause in REPEAT_CAUSES)
        return (
            f"of {total:.0f} misses of a run with {group.setting.label}, {again:.0f} were for programs compiled "
            f"before, {total - again:.0f} for new ones."
        )

    where = f" of {chosen.label}" if chosen else ""
    return by_program(
        "causes", "Misses by function and cause",
        f"Misses{where}, means over the seeds. Evicted and not kept were compiled before: a larger limit or another "
        "policy spares them. The others are new signatures: the program or buckets do.",
        at_setting(groups, chosen), draw, describe,
    )  # fmt: skip


def _of_policy(members: list[Group], chosen: Setting | None) -> Group:
    """Return the group of the chosen policy; the first where there is none."""
    return next((group for group in members if chosen and group.setting.eviction == chosen.eviction), members[0])


def _misses_by_cause(group: Group) -> dict[tuple[str, str], float]:
    """Return the mean misses by function and cause."""
    counts: dict[tuple[str, str], float] = defaultdict(float)
    for result in group.results:
        stats = result.statistics
        assert stats is not None
        by_function = {name: counts_of.misses_by_cause for name, counts_of in stats.by_function.items()}
        for name, by_cause in (by_function or {"all functions": stats.misses_by_cause}).items():
            for cause, count in by_cause.items():
                counts[name, cause] += count / len(group.results)
    return counts


def _most_first(rows: list[dict[str, Any]], field: str) -> list[str]:
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        total[row[field]] += row["misses"]
    return sorted(total, key=lambda name: (-total[name], name))


def memory(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """Return bytes held over the requests, against the limit: the first seed of each policy."""
    lines = sorted({group.setting.eviction for group in groups})

    def draw(members: list[Group]) -> Any:
        rows = [
            {"policy": g.setting.eviction, "request": request, "MiB": round(held / MIB, 3)}
            for g in members if (course := _first_course(g))
            for request, held in zip(course.requests, course.live_bytes, strict=True)
        ]  # fmt: skip
        if not rows:
            return None
        styles = styles_of("policy", lines, "eviction")
        chart = chart_of(rows).mark_line(interpolate="step-after", strokeWidth=1.8).encode(
            x=alt.X("request:Q", title="requests served", axis=alt.Axis(grid=False)),
            y=alt.Y("MiB:Q", title="held (MiB)", scale=alt.Scale(zero=True)),
            color=styles["color"], strokeDash=styles["strokeDash"],
        )  # fmt: skip
        limit = members[0].setting.memory_limit
        if limit is None:
            return alt.layer(chart)
        rule = chart_of([{"MiB": limit / MIB, "name": f"limit: {members[0].setting.limit}"}])
        text = rule.mark_text(align="right", baseline="bottom", dx=-4, dy=-3)
        return alt.layer(
            chart, rule.mark_rule(strokeDash=[6, 4]).encode(y=alt.Y("MiB:Q")),
            text.encode(y=alt.Y("MiB:Q"), text=alt.Text("name:N"), x=alt.XValue("width")),
        )  # fmt: skip

    def describe(members: list[Group]) -> str:
        group = _of_policy(members, chosen)
        frame = group.frame
        working_set = f"; the working set is {format_size(int(frame.unbounded_bytes))}" if frame else ""
        return (
            f"the most that {group.setting.eviction} held is {format_size(int(group.mean('peak_bytes')))}, at "
            f"{group.setting.limit}{working_set}."
        )

    return by_program(
        "memory", "Memory over time, against the limit",
        "Bytes of the programs held, by the cache's own account, as requests come: the first seed of each policy.",
        at_setting(groups, chosen), draw, describe,
    )  # fmt: skip


def _first_course(group: Group) -> Timeline | None:
    return next((result.course for result in group.results if result.course is not None), None)


def _latencies(group: Group) -> dict[str, list[Latency]]:
    """Return the latencies of a group's trials by where the programs came from."""
    sources: dict[str, list[Latency]] = {}
    for result in group.results:
        for source, latency_of_source in (result.course.latency if result.course else {}).items():
            sources.setdefault(source, []).append(latency_of_source)
    return {source: sources[source] for source in SOURCES if source in sources}


def _milliseconds(latencies: list[Latency], quantile: str) -> float:
    return round(1000 * fmean(getattr(each, f"{quantile}_seconds") for each in latencies), 4)


def latency(groups: Sequence[Group], chosen: Setting | None) -> Figure:
    """Return how long a request takes, by where its programs came from."""

    def draw(members: list[Group]) -> Any:
        rows = [
            {"policy": group.setting.eviction, "source": SOURCES[source],
             "requests": sum(each.requests for each in latencies),
             **{quantile: _milliseconds(latencies, quantile) for quantile in ("p50", "p90", "p99")}}
            for group in members for source, latencies in _latencies(group).items()
        ]  # fmt: skip
        if not rows:
            return None
        title = "ms a request: ● median, ❙ 90 %, ◆ 99 %"
        y = alt.Y("policy:N", title=None, axis=alt.Axis(labelLimit=160))
        scale = alt.Scale(type="log", nice=False, padding=12)
        x = alt.X("p50:Q", title=title, scale=scale, axis=alt.Axis(format="~g", grid=False))
        offset = alt.YOffset("source:N", sort=list(SOURCES.values()))
        legend = alt.Legend(orient="bottom", symbolType="stroke", symbolStrokeWidth=3)
        colour = alt.Color("source:N", title=None, sort=list(SOURCES.values()), legend=legend,
                           scale=alt.Scale(domain=list(SOURCES.values())))  # fmt: skip
        dash = alt.StrokeDash("source:N", title=None, sort=list(SOURCES.values()), legend=legend,
                              scale=alt.Scale(domain=list(SOURCES.values()), range=DASHES[:3]))  # fmt: skip
        base = chart_of(rows).encode(y=y, yOffset=offset, color=colour)
        tooltip = tooltips("policy:N", "source:N", "requests:Q", "p50:Q", "p90:Q", "p99:Q")
        chart = alt.layer(
            base.mark_rule(strokeWidth=2).encode(x=x, x2=alt.X2("p99:Q"), strokeDash=dash),
            base.mark_point(filled=True, shape="circle", size=60, opacity=1).encode(x=x, tooltip=tooltip),
            base.mark_tick(thickness=2, size=9).encode(x=alt.X("p90:Q"), tooltip=tooltip),
            base.mark_point(filled=True, shape="diamond", size=60, opacity=1).encode(x=alt.X("p99:Q"), tooltip=tooltip),
        )
        return spec_of(chart, max(HEIGHT, ROW_HEIGHT * len(members)))

    def describe(members: list[Group]) -> str:
        group = _of_policy(members, chosen)
        parts = [
            f"{_milliseconds(latencies, 'p50'):.1f} ms where its programs are {SOURCES[source]}"
            for source, latencies in _latencies(group).items()
        ]
        if not parts:
            return f"of {group.setting.label} no latencies were recorded."
        return f"a request of {group.setting.label} takes in the median {', '.join(parts)}."

    return by_program(
        "latency", "Latency of requests",
        "A request counts as compiled if any of its programs was, else as loaded if any came from disk, else as held.",
        at_setting(groups, chosen), draw, describe,
    )  # fmt: skip


def lengths(groups: Sequence[Group]) -> Figure:
    """Return how many requests came with each length, and the buckets that they were padded to."""

    def course_of(members: list[Group]) -> Timeline | None:
        return next((course for course in map(_first_course, members) if course is not None), None)

    def draw(members: list[Group]) -> Any:
        course = course_of(members)
        if course is None or len(course.lengths) < 2:
            return None
        rows = [{"length": length, "requests": count} for length, count in course.lengths.items()]
        x = alt.X("length:Q", title="length of a request", axis=alt.Axis(grid=False),
                  scale=alt.Scale(zero=False, padding=8))  # fmt: skip
        bars = chart_of(rows).mark_rule(strokeWidth=3).encode(
            x=x, y=alt.Y("requests:Q", title="requests", scale=alt.Scale(zero=True)), y2=alt.Y2Datum(0),
            tooltip=tooltips("length:Q", "requests:Q"),
        )  # fmt: skip
        layers = [bars]
        bucketed = next((c for g in members for c in [_first_course(g)] if c is not None and c.buckets), None)
        if bucketed is not None:
            edges = chart_of([{"length": length, "bucket": f"{length}"} for length in bucketed.buckets])
            layers.append(edges.mark_rule(strokeDash=[4, 3], opacity=0.8).encode(x=alt.X("length:Q")))
            layers.append(
                edges.mark_text(baseline="bottom", dy=-4).encode(
                    x=alt.X("length:Q"), text=alt.Text("bucket:N"), y=alt.YValue(0)
                )
            )
        return alt.layer(*layers)

    def describe(members: list[Group]) -> str:
        course = course_of(members)
        assert course is not None
        counts = course.lengths
        often = max(counts, key=lambda length: (counts[length], -length))
        total, once = sum(counts.values()), sum(count == 1 for count in counts.values())
        return (
            f"{counted(total, 'request')} of {counted(len(counts), 'length')} from {min(counts)} to {max(counts)}; "
            f"{often} is asked for most, {counted(counts[often], 'time')}, and {counted(once, 'length')} only once."
        )

    return by_program(
        "lengths", "Lengths asked for",
        "Requests of the first seed by length. Dashed lines, where there are any, are the buckets they were padded to.",
        groups, draw, describe,
    )  # fmt: skip
