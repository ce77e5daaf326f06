"""A bucket whose listing takes longer than anybody waits: what is there is read, what is not costs one request."""

import time

import pytest

pytest.importorskip("obstore")
pytestmark = pytest.mark.parametrize("store_server", ["s3"], indirect=True)
KEYS = [f"jit_f{number}-1" for number in range(8)]
LISTING, ENTRY = "prefix=", ".entry"


def value_of(key):
    return key.encode() * 1000


@pytest.fixture
def slow(open_cache, bucket, proxy):
    """The address of a bucket of a few entries that is listed after ten minutes."""
    with open_cache("one", remote=bucket) as cache:
        for key in KEYS:
            cache.get(key)
            cache.put(key, value_of(key), 2.0)
    assert cache.process_counts().published == len(KEYS)
    proxy.requests.clear()
    proxy.slowed[LISTING] = 600.0
    return bucket


def test_meanwhile_a_hit_is_one_request_and_a_miss_is_one(open_cache, slow, proxy):
    with open_cache("other", remote=slow) as cache:
        assert [cache.get(key) for key in KEYS] == [value_of(key) for key in KEYS]
        assert [cache.get(f"jit_g{number}-1") for number in range(10)] == [None] * 10
    counts = cache.process_counts()
    assert (counts.remote_hits, counts.misses, counts.remote_faults) == (8, 10, 0)
    assert (proxy.count("GET", ENTRY), proxy.count("GET", LISTING)) == (18, 1)


def test_meanwhile_what_the_last_run_asked_for_is_fetched_ahead(open_cache, slow, proxy):
    with open_cache("other", remote=slow) as cache:
        assert cache.get(KEYS[-1]) == value_of(KEYS[-1])
        until = time.monotonic() + 30
        while proxy.count("GET", ENTRY) < len(KEYS) and time.monotonic() < until:
            time.sleep(0.01)
    assert (proxy.count("GET", ENTRY), proxy.count("GET", LISTING)) == (len(KEYS), 1)


def test_meanwhile_what_is_compiled_is_published(open_cache, slow, proxy):
    with open_cache("other", remote=slow) as cache:
        cache.put(KEYS[0], b"another build of it", 1.0)
        cache.put("jit_g-1", b"value", 1.0)
    assert (cache.process_counts().published, cache.process_counts().remote_faults) == (1, 0)
    with open_cache("third", remote=slow) as third:
        assert (third.get(KEYS[0]), third.get("jit_g-1")) == (value_of(KEYS[0]), b"value")


def test_when_it_has_come_a_miss_costs_no_request(open_cache, slow, proxy):
    proxy.slowed[LISTING] = 2.0
    with open_cache("other", remote=slow) as cache:
        until, number, costly = time.monotonic() + 30, 0, True
        while costly and time.monotonic() < until:
            number, before = number + 1, proxy.count("GET", ENTRY)
            assert cache.get(f"jit_g{number}-1") is None
            costly = proxy.count("GET", ENTRY) > before
        assert number > 1  # the first was not kept waiting until the listing was there
        assert not costly
        assert cache.get(KEYS[3]) == value_of(KEYS[3])
    assert cache.process_counts().remote_faults == 0
    assert proxy.count("GET", LISTING) == 1
