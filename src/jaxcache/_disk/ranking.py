"""Order of eviction, and the history of evicted entries, as SQL on the index."""

import sqlite3
from collections.abc import Callable, Iterator

from .._policies.gdsf_admit import COMPARED
from .._policies.structures import HISTORY
from .files import EntryId
from .priority import EntryCost, priority


def lowest_first(db: sqlite3.Connection) -> Iterator[tuple[str, str, int, float, int]]:
    """Yield fingerprint, name, size, priority and frequency of the entries in the order of their eviction."""
    yield from db.execute(
        "SELECT fingerprint, name, size_bytes, priority, frequency FROM entries INDEXED BY by_priority "
        "WHERE pending IS NULL ORDER BY priority, number"
    )


def dearest(db: sqlite3.Connection, clock: float, size_bytes: int) -> float:
    """Return the highest priority among the entries that would be evicted for ``size_bytes``."""
    highest, covered = clock, 0
    for compared, (_, _, size, rank, _) in enumerate(lowest_first(db)):
        if compared == COMPARED:
            break
        highest, covered = rank, covered + size
        if covered >= size_bytes:
            break
    return highest


def record_past(db: sqlite3.Connection, entry_id: EntryId, frequency: int, reason: str, number: int) -> None:
    """Remember an entry that is no longer stored, and why; the oldest of too many are forgotten."""
    db.execute("INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?, ?)", (*entry_id, frequency, reason, number))
    if number % 64 == 0:
        db.execute("DELETE FROM past WHERE number <= (SELECT number FROM past ORDER BY number DESC LIMIT 1 OFFSET ?)",
                   (HISTORY,))  # fmt: skip


def rank_all(db: sqlite3.Connection, eviction: str, clock: float) -> None:
    """Give every entry the priority that ``eviction`` would; recency counts from the last use."""
    rank: Callable[..., float] = lambda size, seconds, frequency, order: priority(  # noqa: E731
        eviction, clock, order, EntryCost(size, seconds, frequency)
    )
    db.create_function("rank_of", 4, rank, deterministic=True)
    by = "created" if eviction == "fifo" else "used"
    db.execute(
        f"WITH ordered AS (SELECT fingerprint f, name n, ROW_NUMBER() OVER (ORDER BY {by}, number) rank FROM entries) "
        "UPDATE entries SET number = ordered.rank, "
        "priority = rank_of(size_bytes, compile_seconds, frequency, ordered.rank) "
        "FROM ordered WHERE fingerprint = ordered.f AND name = ordered.n"
    )
    db.execute("UPDATE state SET number = MAX(number, (SELECT COUNT(*) FROM entries))")
