"""Settings that may be ranked against each other: those that were run on the same cells.

A cell is a program (workload, shapes, precision, directory) and a seed. Means over different cells do not compare: a
setting that lacks the dearest cell would look cheapest. A sweep whose trials failed, were interrupted or come from
several lists is therefore taken apart into blocks, each a set of settings and the cells that all of them have.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from .sweep import Group, Program, Setting

_MOST_STARTS = 32
_DIGITS = 9  # sums of the same numbers in another order differ in their last bits


class Cell(NamedTuple):
    """Program and seed of a trial."""

    program: Program
    seed: int


@dataclass(frozen=True)
class Block:
    """Settings that share cells, with the trials of these cells alone.

    Attributes:
        groups: One a setting and program.
    """

    groups: tuple[Group, ...]

    @cached_property
    def by_setting(self) -> dict[Setting, tuple[Group, ...]]:
        """The groups of each setting, one a program."""
        groups_of: dict[Setting, tuple[Group, ...]] = {}
        for group in self.groups:
            groups_of[group.setting] = (*groups_of.get(group.setting, ()), group)
        return groups_of

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that each of the settings has."""
        return tuple(cells_of(next(iter(self.by_setting.values()))))

    @cached_property
    def seconds(self) -> dict[Setting, float]:
        """Reference compile seconds of each setting: the mean over the programs of the means over their seeds."""
        return {
            setting: round(fmean(group.mean("cost_seconds") for group in groups), _DIGITS)
            for setting, groups in self.by_setting.items()
        }

    def at(self, limit_bytes: int | None, buckets: str) -> list[Setting]:
        """Return the settings with this limit and these buckets, the fewest seconds first; ties go to lru."""
        here = [
            setting for setting in self.by_setting if (setting.memory_limit, setting.buckets) == (limit_bytes, buckets)
        ]
        return sorted(here, key=lambda setting: (self.seconds[setting], setting.eviction != "lru", setting.eviction))


def limit_order(limit_bytes: int | None) -> float:
    """Return a key that sorts limits; no limit is the largest."""
    return float("inf") if limit_bytes is None else limit_bytes


def cells_of(groups: Iterable[Group]) -> Iterator[Cell]:
    """Yield the cells on which groups have trials."""
    return (Cell(group.program, seed) for group in groups for seed in group.seeds)


def find_blocks(groups: Sequence[Group]) -> list[Block]:
    """Return the blocks of a sweep, the one with the most comparisons first; each ranks a setting that none before did.

    A block holds every setting that has its cells. Settings that are in none share no cell with any other.

    A block with ``s`` settings and ``c`` cells holds ``(s - 1) c`` independent comparisons. Which has the most is found
    by descent from the cells with the most settings, dropping the settings that cost the fewest cells: the exact answer
    takes exponential time.
    """
    have: dict[Setting, set[Cell]] = {}
    for group in groups:
        have.setdefault(group.setting, set()).update(cells_of([group]))
    blocks: list[Block] = []
    ranked: set[Setting] = set()
    while (largest := _largest(have, ranked)) is not None:
        settings, cells = largest
        blocks.append(_block(groups, settings, cells))
        ranked |= settings
    return blocks


def _block(groups: Sequence[Group], settings: set[Setting], cells: set[Cell]) -> Block:
    seeds: dict[Program, set[int]] = {}
    for program, seed in cells:
        seeds.setdefault(program, set()).add(seed)
    return Block(tuple(
        group.at_seeds(seeds[group.program])
        for group in groups if group.setting in settings and group.program in seeds
    ))  # fmt: skip


def _largest(have: dict[Setting, set[Cell]], ranked: set[Setting]) -> tuple[set[Setting], set[Cell]] | None:
    """Return the settings and the cells of the largest block that ranks a new setting; None if there is none."""
    settings = list(have)
    new = sum(1 << number for number, setting in enumerate(settings) if setting not in ranked)
    holders: dict[Cell, int] = {}  # the settings of each cell, as bits
    for number, setting in enumerate(settings):
        for cell in have[setting]:
            holders[cell] = holders.get(cell, 0) | 1 << number
    counts: dict[int, int] = {}
    for mask in holders.values():
        counts[mask] = counts.get(mask, 0) + 1
    starts = sorted(counts, key=lambda mask: (-mask.bit_count(), -counts[mask], mask))[:_MOST_STARTS]
    best, most = 0, (0, 0)
    for start in starts:
        for mask, cells in _descent(start, counts):
            size = ((mask.bit_count() - 1) * cells, mask.bit_count())
            if size > most and mask & new:
                best, most = mask, size
    if not best:
        return None
    chosen = {setting for number, setting in enumerate(settings) if best >> number & 1}
    return chosen, {cell for cell, mask in holders.items() if mask & best == best}


def _descent(mask: int, counts: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Yield ever smaller sets of two settings or more, as bits, with the number of cells that all of a set have."""
    while mask.bit_count() >= 2:
        yield mask, sum(count for other, count in counts.items() if other & mask == mask)
        smaller = {mask & other for other in counts} - {mask}
        mask = max(smaller, key=lambda subset: (subset.bit_count(), subset), default=0)
