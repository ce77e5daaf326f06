"""The frame that trials are held against: no limit at one end, a compile at every call at the other.

Trials, frame and bound of a sweep are priced by one table, its ``costs.json``. References of two seeds that ran at once
have measured what they share once each, and only the first to end is in the table: what a reference says of its own
seconds is therefore used only where no trace was recorded, and only if the table says the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from ... import Cost, CostTable, Trace
from ..result import Reference

_ROUNDING = 1e-6  # sums of the same numbers in another order


@dataclass(frozen=True)
class Baselines:
    """Least and most that a cache setting can take, of one program or as a mean over several.

    Attributes:
        largest: The signature that weighs most; of several programs, in the first.
        largest_bytes: What it weighs.
        median_bytes: What the median signature weighs.
    """

    unbounded_bytes: float
    unbounded_seconds: float
    uncached_seconds: float
    largest: str = ""
    largest_bytes: int = 0
    median_bytes: float = 0.0

    def holds(self, seconds: float) -> bool:
        """Return whether these compile seconds can be of a trial at the frame's prices."""
        least, most = self.unbounded_seconds * (1 - _ROUNDING), self.uncached_seconds * (1 + _ROUNDING)
        return least <= seconds <= most


def mean_frame(frames: Sequence[Baselines]) -> Baselines:
    """Return the mean of the frames of several seeds."""
    first = frames[0]
    return Baselines(
        unbounded_bytes=fmean(frame.unbounded_bytes for frame in frames),
        unbounded_seconds=fmean(frame.unbounded_seconds for frame in frames),
        uncached_seconds=fmean(frame.uncached_seconds for frame in frames),
        largest=first.largest,
        largest_bytes=first.largest_bytes,
        median_bytes=first.median_bytes,
    )


def is_bound(bound_seconds: float, seconds: float) -> bool:
    """Return whether a bound is at most these seconds of a trial, as it is if both are priced by one table."""
    return bound_seconds <= seconds * (1 + _ROUNDING)


def agreed_prices(references: Iterable[Reference]) -> CostTable | None:
    """Return the prices of references without a table beside them; None if two of them price one signature apart."""
    prices: dict[str, Cost] = {}
    for reference in references:
        rows = _rows(reference)
        if any(prices.get(name, row) != row for name, row in rows.items()):
            return None
        prices |= rows
    return CostTable(prices)


def find_frames(
    references: Iterable[Reference], traces: Mapping[str, Trace], prices: CostTable | None
) -> dict[str, Baselines]:
    """Return the frame of each program at the sweep's prices; without those that cannot be priced so."""
    if prices is None:
        return {}
    of_references = {
        reference.program_id: _of_reference(reference) for reference in references if _is_priced_by(reference, prices)
    }
    return of_references | {program: _of_trace(trace) for program, trace in traces.items() if len(trace)}


def _rows(reference: Reference) -> dict[str, Cost]:
    return {name: Cost(*row) for name, row in reference.costs.items()}


def _is_priced_by(reference: Reference, prices: CostTable) -> bool:
    return all(prices.get(name, row) == row for name, row in _rows(reference).items())


def _of_reference(reference: Reference) -> Baselines:
    return _frame(
        {name: size for name, (size, _) in reference.costs.items()},
        reference.unbounded_bytes,
        reference.unbounded_cost_seconds,
        reference.uncached_cost_seconds,
    )


def _of_trace(trace: Trace) -> Baselines:
    used = np.unique(trace.signatures)
    sizes = trace.size_bytes[used]
    return _frame(
        dict(zip(trace.labels[used].tolist(), sizes.tolist(), strict=True)),
        float(sizes.sum()),
        float(trace.compile_seconds[used].sum()),
        float(trace.compile_seconds[trace.signatures].sum()),
    )


def _frame(
    sizes: Mapping[str, int], total_bytes: float, unbounded_seconds: float, uncached_seconds: float
) -> Baselines:
    largest = max(sizes, key=lambda signature: sizes[signature], default="")
    return Baselines(
        unbounded_bytes=total_bytes,
        unbounded_seconds=unbounded_seconds,
        uncached_seconds=uncached_seconds,
        largest=largest,
        largest_bytes=sizes.get(largest, 0),
        median_bytes=median(sizes.values()) if sizes else 0.0,
    )
