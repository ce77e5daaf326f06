"""Statements on the rows of the index: SQL within a transaction that the caller has begun."""

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from .entry_format import EntryMeta
from .files import EntryId
from .integrity import have_right_totals
from .priority import RERANKED_BY_HITS, EntryCost, priority


def look_up(db: sqlite3.Connection, entry_id: EntryId) -> tuple[Any, Any, Any]:
    """Return the row of an entry, its past, and whether another fingerprint has one of its name; each may be None."""
    row = db.execute("SELECT pending FROM entries WHERE fingerprint = ? AND name = ?", entry_id).fetchone()
    past = db.execute("SELECT reason FROM past WHERE fingerprint = ? AND name = ?", entry_id).fetchone()
    other = db.execute("SELECT 1 FROM entries WHERE name = ? AND fingerprint != ?", entry_id[::-1]).fetchone()
    return row, past, other


def delete(db: sqlite3.Connection, entry_id: EntryId) -> None:
    """Delete the row of an entry."""
    db.execute("DELETE FROM entries WHERE fingerprint = ? AND name = ?", entry_id)


def next_number(db: sqlite3.Connection) -> tuple[int, float, str]:
    """Count a request on; return its number, the clock and the policy."""
    (row,) = db.execute("UPDATE state SET number = number + 1 RETURNING number, clock, eviction").fetchall()
    return row


def was_hit(db: sqlite3.Connection, entry_id: EntryId) -> bool:
    """Record that an entry was read; return False if it has no row."""
    number, clock, eviction = next_number(db)
    row = db.execute(
        "SELECT size_bytes, compile_seconds, frequency FROM entries WHERE fingerprint = ? AND name = ?", entry_id
    ).fetchone()
    if row is None:
        return False
    cost = EntryCost(row[0], row[1], row[2] + 1)
    db.execute(
        "UPDATE entries SET frequency = ?, used = ? WHERE fingerprint = ? AND name = ?",
        (cost.frequency, time.time(), *entry_id),
    )
    if eviction in RERANKED_BY_HITS:
        db.execute(
            "UPDATE entries SET priority = ?, number = ? WHERE fingerprint = ? AND name = ?",
            (priority(eviction, clock, number, cost), number, *entry_id),
        )
    return True


def add_counts(db: sqlite3.Connection, fingerprint: str, counts: Mapping[str, float]) -> None:
    """Add to the counters of a fingerprint."""
    db.executemany(
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(fingerprint, counter, value) for counter, value in counts.items()],
    )


def held(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the entries, and their bytes, that there will be when the victims are gone."""
    return db.execute(
        "SELECT entries - COUNT(name), bytes - COALESCE(SUM(size_bytes), 0) FROM totals LEFT JOIN "
        "(SELECT name, size_bytes FROM entries WHERE pending = 'evict')"
    ).fetchone()


def mend_totals(db: sqlite3.Connection) -> bool:
    """Add the totals up again if they are wrong; return whether they were."""
    if have_right_totals(db):
        return False
    db.execute("UPDATE totals SET (entries, bytes) = (SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM entries)")
    return True


def insert(
    db: sqlite3.Connection,
    entry_id: EntryId,
    meta: EntryMeta,
    size_bytes: int,
    used: float,
    *,
    frequency: int,
    pending: str | None,
) -> None:
    """Insert the row of an entry unless it has one."""
    ((number, clock, eviction),) = db.execute("SELECT number, clock, eviction FROM state")
    rank = priority(eviction, clock, number, EntryCost(size_bytes, meta.compile_seconds, frequency))
    row = (
        *entry_id, meta.key, size_bytes, meta.compile_seconds, frequency, rank, number, meta.created, used, pending
    )  # fmt: skip
    db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
