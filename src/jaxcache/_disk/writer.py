"""EntryWriter: entries on their way into the directory, or out of it, and the cleaning that goes with that."""

import math
import time
from collections.abc import Callable
from time import monotonic  # bound now: a test may replace the clock that others look at

from .._jax.fingerprint import Fingerprint
from .entry_format import EntryFault, EntryMeta
from .faults import Faults
from .files import EntryFiles, EntryId
from .index import Index
from .limits import Limits
from .pending import NewEntry, Pending

_REFRESH_SECONDS = 600.0  # between looks for entries of hosts and users that have an index of their own
_CLEAN_SECONDS = 60.0
_MOST_ENTRIES = 64  # whose rows follow: each holds a file open
_MOST_BYTES = 64 * 2**20
_SHARE = 256  # of a limit: by one part of so many a process may exceed it until the rows have followed


class EntryWriter:
    """Writer of one directory. No fault of the directory is raised: it is counted, and the program goes on."""

    def __init__(
        self,
        files: EntryFiles,
        index: Index,
        pending: Pending,
        faults: Faults,
        fingerprint: Callable[[], Fingerprint],
        *,
        is_shared: bool,
    ) -> None:
        """Write to ``files`` and ``index``.

        Args:
            files: Of the directory.
            index: Of the directory.
            pending: What the index is to be told of.
            faults: Of the directory.
            fingerprint: Returns the fingerprint of this process.
            is_shared: Whether other hosts or users write to the directory too, and have an index of their own.
        """
        self._files, self._index, self._pending, self._faults = files, index, pending, faults
        self._fingerprint = fingerprint
        self._is_shared = is_shared
        self._cleaned, self._refreshed = -math.inf, monotonic()

    def store(
        self, entry_id: EntryId, meta: EntryMeta, content: bytes, limits: Limits, started: float | None = None
    ) -> None:
        """Write an entry, unless the limits or the policy refuse it; in a signal handler, right after its request.

        Args:
            entry_id: Of the entry.
            meta: Of the entry.
            content: Of the entry's file.
            limits: To be kept.
            started: When writing an entry began that this process has compiled; None for one of another tier.
        """
        self._index.database.when_free(lambda: self._store(entry_id, meta, content, limits, started))

    def _store(self, entry_id: EntryId, meta: EntryMeta, content: bytes, limits: Limits, started: float | None) -> None:
        with self._faults.guarded("written"):
            if self._link_in(entry_id, meta, content, limits, started):
                return
            self.tidy()
            evicted = None
            self._pending.flush()  # who goes depends on it
            with self._faults.index_guarded(), self._files.staged(content) as staged:
                evicted = self._index.put(entry_id, meta, staged, len(content), limits)
                if evicted is None:
                    self._pending.add(counts={"refused": 1})
            if evicted is None:
                return
            counts = {"evictions": evicted, **_counts(meta, content, started)}
            self._pending.add(counts=counts, is_written_now=True)

    def _link_in(
        self, entry_id: EntryId, meta: EntryMeta, content: bytes, limits: Limits, started: float | None
    ) -> bool:
        """Write an entry whose row follows in the background; return False if it has to be written otherwise.

        So the program does not wait for SQLite, nor for evictions. Of a limit only a small share may be exceeded so.
        """
        entries, size_bytes = self._pending.new_entries + 1, self._pending.new_bytes + len(content)
        is_much = entries > _MOST_ENTRIES or size_bytes > _MOST_BYTES
        if is_much or limits.exceeded(_SHARE * entries, _SHARE * size_bytes):
            return False
        if self._is_to_refresh(monotonic()) or not self._index.database.is_open:
            return False
        staged = self._files.link_in(content, entry_id)
        if staged is None:
            return False
        counts = _counts(meta, content, started)
        self._pending.add(NewEntry(entry_id, meta, len(content), limits, staged, counts), counts=counts)
        return True

    def tidy(self) -> None:
        """Remove, now and then, what killed writers left, and look for entries of other hosts."""
        with self._faults.guarded("written"):
            self._tidy()

    def _tidy(self) -> None:
        now = monotonic()
        if now - self._cleaned >= _CLEAN_SECONDS:
            self._cleaned = now
            fingerprint = self._fingerprint()
            self._files.record_fingerprint(fingerprint.id, fingerprint.parts)
            with self._faults.index_guarded():
                self._index.database.check()
                self._index.clean_staging()
        if self._is_to_refresh(now):
            self._refreshed = now
            with self._faults.index_guarded():
                self._index.reconcile()

    def _is_to_refresh(self, now: float) -> bool:
        return self._is_shared and now - self._refreshed >= _REFRESH_SECONDS

    def set_aside(self, entry_id: EntryId, fault: EntryFault) -> None:
        """Move a bad entry to the quarantine."""
        self._pending.add(counts={"quarantined": 1})
        self._faults.warn("quarantine", f"an entry was not what it should be ({fault}), and was moved to quarantine")
        try:
            self._files.set_aside(entry_id, fault.reason)
        except OSError as error:
            self._faults.record(f"a bad entry cannot be moved away ({error})")
            return
        with self._faults.index_guarded():
            self._index.forget(entry_id)


def _counts(meta: EntryMeta, content: bytes, started: float | None) -> dict[str, float]:
    if started is None:
        return {"copied": 1, "bytes_written": len(content)}
    spent = meta.compile_seconds + time.perf_counter() - started
    return {"puts": 1, "seconds_spent": spent, "bytes_written": len(content)}
