"""The certified bound: how little any policy could have compiled, and an offline schedule that comes near it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._primitives.checks import check_whole_number
from .._primitives.sizes import parse_size
from .decisions import SMALL_ROWS
from .trace import Event, Trace, check_trace

STEPS = 400
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Optimum:
    """Bounds on the compile seconds of the best policy.

    Attributes:
        limit_bytes: None for no limit.
        lower_bound_seconds: No policy, online or offline, with or without bypass, compiles for less.
        feasible_seconds: What a schedule that knows the future compiles for.
        total_seconds: What a cache that holds nothing compiles for.
    """

    limit_bytes: int | None
    lower_bound_seconds: float
    feasible_seconds: float
    total_seconds: float

    @property
    def gap(self) -> float:
        """The feasible over the lower end: how much is not known; 1 where both are 0."""
        return self.feasible_seconds / self.lower_bound_seconds if self.lower_bound_seconds > 0 else 1.0


@dataclass(frozen=True)
class Intervals:
    """Intervals from a request to the next of the same signature, which an entry may be held through.

    Attributes:
        starts: Rows.
        ends: Rows.
        size_bytes: What it takes from the start until the end.
        saved_seconds: What it saves there.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    saved_seconds: NDArray[np.float64]


def optimum(trace: Trace, limit: int | str | None = None, *, steps: int = STEPS) -> Optimum:
    """Return bounds on the compile seconds of the best policy for a trace.

    For each request i with a next request n(i) of the same signature, x_i says whether the entry is held until then:
    maximise Σ c_i x_i with Σ s_i x_i ≤ C over the intervals open at each row t. Relaxed with prices λ_t ≥ 0, ::

        saved ≤ C Σ λ_t + Σ_i max(0, c_i − s_i (Λ_n(i) − Λ_i)),    Λ the prefix sums of λ

    holds for any λ, so that each subgradient step, O(N), gives a bound; the best counts. The prices are multiples of
    a power of two, so that their sums are exact, the last sum is rounded once, and what rounding is left is taken
    off: the bound holds for the numbers given. The schedule takes intervals by what they save for their price, as
    long as they fit, and is the best of several prices. Memory mappings are not looked at.

    Args:
        trace: Whose signatures weigh and cost what was first recorded.
        limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit.
        steps: Of the subgradient; more come nearer.

    Raises:
        ValueError: If ``limit`` or ``steps`` is out of range.
        TypeError: If ``trace`` is no trace.
    """
    check_trace(trace)
    limit_bytes = None if limit is None else parse_size(limit, "limit")
    steps = check_whole_number(steps, "steps", 0)
    requested = trace.signatures[trace.events == Event.REQUEST]
    total = math.fsum(trace.compile_seconds[requested].tolist())
    intervals = find_intervals(trace, limit_bytes)
    most = math.fsum(intervals.saved_seconds.tolist())
    if limit_bytes is None or not len(intervals.starts) or limit_bytes >= trace.working_set_bytes:
        return Optimum(limit_bytes, _rounded_off(total - most, total), total - most, total)
    intervals, rows = _compress(intervals)
    bound, schedule = _search(intervals, rows, limit_bytes, steps)
    lower = min(_rounded_off(total - min(bound, most), total), total - schedule)
    return Optimum(limit_bytes, max(0.0, lower), total - schedule, total)


def find_intervals(trace: Trace, limit_bytes: int | None) -> Intervals:
    """Return the intervals that could save something, in the order of their starts."""
    rows = np.arange(len(trace))
    order = np.lexsort((rows, trace.signatures))
    same = trace.signatures[order[:-1]] == trace.signatures[order[1:]]
    starts, ends = order[:-1][same], order[1:][same]
    signatures = trace.signatures[starts]
    sizes, costs = trace.size_bytes[signatures], trace.compile_seconds[signatures]
    worth = (trace.events[starts] != Event.CLEAR) & (trace.events[ends] == Event.REQUEST) & (costs > 0)
    if limit_bytes is not None:
        worth &= sizes <= limit_bytes
    chosen = np.flatnonzero(worth)
    chosen = chosen[np.argsort(starts[chosen], kind="stable")]
    return Intervals(starts[chosen], ends[chosen], sizes[chosen], costs[chosen])


def _rounded_off(value: float, scale: float) -> float:
    """Return ``value`` less what rounding may have added to sums as large as ``scale``."""
    return max(0.0, value - 8 * _EPSILON * scale)


def _compress(intervals: Intervals) -> tuple[Intervals, int]:
    """Return the intervals on a line of the rows where one starts: between them, the load only falls."""
    marks = np.unique(intervals.starts)
    starts = np.searchsorted(marks, intervals.starts)
    ends = np.searchsorted(marks, intervals.ends)  # open until the last start before their end
    return Intervals(starts, ends, intervals.size_bytes, intervals.saved_seconds), len(marks)


def _search(intervals: Intervals, rows: int, limit_bytes: int, steps: int) -> tuple[float, float]:
    """Return a bound on what can be saved, and what the best schedule found saves."""
    prices = _descend(intervals, rows, limit_bytes, steps)
    bound = _certify(intervals, prices, limit_bytes)
    pack = _compiled("pack", pack_intervals, rows)
    saved = 0.0
    affordable = pack is not pack_intervals or rows <= SMALL_ROWS
    orders = _orders(intervals, prices) if affordable else _orders(intervals, prices)[:1]
    for order in orders:
        packed = pack(intervals.starts, intervals.ends, intervals.size_bytes, order, rows, limit_bytes)
        saved = max(saved, math.fsum(intervals.saved_seconds[packed].tolist()))
    return bound, saved


def _descend(intervals: Intervals, rows: int, limit_bytes: int, steps: int) -> NDArray[np.float64]:
    """Return prices near the best, for a byte and a row.

    First a sixth of the steps by factors, which find the level quickly; then deflected subgradients whose length is
    that to a target below the best bound so far, drawn nearer whenever it does not improve.
    """
    shares, saves = intervals.size_bytes / limit_bytes, intervals.saved_seconds
    prices = np.full(rows, 0.3 * float(saves.sum()) / rows)
    best, best_prices = math.inf, prices
    direction, distance, waited = np.zeros(rows), 0.2, 0
    lagrangian, deflect = _compiled("lagrangian", _lagrangian, rows), _compiled("deflect", _deflect, rows)
    for step in range(steps):
        value, slack = lagrangian(intervals.starts, intervals.ends, shares, saves, prices)
        waited = 0 if value < best * (1 - 5e-4) else waited + 1
        if value < best:
            best, best_prices = value, prices
        if step < steps // 6:
            prices = prices * np.exp(-0.5 / (1 + step / 15) * np.clip(slack, -3, 1))
            continue
        if step == steps // 6:
            prices, distance, waited = best_prices, 0.02, 0
            continue
        if waited > 10:
            distance, waited = 0.6 * distance, 0
        length = deflect(direction, slack, prices)
        if length == 0.0:
            break
        prices = np.maximum(0.0, prices - (value - best * (1 - distance)) / length * direction)
    return best_prices / limit_bytes


def _lagrangian(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shares: NDArray[np.float64],
    saves: NDArray[np.float64],
    prices: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Return what prices bound the savings by, and at each row the part of the limit that is free then."""
    sums = np.concatenate([[0.0], np.cumsum(prices)])
    reduced = saves - shares * (sums[ends] - sums[starts])
    weights = np.where(reduced > 0, shares, 0.0)
    change = np.zeros(len(sums))
    change[starts] = weights  # one starts at each row
    change -= np.bincount(ends, weights, len(sums))
    return float(sums[-1] + np.maximum(0.0, reduced).sum()), 1.0 - np.cumsum(change)[:-1]


def _deflect(direction: NDArray[np.float64], slack: NDArray[np.float64], prices: NDArray[np.float64]) -> float:
    """Deflect the direction in place, leave out what would take a price below 0, and return its square."""
    stuck = prices <= 0
    direction[:] = np.where(stuck & (slack > 0), 0.0, slack) + 0.7 * direction
    direction[stuck & (direction > 0)] = 0.0
    return float(direction @ direction)


def _certify(intervals: Intervals, prices: NDArray[np.float64], limit_bytes: int) -> float:
    """Return the bound that prices give, rounded no more than a few times in all."""
    total = float(prices.sum())
    if not total > 0:
        return math.fsum(intervals.saved_seconds.tolist())
    unit = 2.0 ** (math.frexp(total)[1] - 50)  # prices are whole numbers of it, and their sums exact
    sums = np.concatenate([[0], np.cumsum(np.floor(prices / unit).astype(np.int64))])
    paid = intervals.size_bytes * (sums[intervals.ends] - sums[intervals.starts]).astype(np.float64) * unit
    reduced = np.maximum(0.0, intervals.saved_seconds - paid)
    return math.fsum([limit_bytes * float(sums[-1]) * unit, *reduced[reduced > 0].tolist()])


def _orders(intervals: Intervals, prices: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Return orders to take intervals in: by what they save for their price, and for their bytes and rows."""
    orders = []
    for blend in (0.0, 0.1, 0.5, 1.0):
        mixed = (1 - blend) * prices + blend * float(prices.mean()) + 1e-9 * float(prices.mean())
        sums = np.concatenate([[0.0], np.cumsum(mixed)])
        paid = intervals.size_bytes * (sums[intervals.ends] - sums[intervals.starts])
        orders.append(np.argsort(-intervals.saved_seconds / np.maximum(paid, 1e-300), kind="stable"))
    return orders


def _compiled(name: str, slow: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """Return the compiled form of a loop; ``slow`` without numba, or where it is not worth it."""
    if rows <= SMALL_ROWS:
        return slow
    try:
        from . import compiled_loops as _compiled_loops  # needs numba
    except ImportError:
        return slow
    return getattr(_compiled_loops, name)


def pack_intervals(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    sizes: NDArray[np.int64],
    order: NDArray[np.int64],
    rows: int,
    limit: int,
) -> NDArray[np.bool_]:
    """Return which intervals are packed if each is taken that fits, in order.

    The load of all rows is kept in a tree of maxima, in which adding to an interval and asking for its maximum are
    O(log rows). Compiled by numba where it is there.
    """
    leaves = 1
    while leaves < rows:
        leaves *= 2
    most = np.zeros(2 * leaves, np.int64)  # of the leaves below, with what was added at or below the node
    added = np.zeros(2 * leaves, np.int64)  # at the node, for all leaves below
    packed = np.zeros(len(order), np.bool_)
    for interval in order:
        size = sizes[interval]
        left, right = starts[interval] + leaves, ends[interval] + leaves - 1  # both within
        low, high = left, right
        here_low, here_high = most[low], most[high]
        while low // 2 != high // 2:  # climb on both sides, maxima of what lies between them
            if low % 2 == 0:
                here_low = max(here_low, most[low + 1])
            if high % 2 == 1:
                here_high = max(here_high, most[high - 1])
            low, high = low // 2, high // 2
            here_low, here_high = here_low + added[low], here_high + added[high]
        peak = max(here_low, here_high)
        while low > 1:
            low //= 2
            peak += added[low]
        if peak + size > limit:
            continue
        packed[interval] = True
        low, high = left, right
        most[low] += size
        if high != low:
            most[high] += size
        while low // 2 != high // 2:
            if low % 2 == 0:
                most[low + 1] += size
                added[low + 1] += size
            if high % 2 == 1:
                most[high - 1] += size
                added[high - 1] += size
            low, high = low // 2, high // 2
            most[low] = max(most[2 * low], most[2 * low + 1]) + added[low]
            most[high] = max(most[2 * high], most[2 * high + 1]) + added[high]
        while low > 1:
            low //= 2
            most[low] = max(most[2 * low], most[2 * low + 1]) + added[low]
    return packed
