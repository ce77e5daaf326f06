"""Hazard: how much sooner or later requests come than a rate of requests leads to expect."""

from collections.abc import Iterable
from itertools import pairwise
from math import expm1, frexp
from typing import Any

BINS = 32  # of what was expected since the last request, two to a doubling
CLASSES = 5  # requests so far: 1, 2, 3 to 4, 5 to 8, more
KEPT = 0.8  # of what was noted, at each renewal
PRIOR = 8.0  # requests that a bin is taken to have seen, as many as its class leads to expect

EDGES = (0.0, *(2.0 ** ((index - 13) / 2) for index in range(1, BINS + 1)))
WIDTHS = tuple(high - low for low, high in pairwise(EDGES))


class Hazard:
    """A factor for a rate of requests, learnt from what that rate expected and what came.

    Let u be the requests that a key's rate led to expect since its last one, the rate summed over time. If rates are
    right, u at the next request is exponential with mean 1, whatever the rates are. From the values at which it came,
    and those at which it has not come yet, follows the hazard h(u), for each class of keys: above 1 where a loop
    comes round, below 1 for what was asked for once or belongs to a phase that is over. The factor at u is ::

        max over v > u of P(requested by v) / E[u spent until requested or v]

    the Gittins index: what a stay is worth at its best end, for what it takes.

    Sources: E. N. Brown et al., The Time-Rescaling Theorem and Its Application to Neural Spike Train Data Analysis,
    Neural Computation 2002; J. C. Gittins, Bandit Processes and Dynamic Allocation Indices, JRSS B 1979; hazards by
    age for eviction: N. Beckmann, H. Chen, A. Cidon, LHD, NSDI 2018.
    """

    def __init__(self) -> None:
        self._came = [[0.0] * BINS for _ in range(CLASSES)]
        self._factors = [[1.0] * BINS for _ in range(CLASSES)]

    def note(self, requests: int, expected: float) -> None:
        """Note that a key with ``requests`` so far was asked for when ``expected`` more were due. O(1)."""
        self._came[class_of(requests)][bin_of(expected)] += 1.0

    def factor(self, requests: int, expected: float) -> float:
        """Return what to multiply the rate with, as of the last renewal. O(1)."""
        return self._factors[class_of(requests)][bin_of(expected)]

    def renew(self, waiting: Iterable[tuple[int, float, float]]) -> None:
        """Take new factors from what came and what has not: requests so far, expected since, weight. O(waiting)."""
        ended = [list(row) for row in self._came]
        for requests, expected, weight in waiting:
            ended[class_of(requests)][bin_of(expected)] += weight
        exposures, hazards = [0.0] * BINS, [0.0] * BINS
        for number in range(CLASSES):
            fit_hazards(self._came[number], ended[number], exposures, hazards)
            self._factors[number] = [gittins_index(hazards, start) for start in range(BINS)]
        self._came = [[KEPT * count for count in row] for row in self._came]


# The functions below are compiled by numba too, for the replay: rows are lists or arrays of BINS numbers.


def class_of(requests: int) -> int:
    """Return the class of a key with so many requests, 1 or more: the bits of what is above one."""
    return min(frexp(float(requests - 1))[1], CLASSES - 1)


def bin_of(expected: float) -> int:
    """Return the bin: edges are powers of the square root of 2, from 2 ** -6 on."""
    mantissa, exponent = frexp(expected)
    half = 2 * exponent + (11 if mantissa < 0.7071067811865476 else 12)
    return 0 if expected <= 0.0 or half < 0 else min(half, BINS - 1)


def fit_hazards(came: Any, ended: Any, exposures: Any, hazards: Any) -> None:
    """Fill in a class's exposures and hazards, from the requests that came and those that ended or wait in each bin.

    Sums are rounded at each step, since ``sum`` rounds otherwise from Python 3.12 on and decisions depend on it.
    """
    later, requests, spent = 0.0, 0.0, 0.0
    for index in range(BINS - 1, -1, -1):
        exposures[index] = (later + ended[index] / 2) * WIDTHS[index]
        later += ended[index]
    for index in range(BINS):
        requests += came[index]
        spent += exposures[index]
    usual = (requests + PRIOR) / (spent + PRIOR)
    for index in range(BINS):
        hazards[index] = (came[index] + PRIOR * usual) / (exposures[index] + PRIOR)


def gittins_index(hazards: Any, start: int) -> float:
    """Return the Gittins index in the middle of a bin."""
    best, open_, requested, spent = 0.0, 1.0, 0.0, 0.0
    for index in range(start, BINS):
        width = WIDTHS[index] / 2 if index == start else WIDTHS[index]
        share = -open_ * expm1(-hazards[index] * width)
        requested += share
        spent += share / hazards[index]
        best = max(best, requested / spent)
        open_ -= share
        if open_ < 0.01:
            break
    return best
