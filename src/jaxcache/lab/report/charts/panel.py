"""What every chart shares: panels by program, marks that differ without colour, specifications without colours."""

from collections import defaultdict
from collections.abc import Sequence
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


def programs_of(groups: Sequence[Group]) -> dict[Program, list[Group]]:
    """Return the groups of each program."""
    found: dict[Program, list[Group]] = defaultdict(list)
    for group in groups:
        found[group.program].append(group)
    return found


def title_of(program: Program, groups: Sequence[Group]) -> str:
    """Return what stands above a program's panel."""
    several = len({group.program.persistent for group in groups}) > 1
    return program.label + (f", disk {program.persistent}" if several else "")


def by_program(name: str, title: str, caption: str, groups: Sequence[Group], draw: Any) -> Figure:
    """Return a figure with a panel for each program."""
    programs = programs_of(groups)
    panels = [
        Panel(title_of(program, groups), chart if isinstance(chart, dict) else spec_of(chart))
        for program, members in list(programs.items())[:MOST_PANELS]
        if (chart := draw(members)) is not None
    ]
    return Figure(name, title, caption, tuple(panels), max(0, len(programs) - MOST_PANELS))


def spec_of(chart: Any, height: int = HEIGHT) -> dict[str, Any]:
    """Return the specification with its data inside, as wide as the page gives it room."""
    with alt.data_transformers.enable("default", consolidate_datasets=False, max_rows=None):
        spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict(validate=False)
    for unused in ("config", "$schema"):
        spec.pop(unused, None)
    return spec


def chart_of(rows: list[dict[str, Any]]) -> Any:
    """Return a chart of rows."""
    return alt.Chart(alt.Data(values=rows))


def line_of(setting: Any, several_buckets: bool) -> str:
    """Return what a line is called."""
    return f"{setting.eviction}, {setting.buckets}" if several_buckets else setting.eviction


def lines_of(groups: Sequence[Group]) -> list[str]:
    """Return what all lines are called, sorted."""
    several = len({group.setting.buckets for group in groups}) > 1
    return sorted({line_of(group.setting, several) for group in groups})


def styles_of(field: str, domain: list[str], title: str, stroke: float = 2) -> dict[str, Any]:
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


def at_setting(groups: Sequence[Group], chosen: Setting | None) -> list[Group]:
    """Return the groups at the chosen limit and buckets."""
    if chosen is None:
        return list(groups)
    wanted = chosen[1:]
    return [group for group in groups if group.setting[1:] == wanted]
