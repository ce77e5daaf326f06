"""Signals: an interrupt leaks and locks nothing wherever it comes, and a handler may use the directory."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxcache import DiskCache
from jaxcache._disk.byte_locks import range_locks
from tests._support.interpreters import run_python, start_python

BEGIN = """
import gc, os, random, signal, sys, threading, time
from jaxcache import DiskCache
LIMIT, PARTS = 40_000, {"jax": "test", "cpu": "test"}
cache = DiskCache(sys.argv[1], LIMIT, "gdsf", fingerprint=PARTS, wait_seconds=2.0)
def open_files():
    gc.collect()
    found = []
    for one in os.listdir("/proc/self/fd"):
        try: found.append(os.readlink(f"/proc/self/fd/{one}"))
        except OSError: pass
    return found
"""

INTERRUPTED = """
drawn = random.Random(3)
cache.put("key-0", bytes(3000), 1.0)
cache.get("key-0")
before = len(open_files())
interrupts, number, until = 0, 0, time.monotonic() + 60
while interrupts < 1200 and time.monotonic() < until:
    number += 1
    try:
        try:
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, drawn.uniform(2e-5, 3e-3), 0.05)  # again: a destructor swallows some
            while True:
                number += 1
                cache.put(f"put-{number % 20}", bytes(3000), 1.0)
                if cache.get(f"key-{number % 23}") is None:
                    cache.put(f"key-{number % 23}", bytes(2000), 1.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupts += 1
cache.get("key-0")  # lets go of what it was to compile when an interrupt came between two requests
cache.put("key-0", b"value", 1.0)
left = [one for one in open_files() if one.endswith(".entry") or "/staging/" in one]
print(interrupts >= 300, left, len(open_files()) - before <= 1, flush=True)
input()  # another process uses the directory: nothing may be locked
cache.put("key-last", b"value", 1.0)
answer = []
thread = threading.Thread(target=lambda: answer.append(cache.get("key-last")))
thread.start()
thread.join(10)
print(answer, cache.stats().fault)
"""


def opened(root):
    return DiskCache(root, 40_000, "gdsf", fingerprint={"jax": "test", "cpu": "test"}, wait_seconds=2.0)


def test_interrupts_leave_no_file_open_and_nothing_locked(tmp_path):
    program, pipe = BEGIN + INTERRUPTED, subprocess.PIPE
    with start_python(program, tmp_path / "shared", stdin=pipe, stdout=pipe) as interrupted:
        assert interrupted.stdout.readline() == "True [] True\n"
        with opened(tmp_path / "shared") as cache:
            for number in range(23):
                if cache.get(f"key-{number}") is None:
                    cache.put(f"key-{number}", b"value", 1.0)
            assert (cache.stats().process.faults, cache.stats().process.wait_timeouts) == (0, 0)
        assert interrupted.communicate("\n", timeout=60)[0] == "[b'value'] None\n"
    check_whole(tmp_path / "shared")


def interrupted_after(calls, work):
    """Return whether ``work`` made more calls than ``calls``; it is interrupted where it would make the next."""

    def count(*event):
        nonlocal calls
        if event[1] in ("call", "c_return"):  # where Python looks for signals
            calls -= 1
            if calls < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    try:
        sys.setprofile(count)
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file is closed with its object
@pytest.mark.parametrize("what", ["put", "replace", "get", "miss"])
def test_an_interrupt_after_any_call_of_a_request_keeps_nobody_out(tmp_path, points, what):
    work = {
        "put": lambda: cache.put(f"put-{calls}", bytes(3000), 1.0),
        "replace": lambda: cache.put("kept", bytes(100 + calls), 1.0),
        "get": lambda: cache.get("kept"),
        "miss": lambda: cache.get(f"no-such-{calls}"),
    }[what]
    with opened(tmp_path / "shared") as cache, ThreadPoolExecutor(1) as pool:
        cache.put("kept", b"value", 1.0)
        path = cache.index.database.path
        for calls in points:
            if not interrupted_after(calls, work):
                break
            pool.submit(cache.put, "by-another-thread", bytes(calls), 1.0).result(timeout=30)
            with contextlib.closing(sqlite3.connect(path, timeout=0.0)) as other:
                other.execute("BEGIN IMMEDIATE")
            assert cache.stats().process.faults == 0
        assert calls > 50
    check_whole(tmp_path / "shared")


HANDLED = """
handled, over = [], threading.Event()
def handle(*_):
    key = f"handled-{len(handled)}"
    cache.put(key, b"value", 1.0)
    handled.append(key)
def load(cache):
    number = 0
    while not over.is_set():
        cache.put(f"other-{number % 9}", bytes(500), 1.0)
        number += 1
others = [threading.Thread(target=load, args=(one,)) for one in caches()]
for one in others: one.start()
signal.signal(signal.SIGALRM, handle)
drawn, until = random.Random(1), time.monotonic() + 20
while time.monotonic() < until and len(handled) < 60:
    signal.setitimer(signal.ITIMER_REAL, drawn.uniform(1e-4, 4e-3))
    DO
signal.setitimer(signal.ITIMER_REAL, 0)
over.set()
for one in others: one.join()
missing = [key for key in handled if cache.get(key) is None]
counts = cache.stats().process  # who waits in vain, for the index or for an entry, is counted
print(len(handled) > 30, missing, counts.faults, counts.wait_timeouts)
"""


@pytest.mark.parametrize("what", ["cache.put('key-1', bytes(900), 1.0)", "cache.get('key-0')", "cache.get('no-such')"])
@pytest.mark.parametrize("others", ["[cache]", "[DiskCache(sys.argv[1], fingerprint=PARTS)]"], ids=["same", "another"])
def test_a_put_of_a_handler_waits_for_nobody_and_is_kept_while_other_threads_put(tmp_path, what, others):
    program = BEGIN.replace("40_000", "None").replace('"gdsf"', '"lru"')
    program += f"def caches(): return {others}\ncache.put('key-0', b'value', 1.0)\n" + HANDLED.replace("DO", what)
    done = run_python(program, tmp_path / "shared")
    assert done.stdout == "True [] 0 0\n", done.stderr
    check_whole(tmp_path / "shared")


HANDLED_BESIDE = """
import faulthandler
from tests._support.handlers import handled_after
faulthandler.dump_traceback_later(50, exit=True)
first, step = map(int, sys.argv[2:])
has_missed, goes_on = threading.Event(), threading.Event()

def compile(key):
    cache.get(key)
    has_missed.set()
    goes_on.wait()
    cache.put(key, bytes(20_000), 1.0)  # too large for its row to follow later

def handle(number):
    goes_on.set()
    other = threading.Thread(target=cache.stats)  # which writes what is pending
    other.start()
    for thread in (compiling, other):
        thread.join(0.02)  # at most: it may be waiting for this thread
    cache.get(f"compiled-{number}")
    cache.get(f"handled-{number}")  # which asks the index why it is not there
    cache.put(f"handled-{number}", b"value", 1.0)

cache.put("key-0", b"value", 1.0)
calls, missing, goes_on_disturbing = first, [], True
while goes_on_disturbing:
    compiling = threading.Thread(target=compile, args=(f"compiled-{calls}",))
    compiling.start()
    has_missed.wait()
    goes_on_disturbing = handled_after(calls, lambda: WORK, lambda: handle(calls), lambda _: True)
    goes_on.set()
    compiling.join()
    has_missed.clear(), goes_on.clear()
    missing += [name for name in ("compiled", "handled") if cache.get(f"{name}-{calls}") is None]
    calls += step
counts = cache.stats().process
print(calls > 50, missing, counts.faults, counts.wait_timeouts)
"""


@pytest.mark.parametrize("work", ["cache.put(f'put-{calls}', b'value', 1)", "cache.get('key-0')", "cache.get('no')"])
def test_a_handler_that_comes_after_any_call_waits_for_no_thread_that_waits_for_its_own(tmp_path, points, work):
    first, second = next(points), next(points)
    program = BEGIN.replace("40_000", "5_000_000") + HANDLED_BESIDE.replace("WORK", work)
    done = run_python(program, tmp_path / "shared", first, second - first)
    assert done.stdout == "True ['handled'] 0 0\n", done.stderr  # of the last round, which nothing came between
    check_whole(tmp_path / "shared")


def check_whole(root):
    with opened(root) as cache:
        sizes = [cache.files.path(place).stat().st_size for place in cache.files.walk()]
        assert (cache.stats().entries, cache.stats().size_bytes) == (len(sizes), sum(sizes))
        checked = cache.verify()
        assert (checked.bad, checked.unknown, checked.gone) == (0, 0, 0)


def test_locks_that_are_known_are_had_while_others_are_made(tmp_path):
    """A handler that came as a lock was made would else wait for a thread that waits for the handler's."""
    known = range_locks(tmp_path / "known.lock")
    reached, goes_on = threading.Event(), threading.Event()

    def pause(_frame, event, called):
        if event == "c_call" and called is os.fstat:
            reached.set()
            goes_on.wait(30)

    def make():
        sys.setprofile(pause)
        try:
            return range_locks(tmp_path / "new.lock")
        finally:
            sys.setprofile(None)

    with ThreadPoolExecutor(2) as pool:
        making = pool.submit(make)
        assert reached.wait(30)
        try:
            assert pool.submit(range_locks, tmp_path / "known.lock").result(timeout=10) is known
        finally:
            goes_on.set()
        assert making.result() is range_locks(tmp_path / "new.lock")
