"""Which entries there are, what each is worth, and what was counted: an index that the entries can always replace.

Writers keep to one order, under one lock, so that a process may be killed anywhere: a row is there before its file,
and a file is gone before its row. What a dead writer left pending, the next one settles.
"""

import sqlite3
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .database import Database, Salvaged
from .entry_format import HEADER_BYTES, EntryFault, EntryMeta, decode_header
from .files import EntryFiles, Place
from .integrity import have_right_totals
from .priority import RERANKED_BY_HITS, EntryCost, priority
from .ranking import dearest, lowest_first, note_past, rank_all
from .runs import Runs

_MANY_VICTIMS = 8  # of one put: before so many go, the totals that ask for it are added up again

Counts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of an entry."""

    fingerprint: str
    name: str
    key: str
    size_bytes: int
    compile_seconds: float
    frequency: int
    created: float
    used: float

    @property
    def place(self) -> Place:
        return Place(self.fingerprint, self.name)


_CORRECT = (
    "UPDATE entries SET key = ?, size_bytes = ?, compile_seconds = ?, created = ? WHERE fingerprint = ? AND name = ? "
    "AND (key, size_bytes, compile_seconds) != (?, ?, ?)"
)
_ROW = "fingerprint, name, key, size_bytes, compile_seconds, frequency, created, used"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a directory may hold; None is no limit."""

    limit_bytes: int | None
    max_entries: int | None

    def exceeded(self, entries: int, size_bytes: int) -> bool:
        too_large = self.limit_bytes is not None and size_bytes > self.limit_bytes
        return too_large or (self.max_entries is not None and entries > self.max_entries)


class Index:
    """The index of one directory on one host. Every method may raise ``IndexUnavailable``."""

    def __init__(self, path: Path, files: EntryFiles, eviction: str) -> None:
        self._files = files
        self._eviction = eviction
        inside = path.is_relative_to(files.root)
        self.database = Database(path, lambda: _make_folder(path.parent, files if inside else None), self._fill)
        self.runs = Runs(self.database)

    # -- requests

    def hit(self, place: Place, meta: EntryMeta, size_bytes: int, counts: Counts) -> None:
        """Note that an entry was read."""
        self.database.when_free(lambda: self._hit(place, meta, size_bytes, counts))

    def _hit(self, place: Place, meta: EntryMeta, size_bytes: int, counts: Counts) -> None:
        with self.database.transaction() as db:
            number, clock, eviction = _next(db)
            found = db.execute(
                "SELECT size_bytes, compile_seconds, frequency FROM entries WHERE fingerprint = ? AND name = ?", place
            ).fetchone()
            if found is not None:
                worth = EntryCost(found[0], found[1], found[2] + 1)
                rank = (priority(eviction, clock, number, worth), number) if eviction in RERANKED_BY_HITS else None
                db.execute(
                    "UPDATE entries SET frequency = ?, used = ? WHERE fingerprint = ? AND name = ?",
                    (worth.frequency, time.time(), *place),
                )
                if rank:
                    db.execute(
                        "UPDATE entries SET priority = ?, number = ? WHERE fingerprint = ? AND name = ?",
                        (*rank, *place),
                    )
            _count(db, place.fingerprint, counts)
        if found is None:
            self._adopt(place, meta, size_bytes)

    def _adopt(self, place: Place, meta: EntryMeta, size_bytes: int) -> None:
        """Take up a file that another host has put, or that was there before the index."""
        with self.database.mutex(), self.database.transaction() as db:
            if self._files.exists(place):
                _insert(db, place, meta, size_bytes, time.time(), frequency=1, pending=None)

    def why_absent(self, place: Place) -> str:
        """Return why an entry is not there; a row without a file is forgotten."""
        with self.database.transaction() as db:
            found = db.execute("SELECT pending FROM entries WHERE fingerprint = ? AND name = ?", place).fetchone()
            past = db.execute("SELECT reason FROM past WHERE fingerprint = ? AND name = ?", place).fetchone()
            other = db.execute("SELECT 1 FROM entries WHERE name = ? AND fingerprint != ?", place[::-1]).fetchone()
        if found == (None,):
            self.forget(place)
            return "vanished"
        if past:
            return str(past[0])
        return "other_fingerprint" if other else "new"

    def count(self, fingerprint: str, counts: Counts) -> None:
        self.database.when_free(lambda: self._count(fingerprint, counts))

    def _count(self, fingerprint: str, counts: Counts) -> None:
        with self.database.transaction() as db:
            _count(db, fingerprint, counts)

    def is_unstored(self, place: Place) -> bool:
        with self.database.transaction() as db:
            past = db.execute("SELECT reason FROM past WHERE fingerprint = ? AND name = ?", place).fetchone()
        return past == ("not_stored",)

    def note_unstored(self, place: Place) -> None:
        """Note that a program was compiled and is not to be stored, so that nobody waits for it."""
        self.database.when_free(lambda: self._note_unstored(place))

    def _note_unstored(self, place: Place) -> None:
        with self.database.transaction() as db:
            note_past(db, place, 0, "not_stored", _next(db)[0])

    # -- changes of what is there

    def put(self, place: Place, meta: EntryMeta, staged: Path, size_bytes: int, limits: Limits) -> int | None:
        """Move a staged file in, and remove what has to go for it; return how many went, None if it is refused."""
        with self.database.mutex():
            self.settle()
            with self.database.transaction() as db:
                victims = self._make_room(db, place, meta, size_bytes, limits)
            if victims is None:
                return None
            for one in victims:
                self._files.remove(one)
            try:
                self._files.move_in(staged, place)
            finally:
                self.settle()
            return len(victims)

    def _make_room(
        self, db: sqlite3.Connection, place: Place, meta: EntryMeta, size_bytes: int, limits: Limits
    ) -> list[Place] | None:
        number, clock, eviction = _next(db)
        old = db.execute("SELECT frequency FROM entries WHERE fingerprint = ? AND name = ?", place).fetchone()
        past = db.execute("SELECT frequency FROM past WHERE fingerprint = ? AND name = ?", place).fetchone()
        frequency = (past[0] if past else 0) + 1
        entries, total = db.execute("SELECT entries, bytes FROM totals").fetchone()
        if old:
            own = db.execute("SELECT size_bytes FROM entries WHERE fingerprint = ? AND name = ?", place).fetchone()[0]
            entries, total = entries - 1, total - own
        full = limits.exceeded(entries + 1, total + size_bytes)
        worth = EntryCost(size_bytes, meta.compile_seconds, frequency)
        refused = limits.exceeded(1, size_bytes) or (
            full
            and eviction == "gdsf_admit"
            and priority(eviction, clock, number, worth) < dearest(db, clock, size_bytes)
        )
        if refused:
            note_past(db, place, frequency, "refused", number)
            return None
        victims = []
        for row in lowest_first(db) if full else ():
            if not limits.exceeded(entries + 1, total + size_bytes):
                break
            if row[:2] == place:
                continue
            victims.append(row)
            entries, total, clock = entries - 1, total - row[2], row[3]
        is_strange = len(victims) > _MANY_VICTIMS or min(entries, total) < 0
        if (is_strange or limits.exceeded(entries + 1, total + size_bytes)) and _mend_totals(db):
            return self._make_room(db, place, meta, size_bytes, limits)
        for row in victims:
            db.execute("UPDATE entries SET pending = 'evict' WHERE fingerprint = ? AND name = ?", row[:2])
            note_past(db, Place(*row[:2]), row[4], "evicted", number)
        db.execute("UPDATE state SET clock = ?", (clock,))
        db.execute("DELETE FROM past WHERE fingerprint = ? AND name = ?", place)
        db.execute("DELETE FROM entries WHERE fingerprint = ? AND name = ?", place)
        _insert(db, place, meta, size_bytes, time.time(), frequency=old[0] if old else 1, pending="put")
        return [Place(*row[:2]) for row in victims]

    def settle(self) -> None:
        """Finish what is pending. With the lock, so that whoever left it is dead, or this process, done with it."""
        with self.database.transaction() as db:
            left = db.execute("SELECT fingerprint, name, pending FROM entries WHERE pending IS NOT NULL").fetchall()
            for fingerprint, name, pending in left:
                place = Place(fingerprint, name)
                if pending == "evict":
                    self._files.remove(place)
                if pending != "evict" and (size := _size(self._files.path(place))) is not None:
                    db.execute(
                        "UPDATE entries SET pending = NULL, size_bytes = ? WHERE fingerprint = ? AND name = ?",
                        (size, *place),
                    )
                else:
                    db.execute("DELETE FROM entries WHERE fingerprint = ? AND name = ?", place)

    def forget(self, place: Place) -> None:
        """Forget an entry whose file is gone."""
        self.database.when_free(lambda: self._forget(place))

    def _forget(self, place: Place) -> None:
        with self.database.mutex(), self.database.transaction() as db:
            if not self._files.exists(place):
                db.execute("DELETE FROM entries WHERE fingerprint = ? AND name = ?", place)

    def remove(self, rows: Iterable[Row], reason: str = "removed") -> int:
        """Remove entries; return how many."""
        removed = 0
        with self.database.mutex(), self.database.transaction() as db:
            number = _next(db)[0]
            for row in rows:
                self._files.remove(row.place)
                db.execute("DELETE FROM entries WHERE fingerprint = ? AND name = ?", row.place)
                note_past(db, row.place, row.frequency, reason, number)
                removed += 1
        return removed

    def lowest(self, eviction: str, limits: Limits, besides: Container[Place] = ()) -> list[Row]:
        """Return what would have to go, in order, for ``eviction`` to make the directory keep to ``limits``.

        Args:
            eviction: A policy, which need not be the directory's own.
            limits: To be kept.
            besides: Entries that are as good as gone.
        """
        clock = float(str(self.state()["clock"]))
        rows = sorted((row for row in self.rows() if row.place not in besides), key=lambda row: row.used)
        if eviction == "fifo":
            rows.sort(key=lambda row: row.created)
        worths = [EntryCost(row.size_bytes, row.compile_seconds, row.frequency) for row in rows]
        ranks = [priority(eviction, clock, number, worth) for number, worth in enumerate(worths)]
        entries, total = len(rows), sum(row.size_bytes for row in rows)
        chosen: list[Row] = []
        for number in sorted(range(len(rows)), key=ranks.__getitem__):
            if not limits.exceeded(entries, total):
                break
            chosen.append(rows[number])
            entries, total = entries - 1, total - chosen[-1].size_bytes
        return chosen

    def use(self, eviction: str, limits: Limits) -> None:
        """Order by ``eviction`` from here on, for every process of this host; note the limits for who asks."""
        with self.database.transaction() as db:
            ((known, clock),) = db.execute("SELECT eviction, clock FROM state")
            db.execute(
                "UPDATE state SET eviction = ?, limit_bytes = ?, max_entries = ?",
                (eviction, limits.limit_bytes, limits.max_entries),
            )
            if known != eviction:
                rank_all(db, eviction, clock)

    def reconcile(self, read: Mapping[Place, tuple[EntryMeta, int]] | None = None) -> tuple[int, int]:
        """Make the index equal to the directory.

        Args:
            read: What entries that were just read say of themselves, and their sizes; rows that differ are corrected.

        Returns:
            How many entries it had not known, and how many were gone.
        """
        with self.database.mutex():
            self.database.check()
            self.settle()
            with self.database.transaction() as db:
                known = {Place(*row) for row in db.execute("SELECT fingerprint, name FROM entries")}
                there = set(self._files.walk())
                db.executemany("DELETE FROM entries WHERE fingerprint = ? AND name = ?", known - there)
                taken = self._take_all_up(db, there - known)
                for place, (meta, size_bytes) in (read or {}).items():
                    if _size(self._files.path(place)) == size_bytes:  # else it was replaced meanwhile
                        db.execute(_CORRECT, _corrected(place, meta, size_bytes))
                db.execute("UPDATE state SET reconciled = ?", (time.time(),))
        return taken, len(known - there)

    def _take_all_up(self, db: sqlite3.Connection, places: Iterable[Place]) -> int:
        """Take up files in the order in which they were put; return how many are entries."""
        modified = [(_size(self._files.path(place), modified=True) or 0, place) for place in places]
        return sum(self._take_up(db, place) for _, place in sorted(modified))

    def _take_up(self, db: sqlite3.Connection, place: Place) -> bool:
        path = self._files.path(place)
        try:
            told = path.stat()
            with path.open("rb") as file:
                header = decode_header(file.read(HEADER_BYTES + 4096), told.st_size)
        except (OSError, EntryFault):
            if not self.database.is_read_only:
                self._files.set_aside(place, "damaged")
            return False
        _next(db)  # so that each has a number of its own: lru and fifo go by it
        _insert(db, place, header.meta, told.st_size, told.st_mtime, frequency=1, pending=None)
        return True

    def _fill(self, db: sqlite3.Connection, salvaged: Salvaged) -> None:
        now = time.time()
        state = {"eviction": self._eviction, "limit_bytes": None, "max_entries": None, "since": now, "now": now}
        db.execute(
            "INSERT INTO state VALUES (0, 0, :eviction, :limit_bytes, :max_entries, :since, :now)",
            state | salvaged[0],
        )
        db.executemany("INSERT OR IGNORE INTO counters VALUES (?, ?, ?)", salvaged[1])
        self._take_all_up(db, self._files.walk())

    # -- what is known

    def rows(self) -> list[Row]:
        with self.database.transaction() as db:
            return [Row(*found) for found in db.execute(f"SELECT {_ROW} FROM entries WHERE pending IS NULL")]

    def state(self) -> dict[str, object]:
        with self.database.transaction() as db:
            cursor = db.execute("SELECT * FROM state, totals")
            return dict(zip([one[0] for one in cursor.description], cursor.fetchone(), strict=True))

    def counters(self) -> dict[str, dict[str, float]]:
        """Return what was counted, by fingerprint."""
        counted: dict[str, dict[str, float]] = {}
        with self.database.transaction() as db:
            for fingerprint, counter, value in db.execute("SELECT fingerprint, counter, value FROM counters"):
                counted.setdefault(fingerprint, {})[counter] = value
        return counted

    def held(self) -> dict[str, tuple[int, int]]:
        """Return entries and bytes, by fingerprint."""
        with self.database.transaction() as db:
            found = db.execute("SELECT fingerprint, COUNT(*), SUM(size_bytes) FROM entries GROUP BY fingerprint")
            return {fingerprint: (entries, size) for fingerprint, entries, size in found}

    def reset_counters(self) -> None:
        with self.database.transaction() as db:
            db.execute("DELETE FROM counters")
            db.execute("UPDATE state SET since = ?", (time.time(),))


def _make_folder(folder: Path, files: EntryFiles | None) -> None:
    if files is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        files.forget_folders()
        files.make(folder)


def _next(db: sqlite3.Connection) -> tuple[int, float, str]:
    (found,) = db.execute("UPDATE state SET number = number + 1 RETURNING number, clock, eviction").fetchall()
    return found


def _count(db: sqlite3.Connection, fingerprint: str, counts: Counts) -> None:
    db.executemany(
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(fingerprint, counter, value) for counter, value in counts.items()],
    )


def _corrected(place: Place, meta: EntryMeta, size_bytes: int) -> tuple[object, ...]:
    about = (meta.key, size_bytes, meta.compile_seconds)
    return (*about, meta.created, *place, *about)


def _mend_totals(db: sqlite3.Connection) -> bool:
    """Add the totals up if they are wrong; say whether they were."""
    if have_right_totals(db):
        return False
    db.execute("UPDATE totals SET (entries, bytes) = (SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM entries)")
    return True


def _insert(
    db: sqlite3.Connection,
    place: Place,
    meta: EntryMeta,
    size_bytes: int,
    used: float,
    *,
    frequency: int,
    pending: str | None,
) -> None:
    ((number, clock, eviction),) = db.execute("SELECT number, clock, eviction FROM state")
    rank = priority(eviction, clock, number, EntryCost(size_bytes, meta.compile_seconds, frequency))
    row = (
        *place, meta.key, size_bytes, meta.compile_seconds, frequency, rank, number, meta.created, used, pending
    )  # fmt: skip
    db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


def _size(path: Path, modified: bool = False) -> int | None:
    try:
        told = path.stat(follow_symlinks=False)
        return told.st_mtime_ns if modified else told.st_size
    except OSError:
        return None
