"""Buckets for a function, from the lengths that its recent misses tell."""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .._calls.misses import Miss
from .._padding.choose import BucketChoice, choose_buckets

_AXIS = re.compile(r"(.+) axis (\d+)")
_LITTLE_PADDING = 0.5  # added elements over own ones
_MOST_BUCKETS = 8
_MOST_COMBINED = 64  # buckets of several dimensions


@dataclass(frozen=True)
class Proposal:
    """Buckets that would do.

    Attributes:
        arguments: As ``bucketed`` takes them.
        count: Of the buckets.
        padding: Elements added over own ones, each length once.
        evidence: The lengths that they were chosen for.
    """

    arguments: str
    count: int
    padding: float
    evidence: str


def bucket_proposal(name: str, misses: Iterable[Miss]) -> Proposal | None:
    """Return buckets for the lengths that misses of a function tell; None if there are too few, or none."""
    lengths = _lengths(name, misses)
    if not lengths or max(map(len, lengths.values())) < 3:
        return None
    axes: dict[str, list[int]] = {}
    for argument, axis in sorted(lengths):
        axes.setdefault(argument, []).append(axis)
    dimensions = max(map(len, axes.values()))
    alike = len({tuple(sorted(each)) for each in lengths.values()}) == 1
    if not alike and any(len(each) < dimensions for each in axes.values()):
        return None  # which dimension the axes of the shorter ones belong to is not known
    choices = []
    for dimension in range(dimensions):
        of_dimension = [lengths[argument, each[dimension]] for argument, each in axes.items() if dimension < len(each)]
        choices.append(_choose(sorted(set().union(*of_dimension))))
    padding = math.prod(1 + one.padding for one in choices) - 1
    chosen = _combined(choices, alike)
    if chosen is None:
        return None
    largest = [max(each) for each in lengths.values()]
    smallest = [min(each) for each in lengths.values()]
    seen = max(map(len, lengths.values()))
    evidence = f"its last misses had {seen} lengths from {min(smallest)} to {max(largest)}, of {_listed_axes(axes)}"
    trimmed = ", out_axes=…" if dimensions > 1 else ""  # of equal lengths, none is known to be which dimension's
    return Proposal(f"buckets={chosen}, axes={_axes(axes, dimensions)}{trimmed}", len(chosen), padding, evidence)


def _lengths(name: str, misses: Iterable[Miss]) -> dict[tuple[str, int], set[int]]:
    """Return the lengths of each axis, by argument and axis; empty if one of them is within a pytree."""
    lengths: dict[tuple[str, int], set[int]] = {}
    for miss in misses:
        if miss.cause != "new_shape" or not miss.call.startswith(f"{name}("):
            continue
        for difference in miss.differences:
            match = _AXIS.fullmatch(difference.place)
            if match is None or not match[1].isidentifier():
                return {}
            known = lengths.setdefault((match[1], int(match[2])), set())
            known.update((int(difference.before), int(difference.after)))
    return {where: {one for one in each if one > 0} for where, each in lengths.items()}


def _choose(lengths: list[int]) -> BucketChoice:
    """Return the fewest buckets that add little."""
    for most in range(1, _MOST_BUCKETS + 1):
        choice = choose_buckets(lengths, compile_cost=0.0, max_buckets=most)
        if choice.padding <= _LITTLE_PADDING or most == _MOST_BUCKETS:
            return choice
    raise AssertionError  # the last one is returned


def _combined(choices: list[BucketChoice], alike: bool) -> tuple[int | tuple[int, ...], ...] | None:
    if len(choices) == 1:
        return choices[0].buckets
    if alike:  # such as square matrices
        return tuple((bucket,) * len(choices) for bucket in choices[0].buckets)
    if math.prod(len(one.buckets) for one in choices) > _MOST_COMBINED:
        return None
    return tuple(itertools.product(*(one.buckets for one in choices)))


def _axes(axes: dict[str, list[int]], dimensions: int) -> dict[str, int | tuple[int | None, ...]]:
    if dimensions == 1:
        return {argument: each[0] for argument, each in axes.items()}
    return {argument: (*each, *[None] * (dimensions - len(each))) for argument, each in axes.items()}


def _listed_axes(axes: dict[str, list[int]]) -> str:
    return ", ".join(f"{argument} axis {axis}" for argument, each in axes.items() for axis in each)
