"""Requests that the index is told of later, in batches: the program does not wait for SQLite at each of them.

A process that is killed loses the last of them: recency and counters, never an entry, which the next process takes up.
"""

import contextlib
import io
import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .entry_format import EntryMeta
from .files import EntryId
from .limits import Limits

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
class NewEntry:
    """Entry whose file is there, and that has no row yet.

    Attributes:
        entry_id: Of the entry.
        meta: Of the entry.
        size_bytes: Of its file.
        limits: To be kept.
        staged: The second name of its file.
        counts: What has been counted for it.
    """

    entry_id: EntryId
    meta: EntryMeta
    size_bytes: int
    limits: Limits
    staged: io.FileIO
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Request:
    """Request of a run, for ``doctor``."""

    key: str
    outcome: str
    parts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests since the last batch, in their order, and what they count."""

    uses: list[Hit | NewEntry] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.uses) + len(self.requests) + len(self.counts)

    def extend(self, later: "Batch") -> None:
        """Add the requests of a later batch."""
        self.uses.extend(later.uses)
        self.requests.extend(later.requests)
        _add(self.counts, later.counts)

    def new_entries(self) -> list[NewEntry]:
        """Return the entries that have no row yet."""
        return [use for use in self.uses if isinstance(use, NewEntry)]


HandOver = Callable[[Callable[[Batch], Mapping[str, float]]], None]


class Pending:
    """Batch that grows until it is flushed: by a thread, where it is long, or by whoever needs the index to know."""

    def __init__(self, write: Callable[[HandOver], None]) -> None:
        """Have ``write`` write batches; it must not raise.

        Args:
            write: Given what hands over the batch, to be called when nobody else writes one: so the order is kept, and
                who flushes has waited for all that was added before. What is handed to returns what it counts besides,
                in this process alone. No lock is taken meanwhile: a signal handler may wait for the turn to write,
                while the thread that it has interrupted holds the lock.
        """
        self._write = write
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child: what is pending is the parent's."""
        self._lock = threading.RLock()  # of a kind that a signal handler may take again
        self._batch = Batch()
        self._ended: deque[Batch] = deque()  # batches that are to be written
        self._is_writing = False
        self._written: deque[tuple[list[NewEntry], Mapping[str, float]]] = deque()  # what is to be counted of batches
        self.new_entries = self.new_bytes = 0  # that have no row yet, as far as a batch is not written
        self.process_counts: Counter[str] = Counter()  # of this process, since it began
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()  # a signal handler may put, too
        self._thread: threading.Thread | None = None
        self._is_woken = False
        self._ends_as_worker = False

    def add(
        self,
        use: Hit | NewEntry | None = None,
        request: Request | None = None,
        counts: Mapping[str, float] | None = None,
        *,
        is_written_now: bool = False,
    ) -> None:
        """Add what a request has done, and write it with all that is pending, now or by the thread."""
        with self._lock:
            if use is not None:
                self._batch.uses.append(use)
            if isinstance(use, NewEntry):
                self.new_entries, self.new_bytes = self.new_entries + 1, self.new_bytes + use.size_bytes
            if request is not None:
                self._batch.requests.append(request)
            _add(self._batch.counts, counts or {})
            _add(self.process_counts, counts or {})
            is_long, is_first = len(self._batch) >= _MOST, not self._is_woken
        if is_written_now or is_long or (is_first and not self._wake()):
            self.flush()

    def count_here(self, counts: Mapping[str, float]) -> None:
        """Count for this process alone, and not in the index."""
        with self._lock:
            _add(self.process_counts, counts)

    def is_held_here(self) -> bool:
        """Return whether this thread has the lock: a signal handler has interrupted it then."""
        return self._lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]

    def flush(self) -> None:
        """Write what is pending, and wait for what another thread is writing."""
        fresh = Batch()
        with self._lock:
            if self._batch:
                batch, self._batch = self._batch, fresh
                self._ended.append(batch)
        if self._ended or self._is_writing:
            self._write(self._hand_over)
        self._count_written()

    def _hand_over(self, work: Callable[[Batch], Mapping[str, float]]) -> None:
        self._is_writing = True  # before a batch is taken: who flushes meanwhile finds the one or the other
        batch, counts = Batch(), {}
        try:
            with contextlib.suppress(IndexError):
                while True:
                    batch.extend(self._ended.popleft())
            if batch:
                counts = work(batch)
        finally:
            new = batch.new_entries()
            for entry in new:  # where its row could not be written, its name in staging says so to whoever cleans
                entry.staged.close()
            self._written.append((new, counts))
            self._is_writing = False

    def _count_written(self) -> None:
        while self._written:
            with self._lock, contextlib.suppress(IndexError):  # another thread was faster
                new, counts = self._written.popleft()
                _add(self.process_counts, counts)
                self.new_entries = max(0, self.new_entries - len(new))  # 0: in a forked child
                self.new_bytes = max(0, self.new_bytes - sum(entry.size_bytes for entry in new))

    def pause(self) -> None:
        """Write what is pending, and leave no thread that a fork could find at work."""
        with self._lock:
            thread, wakes = self._thread, self._wakes
            self._thread, self._is_woken = None, False
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            wakes.put(False)
            thread.join(_LONGEST_WAIT_SECONDS)
        self.flush()

    def _wake(self) -> bool:
        """Have the thread write soon; return False where the interpreter ends and starts no more threads.

        One thread for all: to start another each time would cost a program more than the rest of its request.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._flush_at_end_of_worker()
                wakes = queue.SimpleQueue[bool]()
                thread = threading.Thread(target=self._write_in_time, args=(wakes,), daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                former, self._wakes, self._thread = self._wakes, wakes, thread
                former.put(False)  # of a thread that a signal handler has started meanwhile
            self._is_woken = True
            self._wakes.put(True)
            return True

    def _write_in_time(self, wakes: "queue.SimpleQueue[bool]") -> None:
        """Write, in the thread, a while after each time that it is woken, until it is to end."""
        goes_on = wakes.get()
        while goes_on:
            with contextlib.suppress(queue.Empty):
                goes_on = wakes.get(timeout=_SECONDS)
                continue
            self._is_woken = False
            self.flush()
            goes_on = wakes.get()

    def _flush_at_end_of_worker(self) -> None:
        """Write what is pending as a worker of multiprocessing ends, which does so without ``atexit``."""
        util = sys.modules.get("multiprocessing.util")
        if util is None or self._ends_as_worker or sys.modules["multiprocessing.process"].parent_process() is None:
            return
        self._ends_as_worker = True
        util.Finalize(None, self.pause, exitpriority=0)


def _add(total: Counter[str], counts: Mapping[str, float]) -> None:
    """Add counts; ``Counter.update`` takes several times as long."""
    for name, count in counts.items():
        total[name] += count  # pyright: ignore[reportArgumentType]
