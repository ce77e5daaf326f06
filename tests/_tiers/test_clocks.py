"""Hosts whose clocks are wrong: what they write is found, trusted and kept, and evicted in turn."""

import sys
import threading
import time

import pytest

from jaxcache._disk.doctor import examine
from jaxcache._disk.files import EntryFiles, EntryId

HOURS = pytest.mark.parametrize("hours", [-24 * 365 * 56, -1, 1, 24 * 365 * 56])


@pytest.fixture
def clock(monkeypatch):
    """Set this host's clock wrong by some hours."""
    right = time.time

    def set_wrong(hours):
        monkeypatch.setattr(time, "time", lambda: right() + 3600 * hours)

    return set_wrong


@HOURS
def test_what_a_host_with_a_wrong_clock_publishes_is_found_fetched_ahead_trusted_and_kept(
    open_cache, told, tmp_path, clock, hours
):
    pytest.importorskip("obstore")
    pytest.importorskip("cryptography")
    (tmp_path / "store").mkdir(mode=0o700)
    remote = (tmp_path / "store").as_uri()
    assert told("keygen", tmp_path / "key")[0] == 0
    clock(hours)
    with open_cache("publisher", remote=remote, sign_key=tmp_path / "key") as publisher:
        for key in ("jit_f-1", "jit_g-1"):
            assert publisher.get(key) is None
            publisher.put(key, key.encode(), 1.0)
    clock(0)
    assert told("gc", remote, "--limit", "1KB", "--older-than", "30m")[1].startswith("removed 0 entries")
    with open_cache("reader", remote=remote, trusted_keys=[tmp_path / "key.pub"]) as reader:
        assert [reader.get(key) for key in ("jit_f-1", "jit_g-1")] == [b"jit_f-1", b"jit_g-1"]
        assert reader.get("jit_f-1") == b"jit_f-1"
    counts = reader.process_counts()
    assert (counts.hits, counts.remote_hits, counts.remote_faults, counts.faults) == (3, 2, 0, 0)
    assert not [each for each in examine(reader, []) if each.severity == "fault"]


@HOURS
def test_a_clock_that_jumps_changes_nothing_of_who_is_evicted(open_cache, clock, hours):
    with open_cache("local", max_entries=2) as cache:
        cache.put("jit_a-1", b"a", 1.0)
        cache.put("jit_b-1", b"b", 1.0)
        clock(hours)
        assert cache.get("jit_a-1") == b"a"  # so that b is the one used longest ago
        cache.put("jit_c-1", b"c", 1.0)
        clock(0)
        assert [cache.contains(f"jit_{name}-1") for name in "abc"] == [True, False, True]


def test_a_host_whose_clock_is_ahead_takes_nothing_from_one_that_is_writing(tmp_path):
    """Both clean up as all do; to one, whose clock is ahead, every file in the making is old enough to be removed."""
    writer, cleaner, done = EntryFiles(tmp_path), EntryFiles(tmp_path), threading.Event()

    def clean():
        while not done.is_set():
            cleaner.clean_staging(min_age_seconds=-3600)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that it often comes between making a file and locking it
    cleaning = threading.Thread(target=clean)
    cleaning.start()
    try:
        for number in range(1000):
            with writer.staged(b"content") as staged:
                writer.move_in(staged, entry_id := EntryId("fingerprint", f"{number:064x}"))
            assert writer.read(entry_id) == b"content"
    finally:
        done.set()
        cleaning.join()
        sys.setswitchinterval(interval)
