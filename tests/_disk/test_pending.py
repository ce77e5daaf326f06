"""Recency and counters of hits, which follow the hits: they reach the index in time, in order, and exactly once."""

import subprocess
import sys
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from jaxcache._disk.entry_format import EntryMeta
from jaxcache._disk.files import EntryId
from jaxcache._disk.pending import Hit, Pending, Request

VALUE = b"value"


def hit(number):
    return Hit(EntryId("f", f"n{number}"), EntryMeta(f"key-{number}", "f", 1.0, 0.0), 1)


def write_to(batches):
    """Return what writes batches to a list, and counts nothing besides."""

    def work(batch):
        batches.append(batch)
        return {}

    return lambda hand_over: hand_over(work)


@given(st.lists(st.sampled_from(["hit", "request", "count", "flush", "pause"]), max_size=40))
def test_every_request_is_written_once_and_in_order(steps):
    batches = []
    pending = Pending(write_to(batches))
    added = {"hit": [], "request": [], "count": 0}
    for number, step in enumerate(steps):
        if step == "hit":
            added["hit"].append(hit(number))
            pending.add(hit(number))
        elif step == "request":
            added["request"].append(Request(str(number), "hit", {}))
            pending.add(request=added["request"][-1])
        elif step == "count":
            added["count"] += number
            pending.add(counts={"c": number})
        else:
            getattr(pending, step)()
    pending.pause()
    assert [one for batch in batches for one in batch.uses] == added["hit"]
    assert [one for batch in batches for one in batch.requests] == added["request"]
    assert sum(batch.counts["c"] for batch in batches) == added["count"]


def test_threads_lose_nothing():
    batches = []
    pending = Pending(write_to(batches))
    threads = [threading.Thread(target=lambda: [pending.add(counts={"c": 1}) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pending.pause()
    assert sum(batch.counts["c"] for batch in batches) == 2000


def test_a_hit_is_known_to_others_without_another_request_of_this_process(open_cache):
    cache, other = open_cache(), open_cache()
    cache.put("key-1", VALUE, 1.0)
    cache.get("key-1")
    until = time.monotonic() + 30
    while not other.stats().hits and time.monotonic() < until:
        time.sleep(0.02)
    assert other.stats().hits == 1


def test_the_entry_that_was_just_read_is_not_the_one_that_goes(open_cache):
    cache = open_cache(max_entries=2, eviction="lru")
    for key in ("key-1", "key-2"):
        cache.put(key, VALUE, 1.0)
    cache.get("key-1")
    cache.put("key-3", VALUE, 1.0)
    assert (cache.contains("key-1"), cache.contains("key-2")) == (True, False)


def test_what_is_pending_at_the_end_is_written(open_cache):
    cache = open_cache()
    cache.put("key-1", VALUE, 1.0)
    cache.get("key-1")
    cache.close()
    assert open_cache().stats().hits == 1


def test_a_hit_waits_for_no_other_process_that_holds_the_index(open_cache):
    cache, other = open_cache(), open_cache()
    cache.put("key-1", VALUE, 1.0)

    def read(_):
        assert cache.get("key-1") == VALUE
        assert not cache.index.database._in_transaction

    other.index.database.change(read)
    assert cache.stats().hits == 1


AS_A_WORKER = """
import multiprocessing, sys
def read(path):
    from jaxcache import DiskCache
    global cache  # which nobody closes
    cache = DiskCache(path, fingerprint={"jax": "test", "cpu": "test"})
    return cache.get("key-1") == b"value"
if __name__ == "__main__":
    from jaxcache import DiskCache
    first = DiskCache(sys.argv[1], fingerprint={"jax": "test", "cpu": "test"})
    first.put("key-1", b"value", 1.0)
    for method in ("fork", "spawn"):
        worker = multiprocessing.get_context(method).Process(target=read, args=(sys.argv[1],))
        worker.start()
        worker.join()
    print(first.stats().hits)
"""


def test_a_worker_of_multiprocessing_counts_its_last_hit(tmp_path):
    (tmp_path / "program.py").write_text(AS_A_WORKER)
    command = [sys.executable, "-W", "ignore", tmp_path / "program.py", tmp_path / "shared"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "2\n"


def test_a_pause_waits_for_a_batch_that_the_thread_is_writing():
    began, goes_on, written = threading.Event(), threading.Event(), []

    def write(batch):
        began.set()
        goes_on.wait(30)
        written.append(dict(batch.counts))
        return {}

    pending = Pending(lambda hand_over: hand_over(write))
    pending.add(counts={"hits": 1})
    assert began.wait(30)
    threading.Timer(0.2, goes_on.set).start()
    pending.pause()
    assert written == [{"hits": 1}]
