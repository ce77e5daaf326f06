"""Runs the compiled kernels of ``_replay_kernels``; imported only where numba is."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from ._policies._gdsf_admit import COMPARED
from ._policies._history import HISTORY
from ._replay import Decisions, sample_rows
from ._replay_kernels import heaps, queues, urns
from ._trace import Trace

UNLIMITED = 2**62
CANDIDATES = 64  # of lnc_ra, by default

POLICIES: dict[str, Callable[..., tuple[int, int]]] = {
    "none": lambda seed, *columns: queues.by_row(*columns, False, False),
    "lru": lambda seed, *columns: queues.by_row(*columns, True, True),
    "fifo": lambda seed, *columns: queues.by_row(*columns, False, True),
    "sieve": lambda seed, *columns: queues.sieve(*columns),
    "s3fifo": lambda seed, *columns: queues.s3fifo(*columns),
    "lfu": lambda seed, *columns: heaps.by_priority(*columns, heaps.LFU, COMPARED, HISTORY),
    "size_based": lambda seed, *columns: heaps.by_priority(*columns, heaps.SIZE, COMPARED, HISTORY),
    "gdsf": lambda seed, *columns: heaps.by_priority(*columns, heaps.GDSF, COMPARED, HISTORY),
    "gdsf_admit": lambda seed, *columns: heaps.by_priority(*columns, heaps.GDSF_ADMIT, COMPARED, HISTORY),
    "random": lambda seed, *columns: urns.at_random(*columns, _generator(seed)),
    "lnc_ra": lambda seed, *columns: urns.lnc_ra(*columns, _generator(seed), CANDIDATES, HISTORY),
}


def run_compiled(trace: Trace, policy: Any, limit_bytes: int | None, seed: int) -> Decisions:
    """Replay a policy by name; the trace must have no ``CLEAR``."""
    rows = sample_rows(len(trace))
    outcomes, samples = np.empty(len(trace), np.uint8), np.zeros(len(rows), np.int64)
    if not len(rows):
        return Decisions(outcomes, samples, 0, 0)
    evictions, peak = POLICIES[policy](
        seed,
        trace.signatures,
        trace.events,
        trace.size_bytes,
        trace.mappings,
        trace.compile_seconds,
        UNLIMITED if limit_bytes is None else min(limit_bytes, UNLIMITED),
        UNLIMITED if trace.mappings_limit is None else trace.mappings_limit,
        int(rows[0]) + 1,
        outcomes,
        samples,
    )
    return Decisions(outcomes, samples, int(evictions), int(peak))


def _generator(seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the state of Python's generator for a seed: 624 words and a position."""
    return np.array(random.Random(seed).getstate()[1], np.int64)
