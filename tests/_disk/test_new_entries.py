"""Entries whose files are there before their rows: everybody can read them, and no death of their writer loses them."""

import contextlib
import os
import shutil
import signal
import subprocess

from jaxcache import DiskCache
from jaxcache._disk.files import entry_id_of
from tests._support.interpreters import run_python, start_python

PARTS = {"jax": "test", "cpu": "test"}
KILLED = """
import os, signal, sys
from jaxcache import DiskCache
cache = DiskCache(sys.argv[1], eval(sys.argv[2]), fingerprint={"jax": "test", "cpu": "test"})
cache.stats()
for number in range(int(sys.argv[3])):
    cache.put(f"killed-{number}", bytes(900), 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_writer(root, limit=None, puts=3):
    assert run_python(KILLED, root, str(limit), str(puts)).returncode == -signal.SIGKILL


def held_bytes(cache):
    return sum(cache.files.path(entry_id).stat().st_size for entry_id in cache.files.walk())


def check_whole(cache):
    """Check that the index is equal to the directory, before anything makes it so."""
    sizes = {entry_id: cache.files.path(entry_id).stat().st_size for entry_id in cache.files.walk()}
    assert {row.entry_id: row.size_bytes for row in cache.index.rows()} == sizes
    assert (cache.stats().entries, cache.stats().size_bytes) == (len(sizes), sum(sizes.values()))


def test_an_entry_is_there_for_others_though_the_index_is_taken(open_cache):
    cache, other = open_cache(), open_cache()
    cache.put("key-1", b"value", 1.0)

    def put_and_read(_):
        cache.put("key-2", b"value", 1.0)
        return other.peek("key-2")

    cache.index.catch_up()
    assert other.index.database.change(put_and_read) == b"value"
    assert cache.stats().puts == 2
    check_whole(cache)


def test_what_a_killed_writer_has_put_is_read_and_taken_up_by_the_next(open_cache, tmp_path):
    kill_writer(tmp_path / "shared")
    cache = open_cache()
    assert [cache.get(f"killed-{number}") for number in range(3)] == [bytes(900)] * 3
    cache.put("key-1", b"value", 1.0)
    check_whole(cache)
    assert not list(cache.files.staging.iterdir())


def test_what_a_killed_writer_has_put_counts_for_the_limit(open_cache, tmp_path):
    kill_writer(tmp_path / "shared", 2_000_000, 6)
    with DiskCache(tmp_path / "shared", 4_000, fingerprint=PARTS) as cache:
        cache.put("key-1", bytes(900), 1.0)
        check_whole(cache)
        assert cache.stats().size_bytes <= 4_000


def test_clear_and_verify_know_what_a_killed_writer_has_put(open_cache, tmp_path, capsys):
    from jaxcache._cli.commands import main

    kill_writer(tmp_path / "shared")
    assert open_cache().verify().good == 3
    check_whole(open_cache())
    kill_writer(tmp_path / "shared", puts=4)
    assert main(["clear", "--dir", str(tmp_path / "shared")]) == 0
    assert "removed 4 entries" in capsys.readouterr().out
    assert not list((tmp_path / "shared" / "entries").rglob("*.entry"))


def test_a_file_in_staging_that_is_linked_to_no_entry_is_removed(open_cache, tmp_path):
    cache = open_cache()
    cache.put("key-1", b"value", 1.0)
    cache.index.catch_up()
    entry = cache.files.path(entry_id_of(cache.fingerprint.id, "key-1"))
    outside = tmp_path / "elsewhere"
    shutil.copy(entry, outside)
    os.link(outside, cache.files.staging / "left")
    assert cache.index.clean_staging() == 1
    check_whole(cache)


def test_a_limit_is_exceeded_by_no_more_than_a_small_share(open_cache):
    cache = open_cache(None, 400_000, "lru", single_flight=False)
    for number in range(600):
        cache.put(f"key-{number}", bytes(800 + number % 50), 1.0)
        assert cache.index.database.locked(held_bytes, cache) <= 400_000 * (1 + 1 / 256)
    assert cache.stats().evictions > 100
    check_whole(cache)
    assert cache.stats().size_bytes <= 400_000


def test_what_the_policy_refuses_is_removed_and_not_counted_as_put(open_cache):
    cache = open_cache(eviction="gdsf_admit", max_entries=300)
    for number in range(300):
        cache.put(f"dear-{number}", bytes(900), 100.0)
    before = cache.stats()
    cache.put("cheap", bytes(900), 0.001)
    after = cache.stats()
    assert (after.refused - before.refused, after.puts, after.bytes_written) == (1, before.puts, before.bytes_written)
    assert cache.get("cheap") is None
    check_whole(cache)


def test_two_puts_of_a_key_leave_the_second(open_cache):
    cache = open_cache()
    cache.put("key-0", b"value", 1.0)
    for value in (b"first", b"second, and longer"):
        cache.put("key-1", value, 1.0)
    assert cache.get("key-1") == b"second, and longer"
    check_whole(cache)


def test_what_was_just_put_is_dropped_with_the_rest(open_cache):
    from jaxcache._disk.whole_programs import drop_programs, put_program

    cache = open_cache()
    for number in range(3):
        put_program(cache, f"code-{number}", b"value", 1.0)
    assert drop_programs(cache, "code-") == 3
    assert not list(cache.files.walk())


ENDS = """
import os, sys
from jaxcache import DiskCache
cache = DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"})
for number in range(5):
    cache.put(f"key-{number}", b"value", 1.0)
"""


def test_at_a_normal_exit_every_row_is_there(open_cache, tmp_path):
    done = run_python(ENDS, tmp_path / "shared")
    assert done.returncode == 0, done.stderr
    with contextlib.closing(DiskCache(tmp_path / "shared", eviction=None, fingerprint=PARTS)) as looks:
        check_whole(looks)
        assert looks.stats().puts == 5
    assert not list((tmp_path / "shared" / "staging").iterdir())


HOLDS = """
import os, sys, threading
from jaxcache import DiskCache
cache = DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"})
holds = threading.Event()
def hold():
    holds.set()
    threading.Event().wait()
cache.put("key-0", b"value", 1.0)  # makes the folders
cache.index.catch_up()
threading.Thread(target=lambda: cache.index.database.in_turn(hold), daemon=True).start()
holds.wait()
for number in range(1, 6):
    cache.put(f"key-{number}", b"value", 1.0)
print("put", flush=True)
input()
os._exit(0)
"""


def test_nothing_is_taken_from_a_writer_that_lives(open_cache, tmp_path):
    with start_python(HOLDS, tmp_path / "shared", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == "put\n"
        cache = open_cache()
        assert cache.index.clean_staging() == 0
        writer.communicate("\n", timeout=60)
    assert cache.index.clean_staging() == 5
    check_whole(cache)
