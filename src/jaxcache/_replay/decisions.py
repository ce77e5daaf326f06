"""Decisions of a replay, and the replay by the very objects that decide in a running cache."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._policies import Policy
from .._policies.bounded_set import BoundedSet, Weight
from .trace import Event, Trace

HIT, MISS, REJECTED, EVENT, UNKEPT = range(5)  # outcomes; the last, of what was made ahead, is told as an event
SAMPLES = 1024  # points of bytes over time, at most
SMALL_ROWS = 1000  # up to here, numba takes longer to import, and at first to compile, than Python to do the work


@dataclass(frozen=True)
class Decisions:
    """Outcomes by row, misses by signature, bytes held at the samples, and counts.

    Attributes:
        outcomes: Of each row, ``HIT``, ``MISS``, ``REJECTED``, ``EVENT`` or ``UNKEPT``; uint8.
        misses: Of each signature; int64.
        sampled_bytes: What was held after each of :func:`sample_rows`; int64.
        evictions: Entries that went to make room.
        peak_bytes: The most that was held at a time.
    """

    outcomes: NDArray[np.uint8]
    misses: NDArray[np.int64]
    sampled_bytes: NDArray[np.int64]
    evictions: int
    peak_bytes: int


def sample_rows(rows: int) -> NDArray[np.int64]:
    """Return the rows after which bytes are noted."""
    stride = max(1, -(-rows // SAMPLES))
    return np.unique(np.append(np.arange(stride - 1, rows, stride), rows - 1)) if rows else np.zeros(0, np.int64)


def decide_with_objects(trace: Trace, new_policy: Callable[[], Policy], limit_bytes: int | None) -> Decisions:
    """Replay in Python.

    Raises:
        RuntimeError: If the policy failed, in words.
    """
    residents = BoundedSet(new_policy, limit_bytes, trace.mappings_limit)
    weights = [Weight(*weight) for weight in zip(trace.size_bytes.tolist(), trace.mappings.tolist(), strict=True)]
    costs = trace.compile_seconds.tolist()
    outcomes, bytes_held = np.empty(len(trace), np.uint8), np.zeros(len(trace), np.int64)
    held: set[int] = set()
    evictions = 0
    for row, (signature, event) in enumerate(zip(trace.signatures.tolist(), trace.events.tolist(), strict=True)):
        outcomes[row] = HIT if event == Event.REQUEST else EVENT
        if event == Event.CLEAR:
            residents.remove(signature)
            held.discard(signature)
        elif signature not in held:
            evicted = residents.try_insert(signature, weights[signature], costs[signature])
            if event == Event.REQUEST:
                outcomes[row] = REJECTED if evicted is None else MISS
            elif evicted is None:
                outcomes[row] = UNKEPT
            if evicted is not None:
                evictions += len(evicted)
                held.difference_update(evicted)
                held.add(signature)
        elif event == Event.REQUEST:
            residents.hit(signature)
        bytes_held[row] = residents.live_bytes
    if residents.fault is not None:
        raise RuntimeError(residents.fault)
    missed = (outcomes == MISS) | (outcomes == REJECTED)
    misses = np.bincount(trace.signatures[missed], minlength=len(trace.labels))
    return Decisions(outcomes, misses, bytes_held[sample_rows(len(trace))], evictions, residents.peak_bytes)
