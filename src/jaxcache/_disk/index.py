"""Index of the entries, their priorities and the counters, which can always be made again from the entries.

Writers keep to one order, under one lock, so that a process may be killed anywhere: a row is inserted before its file
is moved in, and a file is removed before its row. What a killed writer left pending, the next writer settles. Where a
file is there before its row, its second name in ``staging`` says so until the row is there.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .connection import check_process
from .database import Database, Salvaged
from .entry_format import HEADER_BYTES, EntryFault, EntryMeta, decode_header
from .files import EntryFiles, EntryId
from .limits import Limits
from .pending import Batch, HandOver, Hit, NewEntry
from .priority import EntryCost, priority
from .ranking import dearest, lowest_first, rank_all, record_past
from .runs import Runs
from .statements import add_counts, delete, held, insert, look_up, mend_totals, next_number, was_hit

_MANY_VICTIMS = 8  # of one put: before so many go, the totals that ask for it are added up again


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the index: an entry with its size, its cost and its use."""

    fingerprint: str
    name: str
    key: str
    size_bytes: int
    compile_seconds: float
    frequency: int
    created: float
    used: float

    @property
    def entry_id(self) -> EntryId:
        return EntryId(self.fingerprint, self.name)


_CORRECT = (
    "UPDATE entries SET key = ?, size_bytes = ?, compile_seconds = ?, created = ? WHERE fingerprint = ? AND name = ? "
    "AND (key, size_bytes, compile_seconds) != (?, ?, ?)"
)
_ROW = "fingerprint, name, key, size_bytes, compile_seconds, frequency, created, used"


class Index:
    """The index of one directory on one host. Every method may raise ``IndexUnavailable``."""

    def __init__(self, path: Path, files: EntryFiles, eviction: str) -> None:
        self._files = files
        self._eviction = eviction
        inside = path.is_relative_to(files.root)
        self.database = Database(path, lambda: _make_folder(path.parent, files if inside else None), self._fill)
        self.runs = Runs(self.database)
        self.catch_up: Callable[[], None] = lambda: None  # writes what this process has pending

    # -- requests

    def record(
        self,
        fingerprint: str,
        hand_over: HandOver,
        settings: Mapping[str, object],
    ) -> None:
        """Record what requests of this process have done, now or, in a signal handler, right after its request.

        Args:
            fingerprint: Of this process.
            hand_over: Hands over the requests, once it is this thread's turn.
            settings: Of this process, kept with its run.
        """

        def work(batch: Batch) -> Counter[str]:
            """Return what new entries count besides, such as evictions."""
            new = batch.new_entries()
            keeping = self.database.locked if new else self.database.in_turn
            return keeping(lambda: self._record(fingerprint, batch, new, settings))

        self.database.when_free(lambda: self.database.in_turn(lambda: hand_over(work)))

    def _record(
        self, fingerprint: str, batch: Batch, new: list[NewEntry], settings: Mapping[str, object]
    ) -> Counter[str]:
        """Return what the new entries count besides."""
        process = os.getpid()
        unknown, refused, counts = self.database.change(self._record_batch, fingerprint, batch, new, settings)
        check_process(process)
        for entry in refused:
            self._files.remove(entry.entry_id)
        if counts["evictions"]:
            self.settle()
        for entry in new:
            self._files.drop_staged(entry.staged)
        for hit in unknown:
            self.database.locked(self.database.change, self._adopt, hit)
        return counts

    def _record_batch(
        self,
        db: sqlite3.Connection,
        fingerprint: str,
        batch: Batch,
        new: list[NewEntry],
        settings: Mapping[str, object],
    ) -> tuple[list[Hit], list[NewEntry], Counter[str]]:
        """Return the hits of entries that the index does not know, the entries that it refuses, and what they count."""
        if new:
            self._settle(db, besides={entry.entry_id for entry in new})
        unknown: list[Hit] = []
        refused: list[NewEntry] = []
        counts = Counter[str]()
        for use in batch.uses:
            if isinstance(use, Hit):
                if not was_hit(db, use.entry_id):
                    unknown.append(use)
            elif (size := _size(self._files.path(use.entry_id))) is not None:  # else it is gone already
                victims = self._make_room(db, use.entry_id, use.meta, size, use.limits, pending=None)
                if victims is None:
                    refused.append(use)
                    counts["refused"] += 1
                    counts.subtract(use.counts)  # pyright: ignore[reportCallIssue,reportArgumentType]
                else:
                    counts["evictions"] += len(victims)
        add_counts(db, fingerprint, batch.counts)
        add_counts(db, fingerprint, counts)
        for request in batch.requests:
            self.runs.record_request(fingerprint, settings, request)
        self.runs.record_settings(settings)
        return unknown, refused, counts

    def _adopt(self, db: sqlite3.Connection, hit: Hit) -> None:
        """Insert a row for a file that another host has put, or that is older than the index."""
        if self._files.exists(hit.entry_id):
            insert(db, hit.entry_id, hit.meta, hit.size_bytes, time.time(), frequency=1, pending=None)

    def why_absent(self, entry_id: EntryId) -> str:
        """Return why an entry is absent; a row without a file is deleted."""
        row, past, other = self.database.change(look_up, entry_id)
        if row == (None,):
            self.forget(entry_id)
            return "vanished"
        if past:
            return str(past[0])
        return "other_fingerprint" if other else "new"

    def is_unstored(self, entry_id: EntryId) -> bool:
        return self.database.change(look_up, entry_id)[1] == ("not_stored",)

    def record_unstored(self, entry_id: EntryId) -> None:
        """Record that a program was compiled and is not to be stored, so that nobody waits for it."""
        self.database.when_free(
            lambda: self.database.change(lambda db: record_past(db, entry_id, 0, "not_stored", next_number(db)[0]))
        )

    # -- changes of the entries

    def put(self, entry_id: EntryId, meta: EntryMeta, staged: Path, size_bytes: int, limits: Limits) -> int | None:
        """Move a staged file in and evict entries for it; return how many were evicted, None if the file is refused."""
        return self.database.locked(self._put, entry_id, meta, staged, size_bytes, limits)

    def _put(self, entry_id: EntryId, meta: EntryMeta, staged: Path, size_bytes: int, limits: Limits) -> int | None:
        process = os.getpid()
        victims = self.database.change(self._settle_and_make_room, entry_id, meta, size_bytes, limits)
        if victims is None:
            return None
        check_process(process)
        for victim in victims:
            self._files.remove(victim)
        try:
            self._files.move_in(staged, entry_id)
        finally:
            self.settle()
        return len(victims)

    def _settle_and_make_room(
        self, db: sqlite3.Connection, entry_id: EntryId, meta: EntryMeta, size_bytes: int, limits: Limits
    ) -> list[EntryId] | None:
        self._settle(db)
        return self._make_room(db, entry_id, meta, size_bytes, limits, pending="put")

    def _make_room(
        self,
        db: sqlite3.Connection,
        entry_id: EntryId,
        meta: EntryMeta,
        size_bytes: int,
        limits: Limits,
        *,
        pending: str | None,
    ) -> list[EntryId] | None:
        """Insert the row of an entry, and mark the victims; return these, or None if the entry is refused."""
        number, clock, eviction = next_number(db)
        old = db.execute(
            "SELECT frequency, size_bytes FROM entries WHERE fingerprint = ? AND name = ?", entry_id
        ).fetchone()
        past = db.execute("SELECT frequency FROM past WHERE fingerprint = ? AND name = ?", entry_id).fetchone()
        frequency = (past[0] if past else 0) + 1
        entries, total = held(db)
        if old:
            entries, total = entries - 1, total - old[1]
        full = limits.exceeded(entries + 1, total + size_bytes)
        cost = EntryCost(size_bytes, meta.compile_seconds, frequency)
        refused = limits.exceeded(1, size_bytes) or (
            full
            and eviction == "gdsf_admit"
            and priority(eviction, clock, number, cost) < dearest(db, clock, size_bytes)
        )
        if refused:
            record_past(db, entry_id, frequency, "refused", number)
            return None
        victims = []
        for row in lowest_first(db) if full else ():
            if not limits.exceeded(entries + 1, total + size_bytes):
                break
            if row[:2] == entry_id:
                continue
            victims.append(row)
            entries, total, clock = entries - 1, total - row[2], row[3]
        is_strange = len(victims) > _MANY_VICTIMS or min(entries, total) < 0
        if (is_strange or limits.exceeded(entries + 1, total + size_bytes)) and mend_totals(db):
            return self._make_room(db, entry_id, meta, size_bytes, limits, pending=pending)
        for row in victims:
            db.execute("UPDATE entries SET pending = 'evict' WHERE fingerprint = ? AND name = ?", row[:2])
            record_past(db, EntryId(*row[:2]), row[4], "evicted", number)
        db.execute("UPDATE state SET clock = ?", (clock,))
        db.execute("DELETE FROM past WHERE fingerprint = ? AND name = ?", entry_id)
        delete(db, entry_id)
        insert(db, entry_id, meta, size_bytes, time.time(), frequency=old[0] if old else 1, pending=pending)
        return [EntryId(*row[:2]) for row in victims]

    def settle(self) -> None:
        """Finish pending changes: under the lock, their writer is dead, or is this process and done with them."""
        self.database.change(self._settle)

    def _settle(self, db: sqlite3.Connection, besides: Container[EntryId] = ()) -> None:
        """Finish pending changes; of entries ``besides``, the files are newer than their rows."""
        left = db.execute("SELECT fingerprint, name, pending FROM entries WHERE pending IS NOT NULL").fetchall()
        for fingerprint, name, pending in left:
            entry_id = EntryId(fingerprint, name)
            if pending == "evict" and entry_id not in besides:
                self._files.remove(entry_id)
            if pending != "evict" and (size := _size(self._files.path(entry_id))) is not None:
                db.execute(
                    "UPDATE entries SET pending = NULL, size_bytes = ? WHERE fingerprint = ? AND name = ?",
                    (size, *entry_id),
                )
            else:
                delete(db, entry_id)

    def forget(self, entry_id: EntryId) -> None:
        """Delete the row of an entry whose file no longer exists."""
        self.database.when_free(lambda: self.database.locked(self.database.change, self._forget, entry_id))

    def _forget(self, db: sqlite3.Connection, entry_id: EntryId) -> None:
        if not self._files.exists(entry_id):
            delete(db, entry_id)

    def clean_staging(self) -> int:
        """Remove the files that killed writers left behind, and take up entries of which they wrote no row.

        Returns:
            How many files were removed.
        """
        return self._files.clean_staging(
            take_up=lambda entry_id: self.database.locked(self.database.change, self._adopt_file, entry_id)
        )

    def remove(self, rows: Iterable[Row]) -> int:
        """Remove entries; return how many."""
        self.catch_up()
        return self.database.locked(self.database.change, self._remove, list(rows))

    def _remove(self, db: sqlite3.Connection, rows: list[Row]) -> int:
        number = next_number(db)[0]
        for row in rows:
            self._files.remove(row.entry_id)
            delete(db, row.entry_id)
            record_past(db, row.entry_id, row.frequency, "removed", number)
        return len(rows)

    def lowest(self, eviction: str, limits: Limits, besides: Container[EntryId] = ()) -> list[Row]:
        """Return the entries that ``eviction`` would evict, in order, to make the directory keep to ``limits``.

        Args:
            eviction: A policy, which need not be the directory's own.
            limits: To be kept.
            besides: Entries that will be removed anyway.
        """
        clock = float(str(self.state()["clock"]))
        rows = sorted((row for row in self.rows() if row.entry_id not in besides), key=lambda row: row.used)
        if eviction == "fifo":
            rows.sort(key=lambda row: row.created)
        costs = [EntryCost(row.size_bytes, row.compile_seconds, row.frequency) for row in rows]
        ranks = [priority(eviction, clock, number, cost) for number, cost in enumerate(costs)]
        entries, total = len(rows), sum(row.size_bytes for row in rows)
        chosen: list[Row] = []
        for number in sorted(range(len(rows)), key=ranks.__getitem__):
            if not limits.exceeded(entries, total):
                break
            chosen.append(rows[number])
            entries, total = entries - 1, total - chosen[-1].size_bytes
        return chosen

    def use(self, eviction: str, limits: Limits) -> None:
        """Order by ``eviction`` from here on, for every process of this host, and keep the limits for statistics."""
        self.database.locked(self.settle)  # what a process left that was killed or interrupted
        self.database.change(_use, eviction, limits)

    def reconcile(self, read: Mapping[EntryId, tuple[EntryMeta, int]] | None = None) -> tuple[int, int]:
        """Make the index equal to the directory.

        Args:
            read: The headers of entries that were just read, and their sizes; rows that differ are corrected.

        Returns:
            How many entries were not in the index, and how many rows had no file.
        """
        self.catch_up()
        return self.database.locked(self._reconcile, read or {})

    def _reconcile(self, read: Mapping[EntryId, tuple[EntryMeta, int]]) -> tuple[int, int]:
        self.database.check()
        self.settle()
        return self.database.change(self._make_equal, read)

    def _make_equal(self, db: sqlite3.Connection, read: Mapping[EntryId, tuple[EntryMeta, int]]) -> tuple[int, int]:
        indexed = {EntryId(*row) for row in db.execute("SELECT fingerprint, name FROM entries")}
        stored = set(self._files.walk())
        for entry_id in indexed - stored:
            delete(db, entry_id)
        adopted = self._adopt_all(db, stored - indexed)
        for entry_id, (meta, size_bytes) in read.items():
            if _size(self._files.path(entry_id)) == size_bytes:  # else it was replaced meanwhile
                db.execute(_CORRECT, _corrected(entry_id, meta, size_bytes))
        db.execute("UPDATE state SET reconciled = ?", (time.time(),))
        return adopted, len(indexed - stored)

    def _adopt_all(self, db: sqlite3.Connection, entry_ids: Iterable[EntryId]) -> int:
        """Insert rows for files in the order in which they were put; return how many are entries."""
        modified = [(_size(self._files.path(entry_id), modified=True) or 0, entry_id) for entry_id in entry_ids]
        return sum(self._adopt_file(db, entry_id) for _, entry_id in sorted(modified))

    def _adopt_file(self, db: sqlite3.Connection, entry_id: EntryId) -> bool:
        path = self._files.path(entry_id)
        try:
            stat_result = path.stat()
            with path.open("rb") as file:
                header = decode_header(file.read(HEADER_BYTES + 4096), stat_result.st_size)
        except (OSError, EntryFault):
            if not self.database.is_read_only:
                self._files.set_aside(entry_id, "damaged")
            return False
        next_number(db)  # so that each has another number, by which lru and fifo order
        insert(db, entry_id, header.meta, stat_result.st_size, stat_result.st_mtime, frequency=1, pending=None)
        return True

    def _fill(self, db: sqlite3.Connection, salvaged: Salvaged) -> None:
        now = time.time()
        state = {"eviction": self._eviction, "limit_bytes": None, "max_entries": None, "since": now, "now": now}
        db.execute(
            "INSERT INTO state VALUES (0, 0, :eviction, :limit_bytes, :max_entries, :since, :now)",
            state | salvaged[0],
        )
        db.executemany("INSERT OR IGNORE INTO counters VALUES (?, ?, ?)", salvaged[1])
        self._adopt_all(db, self._files.walk())

    # -- queries

    def rows(self) -> list[Row]:
        """Return the rows of all entries."""
        return [Row(*row) for row in self._query(f"SELECT {_ROW} FROM entries WHERE pending IS NULL")]

    def state(self) -> dict[str, object]:
        """Return the policy, the limits, the clock and the totals."""
        self.catch_up()
        return self.database.change(_state)

    def counters(self) -> dict[str, dict[str, float]]:
        """Return the counters by fingerprint."""
        counted: dict[str, dict[str, float]] = {}
        for fingerprint, counter, value in self._query("SELECT fingerprint, counter, value FROM counters"):
            counted.setdefault(fingerprint, {})[counter] = value
        return counted

    def held(self) -> dict[str, tuple[int, int]]:
        """Return entries and bytes, by fingerprint."""
        rows = self._query("SELECT fingerprint, COUNT(*), SUM(size_bytes) FROM entries GROUP BY fingerprint")
        return {fingerprint: (entries, size) for fingerprint, entries, size in rows}

    def _query(self, sql: str) -> list[Any]:
        self.catch_up()
        return self.database.change(lambda db: db.execute(sql).fetchall())

    def reset_counters(self) -> None:
        """Set all counters to zero."""
        self.database.change(_reset_counters)


def _make_folder(folder: Path, files: EntryFiles | None) -> None:
    if files is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        files.forget_folders()
        files.make(folder)


def _state(db: sqlite3.Connection) -> dict[str, object]:
    cursor = db.execute("SELECT * FROM state, totals")
    return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def _use(db: sqlite3.Connection, eviction: str, limits: Limits) -> None:
    ((former, clock),) = db.execute("SELECT eviction, clock FROM state")
    db.execute(
        "UPDATE state SET eviction = ?, limit_bytes = ?, max_entries = ?",
        (eviction, limits.limit_bytes, limits.max_entries),
    )
    if former != eviction:
        rank_all(db, eviction, clock)


def _reset_counters(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM counters")
    db.execute("UPDATE state SET since = ?", (time.time(),))


def _corrected(entry_id: EntryId, meta: EntryMeta, size_bytes: int) -> tuple[object, ...]:
    about = (meta.key, size_bytes, meta.compile_seconds)
    return (*about, meta.created, *entry_id, *about)


def _size(path: Path, modified: bool = False) -> int | None:
    try:
        stat_result = path.stat(follow_symlinks=False)
        return stat_result.st_mtime_ns if modified else stat_result.st_size
    except OSError:
        return None
