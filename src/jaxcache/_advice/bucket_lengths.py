"""Buckets for a function, from the lengths in its recent misses."""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .._calls.misses import Miss
from .._padding.choose import BucketChoice, fewest_buckets

_AXIS = re.compile(r"(.+) axis (\d+)")
_MOST_COMBINED = 64  # buckets of several dimensions


@dataclass(frozen=True)
class Proposal:
    """Buckets that would replace most compiles of a function.

    Attributes:
        arguments: As ``bucketed`` takes them.
        count: Number of buckets.
        padding: Added elements over those of the caller, each length once.
        evidence: The lengths that they were chosen for.
    """

    arguments: str
    count: int
    padding: float
    evidence: str


def bucket_proposal(name: str, misses: Iterable[Miss]) -> Proposal | None:
    """Return buckets for the lengths in misses of a function; None if there are too few lengths."""
    lengths = _lengths(name, misses)
    if not lengths or max(map(len, lengths.values())) < 3:
        return None
    axes: dict[str, list[int]] = {}
    for argument, axis in sorted(lengths):
        axes.setdefault(argument, []).append(axis)
    dimensions = max(map(len, axes.values()))
    alike = len({tuple(sorted(each)) for each in lengths.values()}) == 1
    if not alike and any(len(each) < dimensions for each in axes.values()):
        return None  # the dimension of an argument with fewer axes is ambiguous
    choices = []
    for dimension in range(dimensions):
        of_dimension = [lengths[argument, each[dimension]] for argument, each in axes.items() if dimension < len(each)]
        choices.append(fewest_buckets(sorted(set().union(*of_dimension))))
    padding = math.prod(1 + choice.padding for choice in choices) - 1
    chosen = _combined(choices, alike)
    if chosen is None:
        return None
    largest = [max(each) for each in lengths.values()]
    smallest = [min(each) for each in lengths.values()]
    seen = max(map(len, lengths.values()))
    evidence = f"its last misses had {seen} lengths from {min(smallest)} to {max(largest)}, of {_listed_axes(axes)}"
    trimmed = ", out_axes=…" if dimensions > 1 else ""  # axes of equal lengths may belong to any dimension
    return Proposal(f"buckets={chosen}, axes={_axes(axes, dimensions)}{trimmed}", len(chosen), padding, evidence)


def _lengths(name: str, misses: Iterable[Miss]) -> dict[tuple[str, int], set[int]]:
    """Return the lengths of each axis, by argument and axis; empty if any is within a pytree."""
    lengths: dict[tuple[str, int], set[int]] = {}
    for miss in misses:
        if miss.cause != "new_shape" or not miss.call.startswith(f"{name}("):
            continue
        for difference in miss.differences:
            match = _AXIS.fullmatch(difference.place)
            if match is None or not match[1].isidentifier():
                return {}
            of_axis = lengths.setdefault((match[1], int(match[2])), set())
            of_axis.update((int(difference.before), int(difference.after)))
    return {axis: {length for length in each if length > 0} for axis, each in lengths.items()}


def _combined(choices: list[BucketChoice], alike: bool) -> tuple[int | tuple[int, ...], ...] | None:
    if len(choices) == 1:
        return choices[0].buckets
    if alike:  # such as square matrices
        return tuple((bucket,) * len(choices) for bucket in choices[0].buckets)
    if math.prod(len(choice.buckets) for choice in choices) > _MOST_COMBINED:
        return None
    return tuple(itertools.product(*(choice.buckets for choice in choices)))


def _axes(axes: dict[str, list[int]], dimensions: int) -> dict[str, int | tuple[int | None, ...]]:
    if dimensions == 1:
        return {argument: each[0] for argument, each in axes.items()}
    return {argument: (*each, *[None] * (dimensions - len(each))) for argument, each in axes.items()}


def _listed_axes(axes: dict[str, list[int]]) -> str:
    return ", ".join(f"{argument} axis {axis}" for argument, each in axes.items() for axis in each)
