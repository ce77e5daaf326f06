"""RequestLog: what is counted of the requests of one directory, and what ``doctor`` is to know of them."""

from collections.abc import Callable, Mapping

from .faults import Faults
from .files import EntryId
from .index import Index
from .pending import Hit, Pending, Request
from .tier import FoundEntry


class RequestLog:
    """Log of one directory's requests, which the index is told of later. A fault in it costs no hit."""

    def __init__(
        self,
        pending: Pending,
        index: Index,
        faults: Faults,
        key_parts: Callable[[str, bool], Mapping[str, object]],
    ) -> None:
        """Add to ``pending``.

        Args:
            pending: What the index is to be told of.
            index: Of the directory.
            faults: Of the directory.
            key_parts: Returns the parts of a key, by name; the second argument says whether it was a hit.
        """
        self._pending, self._index, self._faults, self._key_parts = pending, index, faults, key_parts

    def count(self, **counts: float) -> None:
        """Add to counters."""
        self._pending.add(counts=counts)

    def hit(
        self, entry_id: EntryId, found: FoundEntry, seconds: float, counter: str | None = None, *, by_jax: bool = True
    ) -> None:
        """Record an entry that was served.

        Args:
            entry_id: Of the entry.
            found: The entry.
            seconds: What reading it took.
            counter: That of the tier that had it; None if the directory itself had.
            by_jax: Whether JAX asked for it, and ``doctor`` is to know.
        """
        meta, size_bytes = found.meta, len(found.content)
        counts: dict[str, float] = {
            "hits": 1,
            "seconds_saved": meta.compile_seconds - seconds,
            "bytes_read": size_bytes,
        }
        if counter is not None:
            counts[counter] = 1
        use = Hit(entry_id, meta, size_bytes) if counter is None else None
        self._pending.add(use, self._request(meta.key, "hit") if by_jax else None, counts)

    def miss(self, entry_id: EntryId, key: str, reason: str) -> None:
        """Record that a key has to be compiled, and why; without a ``reason`` the index is asked for it."""
        if not reason:
            reason = "index_unavailable"
            with self._faults.index_guarded():
                reason = self._index.why_absent(entry_id)
        self._pending.add(None, self._request(key, reason), {"misses": 1, f"miss:{reason}": 1})

    def _request(self, key: str, outcome: str) -> Request | None:
        with self._faults.guarded("written"):
            return Request(key, outcome, self._key_parts(key, outcome == "hit"))
        return None
