"""The stored priorities decide as the policies in memory do."""

import tempfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcache import DiskCache
from jaxcache._disk.entry_format import EntryMeta, encode
from jaxcache._disk.priority import STORED_POLICIES
from jaxcache._policies import make_policy
from jaxcache._policies.bounded_set import BoundedSet, Weight

REQUESTS = st.lists(st.integers(0, 9), min_size=1, max_size=60)
COSTS = st.lists(st.tuples(st.integers(0, 900), st.sampled_from([0.0, 0.1, 0.5, 1.0, 7.0])), min_size=10, max_size=10)


@pytest.mark.parametrize("eviction", STORED_POLICIES)
@given(requests=REQUESTS, costs=COSTS)
@settings(max_examples=12)
def test_who_is_held_is_who_the_policy_in_memory_holds(eviction, requests, costs):
    with (
        tempfile.TemporaryDirectory() as root,
        DiskCache(root + "/shared", 3000, eviction, fingerprint={"a": "b"}, single_flight=False) as cache,
    ):
        sizes = {}
        residents = BoundedSet(lambda: make_policy(eviction), 3000)
        held = set()
        for key in requests:
            size, cost = costs[key]
            if cache.get(f"key-{key}") is not None:
                assert key in held
                residents.hit(key)
                continue
            assert key not in held
            cache.put(f"key-{key}", b"x" * size, cost)
            if key not in sizes:
                sizes[key] = weigh(size, f"key-{key}", cache, cost)
            evicted = residents.try_insert(key, Weight(sizes[key]), cost)
            if evicted is not None:
                held = (held | {key}) - set(evicted)
            there = {int(row.key.removeprefix("key-")) for row in cache.index.rows()}
            assert there == held
            assert cache.stats().size_bytes == residents.live_bytes == sum(sizes[one] for one in held)


def weigh(size, key, cache, cost):
    """Return what an entry takes, also one that was refused."""
    return len(encode(EntryMeta(key, cache.fingerprint.id, cost, float(int(time.time()))), b"x" * size, None))


@pytest.mark.parametrize("eviction", ["random", "sieve", "s3fifo", "lnc_ra", "none", "belady", 3])
def test_what_cannot_be_stored_is_refused_with_what_can(eviction, tmp_path):
    with pytest.raises(ValueError, match="eviction must be one of lru, lfu, fifo, size_based, gdsf, gdsf_admit"):
        DiskCache(tmp_path / "shared", eviction=eviction)


def test_another_policy_orders_what_is_there(open_cache):
    first = open_cache(None, eviction="lru")
    for number, size in enumerate([10, 3000, 20]):
        first.put(f"key-{number}", b"x" * size, 1.0)
    first.close()
    cache = open_cache(None, 3500, "size_based")
    cache.put("key-3", b"x" * 300, 1.0)
    assert {row.key for row in cache.index.rows()} == {"key-0", "key-2", "key-3"}


def test_the_number_of_entries_has_a_limit_too(open_cache):
    cache = open_cache(None, max_entries=2)
    for number in range(5):
        cache.put(f"key-{number}", b"x", 1.0)
    assert sorted(row.key for row in cache.index.rows()) == ["key-3", "key-4"]
    assert (cache.stats().entries, cache.stats().evictions) == (2, 3)
