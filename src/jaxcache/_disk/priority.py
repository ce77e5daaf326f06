"""Priorities of the eviction policies whose decisions can be stored as one number an entry.

The formulas are those of ``_policies/``. The entry of the lowest (priority, number) is evicted first, where ``number``
is that of the request that set the priority. A test compares the order with that of the policies in memory.
"""

from typing import NamedTuple

from .._policies.gdsf import gdsf_priority
from .._policies.size_based import smallness

STORED_POLICIES = ("lru", "lfu", "fifo", "size_based", "gdsf", "gdsf_admit")
RERANKED_BY_HITS = frozenset({"lru", "lfu", "gdsf", "gdsf_admit"})
AGEING = frozenset({"gdsf", "gdsf_admit"})


class EntryCost(NamedTuple):
    """Size, compile seconds and frequency of an entry, by which policies rank it."""

    size_bytes: int
    compile_seconds: float
    frequency: int


def check_stored_policy(eviction: str) -> str:
    """Return ``eviction``; ValueError if no stored priority can stand for it."""
    if eviction in STORED_POLICIES:
        return eviction
    raise ValueError(
        f"eviction must be one of {', '.join(STORED_POLICIES)}, whose decisions can be stored as one number an entry "
        f"and so shared between processes, but is {eviction!r}"
    )


def priority(eviction: str, clock: float, number: int, cost: EntryCost) -> float:
    """Return the priority that an entry gets by request ``number``."""
    if eviction in AGEING:
        return gdsf_priority(clock, cost.frequency, cost.size_bytes, cost.compile_seconds)
    if eviction == "lfu":
        return float(cost.frequency)
    if eviction == "size_based":
        return smallness(cost.size_bytes)
    return float(number)
