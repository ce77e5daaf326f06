"""Traces with buckets, derived from a trace's lengths without running anything.

The model: requests whose lengths fall into one bucket are for one program. Its size, its compile time and the time of
its calls are interpolated between the recorded programs, each taken to be for the longest of its lengths; beyond the
longest they grow in proportion to the length. Calls never get cheaper with the length. Requests of other functions stay
as they are. Requests of the function itself without a length, by which ``bucketed`` checks whether padding is safe, are
left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import Trace, choose_buckets, linear_buckets, power_of_two_buckets
from .search import Recording


@dataclass(frozen=True)
class Prices:
    """Size, compile time and call time of each program of a trace that has lengths.

    Attributes:
        trace: Trace that the prices were read from.
        rows: Rows of the requests with a length; int64.
        others: Rows of the requests of other functions; int64.
        lengths: Length of each request in ``rows``; int64.
        distinct: Longest length of each program, ascending; int64.
        size_bytes: Size of each program, in the order of ``distinct``; float64.
        compile_seconds: Compile time of each program, likewise.
        call_seconds: Median time of each program's calls, none below a shorter one's, likewise.
    """

    trace: Trace
    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    lengths: NDArray[np.int64]
    distinct: NDArray[np.int64]
    size_bytes: NDArray[np.float64]
    compile_seconds: NDArray[np.float64]
    call_seconds: NDArray[np.float64]

    @property
    def recorded_without_buckets(self) -> bool:
        """Whether each length had its own program, and all requests have a length: the trace has no buckets."""
        return len(self.rows) == len(self.trace) and len(self.distinct) == len(np.unique(self.lengths))

    def at(self, lengths: ArrayLike, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one of the prices at any lengths, interpolated."""
        wanted, longest = np.asarray(lengths, np.float64), float(self.distinct[-1])
        return np.interp(wanted, self.distinct, prices) * np.maximum(wanted, longest) / longest


def read_prices(trace: Trace) -> Prices:
    """Return the prices of a trace's programs by length.

    Raises:
        ValueError: If the trace does not determine them; the message says what is missing.
    """
    lengths = trace.columns.get("lengths")
    if lengths is None or not bool((lengths > 0).any()):
        raise ValueError(
            "the trace has no lengths; calls of bucketed functions have, and Trace.from_lengths makes some"
        )
    lengths_in_row = np.count_nonzero(lengths > 0, axis=1)
    if bool((lengths_in_row > 1).any()):
        raise ValueError("the trace must have one length a request, but has calls with several")
    if trace.requests < len(trace):
        raise ValueError("the trace must have requests alone, but programs were made ahead of them or cleared")
    rows, others = _split(trace, lengths_in_row > 0)
    return prices_of(trace, rows, lengths[rows].max(axis=1).astype(np.int64), others)


def prices_of(
    trace: Trace, rows: NDArray[np.int64], row_lengths: NDArray[np.int64], others: NDArray[np.int64]
) -> Prices:
    """Return the prices of the programs of some rows.

    Args:
        trace: Trace of requests alone.
        rows: Rows of one function's requests; int64.
        row_lengths: Length of each; int64.
        others: Rows of the other requests; int64.

    Raises:
        ValueError: If a length has several programs, or nothing says how long calls take.
    """
    programs, of_program = np.unique(trace.signatures[rows], return_inverse=True)
    longest = np.zeros(len(programs), np.int64)
    np.maximum.at(longest, of_program, row_lengths)
    pairs = np.unique(np.column_stack([row_lengths, of_program]), axis=0)
    if len(np.unique(longest)) < len(programs) or len(np.unique(pairs[:, 0])) < len(pairs):
        raise ValueError("the trace must have one program a length, but has several, such as of other dtypes")
    order = np.argsort(longest)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Prices(
        trace=trace,
        rows=rows,
        others=others,
        lengths=row_lengths,
        distinct=longest[order],
        size_bytes=trace.size_bytes[programs[order]].astype(np.float64),
        compile_seconds=trace.compile_seconds[programs[order]],
        call_seconds=_call_seconds(trace, rows, rank[of_program], longest[order]),
    )


def _split(trace: Trace, has_length: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows with a length, all of one function, and the rows of other functions."""
    rows, functions = np.flatnonzero(has_length), trace.columns.get("function")
    if functions is None:
        return rows, np.flatnonzero(~has_length)
    names = sorted(set(functions[rows]))
    if len(names) > 1:
        raise ValueError(f"the trace must have lengths of one function, but has those of {', '.join(names)}")
    return rows, np.flatnonzero(functions != names[0])


def _call_seconds(
    trace: Trace, rows: NDArray[np.int64], of_length: NDArray[np.int64], distinct: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the rising medians of each program's finished calls, interpolated where no call was waited for."""
    finished = trace.columns.get("finished_seconds", np.full(len(trace), np.nan))[rows]
    waited = np.flatnonzero(np.isfinite(finished))
    if not len(waited):
        raise ValueError("the trace does not say how long calls take, which padding makes longer; "
                         "give Trace.from_lengths call_seconds=")  # fmt: skip
    order = waited[np.argsort(of_length[waited], kind="stable")]
    programs, firsts = np.unique(of_length[order], return_index=True)
    medians = _rising_medians(np.split(finished[order], firsts[1:]))
    return np.interp(distinct, distinct[programs], medians)


def _rising_medians(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the median of each part, none below one before it.

    Neighbours whose medians fall are given that of all their values: the isotonic median regression, found by pooling
    adjacent violators (Robertson and Wright, "Multiple isotonic median regression", 1973). The largest median so far
    would instead carry one call that stalled to everything after it.
    """
    pools: list[tuple[NDArray[np.float64], int, float]] = []  # values, parts, median
    for part in parts:
        values, count, median = part, 1, float(np.median(part))
        while pools and pools[-1][2] > median:
            before, of_before, _ = pools.pop()
            values, count = np.concatenate([before, values]), of_before + count
            median = float(np.median(values))
        pools.append((values, count, median))
    return np.repeat([median for *_, median in pools], [count for _, count, _ in pools])


def choose(name: str, prices: Prices, linear_count: int) -> tuple[int, ...]:
    """Return the buckets of a set by its name; ``optimal`` is chosen by the prices, for the trace's own lengths.

    Raises:
        ValueError: If no set has this name.
    """
    if name == "pow2":
        return power_of_two_buckets(prices.distinct)
    if name == "linear":
        return linear_buckets(prices.distinct, linear_count)
    if name != "optimal":
        raise ValueError(f"buckets must be pow2, linear or optimal, but is {name!r}")
    return choose_buckets(
        prices.lengths,
        call_cost=lambda length: prices.at(length, prices.call_seconds),
        compile_cost=lambda length: prices.at(length, prices.compile_seconds),
    ).buckets


def derive(name: str, prices: Prices, buckets: tuple[int, ...] | None, alone: bool = False) -> Recording:
    """Return the recording that a run with buckets would have given.

    Args:
        name: Name of the set of buckets.
        prices: Prices of the function's programs.
        buckets: Lengths to pad to; None means no buckets.
        alone: Whether to leave the requests of other functions out.
    """
    edges = np.unique(prices.lengths) if buckets is None else np.asarray(buckets, np.int64)
    padded = edges[np.searchsorted(edges, prices.lengths)]
    trace = Trace.from_lengths(
        padded,
        size_bytes=lambda length: prices.at(length, prices.size_bytes),
        compile_seconds=lambda length: prices.at(length, prices.compile_seconds),
    )
    run_seconds = float(prices.at(padded, prices.call_seconds).sum())
    if alone or not len(prices.others):
        return Recording(name, trace, run_seconds)
    return Recording(name, merge(prices.trace, [(prices.rows, trace)], prices.others), run_seconds)


def merge(
    whole: Trace, parts: Sequence[tuple[NDArray[np.int64], Trace]], others: NDArray[np.int64] | None = None
) -> Trace:
    """Return a trace with other requests at some of its rows, all in their old order.

    Args:
        whole: Trace of requests alone.
        parts: Rows, and the trace whose requests are to stand there; one of each a row.
        others: Rows whose requests stay; None for all that no part names. What is in neither is left out.
    """
    if others is None:
        others = np.setdiff1d(np.arange(len(whole)), np.concatenate([rows for rows, _ in parts]))
    rows, keys, sizes, seconds = [others], [whole.signatures[others]], [], []
    sizes.append(whole.size_bytes[whole.signatures[others]])
    seconds.append(whole.compile_seconds[whole.signatures[others]])
    first = len(whole.labels)
    for part_rows, part in parts:
        rows.append(part_rows)
        keys.append(part.signatures + first)
        sizes.append(part.size_bytes[part.signatures])
        seconds.append(part.compile_seconds[part.signatures])
        first += len(part.labels)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return Trace.from_arrays(
        keys=np.concatenate(keys)[order],
        size_bytes=np.concatenate(sizes)[order],
        compile_seconds=np.concatenate(seconds)[order],
    )
