"""The report's charts as files: SVG and PNG, in the light theme of the page."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from ..analysis.findings import Findings
from ..analysis.sweep import Group
from ..files import write_file
from .charts import MOST_PANELS, Figure, map_layers, measured_layers, named_policies
from .map_tables import map_title, seeds_text

WEB = Path(__file__).with_name("web")
_WIDTH = 420


@functools.cache
def themes() -> dict[str, dict[str, Any]]:
    """Return Vega-Lite's settings for ``light`` and ``dark``.

    The colours of lines are Okabe and Ito's and neighbours of theirs, which colour-blind people tell apart; those for
    dark are lighter.
    """
    return json.loads((WEB / "theme.json").read_text())


def map_plot(findings: Findings) -> alt.TopLevelMixin | None:
    """Return the map, one panel a program; None where there is nothing to draw."""
    if findings.maps:
        named = named_policies(findings)
        panels = {
            f"{map_title(program_map)} ({seeds_text(program_map)})": map_layers(findings, program_map, named)
            for program_map in findings.maps[:MOST_PANELS]
        }
    else:
        programs: dict[str, list[Group]] = {}
        for group in findings.sweep.groups:
            programs.setdefault(group.program.label, []).append(group)
        panels = {
            title: measured_layers(members, findings.sweep.groups)
            for title, members in list(programs.items())[:MOST_PANELS]
        }
    if not panels:
        return None
    layers = [layer.properties(title=title, width=340, height=290) for title, layer in panels.items()]
    chart: Any = alt.concat(*layers, columns=3)
    chart = chart.resolve_scale(color="shared", shape="shared", strokeDash="shared")
    return chart.properties(config={**themes()["light"], "background": "white", "font": "sans-serif"})


def write_plots(figures: Sequence[Figure], directory: Path) -> list[Path]:
    """Write each chart as ``<figure>-<number>.svg`` and ``.png``; return the files."""
    directory.mkdir(exist_ok=True)
    written: list[Path] = []
    for figure in figures:
        for number, panel in enumerate(figure.panels, 1):
            spec = {**panel.spec, "width": _WIDTH, "title": panel.title or figure.title, "background": "white"}
            config = {**themes()["light"], "font": "sans-serif"}
            path = directory / f"{figure.name}-{number}.svg"
            svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite(), config=config)
            write_file(path, svg, durable=False)
            png = vl_convert.vegalite_to_png(spec, vl_version=vega_lite(), config=config, ppi=144)
            write_file(path.with_suffix(".png"), png, durable=False)
            written += [path, path.with_suffix(".png")]
    return written


def draw_nothing() -> None:
    """Draw an empty chart, which starts what draws all others."""
    chart = alt.Chart(alt.Data(values=[])).mark_point().to_dict()
    vl_convert.vegalite_to_png(chart, vl_version=vega_lite())


def vega_lite() -> str:
    """Return the version of Vega-Lite that the charts are written in, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
