"""Curves of compile seconds against the limit: for every policy, with the bound, the knee and the front."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._policies import POLICIES
from .._primitives.checks import check_whole_number
from .._primitives.sizes import parse_size
from .bound import Optimum, optimum
from .replay import ReplayResult, replay, replay_grid
from .trace import Event, Trace, check_trace


@dataclass(frozen=True, eq=False)
class Curves:
    """Replays of policies at limits, and the bound at each limit.

    Attributes:
        limits_bytes: Ascending; int64.
        results: By policy, one a limit.
        bounds: One a limit.
        present: The replay of the setting that was recorded; None where that is not known.
    """

    limits_bytes: NDArray[np.int64]
    results: dict[str, tuple[ReplayResult, ...]]
    bounds: tuple[Optimum, ...]
    present: ReplayResult | None

    def compile_seconds(self, policy: str) -> NDArray[np.float64]:
        """Return a policy's compile seconds, one a limit."""
        return np.array([result.compile_seconds for result in self.results[policy]])

    @property
    def lower_bound_seconds(self) -> NDArray[np.float64]:
        """What no policy is below, one a limit."""
        return np.array([bound.lower_bound_seconds for bound in self.bounds])

    def over_bound(self, policy: str) -> NDArray[np.float64]:
        """Return a policy's compile seconds over the bound, one a limit; 1 where both are 0."""
        seconds, bound = self.compile_seconds(policy), self.lower_bound_seconds
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(seconds == bound, 1.0, seconds / bound)

    def best(self) -> list[ReplayResult]:
        """Return the replay with the fewest compile seconds, one a limit; the earlier policy among equals."""
        return [
            min(each, key=lambda result: result.compile_seconds) for each in zip(*self.results.values(), strict=True)
        ]

    def knee_bytes(self, policy: str | None = None) -> int:
        """Return the limit at the knee of a policy's curve; of the best policies' if None."""
        best = [result.compile_seconds for result in self.best()]
        return find_knee(self.limits_bytes, best if policy is None else self.compile_seconds(policy))

    def front(self) -> list[ReplayResult]:
        """Return the replays that no other beats in both compile seconds and bytes."""
        return pareto_front(result for results in self.results.values() for result in results)


def curves(
    trace: Trace,
    policies: Sequence[str] | None = None,
    limits: Sequence[int | str] | None = None,
    *,
    seed: int = 0,
    steps: int = 200,
    threads: int | None = None,
) -> Curves:
    """Return what every policy compiles for at every limit, with the bound.

    Args:
        trace: What was recorded.
        policies: Names; all of ``jaxcache.POLICIES`` if None.
        limits: Bytes, as ints or text; :func:`limits_of` the trace if None.
        seed: For policies that draw.
        steps: Of the bound's subgradient.
        threads: How many replays run at a time; all cores if None.

    Raises:
        ValueError: If an argument is out of range; the message says what to write.
    """
    names = list(POLICIES) if policies is None else list(policies)
    check_trace(trace)
    limits_bytes = limits_of(trace).tolist() if limits is None else [parse_size(limit, "limits") for limit in limits]
    listed = sorted(set(limits_bytes))
    if not names or not listed:
        raise ValueError(f"policies and limits must be at least one each, but are {names!r} and {listed!r}")
    results = replay_grid(trace, names, listed, seed=seed, threads=threads)
    with ThreadPoolExecutor(threads, thread_name_prefix="jaxcache-bound") as pool:
        bounds = tuple(pool.map(lambda limit: optimum(trace, limit, steps=steps), listed))
    by_policy = {
        name: tuple(results[number * len(listed) : (number + 1) * len(listed)]) for number, name in enumerate(names)
    }
    return Curves(np.array(listed, np.int64), by_policy, bounds, _replay_of_setting(trace))


def _replay_of_setting(trace: Trace) -> ReplayResult | None:
    policy = trace.setting.get("eviction")
    if not isinstance(policy, str) or policy not in POLICIES or "limit_bytes" not in trace.setting:
        return None
    return replay(trace, policy, trace.setting["limit_bytes"], seed=trace.setting.get("seed", 0))


def limits_of(trace: Trace, count: int = 10) -> NDArray[np.int64]:
    """Return limits worth a look: geometric from the largest entry, or a hundredth of all, to all signatures together.

    Raises:
        ValueError: If ``count`` is no whole number of 1 or more.
        TypeError: If ``trace`` is no trace.
    """
    check_trace(trace)
    count = check_whole_number(count, "count")
    whole = max(1, trace.working_set_bytes)
    least = min(whole, max(int(trace.size_bytes.max(initial=1)), whole // 100))
    limits = np.unique(np.geomspace(least, whole, count).round().astype(np.int64))
    limits[-1] = whole
    return limits


@dataclass(frozen=True, eq=False)
class LruCurve:
    """The whole curve of lru: a step function that falls at each limit named.

    Attributes:
        limits_bytes: Ascending, from the largest entry on; int64.
        compile_seconds: At each of them and up to the next; float64.
        misses: Likewise; int64.
    """

    limits_bytes: NDArray[np.int64]
    compile_seconds: NDArray[np.float64]
    misses: NDArray[np.int64]

    def at(self, limit: int | str) -> tuple[int, float]:
        """Return misses and compile seconds at a limit.

        Raises:
            ValueError: If the limit is below the largest entry, where the curve is not known.
        """
        limit_bytes = parse_size(limit, "limit")
        step = int(np.searchsorted(self.limits_bytes, limit_bytes, side="right")) - 1
        if step < 0:
            raise ValueError(f"limit must be {self.limits_bytes[0]} or more, the largest entry, but is {limit_bytes}")
        return int(self.misses[step]), float(self.compile_seconds[step])


def lru_curve(trace: Trace) -> LruCurve:
    """Return misses and compile seconds of ``lru`` at every limit that holds the largest entry, in one pass.

    A request hits if the limit is at least its stack distance: the bytes of the different signatures asked for since
    the last request for it, itself among them. O(N log N).

    Source: R. L. Mattson, J. Gecsei, D. R. Slutz, I. L. Traiger, Evaluation techniques for storage hierarchies, IBM
    Systems Journal 9(2), 1970; here with bytes, and weighted by cost.

    Raises:
        ValueError: If the trace has other events than requests, or mappings that may reach their limit.
    """
    check_trace(trace)
    if bool((trace.events != Event.REQUEST).any()):
        raise ValueError("trace must have requests alone, without warming and clearing; use replay at each limit")
    if trace.mappings_limit is not None and trace.mappings.sum() > trace.mappings_limit:
        raise ValueError("trace must have fewer mappings than their limit; use replay at each limit")
    distances = _compiled_stack()(trace.signatures, trace.size_bytes)
    costs = trace.compile_seconds[trace.signatures]
    again = np.flatnonzero(distances)
    order = again[np.argsort(distances[again], kind="stable")]
    steps, firsts = np.unique(distances[order], return_index=True)
    lasts = np.append(firsts[1:], len(order))[: len(steps)]
    saved = np.concatenate([[0.0], np.cumsum(costs[order])])
    hits = np.concatenate([[0], lasts])
    limits = np.concatenate([[1], steps])
    largest = int(trace.size_bytes.max(initial=1))
    first = max(0, int(np.searchsorted(limits, largest, side="right")) - 1)
    limits = np.maximum(limits[first:], largest)
    return LruCurve(limits, float(costs.sum()) - saved[hits[first:]], len(trace) - hits[first:])


def _compiled_stack() -> Callable[..., NDArray[np.int64]]:
    try:
        from .compiled_loops import stack  # needs numba
    except ImportError:
        return stack_bytes
    return stack


def stack_bytes(signatures: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each row's stack distance in bytes, 0 for first requests. Compiled by numba where it is there.

    A Fenwick tree over the rows holds each signature's bytes at the row of its last request.
    """
    rows = len(signatures)
    tree, latest = np.zeros(rows + 1, np.int64), np.full(len(sizes), -1, np.int64)
    distances = np.zeros(rows, np.int64)
    whole = 0
    for row in range(rows):
        key = signatures[row]
        size, before = sizes[key], latest[key]
        if before >= 0:
            below, node = 0, before  # bytes at the rows before
            while node > 0:
                below += tree[node]
                node -= node & -node
            distances[row] = whole - below
            node = before + 1
            while node <= rows:
                tree[node] -= size
                node += node & -node
        else:
            whole += size
        node = row + 1
        while node <= rows:
            tree[node] += size
            node += node & -node
        latest[key] = row
    return distances


_ON_THE_CHORD = 1e-9  # of its height: what roundings do


def find_knee(limits_bytes: ArrayLike, compile_seconds: ArrayLike) -> int:
    """Return the limit from which on more bytes save little: where the curve is farthest below its chord.

    The largest limit if it is nowhere below: then every byte saves as much as those before it.

    Source: V. Satopää, J. Albrecht, D. Irwin, B. Raghavan, Finding a "Kneedle" in a Haystack, ICDCSW 2011, without
    its smoothing: replays are exact.

    Raises:
        ValueError: If there is no point, or not as many limits as seconds.
    """
    limits, seconds = np.asarray(limits_bytes, np.float64), np.asarray(compile_seconds, np.float64)
    if limits.shape != seconds.shape or limits.ndim != 1 or not len(limits):
        raise ValueError(f"limits_bytes and compile_seconds must be as many, but are {limits.shape}, {seconds.shape}")
    order = np.argsort(limits, kind="stable")
    limits, seconds = limits[order], np.minimum.accumulate(seconds[order])
    width, height = limits[-1] - limits[0], seconds[0] - seconds[-1]
    if not (width > 0 and height > 0):
        return int(limits[0])
    below = (seconds[0] - seconds) / height - (limits - limits[0]) / width
    at = int(np.argmax(below))
    return int(limits[at if below[at] > _ON_THE_CHORD else -1])


def pareto_front(results: Iterable[Any]) -> list[Any]:
    """Return those with ``peak_bytes`` and ``compile_seconds`` that no other is below in both, by bytes ascending."""
    front: list[Any] = []
    for result in sorted(results, key=lambda result: (result.peak_bytes, result.compile_seconds)):
        if not front or result.compile_seconds < front[-1].compile_seconds:
            front.append(result)
    return front
