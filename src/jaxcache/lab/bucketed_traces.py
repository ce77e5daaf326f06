"""What a trace would be with buckets, derived from its lengths: nothing is run for it.

The model: requests whose lengths fall into one bucket are for one program. What a program of a bucket weighs, costs
and takes a call is read off those of the recorded lengths: on the straight line between the two around it, and beyond
the longest in proportion to the length. Calls never get cheaper with the length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import Trace, choose_buckets
from .._bucket_choice import linear_buckets, power_of_two_buckets
from .._trace import Event
from .tuning import Recording


@dataclass(frozen=True)
class Prices:
    """Of each length of a trace, what its program weighs and costs, and what a call of it takes.

    Attributes:
        lengths: Of each request; int64.
        distinct: Ascending; int64. The others are of these, float64.
    """

    lengths: NDArray[np.int64]
    distinct: NDArray[np.int64]
    size_bytes: NDArray[np.float64]
    compile_seconds: NDArray[np.float64]
    call_seconds: NDArray[np.float64]

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
    if lengths is None:
        raise ValueError("the trace has no lengths; Trace.from_lengths makes one that has")
    if lengths.shape[1] != 1 or not bool((lengths > 0).all()):
        raise ValueError("the trace must have one length a request, but has calls with several, or with none")
    if bool((trace.events != Event.REQUEST).any()):
        raise ValueError("the trace must have requests alone, but programs were made ahead of them or cleared")
    own = lengths[:, 0].astype(np.int64)
    distinct, firsts, inverse = np.unique(own, return_index=True, return_inverse=True)
    programs = trace.signatures[firsts]
    if len(programs) != len(trace.labels) or bool((programs[inverse] != trace.signatures).any()):
        raise ValueError("the trace must have one program a length, but has several, or was made with buckets already")
    return Prices(
        lengths=own,
        distinct=distinct,
        size_bytes=trace.size_bytes[programs].astype(np.float64),
        compile_seconds=trace.compile_seconds[programs],
        call_seconds=_call_seconds(trace, inverse, distinct),
    )


def _call_seconds(trace: Trace, of_length: NDArray[np.int64], distinct: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the median of the finished calls of each length; between them where none was waited for."""
    finished = trace.columns.get("finished_seconds", np.full(len(trace), np.nan))
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
    edges = prices.distinct if buckets is None else np.asarray(buckets, np.int64)
    padded = edges[np.searchsorted(edges, prices.lengths)]
    trace = Trace.from_lengths(
        padded,
        size_bytes=lambda length: prices.at(length, prices.size_bytes),
        compile_seconds=lambda length: prices.at(length, prices.compile_seconds),
    )
    return Recording(name, trace, float(prices.at(padded, prices.call_seconds).sum()))
