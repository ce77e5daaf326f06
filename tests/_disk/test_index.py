"""An index that does not add up, whatever the reason, is made again from the entry files: they are the truth."""

import os
import random
import shutil
import sqlite3
import subprocess
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxcache._disk.files import entry_id_of
from tests._support.interpreters import start_python

VALUE = b"the program" * 50
ENTRIES = 12
LIMIT = 16_000  # room for all of them, and for a few more
PAGE = 4096


@pytest.fixture
def filled(open_cache):
    """A directory of twelve entries whose index is one closed file."""
    with open_cache(None, LIMIT, "gdsf") as cache:
        for number in range(ENTRIES):
            cache.put(f"key-{number:02}", VALUE, float(number + 1))
    return cache.index.database.path


def page_of(index, table):
    with sqlite3.connect(index) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    db.close()
    return page - 1


def flip(index, position, bit):
    content = bytearray(index.read_bytes())
    content[position] ^= 1 << bit
    index.write_bytes(content)


def entry_bytes(cache):
    return [cache.files.path(place).stat().st_size for place in cache.files.walk()]


def check_recovers(open_cache, where):
    """Hold a new cache against the files: entries are served and put, the limit holds, nothing stays wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = open_cache(None, LIMIT, "gdsf")
        assert cache.get("key-03") == VALUE, where
        for number in range(12):
            cache.put(f"new-{number}", VALUE, 50.0)
        assert cache.get("new-11") == VALUE, where
        sizes = entry_bytes(cache)
        assert LIMIT - 1_000 <= sum(sizes) <= LIMIT, (where, sum(sizes))
        stats = cache.stats()
        assert (stats.entries, stats.size_bytes, stats.eviction) == (len(sizes), sum(sizes), "gdsf"), where
        assert stats.limit_bytes == LIMIT, where
        checked = cache.verify()
        assert (checked.good, checked.bad, checked.unknown, checked.gone) == (len(sizes), 0, 0, 0), where
        cache.close()


def used_positions(index, page):
    content = index.read_bytes()[page * PAGE : (page + 1) * PAGE]
    return [page * PAGE + at for at, byte in enumerate(content) if byte]


@pytest.mark.parametrize("table", ["sqlite_master", "totals", "state", "entries", "by_priority", "by_pending"])
def test_a_flipped_bit_of_the_index_costs_nothing_for_long(open_cache, filled, table):
    page = 0 if table == "sqlite_master" else page_of(filled, table)
    whole = filled.read_bytes()
    entries = {path: path.read_bytes() for path in filled.parent.parent.glob("entries/*/*/*.entry")}
    positions = used_positions(filled, page)
    drawn = random.Random(table)
    for position in sorted(drawn.sample(positions, min(len(positions), 60 if page == 0 else 25))):
        bit = drawn.randrange(8)
        for path in filled.parent.iterdir():
            path.unlink()
        for path in filled.parent.parent.glob("entries/*/*/*.entry"):
            path.unlink()
        for path, content in entries.items():
            path.write_bytes(content)
        filled.write_bytes(whole)
        flip(filled, position, bit)
        check_recovers(open_cache, (table, position - page * PAGE, bit))


SPOILED = [
    ("UPDATE totals SET bytes = bytes + 1099511627776", "a total that would evict everything"),
    ("UPDATE totals SET bytes = -1099511627776", "a total that allows everything"),
    ("UPDATE totals SET entries = entries - 5", "a count"),
    ("DELETE FROM totals", "no totals"),
    ("INSERT INTO totals VALUES (0, 0)", "totals twice"),
    ("UPDATE totals SET bytes = 'many'", "a total that is no number"),
    ("DELETE FROM state", "no state"),
    ("INSERT INTO state SELECT * FROM state", "state twice"),
    ("UPDATE state SET clock = 'late'", "a clock that is no number"),
    ("DROP TRIGGER added", "a trigger gone"),
    ("DROP INDEX by_priority", "an index gone"),
    ("DROP TABLE counters", "a table gone"),
    ("ALTER TABLE past RENAME COLUMN reason TO raison", "a column of another name"),
    ("PRAGMA user_version = 7", "another version"),
]
WRONG_OF_FILES = [  # what only who reads the entries can tell
    ("UPDATE entries SET size_bytes = size_bytes * 3 WHERE key = 'key-04'", "a size that is not the file's"),
    ("UPDATE entries SET name = 'x' WHERE key = 'key-04'", "a row of no file"),
    ("UPDATE entries SET compile_seconds = 1e9 WHERE key = 'key-04'", "seconds that are not the entry's"),
]


@pytest.mark.parametrize("statement", [one for one, _ in SPOILED], ids=[why for _, why in SPOILED])
def test_an_index_that_does_not_add_up_is_made_again(open_cache, filled, statement):
    with sqlite3.connect(filled) as db:
        db.execute(statement)
    db.close()
    check_recovers(open_cache, statement)


@pytest.mark.parametrize(
    "statement", [one for one, _ in SPOILED + WRONG_OF_FILES], ids=[why for _, why in SPOILED + WRONG_OF_FILES]
)
def test_verify_mends_an_index_and_keeps_the_policy_where_it_can_be_read(open_cache, filled, statement):
    with sqlite3.connect(filled) as db:
        db.execute(statement)
    db.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = open_cache(eviction=None)
        checked = cache.verify()
    assert (checked.good, checked.bad) == (ENTRIES, 0)
    stats = cache.stats()
    assert (stats.entries, stats.size_bytes) == (ENTRIES, sum(entry_bytes(cache)))
    rows = {row.key: (row.size_bytes, row.compile_seconds) for row in cache.index.rows()}
    sizes = [cache.files.path(entry_id_of(cache.fingerprint.id, f"key-{n:02}")).stat().st_size for n in range(ENTRIES)]
    assert rows == {f"key-{n:02}": (sizes[n], n + 1.0) for n in range(ENTRIES)}
    if " state" not in statement:
        assert (stats.eviction, stats.limit_bytes) == ("gdsf", LIMIT)
    if "counters" not in statement:
        assert stats.puts == ENTRIES


def test_totals_that_go_wrong_under_a_running_cache_evict_nothing_that_fits(open_cache):
    cache = open_cache(None, 16_000, "lru")
    for number in range(ENTRIES):
        cache.put(f"key-{number:02}", VALUE, 1.0)
    other = sqlite3.connect(cache.index.database.path, isolation_level=None)
    other.execute("UPDATE totals SET bytes = bytes + 1099511627776")
    other.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.put("new-1", VALUE, 1.0)
        cache.put("new-2", VALUE, 1.0)
    assert [cache.get(f"key-{number:02}") == VALUE for number in range(ENTRIES)] == [True] * ENTRIES
    assert cache.get("new-2") == VALUE
    assert cache.stats().size_bytes == sum(entry_bytes(cache))


def test_verify_takes_what_an_entry_says_of_itself_into_the_index(open_cache):
    cache = open_cache(None, "1MiB", "gdsf")
    cache.put("key-1", VALUE, 2.5)
    other = sqlite3.connect(cache.index.database.path, isolation_level=None)
    other.execute("UPDATE entries SET compile_seconds = 2e9, key = 'key-9', frequency = 4")
    other.close()
    cache.verify()
    assert [(row.key, row.compile_seconds) for row in cache.index.rows()] == [("key-1", 2.5)]


@pytest.mark.parametrize("kind", ["folder", "full folder", "pipe", "link to nothing"])
def test_what_stands_in_the_place_of_the_index_and_is_no_file_makes_room_for_it(open_cache, filled, kind):
    filled.unlink()
    if kind == "pipe":
        os.mkfifo(filled)
    elif kind == "link to nothing":
        filled.symlink_to("no-such-file")
    else:
        filled.mkdir()
    if kind == "full folder":
        (filled / "mine.txt").write_text("not to be removed")
    cache = open_cache(None, LIMIT, "gdsf")
    assert [cache.get(f"key-{number:02}") == VALUE for number in range(ENTRIES)] == [True] * ENTRIES
    cache.put("new", VALUE, 50.0)
    assert cache.get("new") == VALUE
    assert (cache.stats().entries, cache.stats().fault) == (ENTRIES + 1, None)
    assert len(list(filled.parent.rglob("mine.txt"))) == (kind == "full folder")


@pytest.mark.parametrize("eviction", ["lru", "fifo"])
@pytest.mark.parametrize("way", ["the index is removed", "entries come from elsewhere"])
def test_entries_that_are_taken_up_go_in_the_order_in_which_they_were_put(open_cache, eviction, way):
    with open_cache(None, LIMIT, eviction) as cache:
        for number in range(ENTRIES):
            cache.put(f"key-{number:02}", VALUE, 1.0)
            path = cache.files.path(entry_id_of(cache.fingerprint.id, f"key-{number:02}"))
            os.utime(path, (1e9 + number, 1e9 + number))
    if way == "the index is removed":
        cache.index.database.path.unlink()
    else:
        with sqlite3.connect(cache.index.database.path) as db:
            db.execute("DELETE FROM entries")
        db.close()
        cache.verify()
    size = len(path.read_bytes())
    cache = open_cache(None, size * ENTRIES, eviction)
    for number in range(5):
        cache.put(f"new-{number:02}", VALUE, 1.0)
    left = {row.key for row in cache.index.rows()}
    assert left == {f"key-{number:02}" for number in range(5, ENTRIES)} | {f"new-{number:02}" for number in range(5)}


REPLACING = """
import os, sys
from pathlib import Path
from jaxcache._disk.byte_locks import range_locks
index, other = map(Path, sys.argv[1:])
locks = range_locks(index.with_suffix(".lock"))
print(locks.try_acquire(0), flush=True)
sys.stdin.readline()
for suffix in ("", "-wal", "-shm"): index.with_name(index.name + suffix).unlink(missing_ok=True)
os.replace(other, index)
locks.release(0)
"""


def test_closing_makes_no_directory_that_was_removed(open_cache, tmp_path):
    cache = open_cache()
    cache.put("key", VALUE, 1.0)
    shutil.rmtree(tmp_path / "shared")
    cache.close()
    assert not (tmp_path / "shared").exists()


def test_an_index_is_not_opened_while_another_process_replaces_it(open_cache, filled, tmp_path):
    other = tmp_path / "other.sqlite"
    shutil.copy(filled, other)
    with sqlite3.connect(other) as db:
        db.execute("UPDATE state SET limit_bytes = 77000")
    db.close()
    cache = open_cache(eviction=None)
    with (
        start_python(REPLACING, filled, other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as replacing,
        ThreadPoolExecutor(1) as pool,
    ):
        assert replacing.stdout.readline() == "True\n"
        stats = pool.submit(cache.stats)
        time.sleep(0.3)  # for as long as an index is being filled
        replacing.communicate("go\n")
        assert stats.result().limit_bytes == 77_000
    assert not list(filled.parent.glob("*.new"))
