"""Integrity of the index: its tables are ours, its numbers agree with each other, and SQLite finds its pages whole."""

import contextlib
import functools
import math
import sqlite3
from collections import Counter
from typing import Any

from .priority import AGEING, STORED_POLICIES
from .schema import SCHEMA, VERSION

_LATEST = 1e11  # seconds since 1970: no date that a program prints lies beyond
_TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_master"


@functools.cache
def _our_tables() -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return sorted(db.execute(_TABLES))


def fault_of(db: sqlite3.Connection) -> str | None:
    """Return why an index does not add up; None if it does.

    Raises:
        sqlite3.Error: If it cannot be read.
    """
    try:
        return _fault_of(db)
    except (TypeError, ValueError, ArithmeticError) as error:
        return f"it holds values that we never wrote ({error})"


def _fault_of(db: sqlite3.Connection) -> str | None:
    if db.execute("PRAGMA user_version").fetchone() != (VERSION,):
        return "it is of another version"
    if Counter(db.execute(_TABLES).fetchall()) != Counter(_our_tables()):
        return "its tables are not as they were made"
    state = db.execute("SELECT eviction, number, clock, since, reconciled FROM state").fetchall()
    if len(state) != 1 or not _is_sound(*state[0]):
        return "its state is none"
    if not have_right_totals(db):
        return "its totals are not the sums of its entries"
    if not all(_is_counter(*row) for row in db.execute("SELECT fingerprint, counter, value FROM counters")):
        return "its counters are none"
    eviction, _, clock, *_ = state[0]
    lowest = db.execute("SELECT MIN(priority) FROM entries WHERE pending IS NULL").fetchone()[0]
    if eviction in AGEING and lowest is not None and clock > lowest:
        return "its clock is ahead of its entries"
    (first, *_) = db.execute("PRAGMA integrity_check(1)").fetchone()
    return None if first == "ok" else str(first)


def have_right_totals(db: sqlite3.Connection) -> bool:
    """Return whether the totals that the triggers keep are those of the entries."""
    sums = db.execute("SELECT COUNT(*), TOTAL(size_bytes) FROM entries").fetchall()
    return db.execute("SELECT entries, bytes FROM totals").fetchall() == sums


def _is_sound(eviction: Any, number: Any, clock: Any, *times: Any) -> bool:
    return (
        eviction in STORED_POLICIES
        and isinstance(number, int)
        and number >= 0
        and isinstance(clock, float)
        and math.isfinite(clock)
        and all(isinstance(seconds, float) and 0 <= seconds < _LATEST for seconds in times)
    )


def _is_counter(fingerprint: Any, counter: Any, value: Any) -> bool:
    texts = isinstance(fingerprint, str) and isinstance(counter, str)
    return texts and isinstance(value, float) and math.isfinite(value)


def salvage(db: sqlite3.Connection) -> tuple[dict[str, Any], list[tuple[str, str, float]]]:
    """Return policy, limits and counters, which no entry holds, as far as a damaged index can be read."""
    db.execute("PRAGMA writable_schema = ON")  # SQLite then reads on where the text of another table is damaged
    state: dict[str, Any] = {}
    counters: list[tuple[str, str, float]] = []
    with contextlib.suppress(sqlite3.Error, TypeError, ValueError, OverflowError):
        eviction, *limits, since = db.execute("SELECT eviction, limit_bytes, max_entries, since FROM state").fetchone()
        sound = eviction in STORED_POLICIES and isinstance(since, float) and 0 <= since < _LATEST
        if sound and all(limit is None or (isinstance(limit, int) and limit > 0) for limit in limits):
            state = {"eviction": eviction, "limit_bytes": limits[0], "max_entries": limits[1], "since": since}
    with contextlib.suppress(sqlite3.Error, TypeError, ValueError):
        for fingerprint, counter, value in db.execute("SELECT fingerprint, counter, value FROM counters"):
            if _is_counter(fingerprint, counter, value):
                counters.append((fingerprint, counter, value))
    return state, counters
