"""DiskCache among threads, forks and processes; what it counts; whom it trusts."""

import os
import signal
import stat
import subprocess
import threading
import time

import pytest

import jaxcache
from jaxcache import DiskCache, UntrustedDirectoryError
from jaxcache._disk.trust import KEY_FILE_VARIABLE
from tests._support.interpreters import start_python

PROGRAM = """
import sys, time
from jaxcache import DiskCache
cache = DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"})
"""


def start(program, root):
    return start_python(PROGRAM + program, root, stdout=subprocess.PIPE)


def test_what_is_put_is_got_also_by_another_process(open_cache):
    cache = open_cache()
    assert cache.get("key-1") is None
    cache.put("key-1", b"value", 2.0)
    assert cache.get("key-1") == b"value"
    assert cache.stats().hits == 1  # who asks has it written, which follows else within 0.05 s
    other = start("print(cache.get('key-1'), cache.stats().hits)", cache.path)
    assert other.communicate(timeout=60)[0] == "b'value' 2\n"


def test_a_value_that_was_got_may_be_put_anew_by_the_same_thread(open_cache, logged_warnings):
    cache = open_cache()
    cache.put("key-1", b"value", 2.0)
    assert cache.get("key-1") == b"value"
    cache.put("key-1", b"other", 2.0)
    assert cache.get("key-1") == b"other"
    assert logged_warnings == []
    assert list(cache.path.rglob("*.entry")) == list((cache.path / "entries").rglob("*.entry"))  # none in quarantine


@pytest.mark.parametrize("path", ["{shared}", "{shared}/entries", "{shared}/index", "{shared}/staging"])
def test_folders_are_nobody_elses_whatever_the_umask(open_cache, tmp_path, path):
    before = os.umask(0)
    try:
        open_cache().put("key-1", b"value", 1.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path.format(shared=tmp_path / "shared")).st_mode) == 0o700
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in (tmp_path / "shared").rglob("*.entry"))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(UntrustedDirectoryError) as told:
        DiskCache(tmp_path)
    command = str(told.value).splitlines()[1].strip()
    assert command.startswith("chmod -R go-w")
    subprocess.run(command, shell=True, check=True)
    DiskCache(tmp_path, fingerprint={"a": "b"}).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_somebody_elses_directory_is_refused(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(UntrustedDirectoryError, match=f"sudo chown -R {os.geteuid()} "):
        DiskCache(tmp_path)


def test_with_a_key_only_entries_signed_with_it_are_read(open_cache, tmp_path, monkeypatch):
    shared, keys = tmp_path / "open", [tmp_path / "a", tmp_path / "b"]
    shared.mkdir()
    shared.chmod(0o777)
    for number, key in enumerate(keys):
        key.write_text(str(number) * 32)
        key.chmod(0o600)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    ours = open_cache(shared, key_file=keys[0])
    ours.put("key-1", b"ours", 1.0)
    assert ours.get("key-1") == b"ours"
    assert not (shared / "index").exists()  # nothing that others can write to is believed
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(keys[1]))
    theirs = open_cache(shared)
    assert theirs.get("key-1") is None
    theirs.put("key-1", b"theirs", 1.0)
    assert ours.get("key-1") == b"ours"
    (planted,) = shared.glob(f"entries/{theirs.fingerprint.id}/*/*.entry")
    (target,) = shared.glob(f"entries/{ours.fingerprint.id}/*/*.entry")
    target.write_bytes(planted.read_bytes())
    with pytest.warns(jaxcache.DiskCacheWarning, match="quarantine"):
        assert ours.get("key-1") is None
    assert ours.stats().misses_by_reason["wrong_signature"] == 1


def test_hosts_with_an_index_each_never_serve_wrong_bytes_and_learn_of_each_other(open_cache, tmp_path, monkeypatch):
    """Two stand-ins for hosts: what others may write to is indexed by each on its own disk."""
    shared, key, now = tmp_path / "open", tmp_path / "key", [0.0]
    shared.mkdir()
    shared.chmod(0o777)
    key.write_text("k" * 32)
    key.chmod(0o600)
    monkeypatch.setattr("jaxcache._disk.writer.monotonic", lambda: now[0])

    def host(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return open_cache(shared, key_file=key, limit="64KiB", single_flight=False)

    one, other = host("one"), host("other")
    values = {f"key-{number}": bytes([number]) * 8_000 for number in range(20)}
    for turn, (name, value) in enumerate(values.items()):
        host = (one, other)[turn % 2]
        host.put(name, value, 1.0)
    for cache in (one, other):
        assert all(cache.get(name) in (value, None) for name, value in values.items())
    assert sum(one.get(name) == value for name, value in values.items()) > 8  # more than one host's limit lets it put
    now[0] = 601.0
    one.put("key-new", b"new", 1.0)
    entries = [path.stat().st_size for path in shared.glob("entries/*/*/*.entry")]
    assert sum(entries) <= 64 * 1024
    assert (one.stats().entries, one.stats().size_bytes) == (len(entries), sum(entries))
    for name, value in values.items():
        assert other.get(name) in (value, None)
    assert "vanished" in other.stats().misses_by_reason
    assert other.get("key-new") == b"new"
    assert other.stats().entries == len(entries)
    assert one.stats().faults == other.stats().faults == 0


def test_a_key_that_is_short_or_lies_open_is_refused(tmp_path):
    key = tmp_path / "key"
    key.write_text("short")
    key.chmod(0o600)
    with pytest.raises(ValueError, match="at least 16 bytes"):
        DiskCache(tmp_path / "shared", key_file=key)
    key.chmod(0o644)
    with pytest.raises(ValueError, match="chmod o-rwx"):
        DiskCache(tmp_path / "shared", key_file=key)


def test_builds_and_machines_do_not_meet(open_cache):
    first, second = open_cache(fingerprint={"jaxlib": "1"}), open_cache(fingerprint={"jaxlib": "2"})
    first.put("key-1", b"first", 1.0)
    first.index.catch_up()
    assert second.get("key-1") is None
    assert second.stats().misses_by_reason == {"other_fingerprint": 1}
    second.put("key-1", b"second", 1.0)
    second.index.catch_up()
    assert (first.get("key-1"), second.get("key-1")) == (b"first", b"second")
    assert {one.entries for one in first.stats().by_fingerprint.values()} == {1}


def test_of_threads_that_miss_at_once_one_leads_and_the_others_get_its_value(open_cache):
    cache, made, got = open_cache(), [], []

    def ask():
        value = cache.get("key-1")
        if value is None:
            made.append(1)
            time.sleep(0.1)
            cache.put("key-1", b"value")
        got.append(value)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(made), got.count(b"value")) == (1, 5)
    assert cache.stats().waited == 5
    assert 0.1 <= cache.index.rows()[0].compile_seconds < 10


CLOSING = """
import threading
over = threading.Event()
def use(number):
    while not over.is_set():
        one = caches[-1]
        one.get(f"key-{number}")
        one.put(f"key-{number}", b"value", 1.0)
        one.stats()
caches = [cache]
threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
for one in threads:
    one.start()
for _ in range(150):
    before = caches[-1]
    caches.append(DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"}))
    before.close()
over.set()
for one in threads:
    one.join()
print([one.stats().process.faults for one in caches if one.stats().process.faults], caches[-1].get("key-0"))
"""


def test_a_cache_may_be_closed_while_other_threads_use_it(tmp_path):
    closing = start(CLOSING, tmp_path / "shared")
    assert closing.communicate(timeout=120)[0] == "[] b'value'\n"
    assert closing.returncode == 0
    assert not list((tmp_path / "shared").rglob("*.damaged"))


INTERRUPTED = """
import os, signal, sqlite3, threading
cache.put("key-1", b"value", 1.0)
other = sqlite3.connect(cache.index.database.path, isolation_level=None, check_same_thread=False)
other.execute("BEGIN IMMEDIATE")

def asks():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code is not DiskCache.put.__code__:
        frame = frame.f_back
    return frame is not None

def interrupt():
    while not asks():
        time.sleep(0.01)
    time.sleep(0.1)  # until it waits for the other connection
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    other.execute("COMMIT")

interrupting = threading.Thread(target=interrupt)
interrupting.start()
try:
    cache.put("key-1", b"value", 1.0)  # it is there: such a put waits for the index
except KeyboardInterrupt:
    print("interrupted", flush=True)
interrupting.join()
input()
print(cache.get("key-1"), cache.stats().fault)
"""


def test_an_interrupt_leaves_nothing_locked(open_cache, tmp_path):
    cache = open_cache()
    program = PROGRAM + INTERRUPTED
    with start_python(program, cache.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "interrupted\n"
        cache.put("key-2", b"value", 1.0)
        assert cache.get("key-2") == b"value"
        assert other.communicate("\n", timeout=60)[0] == "b'value' None\n"
    assert cache.stats().fault is None


HANDLING = """
import random, signal
asked = []
def handle(*_):
    asked.append(cache.get("key-0"))
    cache.put(f"handled-{len(asked) % 5}", b"value", 1.0)
signal.signal(signal.SIGALRM, handle)
until = time.monotonic() + 3
number = 0
while time.monotonic() < until:
    signal.setitimer(signal.ITIMER_REAL, random.Random(number).uniform(1e-4, 4e-3))
    cache.put(f"key-{number % 7}", b"value", 1.0)
    number += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(asked) > 20, all(one == b"value" for one in asked[5:]), cache.stats().fault)
"""


def test_signal_handlers_may_ask_in_the_middle_of_a_request(tmp_path):
    handling = start(HANDLING, tmp_path / "shared")
    assert handling.communicate(timeout=60)[0] == "True True None\n"


def test_threads_that_have_ended_leave_no_file_open(open_cache):
    cache = open_cache()
    cache.put("key-1", b"value", 1.0)

    def open_files():
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(30):
        one = threading.Thread(target=cache.get, args=("key-1",))
        one.start()
        one.join()
    assert open_files() <= before + 6  # those of the last thread, and of this one
    assert cache.stats().hits == 30


def test_when_the_process_that_compiles_is_killed_the_next_takes_over(open_cache):
    cache = open_cache(wait_seconds=30.0)
    other = start("print(cache.get('key-1'), flush=True); time.sleep(60)", cache.path)
    assert other.stdout.readline() == "None\n"

    def kill_what_is_waited_for():
        while not cache.stats().process.waited:
            time.sleep(0.01)
        other.kill()

    threading.Thread(target=kill_what_is_waited_for, daemon=True).start()
    assert cache.get("key-1") is None  # it leads now
    assert cache.stats().process.waited == 1
    other.communicate()
    assert other.returncode == -signal.SIGKILL


def test_who_has_waited_long_enough_compiles(open_cache):
    cache = open_cache(wait_seconds=0.05)
    other = start("print(cache.get('key-1'), flush=True); time.sleep(60)", cache.path)
    other.stdout.readline()
    assert cache.get("key-1") is None
    assert cache.stats().wait_timeouts == 1
    cache.put("key-1", b"value", 1.0)
    assert cache.get("key-1") == b"value"
    other.kill()
    other.communicate()


def test_nobody_waits_for_what_is_not_stored(open_cache):
    cache = open_cache(min_compile_seconds=1.0)
    for _ in range(2):
        assert cache.get("key-1") is None
        cache.put("key-1", b"value", 0.5)
    assert cache.get("key-1") is None  # and does not take the lead
    other = start("print(cache.get('key-1'), cache.stats().waited)", cache.path)
    assert other.communicate(timeout=60)[0] == "None 0\n"
    stats = cache.stats()
    assert (stats.below_threshold, stats.puts, stats.misses_by_reason["not_stored"]) == (2, 0, 3)


FORKING = """
import os
cache.put("key-1", b"value", 1.0)
assert cache.get("key-2") is None  # the parent leads
child = os.fork()
if child == 0:
    ok = cache.get("key-1") == b"value"
    cache.put("key-3", b"of the child", 1.0)
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
cache.put("key-2", b"of the parent", 1.0)
print([cache.get(f"key-{n}").decode() for n in (1, 2, 3)], cache.stats().puts)
"""


def test_a_fork_goes_on_with_connections_and_locks_of_its_own(tmp_path):
    forking = start(FORKING, tmp_path / "shared")  # not this process, which has threads
    assert forking.communicate(timeout=60)[0] == "['value', 'of the parent', 'of the child'] 3\n"


def test_counts_are_kept_over_processes_and_can_begin_anew(open_cache):
    cache = open_cache()
    cache.put("key-1", b"value", 2.0)
    processes = [start("[cache.get('key-1') for _ in range(50)]", cache.path) for _ in range(3)]
    for one in processes:
        one.communicate(timeout=60)
    stats = cache.stats()
    assert (stats.hits, stats.puts, stats.process.hits) == (150, 1, 0)
    assert stats.seconds_saved == pytest.approx(300, rel=0.1)
    cache.index.reset_counters()
    assert cache.stats().hits == 0
    assert cache.stats().since > stats.since


def test_a_sample_of_hits_is_compiled_again_and_compared(open_cache):
    cache = open_cache(verify=0.5)
    cache.put("key-1", b"value", 1.0)
    assert [cache.get("key-1") is None for _ in range(4)] == [True, False, True, False]
    assert cache.get("key-1") is None
    with pytest.warns(jaxcache.DiskCacheWarning, match="differs"):
        cache.put("key-1", b"another", 1.0)
    stats = cache.stats()
    assert (stats.verified, stats.mismatched) == (3, 1)


def test_after_close_nothing_is_read_or_written(open_cache):
    cache = open_cache()
    cache.put("key-1", b"value", 1.0)
    cache.close()
    assert cache.get("key-1") is None
    cache.put("key-2", b"value", 1.0)
    assert len(list(cache.files.walk())) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [({"limit": -5}, "limit must be positive"), ({"max_entries": 0}, "max_entries must be a whole number"),
     ({"min_compile_seconds": -1}, "min_compile_seconds must be seconds"), ({"verify": 2}, "verify must be True"),
     ({"wait_seconds": float("inf")}, "wait_seconds must be seconds")],
)  # fmt: skip
def test_impossible_arguments_are_refused(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        DiskCache(tmp_path / "shared", **options)
    assert not (tmp_path / "shared").exists()
