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
from ..layout import MAP_PNG, MAP_SVG
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


def write_map(findings: Findings, directory: Path) -> bool:
    """Write the map as :data:`MAP_SVG` and :data:`MAP_PNG`; return False where there is nothing to draw."""
    chart = _map_plot(findings)
    if chart is None:
        return False
    _write_picture(chart.to_dict(validate=False), directory / MAP_SVG, directory / MAP_PNG)
    return True


def _map_plot(findings: Findings) -> alt.TopLevelMixin | None:
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
            _write_picture(spec, path, path.with_suffix(".png"), config)
            written += [path, path.with_suffix(".png")]
    return written


def _write_picture(spec: dict[str, Any], svg_path: Path, png_path: Path, config: dict[str, Any] | None = None) -> None:
    """Draw a specification once, and write it in both forms."""
    svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite(), config=config)
    write_file(svg_path, svg, durable=False)
    write_file(png_path, vl_convert.svg_to_png(svg, ppi=144), durable=False)


def draw_nothing() -> None:
    """Draw an empty chart, which starts what draws all others."""
    chart = alt.Chart(alt.Data(values=[])).mark_point().to_dict()
    vl_convert.vegalite_to_png(chart, vl_version=vega_lite())


def vega_lite() -> str:
    """Return the version of Vega-Lite that the charts are written in, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
