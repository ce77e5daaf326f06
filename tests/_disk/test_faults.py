"""What happens to files, disks and indexes: a miss, counted, said once, healed; never an exception or wrong bytes."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from jaxcache import DiskCacheWarning
from jaxcache._disk.connection import IndexUnavailable
from jaxcache._disk.files import entry_id_of
from tests._support.interpreters import run_python

VALUE = b"the program" * 50


def path_of(cache, key="jit_f-1"):
    return cache.files.path(entry_id_of(cache.fingerprint.id, key))


def spoil(path, how):
    if how == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    elif how == "damaged":
        content = bytearray(path.read_bytes())
        content[-3] ^= 8
        path.write_bytes(content)
    elif how == "empty":
        os.truncate(path, 0)
    else:
        path.write_bytes(b"#!/bin/sh\n" * 20)


@pytest.mark.parametrize("how", ["truncated", "damaged", "empty", "foreign"])
def test_a_bad_entry_is_a_miss_moved_away_counted_and_healed(open_cache, how):
    cache = open_cache()
    cache.put("jit_f-1", VALUE, 1.0)
    spoil(path_of(cache), how)
    with pytest.warns(DiskCacheWarning, match="moved to quarantine"):
        assert cache.get("jit_f-1") is None
    assert not path_of(cache).exists()
    assert [how in one.name for one in cache.files.quarantine.iterdir()] == [True]
    stats = cache.stats()
    assert (stats.misses_by_reason, stats.quarantined, stats.entries) == ({how: 1}, 1, 0)
    cache.put("jit_f-1", VALUE, 1.0)
    assert cache.get("jit_f-1") == VALUE


def test_a_link_or_a_folder_in_place_of_an_entry_is_a_miss(open_cache, tmp_path):
    cache = open_cache()
    for key, plant in [("a-1", lambda p: p.symlink_to(tmp_path / "elsewhere")), ("b-1", lambda p: p.mkdir())]:
        path_of(cache, key).parent.mkdir(parents=True, exist_ok=True)
        plant(path_of(cache, key))
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            assert cache.get(key) is None
        cache.put(key, VALUE, 1.0)
        assert cache.get(key) == VALUE


def test_the_quarantine_keeps_only_the_last_and_their_beginnings(open_cache):
    cache = open_cache()
    for number in range(20):
        cache.put(f"key-{number}", b"x" * 100_000, 1.0)
        spoil(path_of(cache, f"key-{number}"), "damaged")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cache.get(f"key-{number}") is None
    kept = list(cache.files.quarantine.iterdir())
    assert len(kept) == 16
    assert sum(one.stat().st_size for one in kept) <= 16 * 64 * 1024


def test_a_directory_that_vanishes_comes_back(open_cache):
    cache = open_cache()
    cache.put("jit_f-1", VALUE, 1.0)
    shutil.rmtree(cache.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cache.get("jit_f-1") is None
        cache.put("jit_f-1", VALUE, 1.0)
        cache.put("jit_f-1", VALUE, 1.0)
    assert cache.get("jit_f-1") == VALUE
    assert cache.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"not a database at all" * 300, b"", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_index_is_made_again_from_the_entries(open_cache, content):
    cache = open_cache(None, "1MiB", "gdsf")
    for number in range(5):
        cache.put(f"key-{number}", VALUE, float(number))
    rows = sorted((row.key, row.size_bytes, row.compile_seconds) for row in cache.index.rows())
    index = cache.index.database.path
    cache.close()
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink(missing_ok=True)
    index.write_bytes(content)
    again = open_cache(None, "1MiB", "gdsf")
    assert sorted((row.key, row.size_bytes, row.compile_seconds) for row in again.index.rows()) == rows
    assert again.get("key-3") == VALUE


def test_an_error_of_ours_is_not_taken_for_a_damaged_index(open_cache):
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    cache.index.catch_up()
    with pytest.raises(IndexUnavailable):
        cache.index.database.change(lambda db: db.execute("SELECT ?", ()))  # a ProgrammingError
    with pytest.raises(IndexUnavailable):
        cache.index.database.change(lambda db: db.execute("INSERT INTO state SELECT * FROM entries"))
    assert not list(cache.path.rglob("*.damaged"))
    again = open_cache()
    assert [row.key for row in again.index.rows()] == ["key-1"]


def test_a_command_line_that_is_no_utf_8_is_no_fault(open_cache, monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", os.fsdecode(b"caf\xe9")])
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    assert cache.get("key-1") == VALUE
    stats = cache.stats()
    assert (stats.faults, stats.fault) == (0, None)
    assert [one["program"] for one in cache.index.runs.last()] == ["program caf?"]


def test_a_removed_index_is_made_again_while_in_use(open_cache):
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    for one in cache.index.database.path.parent.iterdir():
        one.unlink()
    assert cache.get("key-1") == VALUE
    cache.put("key-2", VALUE, 1.0)
    assert len(cache.index.rows()) == 2


def test_a_locked_index_costs_no_hit_and_is_said_once(open_cache, monkeypatch):
    monkeypatch.setattr("jaxcache._disk.database._BUSY_SECONDS", 0.05)
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    cache.index.database.close()
    other = sqlite3.connect(cache.index.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert cache.get("key-1") == VALUE
            assert cache.get("key-2") is None
            cache.put("key-2", VALUE, 1.0)
    assert ["index cannot be used" in str(one.message) for one in caught] == [True]
    assert cache.stats().fault is not None
    other.close()


READER = """
import os, sys, tempfile, warnings
from jaxcache import DiskCache
with DiskCache(tempfile.mkdtemp(), fingerprint={"a": "b"}) as warm:  # imports what it needs while it can
    warm.put("key-1", b"", 1.0)
    warm.get("key-1")
if os.geteuid() == 0:  # root may write anywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cache = DiskCache(sys.argv[1], fingerprint={"a": "b"})
    assert cache.get("key-1") == b"value"
    assert cache.get("key-2") is None
    cache.put("key-2", b"value", 1.0)
    assert cache.get("key-1") == b"value"
assert len(caught) == 1, [str(one.message) for one in caught]
assert cache.stats().process.hits == 2 and cache.stats().process.faults > 0
"""


def test_a_read_only_directory_is_read_and_said_once(open_cache):
    with tempfile.TemporaryDirectory() as root:  # not under tmp_path: another user must reach it
        os.chmod(root, 0o755)
        with open_cache(root + "/shared", fingerprint={"a": "b"}) as cache:
            cache.put("key-1", b"value", 1.0)
        found = [Path(root, "shared"), *Path(root, "shared").rglob("*")]
        for one in found:
            one.chmod(0o555 if one.is_dir() else 0o444)
            if os.geteuid() == 0:
                os.chown(one, 65534, 65534)
        done = run_python(READER, root + "/shared")
        for one in found:
            one.chmod(0o755)
        assert done.returncode == 0, done.stderr


def test_a_full_disk_is_said_once_and_leaves_nothing_half_written(open_cache):
    program = """
import resource, signal, sys, warnings
from pathlib import Path
from jaxcache import DiskCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = DiskCache(sys.argv[1], fingerprint={"a": "b"})
cache.put("small-1", b"x" * 100, 1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for number in range(3):
        assert cache.get(f"large-{number}") is None
        cache.put(f"large-{number}", bytes(2_000_000), 1.0)
    assert cache.get("small-1") == b"x" * 100
assert len(caught) == 1 and "cannot be written" in str(caught[0].message), [str(one.message) for one in caught]
assert cache.stats().entries == 1 and cache.stats().process.faults == 3
assert list(Path(sys.argv[1], "staging").iterdir()) == []
"""
    root = open_cache().path
    done = run_python(program, root)
    assert done.returncode == 0, done.stderr


FILLING = """
import errno, sys, time, warnings
from pathlib import Path
from jaxcache import DiskCache
from jaxcache._disk import database as _disk_database
root = Path(sys.argv[1])
cache = DiskCache(root / "shared", fingerprint={"a": "b"})
values = {f"key-{number}": bytes([number]) * 300_000 for number in range(12)}
cache.put("key-0", values["key-0"], 1.0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        with (root / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
    for key, value in values.items():
        found = cache.get(key)
        assert found == (value if key == "key-0" else None), key
        if found is None:
            cache.put(key, value, 1.0)
    assert cache.get("key-0") == values["key-0"]
assert len(caught) == 1, [str(one.message) for one in caught]
(root / "ballast").unlink()
_disk_database.monotonic = lambda: time.monotonic() + 31  # the index has rested
for key, value in values.items():
    if cache.get(key) is None:
        cache.put(key, value, 1.0)
assert [key for key, value in values.items() if cache.get(key) != value] == []
found = cache.verify()
assert (found.good, found.bad) == (12, 0), found
assert list((root / "shared" / "staging").iterdir()) == []
"""


def test_a_disk_without_a_byte_left_costs_compiles_only_until_there_is_room(tmp_path):
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=8m tmpfs "$0"'
    if not shutil.which("unshare") or subprocess.run([*alone, mount, tmp_path], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: it takes unshare and user namespaces")
    run = [*alone, f'{mount} && exec "$1" -c "$2" "$0"', tmp_path, sys.executable, FILLING]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_signed_entries_are_left_to_who_has_the_key_also_when_nothing_tells_of_it(open_cache, tmp_path):
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    signing = open_cache(key_file=key)
    signing.put("key-1", VALUE, 1.0)
    for about in cache_files(signing, "about.json"):
        about.unlink()
    found = open_cache().verify()
    assert (found.good, found.bad, found.unchecked) == (0, 0, 1)
    assert signing.get("key-1") == VALUE


def cache_files(cache, name):
    return [path for path in cache.path.rglob(name) if path.is_file()]


def test_a_stray_of_a_long_name_goes_to_quarantine_too(open_cache):
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    (path_of(cache, "key-1").parent / ("x" * 240)).touch()
    assert (cache.verify().good, cache.verify().bad) == (1, 0)


def test_quarantine_cuts_no_file_that_a_backup_shares(open_cache, tmp_path):
    cache = open_cache()
    cache.put("jit_f-1", bytes(200_000), 1.0)
    backup = tmp_path / "backup"
    os.link(path_of(cache), backup)
    size = backup.stat().st_size
    cache.files.set_aside(entry_id_of(cache.fingerprint.id, "jit_f-1"), "not_loadable")
    assert (backup.stat().st_size, path_of(cache).exists()) == (size, False)
    (aside,) = cache.files.quarantine.iterdir()
    assert aside.stat().st_size == 65536


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_seconds_that_are_none_are_refused(open_cache, seconds):
    with pytest.raises(ValueError, match="compile_seconds must be seconds, 0 or more"):
        open_cache().put("key-1", VALUE, seconds)


def test_a_limit_beyond_what_is_counted_is_none_too_large(open_cache):
    cache = open_cache(limit="99999999999TiB")
    cache.put("key-1", VALUE, 1.0)
    assert (cache.get("key-1"), cache.stats().fault) == (VALUE, None)


def test_what_dead_writers_leave_is_removed_and_what_living_ones_write_is_not(open_cache):
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    cache.index.catch_up()
    (cache.files.staging / "left-behind").write_bytes(b"half")
    with cache.files.staged(b"being written") as staged:
        assert cache.files.clean_staging(min_age_seconds=0.0) == 1
        assert [one.name for one in cache.files.staging.iterdir()] == [staged.name]


def test_verify_finds_all_that_is_wrong_and_mends_it(open_cache):
    cache = open_cache()
    for number in range(6):
        cache.put(f"key-{number}", VALUE, 1.0)
    spoil(path_of(cache, "key-0"), "damaged")
    spoil(path_of(cache, "key-1"), "truncated")
    path_of(cache, "key-2").rename(path_of(cache, "key-3"))  # the right content in the wrong place
    path_of(cache, "key-4").unlink()
    (path_of(cache, "key-5").parent / "orphan-atime").write_bytes(b"?")
    found = cache.verify()
    assert (found.good, found.bad, found.reasons) == (1, 4, {"damaged": 1, "truncated": 1, "foreign": 2})
    again = cache.verify()
    assert (again.good, again.bad, again.unknown, again.gone) == (1, 0, 0, 0)
    assert [row.key for row in cache.index.rows()] == ["key-5"]
