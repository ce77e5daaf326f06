"""Snapshot of a shared directory's statistics, read from its index."""

from collections import Counter
from typing import Any

from .files import EntryFiles
from .index import Index
from .stats import DiskCounts, DiskStats, FingerprintStats, counts_from


def snapshot(index: Index, files: EntryFiles, process: DiskCounts, fault: str | None) -> DiskStats:
    """Return what all processes of this host have counted, and what is stored.

    Args:
        index: Of the directory.
        files: Of the directory.
        process: What this process has counted.
        fault: Why the directory is not used; None if it is.

    Raises:
        IndexUnavailable: If the index cannot be used.
    """
    state: dict[str, Any] = index.state()
    counted, held = index.counters(), index.held()
    total = Counter[str]()
    for counters in counted.values():
        total.update(counters)  # pyright: ignore[reportCallIssue,reportArgumentType]
    by_fingerprint = {}
    for name in sorted({*counted, *held}):
        entries, size_bytes = held.get(name, (0, 0))
        counts: dict[str, Any] = counts_from(counted.get(name, {}))
        by_fingerprint[name] = FingerprintStats(
            **counts, entries=entries, size_bytes=size_bytes, parts=files.about(name)
        )
    counts = counts_from(total)
    return DiskStats(
        **counts,
        entries=state["entries"],
        size_bytes=state["bytes"],
        limit_bytes=state["limit_bytes"],
        max_entries=state["max_entries"],
        eviction=state["eviction"],
        since=state["since"],
        process=process,
        by_fingerprint=by_fingerprint,
        fault=fault,
    )
