"""Charts that compare settings: where a run's time went, and policy by workload."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from ...analysis.choice import baseline_of, by_policy
from ...analysis.paired_tests import Comparison, compare
from ...analysis.sweep import Group, Setting
from ...counted import counted
from .panel import (
    BAR_HEIGHT,
    HEIGHT,
    MOST_BARS,
    ROW_HEIGHT,
    Figure,
    Panel,
    at_setting,
    by_program,
    chart_of,
    programs_of,
    spec_of,
    title_of,
    tooltips,
)

_MOST_PROGRAMS = 40
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
    """Return where a run's seconds went; of many settings, those at the chosen limit."""
    many = max(len(members) for members in programs_of(groups).values()) > MOST_BARS if groups else False

    def draw(members: list[Group]) -> Any:
        rows = [
            {"setting": g.setting.label, "part": part, "seconds": round(seconds, 4), "order": _PARTS.index(part),
             "rank": rank}
            for rank, g in enumerate(members) if (split := time_split(g)) for part, seconds in split.items()
        ]  # fmt: skip
        if not rows:
            return None
        chart = chart_of(rows).mark_bar(stroke="#808080", strokeWidth=0.6).encode(
            x=alt.X("seconds:Q", title="seconds of a run, as measured", axis=alt.Axis(grid=True)),
            y=alt.Y("setting:N", title=None, sort=alt.EncodingSortField("rank"), axis=alt.Axis(labelLimit=220)),
            color=alt.Color("part:N", title=None, sort=list(_PARTS), scale=alt.Scale(domain=list(_PARTS), range="ramp"),
                            legend=alt.Legend(orient="bottom")),
            order=alt.Order("order:Q"), tooltip=tooltips("setting:N", "part:N", "seconds:Q"),
        )  # fmt: skip
        return spec_of(chart, max(HEIGHT, BAR_HEIGHT * len(members)))

    def describe(members: list[Group]) -> str:
        split = [(group, parts) for group in members if (parts := time_split(group))]
        group, parts = next((each for each in split if each[0].setting == chosen), split[0])
        compiling, loading, running = parts.values()
        return (
            f"of {compiling + loading + running:.1f} s of a run with {group.setting.label}, {compiling:.1f} s went to "
            f"compiling, {loading:.1f} s to loading from disk, and {running:.1f} s to the work itself."
        )

    return by_program(
        "time", "Where the time went",
        "What a run really took, in the order of the legend: tracing, lowering and compiling; reading executables from "
        "the persistent cache; the work itself. A directory that trials share makes later ones load more.",
        at_setting(groups, chosen) if many else groups, draw, describe,
    )  # fmt: skip


def heat_map(groups: Sequence[Group]) -> Figure:
    """Return each policy's measured seconds over the baseline's, by program; empty for one program or one policy."""
    baseline, programs = baseline_of(groups), list(programs_of(groups).items())
    compared: list[tuple[str, Comparison]] = [
        (title_of(program, groups), pair)
        for program, members in programs[:_MOST_PROGRAMS] for pair in compare(by_policy(members), baseline)
    ]  # fmt: skip
    if len(programs) < 2 or not compared:
        return Figure("policies", "", "", "", ())
    rows = [
        {
            "policy": pair.first, "program": title, "ratio": round(pair.ratio.mean, 3),
            "away": round(abs(pair.ratio.mean - 1), 3), "verdict": pair.verdict, "repeats": pair.repeats,
            "text": f"{pair.ratio.mean:.2f}" + {"less": " ▼", "more": " ▲"}.get(pair.verdict, ""),
        }
        for title, pair in compared
    ]  # fmt: skip
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
        cells.encode(color=colour, tooltip=tooltips("program:N", "policy:N", "ratio:Q", "verdict:N", "repeats:Q")),
        base.mark_text(fontSize=13).encode(text=alt.Text("text:N")),
    )
    spec = spec_of(chart, ROW_HEIGHT * len({row["program"] for row in rows}))
    title, pair = min(compared, key=lambda each: each[1].ratio.mean)
    sentence = (
        f"The furthest below {baseline} is {pair.first} on {title}: {pair.ratio.mean:.2f} of its seconds, over "
        f"{counted(pair.repeats, 'seed')} ({pair.verdict})."
    )
    numbers = "; ".join(f"{name}, {each.first}: {each.ratio.mean:.2f} ({each.verdict})" for name, each in compared)
    return Figure(
        "policies", f"Policy × workload, over {baseline}, measured", sentence,
        f"Compile seconds over those of {baseline}, geometric mean over the limits, paired by seed: below 1 is less. "
        "▼ and ▲ mark differences that were shown (5 % for a row, Holm's correction); without a mark none was.",
        (Panel("", spec, f"{sentence} {numbers}."),), max(0, len(programs) - _MOST_PROGRAMS),
    )  # fmt: skip
