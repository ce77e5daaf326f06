"""What a trace would be with buckets, derived from its lengths: nothing is run for it.

The model: requests whose lengths fall into one bucket are for one program. What a program of a bucket weighs, costs
and takes a call is read off the programs that were recorded, each taken to be for the longest of its lengths: on the
straight line between the two around it, and beyond the longest in proportion to the length. Calls never get cheaper
with the length. Requests of other functions stay as they are; those without a length of the function itself, by which
``bucketed`` checks whether padding is safe, are left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import Trace, choose_buckets
from ..._padding.choose import linear_buckets, power_of_two_buckets
from ..._replay.trace import Event
from .search import Recording


@dataclass(frozen=True)
class Prices:
    """Of each program of a trace that has lengths, what it weighs and costs, and what a call of it takes.

    Attributes:
        trace: Whose.
        rows: Of the requests with a length; int64.
        others: Of the requests of other functions; int64.
        lengths: Of each request with one; int64.
        distinct: Of the programs, the longest length of each, ascending; int64. The others are of these, float64.
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
        """Whether each length had a program of its own, and nothing else was asked for: the trace is that of none."""
        return len(self.rows) == len(self.trace) and len(self.distinct) == len(np.unique(self.lengths))

    def at(self, lengths: ArrayLike, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return some of them at any lengths."""
        asked, longest = np.asarray(lengths, np.float64), float(self.distinct[-1])
        return np.interp(asked, self.distinct, prices) * np.maximum(asked, longest) / longest


def read_prices(trace: Trace) -> Prices:
    """Return what a trace says of its lengths.

    Raises:
        ValueError: If it does not say enough; the message says what is missing.
    """
    lengths = trace.columns.get("lengths")
    if lengths is None or not bool((lengths > 0).any()):
        raise ValueError(
            "the trace has no lengths; calls of bucketed functions have, and Trace.from_lengths makes some"
        )
    given = np.count_nonzero(lengths > 0, axis=1)
    if bool((given > 1).any()):
        raise ValueError("the trace must have one length a request, but has calls with several")
    if bool((trace.events != Event.REQUEST).any()):
        raise ValueError("the trace must have requests alone, but programs were made ahead of them or cleared")
    rows, others = _split(trace, given > 0)
    own = lengths[rows].max(axis=1).astype(np.int64)
    programs, of_program = np.unique(trace.signatures[rows], return_inverse=True)
    longest = np.zeros(len(programs), np.int64)
    np.maximum.at(longest, of_program, own)
    pairs = np.unique(np.column_stack([own, of_program]), axis=0)
    if len(np.unique(longest)) < len(programs) or len(np.unique(pairs[:, 0])) < len(pairs):
        raise ValueError("the trace must have one program a length, but has several, such as of other dtypes")
    order = np.argsort(longest)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Prices(
        trace=trace,
        rows=rows,
        others=others,
        lengths=own,
        distinct=longest[order],
        size_bytes=trace.size_bytes[programs[order]].astype(np.float64),
        compile_seconds=trace.compile_seconds[programs[order]],
        call_seconds=_call_seconds(trace, rows, rank[of_program], longest[order]),
    )


def _split(trace: Trace, has_length: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the function that takes lengths, those with one, and the rows of other functions."""
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
    """Return the median of the finished calls of each program; between them where none was waited for."""
    finished = trace.columns.get("finished_seconds", np.full(len(trace), np.nan))[rows]
    waited = np.flatnonzero(np.isfinite(finished))
    if not len(waited):
        raise ValueError("the trace does not say how long calls take, which padding makes longer; "
                         "give Trace.from_lengths call_seconds=")  # fmt: skip
    order = waited[np.argsort(of_length[waited], kind="stable")]
    found, firsts = np.unique(of_length[order], return_index=True)
    medians = [float(np.median(part)) for part in np.split(finished[order], firsts[1:])]
    return np.maximum.accumulate(np.interp(distinct, distinct[found], medians))


def choose(name: str, prices: Prices, linear_count: int) -> tuple[int, ...]:
    """Return the buckets of a set by its name; ``optimal`` is chosen with the prices, on these very lengths.

    Raises:
        ValueError: If there is no such set.
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


def derive(name: str, prices: Prices, buckets: tuple[int, ...] | None) -> Recording:
    """Return the recording that there would be with buckets; None for none of them."""
    edges = np.unique(prices.lengths) if buckets is None else np.asarray(buckets, np.int64)
    padded = edges[np.searchsorted(edges, prices.lengths)]
    trace = Trace.from_lengths(
        padded,
        size_bytes=lambda length: prices.at(length, prices.size_bytes),
        compile_seconds=lambda length: prices.at(length, prices.compile_seconds),
    )
    run_seconds = float(prices.at(padded, prices.call_seconds).sum())
    return Recording(name, _among_others(trace, prices) if len(prices.others) else trace, run_seconds)


def _among_others(trace: Trace, prices: Prices) -> Trace:
    """Return a trace of requests with lengths, put back among those of other functions."""
    whole, rows = prices.trace, np.concatenate([prices.rows, prices.others])
    other = whole.signatures[prices.others]
    order = np.argsort(rows, kind="stable")
    return Trace.from_arrays(
        keys=np.concatenate([trace.signatures + len(whole.labels), other])[order],
        size_bytes=np.concatenate([trace.size_bytes[trace.signatures], whole.size_bytes[other]])[order],
        compile_seconds=np.concatenate([trace.compile_seconds[trace.signatures], whole.compile_seconds[other]])[order],
    )
