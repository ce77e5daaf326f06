"""The report's charts, one function each: findings -> Vega-Lite specifications without colours of their own.

Colours, and the ink of axes and text, are the theme's, so that one specification serves light and dark. Nothing is
told by colour alone: lines differ in dash and mark, bars in lightness and order, cells carry their number.
"""

from ...analysis.findings import Findings
from .map import map_figure, map_layers, measured_layers, named_policies
from .panel import MOST_PANELS, Figure, Panel
from .settings import heat_map, time_spent, time_split
from .trials import causes, latency, lengths, memory

__all__ = [
    "MOST_PANELS", "Figure", "Panel", "causes", "figures", "heat_map", "latency", "lengths", "map_figure", "map_layers",
    "measured_layers", "memory", "named_policies", "time_spent", "time_split",
]  # fmt: skip


def figures(findings: Findings) -> list[Figure]:
    """Return every figure for which there is something to draw, the map first."""
    groups, chosen = findings.sweep.groups, findings.nearest_run
    every = [
        map_figure(findings), heat_map(groups), time_spent(groups, chosen), causes(groups, chosen),
        memory(groups, chosen), latency(groups, chosen), lengths(groups),
    ]  # fmt: skip
    return [figure for figure in every if figure.panels]
