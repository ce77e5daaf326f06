"""Who goes first from the shared directory: the policies that can be reduced to a stored number.

The lowest (priority, number) goes, where ``number`` is that of the request that set the priority. A test holds the
order to that of the policies in memory.
"""

from typing import NamedTuple

from .._policies.gdsf import gdsf_priority
from .._policies.size_based import smallness

STORED_POLICIES = ("lru", "lfu", "fifo", "size_based", "gdsf", "gdsf_admit")
RERANKED_BY_HITS = frozenset({"lru", "lfu", "gdsf", "gdsf_admit"})
AGEING = frozenset({"gdsf", "gdsf_admit"})


class EntryCost(NamedTuple):
    """What a policy looks at."""

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


def priority(eviction: str, clock: float, number: int, worth: EntryCost) -> float:
    """Return the priority that an entry gets by request ``number``."""
    if eviction in AGEING:
        return gdsf_priority(clock, worth.frequency, worth.size_bytes, worth.compile_seconds)
    if eviction == "lfu":
        return float(worth.frequency)
    if eviction == "size_based":
        return smallness(worth.size_bytes)
    return float(number)
