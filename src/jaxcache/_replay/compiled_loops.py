"""What numba makes of the slow loops of the bound and the curves; imported only where numba is."""

import numpy as np

from .bound import pack_stays
from .curves import stack_bytes
from .kernels.compiler import compiled

pack = compiled(pack_stays)
stack = compiled(stack_bytes)


@compiled
def relax(starts, ends, shares, saves, prices):
    """As ``_optimum._relax``, in one pass over the stretches."""
    rows = len(prices)
    sums, change = np.empty(rows + 1), np.zeros(rows + 1)
    sums[0] = 0.0
    for row in range(rows):
        sums[row + 1] = sums[row] + prices[row]
    value = sums[rows]
    for stay in range(len(starts)):
        share, start, end = shares[stay], starts[stay], ends[stay]
        reduced = saves[stay] - share * (sums[end] - sums[start])
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
def turn(direction, slack, prices):
    """As ``_optimum._turn``."""
    length = 0.0
    for row in range(len(prices)):
        stuck = prices[row] <= 0
        one = (0.0 if stuck and slack[row] > 0 else slack[row]) + 0.7 * direction[row]
        direction[row] = 0.0 if stuck and one > 0 else one
        length += direction[row] * direction[row]
    return length
