"""Requests that the index is told of later, in batches: the program does not wait for SQLite at each of them.

A process that is killed loses the last of them: recency and counters, never an entry.
"""

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .entry_format import EntryMeta
from .files import EntryId

_SECONDS = 0.05  # how long others may have to wait for news of this process
_MOST = 512
_LONGEST_WAIT_SECONDS = 5.0  # of a fork, for a batch that is being written


@dataclass(frozen=True, slots=True)
class Hit:
    """Reading of an entry."""

    entry_id: EntryId
    meta: EntryMeta
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """Request of a run, for ``doctor``."""

    key: str
    outcome: str
    parts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests since the last batch, in their order, and what they count."""

    hits: list[Hit] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.hits) + len(self.requests) + len(self.counts)


class Pending:
    """Batch that grows until it is flushed: by a timer, where it is long, or by whoever needs the index to know."""

    def __init__(self, write: Callable[[Batch], None]) -> None:
        """Hand batches to ``write``, which must not raise."""
        self._write = write
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child: what is pending is the parent's."""
        self._lock = threading.RLock()  # of a kind that a signal handler may take again
        self._batch = Batch()
        self.process_counts: Counter[str] = Counter()  # of this process, since it began
        self._timer: threading.Timer | None = None
        self._fired: threading.Thread | None = None  # the last timer that may still be writing
        self._ends_as_worker = False

    def add(
        self,
        hit: Hit | None = None,
        request: Request | None = None,
        counts: Mapping[str, float] | None = None,
        *,
        is_written_now: bool = False,
    ) -> None:
        """Add what a request has done, and write it with all that is pending, now or by the timer."""
        with self._lock:
            if hit is not None:
                self._batch.hits.append(hit)
            if request is not None:
                self._batch.requests.append(request)
            self._batch.counts.update(counts or {})  # pyright: ignore[reportCallIssue,reportArgumentType]
            self.count_here(counts or {})
            is_long, is_first = len(self._batch) >= _MOST, self._timer is None
        if is_written_now or is_long or (is_first and not self._start_timer()):
            self.flush()

    def count_here(self, counts: Mapping[str, float]) -> None:
        """Count for this process alone, and not in the index."""
        with self._lock:
            self.process_counts.update(counts)  # pyright: ignore[reportCallIssue,reportArgumentType]

    def flush(self) -> None:
        """Write what is pending."""
        with self._lock:
            batch, self._batch = self._batch, Batch()
        if batch:
            self._write(batch)

    def pause(self) -> None:
        """Write what is pending, and leave no thread that a fork could find at work."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        for thread in (timer, self._fired):
            if thread is not None and thread is not threading.current_thread():
                thread.join(_LONGEST_WAIT_SECONDS)
        self.flush()

    def _start_timer(self) -> bool:
        """Start the timer; return False where the interpreter ends and starts no more threads."""
        self._flush_at_end_of_worker()
        timer = threading.Timer(_SECONDS, self._flush_in_time)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):
            self._timer = timer
            timer.start()
            return True
        return False

    def _flush_at_end_of_worker(self) -> None:
        """Write what is pending as a worker of multiprocessing ends, which does so without ``atexit``."""
        util = sys.modules.get("multiprocessing.util")
        if util is None or self._ends_as_worker or sys.modules["multiprocessing.process"].parent_process() is None:
            return
        self._ends_as_worker = True
        util.Finalize(None, self.pause, exitpriority=0)

    def _flush_in_time(self) -> None:
        self._fired, self._timer = threading.current_thread(), None
        self.flush()
