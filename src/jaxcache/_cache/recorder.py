"""Recorder: writes down the requests of a running cache, in the order in which its policy sees them.

A recorded hit costs two looks at the clock, a row and a few numbers in arrays; a separate thread writes them.
"""

import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from .._replay.trace import Event
from .._replay.trace_files import EVENTS, NPZ, PARQUET, PART, TIERS, Coded, Nested, import_pyarrow, write_part

if TYPE_CHECKING:
    from .entries import EntryRecord
    from .executable import Executable

PART_ROWS = 32_768
PART_SECONDS = 30.0  # after so long, an unfinished part is written too: a crash loses no more


class Row:
    """Request in the log of a recorded cache.

    Attributes:
        record: Of the entry that served it; None until that is known.
        started: Time at which the call began; seconds of ``time.perf_counter``.
        ended: Time at which the call returned; NaN until it has.
        finished: Time at which its result was there; NaN unless that was watched.
        lengths: Of its dynamic dimensions, before padding; None without any.
    """

    __slots__ = ("ended", "finished", "lengths", "record", "started")

    def __init__(
        self,
        record: "EntryRecord | None",
        started: float,
        ended: float = math.nan,
        lengths: tuple[int, ...] | None = None,
    ) -> None:
        self.record = record
        self.started = started
        self.ended = ended
        self.finished = math.nan
        self.lengths = lengths


class Log(Protocol):
    """State of the cache whose log of hits is written down."""

    lock: Any

    def flush_hits(self) -> None:
        """Pass the hits in the log to the policy and to the recorder."""
        ...


class Here(threading.local):
    """Row of the call that this thread has under way, and its dynamic lengths."""

    row: Row | None = None
    lengths: tuple[int, ...] | None = None


class RequestLog(deque[Row]):
    """Log of hits of a cache that is recorded: appending an ``EntryRecord`` appends a row with it."""

    add = deque[Row].append

    def __init__(self, here: Here) -> None:
        super().__init__()
        self._here = here

    def append(self, record: Any, /) -> None:
        row = self._here.row
        if row is None or row.record is not None:
            row = Row(None, time.perf_counter())
        row.record = record
        self.add(row)


class Part:
    """Rows that are written together."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.compiles: dict[int, tuple[float, float, int]] = {}  # by row: lowering and backend seconds, and the tier
        self.events: dict[int, Event] = {}  # by row, where it is no request

    def __len__(self) -> int:
        return len(self.rows)

    def _signatures(self) -> tuple[NDArray[np.int64], list[tuple[str, str, int, int, int, float]]]:
        """Return the number of each row's signature by first appearance, and the columns of each signature."""
        records = list(map(attrgetter("record"), self.rows))
        addresses = np.fromiter(map(id, records), np.uint64, len(records))
        _, firsts, inverse = np.unique(addresses, return_index=True, return_inverse=True)
        numbers: dict[int, int] = {}
        of_entry, signatures = np.empty(len(firsts), np.int64), []
        for entry in np.argsort(firsts):  # a signature that was evicted and compiled again has several
            record = records[firsts[entry]]
            identity = record.identity
            of_entry[entry] = number = numbers.setdefault(identity, len(numbers))
            if number == len(signatures):
                cost, name, text = record.cost, record.function.name, record.description.text
                signatures.append((name, text, identity, cost.size_bytes, record.weight.mappings, cost.seconds))
        return of_entry[inverse], signatures

    def columns(self, began: float, at_least: float) -> tuple[dict[str, Any], float]:
        """Return the columns of ``_replay/trace_files.py``, and the last time; none is before ``at_least``."""
        rows = len(self)
        code, signatures = self._signatures()
        started, ended = (
            np.fromiter(map(attrgetter(column), self.rows), np.float64, rows) for column in ("started", "ended")
        )
        finished = np.fromiter(map(attrgetter("finished"), self.rows), np.float64, rows) - started
        lowering, backend, tier = np.full(rows, np.nan), np.full(rows, np.nan), np.zeros(rows, np.int32)
        event, lengths = np.zeros(rows, np.uint8), [row.lengths for row in self.rows]
        for row, kind in self.events.items():
            event[row] = kind
        for row, compile_of_row in self.compiles.items():
            lowering[row], backend[row], tier[row] = compile_of_row
        spent = np.nan_to_num(lowering) + np.nan_to_num(backend)
        times = np.maximum.accumulate(np.append(at_least, started - began))[1:]
        names, texts, ids, sizes, mappings, costs = zip(*signatures, strict=True)
        distinct = list(dict.fromkeys(names))
        functions = np.array([distinct.index(name) for name in names])
        is_request = event == Event.REQUEST
        columns = {
            "event": Coded(event, EVENTS),
            "time_seconds": times,
            "function": Coded(functions[code], distinct),
            "signature": Coded(code, texts),
            "signature_id": np.array(ids)[code],
            "size_bytes": np.array(sizes)[code],
            "mappings": np.array(mappings)[code],
            "compile_seconds": np.array(costs)[code],
            "lowering_seconds": lowering,
            "backend_seconds": backend,
            "tier": Coded(np.where(event == Event.CLEAR, -1, tier), TIERS),
            "dispatch_seconds": np.where(is_request, np.maximum(0.0, ended - started - spent), np.nan),
            "finished_seconds": np.maximum(0.0, finished - spent),
            "lengths": Nested(lengths),
        }
        return columns, float(times[-1])


class Recorder:
    """Writer of a directory of Parquet or NPZ files, each closed before it gets its name.

    Rows are added with the cache's lock. A fault stops the recording, not the program: ``fault`` describes it.
    """

    def __init__(self, path: str | os.PathLike[str], setting: Mapping[str, Any]) -> None:
        """Begin a recording.

        Raises:
            FileExistsError: If something is there already.
            ImportError: If pyarrow is missing; the message names the extra to install.
        """
        self.path = Path(path)
        self._suffix = NPZ if self.path.suffix == NPZ else PARQUET
        if self._suffix == PARQUET:
            import_pyarrow()
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(
                f"record must be a directory that is new or empty, but {self.path} is there; name another, or remove it"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.here = Here()
        self.fault: str | None = None
        self._setting = dict(setting)
        self._began = time.perf_counter()
        self._latest = 0.0
        self.part = Part()  # under way; flushing the log appends its rows to it
        self._parts = 0
        self._process = os.getpid()
        self._full: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._watch = FinishWatch()
        self._state: Log | None = None
        self._closing = False
        self._writer = threading.Thread(target=self._write_on, name="jaxcache-record", daemon=True)

    def begin(self, state: Log) -> None:
        """Write down the requests of a cache from now on."""
        self._state = state
        self._writer.start()

    # With the cache's lock.

    def hand_over_if_full(self) -> None:
        """Have a part of ``PART_ROWS`` rows, or a few more, written."""
        if len(self.part) >= PART_ROWS:
            self._hand_over()

    def add_compile(self, record: "EntryRecord", executable: "Executable", requested: bool) -> None:
        """Add a program that was compiled, for a call that missed or ahead of a call."""
        row = self.here.row
        if not requested or row is None or row.record is not None:
            row = Row(None, time.perf_counter())
        row.record = record
        tier = 1 if executable.from_disk else 2
        self.part.compiles[len(self.part)] = (executable.lowering_seconds, executable.compile_seconds, tier)
        if not requested:
            self.part.events[len(self.part)] = Event.WARM
        self._add(row)

    def add_clear(self, record: "EntryRecord") -> None:
        """Add that the program dropped an entry."""
        if not self._closing:
            self.part.events[len(self.part)] = Event.CLEAR
            self._add(Row(record, time.perf_counter()))

    def _add(self, row: Row) -> None:
        self.part.rows.append(row)
        self.hand_over_if_full()

    def _hand_over(self) -> None:
        part, self.part = self.part, Part()
        if len(part) and self.fault is None and os.getpid() == self._process and not self._closing:
            self._full.put(part)

    # Without the lock.

    def watch(self, row: Row, result: Any) -> None:
        """Write into the row when a result is there, if no other is watched; the caller does not wait."""
        self._watch.watch(row, result)

    def close(self) -> None:
        """Write the last part, and end. Later requests are not recorded."""
        if self._closing or os.getpid() != self._process or self._state is None:
            return
        self._state.flush_hits()
        with self._state.lock:
            self._hand_over()
            self._closing = True
        self._watch.close()
        self._full.put(None)
        self._writer.join()

    def _write_on(self) -> None:
        while True:
            try:
                part = self._full.get(timeout=PART_SECONDS)
            except queue.Empty:
                self._hand_over_in_time()
                continue
            if part is None:
                return
            if self.fault is None:
                self._write(part)

    def _hand_over_in_time(self) -> None:
        """End the part; not now if another thread has the lock, since that may wait for this thread."""
        state = self._state
        if state is not None and state.lock.acquire(blocking=False):
            try:
                state.flush_hits()
                self._hand_over()
            finally:
                state.lock.release()

    def _write(self, part: Part) -> None:
        try:
            columns, self._latest = part.columns(self._began, self._latest)
            write_part(columns, self._setting, self.path / PART.format(self._parts, self._suffix))
            self._parts += 1
        except Exception as error:
            self.fault = f"recording to {self.path} ended after {self._parts} parts ({type(error).__name__}: {error})"


class FinishWatch:
    """A thread that waits for one result at a time, and writes down when it was there. Nobody waits for the thread."""

    def __init__(self) -> None:
        self._results: queue.SimpleQueue[tuple[Row, Any] | None] = queue.SimpleQueue()
        self._busy = False
        self._thread: threading.Thread | None = None

    def watch(self, row: Row, result: Any) -> None:
        """Write into the row when its result is there, unless another result is watched."""
        if self._busy:
            return
        self._busy = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._wait_on, name="jaxcache-finish", daemon=True)
            self._thread.start()
        self._results.put((row, result))

    def close(self) -> None:
        """End when the watched result is there."""
        self._results.put(None)
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _wait_on(self) -> None:
        while (row_and_result := self._results.get()) is not None:
            row, result = row_and_result
            try:
                jax.block_until_ready(result)
                row.finished = time.perf_counter()
            except Exception:  # donated meanwhile, or failed: the caller gets the error
                pass
            row_and_result = row = result = None  # holds nothing while it waits
            self._busy = False
