"""Choice of the lengths to pad to: the set of buckets of least cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._primitives.checks import check_ascending, check_optional_whole_number, check_whole_number

Price = Callable[[Any], Any] | float  # of a length, or of an array of them; or the same for all

# The default buckets of AlphaFold 3 (google-deepmind/alphafold3, run_alphafold.py), to compare with.
ALPHAFOLD3_BUCKETS = (128, 256, 384, 512, 768, 1024, 1280, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120)


_LITTLE_PADDING = 0.5  # added elements over those of the caller
_MOST_BUCKETS = 8


@dataclass(frozen=True)
class BucketChoice:
    """Set of buckets and its cost on the lengths it was chosen for.

    Attributes:
        buckets: The lengths to pad to, ascending.
        cost: ``call_cost`` of the bucket of each length, and ``compile_cost`` of each bucket, added up.
        compile_cost: The second part of it.
        padding: Padded elements over own elements: 0.25 if a quarter is added.
    """

    buckets: tuple[int, ...]
    cost: float
    compile_cost: float
    padding: float


def choose_buckets(
    lengths: ArrayLike,
    *,
    call_cost: Price = lambda length: length,
    compile_cost: Price,
    max_buckets: int | None = None,
) -> BucketChoice:
    """Return the buckets for which calls and compiles together cost least.

    Each length goes to the smallest bucket that holds it. Some optimal set has only lengths that occur: with these
    sorted, D[j] = min over i < j of D[i] + (W[j] - W[i]) call_cost(l[j]) + compile_cost(l[j]), where W counts the calls
    up to a length. For each j this is the lowest of lines at call_cost(l[j]), whose slopes -W[i] fall, so that each
    line is looked at once (the convex-hull trick): O(n) in the number of different lengths, and O(n max_buckets) with a
    bound on their number.

    Args:
        lengths: One whole number, 1 or more, a call.
        call_cost: What a call at a length costs, in seconds or any other unit: a function of a length that also takes
            arrays, and does not fall. The length itself if not given: elements computed.
        compile_cost: What compiling for a bucket costs, in the same unit: a function as above, or a number.
        max_buckets: At most so many; None for no bound.

    Raises:
        ValueError: If an argument is out of range; the message says what to write.
    """
    different, counts = _count(lengths)
    max_buckets = check_optional_whole_number(max_buckets, "max_buckets")
    call, compiled = _prices(different, call_cost, "call_cost"), _prices(different, compile_cost, "compile_cost")
    if np.any(np.diff(call) < 0):
        at = int(np.argmax(np.diff(call) < 0))
        raise ValueError(
            f"call_cost must not fall with the length, but falls between {different[at]} and {different[at + 1]}"
        )
    calls = np.concatenate([[0], np.cumsum(counts)])
    ends = (
        _cheapest_chain(calls.tolist(), call.tolist(), compiled.tolist())
        if max_buckets is None
        else _cheapest_chain_of(max_buckets, calls.tolist(), call.tolist(), compiled.tolist())
    )
    return _judge(tuple(int(different[end - 1]) for end in ends), different, counts, call_cost, compile_cost)


def fewest_buckets(lengths: Sequence[int]) -> BucketChoice:
    """Return the fewest buckets, eight at most, whose padding is at most half of the elements of the lengths.

    For calls whose time nobody knows, or that are made once for each length.
    """
    for most in range(1, _MOST_BUCKETS + 1):
        choice = choose_buckets(lengths, compile_cost=0.0, max_buckets=most)
        if choice.padding <= _LITTLE_PADDING or most == _MOST_BUCKETS:
            return choice
    raise AssertionError  # the last choice is returned


def judge_buckets(
    buckets: Sequence[int], lengths: ArrayLike, *, call_cost: Price = lambda length: length, compile_cost: Price
) -> BucketChoice:
    """Return what given buckets cost on lengths; a length above the largest is a bucket of its own.

    Args:
        buckets: Ascending.
        lengths: As for :func:`choose_buckets`.
        call_cost: As for :func:`choose_buckets`.
        compile_cost: As for :func:`choose_buckets`.

    Returns:
        The buckets that are used, with their cost.

    Raises:
        ValueError: If an argument is out of range; the message says what to write.
    """
    different, counts = _count(lengths)
    return _judge(check_ascending(buckets), different, counts, call_cost, compile_cost)


def power_of_two_buckets(lengths: ArrayLike) -> tuple[int, ...]:
    """Return the powers of two from the first that holds the least of the lengths to the first that holds all."""
    different, _ = _count(lengths)
    low, high = ((int(length) - 1).bit_length() for length in (different[0], different[-1]))
    return tuple(2**power for power in range(low, high + 1))


def linear_buckets(lengths: ArrayLike, count: int) -> tuple[int, ...]:
    """Return ``count`` equal steps up to the largest of the lengths, fewer if a step would be below 1."""
    different, _ = _count(lengths)
    largest = int(different[-1])
    count = check_whole_number(count, "count")
    return tuple(sorted({-(-largest * step // count) for step in range(1, count + 1)}))


def _count(lengths: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    array = np.asarray(lengths)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ValueError(
            f"lengths must be one whole number a call, at least one of them, but is of shape {array.shape} "
            f"and type {array.dtype}"
        )
    different, counts = np.unique(array.astype(np.int64), return_counts=True)
    if different[0] < 1:
        raise ValueError(f"lengths must be 1 or more, but one is {different[0]}")
    return different, counts


def _prices(lengths: NDArray[np.int64], price: Price, name: str) -> NDArray[np.float64]:
    value = price(lengths) if callable(price) else price
    prices = np.broadcast_to(np.asarray(value, np.float64), lengths.shape) if np.ndim(value) <= 1 else np.empty(0)
    if prices.shape != lengths.shape or not np.all(np.isfinite(prices)) or np.any(prices < 0):
        raise ValueError(f"{name} must be finite and not negative for every length, but for {lengths[:5]}… is {value}")
    return prices


def _judge(
    buckets: tuple[int, ...],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    call_cost: Price,
    compile_cost: Price,
) -> BucketChoice:
    at = np.searchsorted(buckets, lengths)
    held = at < len(buckets)
    padded = np.where(held, np.asarray(buckets)[np.minimum(at, len(buckets) - 1)], lengths)
    used = np.unique(padded)
    compiles = float(_prices(used, compile_cost, "compile_cost").sum())
    calls = float(counts @ _prices(padded, call_cost, "call_cost"))
    unpadded = int(counts @ lengths)
    return BucketChoice(tuple(used.tolist()), calls + compiles, compiles, (int(counts @ padded) - unpadded) / unpadded)


class _Envelope:
    """Lower envelope of lines, at points that rise, where each line added is less steep upwards than those before."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, float, int]] = []  # slope, value at 0, owner
        self._first = 0

    def add(self, slope: float, at_zero: float, owner: int) -> None:
        lines = self._lines
        while len(lines) - self._first >= 2:
            (a, b, _), (c, d, _) = lines[-2], lines[-1]
            # The last line is nowhere the lowest if the new one is below it where it comes below the one before.
            if (at_zero - b) * (a - c) > (d - b) * (a - slope):
                break
            lines.pop()
        lines.append((slope, at_zero, owner))

    def lowest(self, point: float) -> tuple[float, int]:
        lines = self._lines
        while len(lines) - self._first >= 2:
            (a, b, _), (c, d, _) = lines[self._first], lines[self._first + 1]
            if a * point + b < c * point + d:
                break
            self._first += 1
        slope, at_zero, owner = lines[self._first]
        return slope * point + at_zero, owner


def _cheapest_chain(calls: list[int], call: list[float], compiled: list[float]) -> list[int]:
    """Return the ends of the buckets of least cost, as counts of the lengths up to each.

    This is :class:`_Envelope` written out: calls of its methods for a million lengths take a third of the time.
    """
    slopes: list[float] = []
    at_zero: list[float] = []
    owner: list[int] = []
    first, cost, before = 0, 0.0, [0]
    for j, (price, compiling) in enumerate(zip(call, compiled, strict=True)):
        slope = -calls[j]
        while len(slopes) - first >= 2:
            a, b = slopes[-2], at_zero[-2]
            if (cost - b) * (a - slopes[-1]) > (at_zero[-1] - b) * (a - slope):
                break
            del slopes[-1], at_zero[-1], owner[-1]
        slopes.append(slope)
        at_zero.append(cost)
        owner.append(j)
        value = slopes[first] * price + at_zero[first]
        while len(slopes) - first >= 2:
            following = slopes[first + 1] * price + at_zero[first + 1]
            if value < following:
                break
            value = following
            first += 1
        cost = value + calls[j + 1] * price + compiling
        before.append(owner[first])
    ends, end = [], len(call)
    while end:
        ends.append(end)
        end = before[end]
    return ends[::-1]


def _cheapest_chain_of(most: int, calls: list[int], call: list[float], compiled: list[float]) -> list[int]:
    """Return the same for at most so many buckets."""
    infinite = float("inf")
    costs = [0.0] + [infinite] * (len(calls) - 1)  # of the lengths up to each, in as many buckets as layers were made
    befores: list[list[int]] = []
    totals: list[float] = []
    for _ in range(min(most, len(calls) - 1)):
        lines, layer, before = _Envelope(), [infinite], [0]
        for j in range(1, len(calls)):
            if costs[j - 1] < infinite:
                lines.add(-calls[j - 1], costs[j - 1], j - 1)
            if not lines._lines:
                layer.append(infinite)
                before.append(0)
                continue
            value, best = lines.lowest(call[j - 1])
            layer.append(value + calls[j] * call[j - 1] + compiled[j - 1])
            before.append(best)
        costs = layer
        befores.append(before)
        totals.append(layer[-1])
    layers = int(np.argmin(totals)) + 1
    ends, end = [], len(calls) - 1
    for before in cast("list[list[int]]", befores[:layers][::-1]):
        ends.append(end)
        end = before[end]
    return ends[::-1]
