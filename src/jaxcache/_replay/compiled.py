"""Replay by compiled policies over arrays; imported only where numba is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .decisions import Decisions, sample_rows
from .kernels import adaptive, ordered, prioritised, sampled
from .kernels.loop import Limits, Log, Rows, loop_of
from .trace import Trace

UNLIMITED = 2**62

_ORDER, _SIEVE, _S3FIFO = loop_of(ordered.ORDER), loop_of(ordered.SIEVE), loop_of(ordered.S3FIFO)
_LFU, _SIZE_BASED = loop_of(prioritised.LFU), loop_of(prioritised.SIZE_BASED)
_GDSF, _GDSF_ADMIT = loop_of(prioritised.GDSF), loop_of(prioritised.GDSF_ADMIT)
_RANDOM, _LNC_RA, _ADAPTIVE = loop_of(sampled.RANDOM), loop_of(sampled.LNC_RA), loop_of(adaptive.ADAPTIVE)

# The loop of each policy, and what makes its state from sizes, costs and a seed.
POLICIES: dict[str, tuple[Any, Callable[[Any, Any, int], Any]]] = {
    "none": (_ORDER, lambda sizes, _costs, _seed: ordered.new_order(len(sizes), hits_count=False, admits=False)),
    "lru": (_ORDER, lambda sizes, _costs, _seed: ordered.new_order(len(sizes), hits_count=True, admits=True)),
    "fifo": (_ORDER, lambda sizes, _costs, _seed: ordered.new_order(len(sizes), hits_count=False, admits=True)),
    "sieve": (_SIEVE, lambda sizes, _costs, _seed: ordered.new_sieve(len(sizes))),
    "s3fifo": (_S3FIFO, lambda sizes, _costs, _seed: ordered.new_s3fifo(sizes)),
    "lfu": (_LFU, lambda sizes, _costs, _seed: prioritised.new_lfu(len(sizes))),
    "size_based": (_SIZE_BASED, lambda sizes, _costs, _seed: prioritised.new_size_based(sizes)),
    "gdsf": (_GDSF, lambda sizes, costs, _seed: prioritised.new_gdsf(sizes, costs)),
    "gdsf_admit": (_GDSF_ADMIT, lambda sizes, costs, _seed: prioritised.new_gdsf_admit(sizes, costs)),
    "random": (_RANDOM, lambda sizes, _costs, seed: sampled.new_random(len(sizes), seed)),
    "lnc_ra": (_LNC_RA, sampled.new_lnc_ra),
    "adaptive": (_ADAPTIVE, adaptive.new_adaptive),
}


def decide_compiled(trace: Trace, policy: str, limit_bytes: int | None, seed: int) -> Decisions:
    """Replay a policy by its name."""
    rows = sample_rows(len(trace))
    outcomes, sampled_bytes = np.empty(len(trace), np.uint8), np.zeros(len(rows), np.int64)
    misses = np.zeros(len(trace.labels), np.int64)
    if not len(rows):
        return Decisions(outcomes, misses, sampled_bytes, 0, 0)
    loop, new_state = POLICIES[policy]
    evictions, peak_bytes = loop(
        Rows(trace.signatures, trace.events, trace.size_bytes, trace.mappings),
        Limits(
            UNLIMITED if limit_bytes is None else min(limit_bytes, UNLIMITED),
            UNLIMITED if trace.mappings_limit is None else trace.mappings_limit,
        ),
        Log(outcomes, misses, sampled_bytes, int(rows[0]) + 1),
        new_state(trace.size_bytes, trace.compile_seconds, seed),
    )
    return Decisions(outcomes, misses, sampled_bytes, int(evictions), int(peak_bytes))
