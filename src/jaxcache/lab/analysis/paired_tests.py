"""Paired comparisons that hold for few repeats: exact sign-flip tests, Holm's correction, intervals to match.

A repeat is a seed. Trials of one seed see the same requests whatever their limit, so they are not independent of each
other: what is tested is one number a seed, the mean over the cells (program and limit) of the logarithm of the ratio
of two options' seconds.

Under the hypothesis of no difference each such number is as likely as its negative. The test counts, over all 2^n
choices of signs, how many give a sum as far from zero; nothing is assumed about the shape of the distribution. The
interval is what the test does not refuse: its ends are means of subsets of the numbers (J. A. Hartigan, Using
subsample values as typical values, JASA 64, 1969). Several comparisons are corrected by S. Holm, A simple sequentially
rejective multiple test procedure, Scand. J. Statist. 6, 1979.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import numpy as np

LEVEL = 0.05
_EXACT_REPEATS = 13  # 8,191 subsets; with more repeats as many are drawn
_LEAST_SECONDS = 1e-6  # what takes nothing at all is taken to take this, so that a ratio exists

Verdict = Literal["less", "more", "no difference seen", "too few repeats"]
Seconds = Mapping[tuple[Any, int], float]  # by cell and seed


@dataclass(frozen=True)
class Interval:
    """A mean of paired differences, and what the test at ``1 - confidence`` does not refuse.

    Attributes:
        low: None, as is ``high``, where no interval of that confidence is to be had from so few repeats.
        repeats: How many differences there are.
    """

    mean: float
    low: float | None
    high: float | None
    repeats: int
    confidence: float = 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """One option against another.

    Attributes:
        ratio: Geometric mean of ``first`` over ``second``; below 1, ``first`` takes less.
        saved_seconds: Seconds of ``second`` less those of ``first``, a cell.
        missing: Pairs of which one trial is not there.
        p_value: Of the exact sign-flip test, two-sided, of this pair alone.
        adjusted: The same after Holm's correction for all pairs that were compared with it.
        repeats_needed: With fewer, no outcome could have passed the correction.
    """

    first: str
    second: str
    ratio: Interval
    saved_seconds: Interval
    missing: int
    p_value: float
    adjusted: float
    repeats_needed: int

    @property
    def repeats(self) -> int:
        """Seeds that both options have."""
        return self.ratio.repeats

    @property
    def verdict(self) -> Verdict:
        """What may be said at ``LEVEL``: ``less`` if ``first`` takes less than ``second``."""
        if self.repeats < self.repeats_needed:
            return "too few repeats"
        if self.adjusted > LEVEL:
            return "no difference seen"
        return "less" if self.ratio.mean < 1 else "more"


@functools.lru_cache(maxsize=4)
def _subsets(repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one row a non-empty subset, of ones and zeros, and the subsets' sizes; a fixed draw if they are too many.

    In float64, since NumPy would otherwise convert all of them for each product.
    """
    if repeats <= _EXACT_REPEATS:
        numbers = np.arange(1, 2**repeats)
        members = (numbers[:, None] >> np.arange(repeats)) & 1
    else:
        members_drawn = np.random.default_rng(repeats).integers(0, 2, (2**_EXACT_REPEATS - 1, repeats))
        members = members_drawn[members_drawn.any(axis=1)]
    return members.astype(np.float64), members.sum(axis=1)


@functools.lru_cache(maxsize=16)  # a report asks for the test, then for the interval
def _subset_means(differences: tuple[float, ...]) -> np.ndarray:
    members, sizes = _subsets(len(differences))
    return np.sort(members @ np.asarray(differences, np.float64) / sizes)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the hypothesis that the differences are symmetric about zero."""
    if not differences:
        return 1.0
    means = _subset_means(tuple(differences))
    # Sums of the same numbers in another order differ in their last bits; what is as good as zero is a tie.
    tie = 1e-12 * max(map(abs, differences))
    above, below = 1 + int(np.count_nonzero(means <= tie)), 1 + int(np.count_nonzero(means >= -tie))
    return min(1.0, 2 * min(above, below) / (len(means) + 1))


def paired_interval(differences: Sequence[float], confidence: float = 1 - LEVEL) -> Interval:
    """Return the mean of the differences and the interval of at least that confidence; it inverts the test."""
    repeats = len(differences)
    if not repeats:
        raise ValueError("differences must not be empty")
    means = _subset_means(tuple(differences))
    rank = math.floor((len(means) + 1) * (1 - confidence) / 2 + 1e-9)
    low, high = (float(means[rank - 1]), float(means[-rank])) if rank else (None, None)
    return Interval(fmean(differences), low, high, repeats, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def repeats_needed(comparisons: int, level: float = LEVEL) -> int:
    """Return the least number of repeats with which the best of so many comparisons can pass Holm's correction."""
    return max(1, math.ceil(1 + math.log2(max(1, comparisons) / level)))


def compare(measured: Mapping[str, Seconds], baseline: str | None = None) -> list[Comparison]:
    """Compare each pair of options, or each option with a baseline, as one family of tests.

    Args:
        measured: For each option its seconds by cell and seed. Pairs of which one half is missing are left out.
        baseline: An option that the others are held against; None compares every pair. It may be missing.
    """
    if baseline is None:
        pairs: Iterable[tuple[str, str]] = itertools.combinations(measured, 2)
    else:
        pairs = [(option, baseline) for option in measured if option != baseline]
    return correct([pair for pair in (_pair(measured, *pair) for pair in pairs) if pair is not None])


def correct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons, corrected as one family."""
    adjusted = holm([pair.p_value for pair in comparisons])
    needed = repeats_needed(len(comparisons))
    return [replace(pair, adjusted=p, repeats_needed=needed) for pair, p in zip(comparisons, adjusted, strict=True)]


def _pair(measured: Mapping[str, Seconds], first: str, second: str) -> Comparison | None:
    left, right = measured[first], measured.get(second, {})
    both = left.keys() & right.keys()
    if not both:
        return None
    logs: dict[int, list[float]] = {}
    saved: dict[int, list[float]] = {}
    for cell, seed in sorted(both, key=repr):  # in one order, so that sums come out the same each time
        a, b = left[cell, seed], right[cell, seed]
        logs.setdefault(seed, []).append(math.log(max(a, _LEAST_SECONDS) / max(b, _LEAST_SECONDS)))
        saved.setdefault(seed, []).append(b - a)
    by_seed = [fmean(logs[seed]) for seed in sorted(logs)]
    shared = {cell for cell, _ in left} & {cell for cell, _ in right}
    missing = sum(cell in shared for cell, _ in left.keys() ^ right.keys())
    interval, p_value = paired_interval(by_seed), sign_flip_p(by_seed)
    ratio = replace(
        interval,
        mean=math.exp(interval.mean),
        low=None if interval.low is None else math.exp(interval.low),
        high=None if interval.high is None else math.exp(interval.high),
    )
    seconds = paired_interval([fmean(saved[seed]) for seed in sorted(saved)])
    return Comparison(first, second, ratio, seconds, missing, p_value, p_value, repeats_needed(1))


def leaders(comparisons: Sequence[Comparison]) -> set[str]:
    """Return the options that none was shown to take less than, from comparisons of every pair."""
    options = {name for pair in comparisons for name in (pair.first, pair.second)}
    beaten = {pair.second for pair in comparisons if pair.verdict == "less"}
    return options - beaten - {pair.first for pair in comparisons if pair.verdict == "more"}


def reverse(pair: Comparison) -> Comparison:
    """Return the same comparison told from the other side."""

    def inverse(value: float | None) -> float | None:
        return None if value is None else 1 / value

    def negative(value: float | None) -> float | None:
        return None if value is None else -value

    ratio, saved = pair.ratio, pair.saved_seconds
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        ratio=replace(ratio, mean=1 / ratio.mean, low=inverse(ratio.high), high=inverse(ratio.low)),
        saved_seconds=replace(saved, mean=-saved.mean, low=negative(saved.high), high=negative(saved.low)),
    )
