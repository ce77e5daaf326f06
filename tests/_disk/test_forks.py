"""Forks: a child uses no connection, no lock and no open file of its parent, whatever the threads there are doing."""

import pytest

from jaxcache import DiskCache
from tests._support.interpreters import run_python

BEGIN = """
import os, random, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads: here on purpose
from jaxcache import DiskCache
LIMIT, PARTS = 60_000, {"jax": "test", "cpu": "test"}
def opened(): return DiskCache(sys.argv[1], LIMIT, "lru", fingerprint=PARTS, wait_seconds=2.0)
cache = opened()
def work(name, count):
    for number in range(count):
        cache.put(f"{name}-{number}", bytes(3000), 1.0)
        cache.get(f"{name}-{number}")
def open_files():
    found = []
    for one in os.listdir("/proc/self/fd"):
        try: found.append(os.readlink(f"/proc/self/fd/{one}"))
        except OSError: pass
    return found
"""

AFTER_USE = """
work("parent", 30)
children = []
for child in range(2):
    pid = os.fork()
    if pid == 0:
        work(f"child{child}", 60)
        faults = cache.stats().process.faults
        cache.close()
        os._exit(3 if faults else 0)
    children.append(pid)
cache.close()  # while the children go on: its last connection must not take their log away
third = opened()
for number in range(60):
    third.put(f"third-{number}", bytes(3000), 1.0)
print([os.waitpid(one, 0)[1] for one in children], third.stats().process.faults)
"""

UNDER_LOAD = """
over = threading.Event()
def load(name):
    number = 0
    while not over.is_set():
        cache.put(f"{name}-{number % 50}", bytes(3000), 1.0)
        cache.get(f"{name}-{(number + 1) % 50}")
        number += 1
threads = [threading.Thread(target=load, args=(name,)) for name in "abc"]
for one in threads: one.start()
statuses = []
for child in range(25):
    time.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        staged = [one for one in open_files() if "/staging/" in one or one.endswith(".entry")]
        work(f"child{child}", 3)
        missed = lambda: set(cache.stats().process.misses_by_reason)
        stored = cache.get(f"child{child}-2") is not None or missed() == {"evicted"}  # by threads that put more
        ok = stored and not cache.stats().process.faults and not staged
        os._exit(0 if ok else 1)
    statuses.append(os.waitpid(pid, 0)[1])
over.set()
for one in threads: one.join()
print(statuses.count(0), cache.stats().process.faults)
"""

IN_A_REQUEST = """
import signal
statuses, forking = [], []
def handle(*_):
    if forking:
        return  # within another fork: a hook of concurrent.futures there waits for itself
    forking.append(True)
    pid = os.fork()
    if pid == 0:
        fresh = opened()  # and the one of the parent, in whose middle this is
        fresh.put("of the child", b"value", 1.0)
        os._exit(0 if fresh.get("of the child") == b"value" else 1)
    statuses.append(pid)
    forking.clear()
signal.signal(signal.SIGALRM, handle)
for number in range(40):
    signal.setitimer(signal.ITIMER_REAL, random.Random(number).uniform(1e-4, 3e-3))
    work(f"parent{number}", 1)
signal.setitimer(signal.ITIMER_REAL, 0)
ended = [os.waitpid(one, 0)[1] for one in statuses]
print(len(ended) > 10 and not any(ended), cache.get("of the child") == b"value")
"""

RETURNING = """
import signal
children = []
def handle(*_):
    if not children:
        children.append(os.fork())
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.02)
number = 0
while not children or number < 30:
    cache.put(f"parent-{number % 30}", bytes(3000), 1.0)
    number += 1
if children == [0]:
    warnings.simplefilter("ignore")
    work("child", 3)
    stored = any(cache.put("again", bytes(3000), 1.0) or cache.get("again") is not None for _ in range(50))
    sys.exit(0 if stored else 1)  # by way of all that Python does at its end
print(os.waitpid(children[0], 0)[1], cache.get(f"parent-{(number - 1) % 30}") is not None)
"""


AS_A_FILE_OPENS = """
children = []
def fork_once(frame, event, called):
    if event == "c_call" and called is os.fstat and frame.f_code.co_name == "open_uninterrupted" and not children:
        children.append(os.fork())
        if children[0]:
            os.waitpid(children[0], 0)  # the child has done what it does to the file
cache.put("known", bytes(3000), 1.0)
cache.get("known")  # the locks are there, and stay open
sys.setprofile(fork_once)
REQUEST
sys.setprofile(None)
if children == [0]:
    os._exit(0)
got = [cache.get(key) == bytes(3000) for key in ("known", "new")]
print(len(children), got, cache.stats().quarantined, cache.stats().process.faults)
"""

IN_A_TRANSACTION = """
children, (ready, is_ready), (go, may_go) = [], os.pipe(), os.pipe()
def fork_once(frame, event, called):
    if event == "c_call" and called.__name__ == "commit" and not children:
        children.append(os.fork())
        if children == [0]:
            fresh = opened()  # not the one that knows of the fork
            fresh.put("one", bytes(3000), 1.0)
            os.write(is_ready, b".")
            os.read(go, 1)
            fresh.put("two", bytes(3000), 1.0)
            os._exit(0 if fresh.get("one") == fresh.get("two") == bytes(3000) else 1)
sys.setprofile(fork_once)
cache.put("parent", bytes(3000), 1.0)
sys.setprofile(None)
os.read(ready, 1)
if os.fork() == 0:  # which closes the connection: SQLite removes the log that it takes for its own
    os._exit(0)
cache.put("again", bytes(3000), 1.0)
os.write(may_go, b".")
print(os.waitpid(children[0], 0)[1], [cache.get(key) == bytes(3000) for key in ("parent", "one", "again", "two")])
"""


def forked(program, root):
    done = run_python(BEGIN + program, root)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_whole(root):
    """Hold the index against the files, by a process that has seen no fork."""
    with DiskCache(root, eviction=None, fingerprint={"jax": "test", "cpu": "test"}) as cache:
        sizes = [cache.files.path(place).stat().st_size for place in cache.files.walk()]
        stats = cache.stats()
        assert (stats.entries, stats.size_bytes) == (len(sizes), sum(sizes))
        assert sum(sizes) <= 60_000
        checked = cache.verify()
        assert (checked.good, checked.bad, checked.unknown, checked.gone) == (len(sizes), 0, 0, 0)
        return cache.stats()


def test_parent_children_and_a_third_go_on_after_a_fork(tmp_path):
    assert forked(AFTER_USE, tmp_path / "shared") == "[0, 0] 0\n"
    assert check_whole(tmp_path / "shared").puts == 30 + 2 * 60 + 60


def test_children_forked_while_threads_use_the_directory_use_it_too(tmp_path):
    assert forked(UNDER_LOAD, tmp_path / "shared") == "25 0\n"
    check_whole(tmp_path / "shared")


@pytest.mark.parametrize("turn", range(3))
def test_a_fork_in_the_middle_of_a_request_harms_nobody(tmp_path, turn):
    assert forked(IN_A_REQUEST, tmp_path / "shared") == "True True\n"
    check_whole(tmp_path / "shared")


def test_a_directory_that_a_child_opens_anew_in_the_middle_of_a_transaction_loses_no_entry(tmp_path):
    assert forked(IN_A_TRANSACTION, tmp_path / "shared") == "0 [True, True, True, True]\n"
    assert check_whole(tmp_path / "shared").entries == 4


@pytest.mark.parametrize(
    ("request_made", "new"), [("cache.put('new', bytes(3000), 1.0)", True), ("cache.get('known')", False)]
)
def test_a_child_that_is_forked_as_a_file_opens_neither_reads_nor_writes_it(tmp_path, request_made, new):
    program = AS_A_FILE_OPENS.replace("REQUEST", request_made)
    assert forked(program, tmp_path / "shared") == f"1 [True, {new}] 0 0\n"
    check_whole(tmp_path / "shared")


def test_a_child_may_return_into_the_request_in_whose_middle_it_was_forked(tmp_path):
    assert forked(RETURNING, tmp_path / "shared") == "0 True\n"
    check_whole(tmp_path / "shared")


def test_workers_of_multiprocessing_share_the_directory_of_their_parent(tmp_path):
    program = """
import multiprocessing
work("parent", 5)
with multiprocessing.get_context("fork").Pool(3) as pool:
    got = pool.map(lambda_free, [(one, f"parent-{one % 5}") for one in range(30)])
print(sum(got), cache.stats().process.faults)
"""
    defined = """
def lambda_free(given):
    number, key = given
    cache.put(f"worker-{number}", bytes(100), 1.0)
    return cache.get(key) is not None and cache.get(f"worker-{number}") is not None
"""
    assert forked(defined + program, tmp_path / "shared") == "30 0\n"
    check_whole(tmp_path / "shared")
