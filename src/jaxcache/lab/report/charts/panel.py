"""Parts that all charts share: panels by program, marks that differ without colour, specifications without colours."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from ...analysis.sweep import Group, Program, Setting

MOST_PANELS = 12
# There are eight colours and seven shapes and dashes, so that fifty-six lines differ in one or the other.
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3], [1, 3]]
SOURCES = {"held": "held in memory", "loaded": "loaded from disk", "compiled": "compiled"}
MIB = 1024**2
HEIGHT, ROW_HEIGHT, BAR_HEIGHT, MOST_BARS = 260, 44, 24, 24


@dataclass(frozen=True)
class Panel:
    """One chart: its title, its Vega-Lite specification, and its numbers in words for those who do not see it."""

    title: str
    spec: dict[str, Any]
    alternative: str


@dataclass(frozen=True)
class Figure:
    """Charts of one kind, one a program.

    Attributes:
        name: Its name in addresses and of files.
        sentence: The one thing that it shows here, in numbers.
        caption: How to read it.
        panels: At most ``MOST_PANELS``.
        left_out: How many programs have no panel.
    """

    name: str
    title: str
    sentence: str
    caption: str
    panels: tuple[Panel, ...]
    left_out: int = 0


def programs_of(groups: Sequence[Group]) -> dict[Program, list[Group]]:
    """Return the groups of each program."""
    programs: dict[Program, list[Group]] = defaultdict(list)
    for group in groups:
        programs[group.program].append(group)
    return programs


def title_of(program: Program, groups: Sequence[Group]) -> str:
    """Return what stands above a program's panel."""
    several = len({group.program.persistent for group in groups}) > 1
    return program.label + (f", disk {program.persistent}" if several else "")


def by_program(
    name: str,
    title: str,
    caption: str,
    groups: Sequence[Group],
    draw: Callable[[list[Group]], Any],
    describe: Callable[[list[Group]], str],
) -> Figure:
    """Return a figure with a panel for each program; its sentence is that of the first.

    Args:
        name: Of the figure.
        title: Of the figure.
        caption: Of the figure.
        groups: Of all programs.
        draw: Returns a program's chart, or its specification; None where there is nothing to draw.
        describe: Returns what a program's chart shows, in numbers.
    """
    programs = programs_of(groups)
    panels: list[Panel] = []
    sentence = ""
    for program, members in programs.items():
        if len(panels) == MOST_PANELS:
            break
        chart = draw(members)
        if chart is None:
            continue
        text, label = describe(members), title_of(program, groups)
        sentence = sentence or (f"{label}: {text}" if len(programs) > 1 else text[:1].upper() + text[1:])
        panels.append(Panel(label, chart if isinstance(chart, dict) else spec_of(chart), f"{title}. {label}: {text}"))
    return Figure(name, title, sentence, caption, tuple(panels), max(0, len(programs) - MOST_PANELS))


def spec_of(chart: Any, height: int = HEIGHT) -> dict[str, Any]:
    """Return the specification with its data inside, as wide as the page gives it room."""
    with alt.data_transformers.enable("default", consolidate_datasets=False, max_rows=None):
        spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict(validate=False)
    for unused in ("config", "$schema"):
        spec.pop(unused, None)
    return spec


class _Rows(alt.Data):
    """Rows that all copies of a chart share: altair makes several of each chart, and would copy its rows each time."""

    def __deepcopy__(self, _memo: Any = None) -> "_Rows":
        return self


def chart_of(rows: list[dict[str, Any]]) -> Any:
    """Return a chart of rows."""
    return alt.Chart(_Rows(values=rows))


# Where a channel is given as text, altair looks through all its classes for the one that is meant: 5 ms each time.


def tooltips(*fields: str) -> list[Any]:
    """Return channels of what is told of a mark under the pointer."""
    return [alt.Tooltip(field) for field in fields]


def line_of(setting: Any, several_buckets: bool) -> str:
    """Return what a line is called."""
    return f"{setting.eviction}, {setting.buckets}" if several_buckets else setting.eviction


def lines_of(groups: Sequence[Group]) -> list[str]:
    """Return what all lines are called, sorted."""
    several = len({group.setting.buckets for group in groups}) > 1
    return sorted({line_of(group.setting, several) for group in groups})


def styles_of(field: str, domain: list[str], title: str, stroke: float = 2) -> dict[str, Any]:
    """Return encodings that tell lines apart thrice; ``stroke`` is the legend's, whose marks a dash would blur."""
    # How many columns the legend has is the page's to say, by the width that there is.
    legend = alt.Legend(orient="bottom", title=None, symbolStrokeWidth=stroke, symbolSize=80, symbolOpacity=1)
    shapes = [SHAPES[n % len(SHAPES)] for n in range(len(domain))]
    dashes = [DASHES[n % len(DASHES)] for n in range(len(domain))]
    return {
        "color": alt.Color(f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain)),
        "shape": alt.Shape(f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain, range=shapes)),
        "strokeDash": alt.StrokeDash(
            f"{field}:N", title=title, legend=legend, scale=alt.Scale(domain=domain, range=dashes)
        ),
    }


def at_setting(groups: Sequence[Group], chosen: Setting | None) -> list[Group]:
    """Return the groups at the chosen limit and buckets."""
    if chosen is None:
        return list(groups)
    wanted = chosen[1:]
    return [group for group in groups if group.setting[1:] == wanted]
