"""Statistics of a shared directory: counts of requests, by build and machine, and what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

ABSENT_REASONS = ("new", "evicted", "refused", "not_stored", "removed", "vanished", "other_fingerprint")
FAULT_REASONS = (
    "empty",
    "truncated",
    "damaged",
    "foreign",
    "signed",
    "unsigned",
    "wrong_signature",
    "untrusted",
    "unreadable",
    "not_loadable",
)
DISK_MISS_REASONS = (*ABSENT_REASONS, *FAULT_REASONS, "index_unavailable", "check", "closed")


@dataclass(frozen=True, kw_only=True)
class DiskCounts:
    """Counts of requests to a shared directory.

    Attributes:
        hits: ``get`` returned an entry.
        layer_hits: Of these, those from a layer.
        remote_hits: Of these, those from an object store; what is in neither is from the directory itself.
        misses: ``get`` returned none.
        misses_by_reason: How many for each of ``DISK_MISS_REASONS``.
        waited: Requests that waited for the compile of another thread or process, also in vain.
        wait_timeouts: Of these, those that gave up and compiled themselves.
        puts: Entries written.
        below_threshold: Programs not written since they compiled too fast or were too small.
        refused: Programs not written since they exceed the limit, or by the policy's admission.
        copied: Entries of other tiers written to the directory.
        published: Entries written to an object store.
        remote_faults: Requests that an object store failed to serve, and bad entries in it.
        evictions: Entries removed to make room.
        quarantined: Files that were not what they should be, and were moved away.
        verified: Hits that were compiled again to compare.
        mismatched: Of these, those whose program differed.
        faults: Requests to which the directory or the index failed.
        seconds_saved: Compile seconds of the entries read, less the seconds to read them.
        seconds_spent: Compile seconds of the entries written, plus the seconds to write them.
        bytes_read: Bytes of the entries read.
        bytes_written: Bytes of the entries written.
    """

    hits: int = 0
    layer_hits: int = 0
    remote_hits: int = 0
    misses: int = 0
    misses_by_reason: Mapping[str, int] = field(default_factory=dict)
    waited: int = 0
    wait_timeouts: int = 0
    puts: int = 0
    below_threshold: int = 0
    refused: int = 0
    copied: int = 0
    published: int = 0
    remote_faults: int = 0
    evictions: int = 0
    quarantined: int = 0
    verified: int = 0
    mismatched: int = 0
    faults: int = 0
    seconds_saved: float = 0.0
    seconds_spent: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(frozen=True, kw_only=True)
class FingerprintStats(DiskCounts):
    """Counts and stored entries of one build and machine.

    Attributes:
        entries: Stored now.
        size_bytes: Bytes that they take.
        parts: What the fingerprint is made of.
    """

    entries: int = 0
    size_bytes: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DiskStats(DiskCounts):
    """A snapshot of a shared directory: the counts of all processes of this host since ``since``, and what is stored.

    Attributes:
        entries: Stored now.
        size_bytes: Bytes that they take.
        limit_bytes: Bytes that they may take; None is no limit.
        max_entries: Entries that may be stored; None is no limit.
        eviction: The policy.
        since: When counting began, in seconds since 1970.
        process: The counts of this process alone.
        by_fingerprint: The same by build and machine.
        fault: Why the directory or its index is not used at present; None if it is.
    """

    entries: int = 0
    size_bytes: int = 0
    limit_bytes: int | None = None
    max_entries: int | None = None
    eviction: str = "lru"
    since: float = 0.0
    process: DiskCounts = field(default_factory=DiskCounts)
    by_fingerprint: Mapping[str, FingerprintStats] = field(default_factory=dict)
    fault: str | None = None


_SECONDS = {"seconds_saved", "seconds_spent"}
_PLAIN = [counter.name for counter in fields(DiskCounts) if counter.name != "misses_by_reason"]


def counts_from(counted: Mapping[str, float]) -> dict[str, object]:
    """Return the fields of :class:`DiskCounts` for counters as the index keeps them."""
    counts: dict[str, object] = {
        name: counted.get(name, 0.0) if name in _SECONDS else int(counted.get(name, 0)) for name in _PLAIN
    }
    reasons = {reason: int(counted.get(f"miss:{reason}", 0)) for reason in DISK_MISS_REASONS}
    counts["misses_by_reason"] = {reason: count for reason, count in reasons.items() if count}
    return counts
