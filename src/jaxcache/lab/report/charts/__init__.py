"""The report's charts, one function each: an aggregate -> Vega-Lite specifications without colours of their own.

Colours, and the ink of axes and text, are the theme's, so that one specification serves light and dark. Nothing is
told by colour alone: lines differ in dash and mark, bars in lightness and order, cells carry their number.
"""

from collections.abc import Sequence

from ...analysis.sweep import Group, Setting
from .panel import MOST_PANELS, Figure, Panel
from .settings import front_of, heat_map, pareto, time_spent, time_split, tradeoff, tradeoff_layers
from .trials import causes, latency, lengths, memory

__all__ = [
    "MOST_PANELS", "Figure", "Panel", "causes", "figures", "front_of", "heat_map", "latency", "lengths", "memory",
    "pareto", "time_spent", "time_split", "tradeoff", "tradeoff_layers",
]  # fmt: skip


def figures(groups: Sequence[Group], chosen: Setting | None) -> list[Figure]:
    """Return every figure for which there is something to draw."""
    made = [
        tradeoff(groups), pareto(groups), time_spent(groups, chosen), heat_map(groups), causes(groups, chosen),
        memory(groups, chosen), latency(groups, chosen), lengths(groups),
    ]  # fmt: skip
    return [figure for figure in made if figure.panels]
