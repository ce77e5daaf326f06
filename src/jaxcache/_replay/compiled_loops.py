"""Slow loops of the bound and the curves, compiled by numba; imported only where it is installed."""

import numpy as np

from .bound import pack_intervals
from .curves import stack_bytes
from .kernels.compiler import compiled

pack = compiled(pack_intervals)
stack = compiled(stack_bytes)


@compiled
def lagrangian(starts, ends, shares, saves, prices):
    """As ``bound._lagrangian``, in one pass over the intervals."""
    rows = len(prices)
    sums, change = np.empty(rows + 1), np.zeros(rows + 1)
    sums[0] = 0.0
    for row in range(rows):
        sums[row + 1] = sums[row] + prices[row]
    value = sums[rows]
    for interval in range(len(starts)):
        share, start, end = shares[interval], starts[interval], ends[interval]
        reduced = saves[interval] - share * (sums[end] - sums[start])
        if reduced > 0:
            value += reduced
            change[start] += share
            change[end] -= share
    load = 0.0
    for row in range(rows):
        load += change[row]
        change[row] = 1.0 - load
    return value, change[:rows]


@compiled
def deflect(direction, slack, prices):
    """As ``bound._deflect``."""
    length = 0.0
    for row in range(len(prices)):
        stuck = prices[row] <= 0
        deflected = (0.0 if stuck and slack[row] > 0 else slack[row]) + 0.7 * direction[row]
        direction[row] = 0.0 if stuck and deflected > 0 else deflected
        length += direction[row] * direction[row]
    return length
