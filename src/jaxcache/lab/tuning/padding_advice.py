"""Advice to pad: lengths that vary between the recorded programs of a function, read off their signatures.

A recording of programs that nobody has padded yet says which axes of which arrays vary. Where one number explains all
that varies in a function, buckets for it are chosen and priced as for a recording with lengths. Whether padding leaves
the results right, no recording can say: :func:`jaxcache.bucketed` checks it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ... import Trace
from ..._padding.varying_lengths import alike, one_length, with_n
from ..counted import counted
from .bucketed_traces import Prices, choose, derive, merge, prices_of
from .search import Candidate, Recording, search


@dataclass(frozen=True)
class PaddedFunction:
    """Function whose programs differ in one length, and the buckets for it.

    Attributes:
        signature: Its call, with ``n`` for the length.
        buckets: Lengths to pad to.
        programs: Number of its programs as recorded.
        more_elements: Share by which padding makes the sum of the lengths larger.
    """

    signature: str
    buckets: tuple[int, ...]
    programs: int
    more_elements: float

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.signature.partition("(")[0]

    @property
    def call(self) -> str:
        """Call that pads the function, with what it pads."""
        return (
            f"jaxcache.bucketed({self.name}, cache=cache, buckets={self.buckets})"
            f"  # {self.signature}, {self.more_elements:.0%} more elements"
        )


@dataclass(frozen=True)
class PaddingAdvice:
    """Functions to pad, and the replays without and with their buckets, each at its best setting."""

    functions: tuple[PaddedFunction, ...]
    now: Candidate
    padded: Candidate

    def __str__(self) -> str:
        before, after = self.now, self.padded
        policies = f"{before.replayed.policy} without and {after.replayed.policy} with padding"
        if before.replayed.policy == after.replayed.policy:
            policies = after.replayed.policy
        return (
            f"Padding would spare {before.total_seconds - after.total_seconds:.1f} s more: "
            f"{counted(after.replayed.misses, 'compile')} in place of {before.replayed.misses:,}, and "
            f"{after.total_seconds:.1f} s of compiling all functions and running these in place of "
            f"{before.total_seconds:.1f} s ({policies}, the same limit). It is an edit of the "
            "program; the first calls check whether padding leaves the results right:"
        )


def advise(trace: Trace, policies: Sequence[str] | None, limit: int, seed: int = 0) -> PaddingAdvice | None:
    """Return the advice to pad, or None if a trace shows no length that varies or padding saves no twentieth.

    Args:
        trace: A recording without buckets.
        policies: Names of policies; all if None.
        limit: Memory limit to compare at, in bytes.
        seed: Seed of policies that draw random numbers.
    """
    if trace.requests < len(trace):
        return None
    parts: list[tuple[NDArray[np.int64], Recording]] = []
    exact: list[Recording] = []
    functions: list[PaddedFunction] = []
    for signature, prices in _varying(_timed_by_hits(trace)):
        buckets = choose("optimal", prices, 0)
        if len(buckets) == len(prices.distinct):
            continue
        padded = np.asarray(buckets)[np.searchsorted(buckets, prices.lengths)]
        more = float(padded.sum() / prices.lengths.sum()) - 1
        functions.append(PaddedFunction(signature, buckets, len(prices.distinct), more))
        parts.append((prices.rows, derive("padded", prices, buckets, alone=True)))
        exact.append(derive("none", prices, None, alone=True))
    if not functions:
        return None
    recordings = [
        Recording("none", trace, sum(each.run_seconds for each in exact)),
        Recording("padded", merge(trace, [(rows, each.trace) for rows, each in parts]),
                  sum(each.run_seconds for _, each in parts)),
    ]  # fmt: skip
    by_buckets = {each.buckets: each for each in search(recordings, policies, memory_limit=limit, seed=seed).ranked}
    advice = PaddingAdvice(tuple(functions), by_buckets["none"], by_buckets["padded"])
    return advice if advice.padded.total_seconds < 0.95 * advice.now.total_seconds else None


def _timed_by_hits(trace: Trace) -> Trace:
    """Return a trace without the times of calls that missed, which load and link; all of them if no call was a hit."""
    finished, tiers = trace.columns.get("finished_seconds"), trace.columns.get("tier")
    if finished is None or tiers is None or not np.isfinite(finished[tiers == "memory"]).any():
        return trace
    return replace(trace, columns={**trace.columns, "finished_seconds": np.where(tiers == "memory", finished, np.nan)})


def _varying(trace: Trace) -> Iterator[tuple[str, Prices]]:
    """Yield the signature, with ``n``, and the prices of each function in whose programs one length varies."""
    texts = list(map(str, trace.labels.tolist()))
    for signatures in alike(texts):
        labels = [texts[number] for number in signatures]
        lengths = one_length(labels)
        if lengths is None:
            continue
        of_signature = np.zeros(len(trace.labels), np.int64)
        of_signature[signatures] = lengths
        of_row = of_signature[trace.signatures]
        rows = np.flatnonzero(of_row)
        try:
            prices = prices_of(trace, rows, of_row[rows], np.flatnonzero(of_row == 0))
        except ValueError:  # several programs a length, or calls whose time nobody knows
            continue
        yield with_n(labels), prices
