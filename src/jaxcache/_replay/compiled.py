"""Runs the compiled kernels of ``_replay_kernels``; imported only where numba is."""

import random
from typing import Any

import numpy as np

from .._policies.gdsf_admit import COMPARED
from .._policies.history import HISTORY
from .kernels import adaptive as learning
from .kernels import heaps
from .kernels import lists as queues
from .kernels import sampled as urns
from .replay import Decisions, sample_rows
from .trace import Trace

UNLIMITED = 2**62
CANDIDATES = 64  # of lnc_ra and adaptive, by default

_HEAP: Any = heaps.by_priority
_TURN: Any = queues.in_turn
POLICIES: dict[str, tuple[Any, tuple[Any, ...]]] = {  # the kernel, and what it takes beyond the columns
    "none": (_TURN, (False, False)),
    "lru": (_TURN, (True, True)),
    "fifo": (_TURN, (False, True)),
    "sieve": (queues.sieve, ()),
    "s3fifo": (queues.s3fifo, ()),
    "lfu": (_HEAP, (heaps.LFU, COMPARED, HISTORY)),
    "size_based": (_HEAP, (heaps.SIZE, COMPARED, HISTORY)),
    "gdsf": (_HEAP, (heaps.GDSF, COMPARED, HISTORY)),
    "gdsf_admit": (_HEAP, (heaps.GDSF_ADMIT, COMPARED, HISTORY)),
    "random": (urns.at_random, ()),
    "lnc_ra": (urns.lnc_ra, (CANDIDATES, HISTORY)),
    "adaptive": (learning.adaptive, (CANDIDATES, HISTORY)),
}
DRAWING = {"random", "lnc_ra", "adaptive"}


def run_compiled(trace: Trace, policy: Any, limit_bytes: int | None, seed: int) -> Decisions:
    """Replay a policy by name; the trace must have no ``CLEAR``."""
    rows = sample_rows(len(trace))
    outcomes, samples = np.empty(len(trace), np.uint8), np.zeros(len(rows), np.int64)
    misses = np.zeros(len(trace.labels), np.int64)
    if not len(rows):
        return Decisions(outcomes, misses, samples, 0, 0)
    kernel, options = POLICIES[policy]
    if policy in DRAWING:
        options = (_generator(seed), *options)
    evictions, peak = kernel(
        trace.signatures,
        trace.events,
        trace.size_bytes,
        trace.mappings,
        trace.compile_seconds,
        UNLIMITED if limit_bytes is None else min(limit_bytes, UNLIMITED),
        UNLIMITED if trace.mappings_limit is None else trace.mappings_limit,
        int(rows[0]) + 1,
        outcomes,
        misses,
        samples,
        *options,
    )
    return Decisions(outcomes, misses, samples, int(evictions), int(peak))


def _generator(seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the state of Python's generator for a seed: 624 words and a position."""
    return np.array(random.Random(seed).getstate()[1], np.int64)
