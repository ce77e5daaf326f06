"""What is replayed is what runs: the kernels against the cache's own objects, and those against a few lines."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcache import POLICIES, Disk, JitCache, Trace, limits_of, replay, replay_grid
from jaxcache._policies import make_policy
from jaxcache._replay.decisions import EVENT, HIT, MISS, REJECTED
from jaxcache._replay.trace import Event

from .._policies.test_contract import REQUESTS, cost_of, serve, size_of

EVERY = pytest.mark.parametrize("name", sorted(POLICIES))


def trace_of(requests):
    return Trace.from_arrays(
        keys=requests, size_bytes=[*map(size_of, requests)], compile_seconds=[*map(cost_of, requests)]
    )


def with_events(trace, seed, warm, clear):
    """Turn a share of the requests into programs made ahead, and one into entries that the program cleared."""
    events = np.random.default_rng(seed).choice(3, size=len(trace), p=[1 - warm - clear, warm, clear])
    return replace(trace, events=events.astype(np.uint8))


def zipf(requests, keys, seed, exponent=1.0, mappings_limit=None, coarse=False):
    draw = np.random.default_rng(seed)
    weights = np.arange(1, keys + 1.0) ** -exponent
    asked = draw.choice(keys, size=requests, p=weights / weights.sum())
    sizes = draw.integers(1, 4, keys) if coarse else np.exp(draw.normal(6, 1.2, keys)).astype(int) + 1
    costs = draw.integers(0, 3, keys) * 1.0 if coarse else np.sqrt(sizes) * np.exp(draw.normal(0, 1, keys))
    return Trace.from_arrays(
        keys=asked, size_bytes=sizes[asked], compile_seconds=costs[asked],
        mappings=draw.integers(0, 9, keys)[asked], mappings_limit=mappings_limit,
    )  # fmt: skip


def decisions(result):
    return (
        result.outcomes.tolist(), result.hits, result.misses, result.evictions, result.rejected, result.peak_bytes,
        result.compile_seconds, result.sampled_bytes.tolist(),
    )  # fmt: skip


def both_ways(trace, name, limit, **options):
    if name not in COMPILED:
        return [replay(trace, name, limit, **options)]
    return [replay(trace, name, limit, compiled=way, **options) for way in (True, False)]


MODULES_WITH_NUMBA = ("jaxcache._replay.kernels", "jaxcache._replay.compiled")


def hide_numba(monkeypatch):
    """As if it were not installed: what was imported with it is imported anew."""
    for name in [name for name in sys.modules if name.startswith(MODULES_WITH_NUMBA)]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)


def compiled_policies():
    from jaxcache._replay import compiled

    return set(compiled.POLICIES)


COMPILED = compiled_policies()


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_a_replay_decides_as_a_cache_in_a_few_lines(name, requests, limit):
    outcomes, _ = serve(make_policy(name), requests, limit)
    for result in both_ways(trace_of(requests), name, limit):
        assert [one == HIT for one in result.outcomes] == [one[0] == "hit" for one in outcomes]
        assert result.evictions == sum(len(one[2]) for one in outcomes if one[0] == "miss")
        missed = [one[1] for one in outcomes if one[0] == "miss"]
        assert result.compile_seconds == pytest.approx(sum(map(cost_of, missed)))


@pytest.mark.parametrize("name", sorted(COMPILED))
@settings(max_examples=25)
@given(
    shape=st.sampled_from([(300, 12), (1500, 40), (1500, 400)]),
    seed=st.integers(0, 10**6),
    exponent=st.sampled_from([0.5, 1.0, 1.4]),
    share=st.sampled_from([0.01, 0.1, 0.4, 0.9, 2.0]),
    mappings_limit=st.none() | st.integers(0, 200),
    coarse=st.booleans(),
    clear=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_a_kernel_decides_as_the_objects_of_a_running_cache(
    name, shape, seed, exponent, share, mappings_limit, coarse, clear
):
    trace = with_events(zipf(*shape, seed, exponent, mappings_limit, coarse), seed, clear / 3, clear)
    limit = max(1, int(share * trace.working_set_bytes))
    fast, slow = both_ways(trace, name, limit, seed=seed % 3)
    assert decisions(fast) == decisions(slow)


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_a_kernel_decides_as_the_objects_beyond_what_they_remember(name):
    trace = zipf(30_000, 12_000, 0, 0.6)  # HISTORY is 4096 keys; draws are from more entries than Python copies
    for share, clear in ((0.02, 0.0), (0.2, 0.1)):
        fast, slow = both_ways(with_events(trace, 0, 0.0, clear), name, int(share * trace.working_set_bytes))
        assert decisions(fast) == decisions(slow)
        assert fast.evictions > 0 or name == "none"


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_entries_that_are_cleared_and_come_again_many_times_leave_nothing_behind(name):
    trace = zipf(6_000, 8, 0)  # a heap leaves items of what is cleared behind, until it has no room for more
    trace = with_events(trace, 1, 0.0, 0.45)
    fast, slow = both_ways(trace, name, trace.working_set_bytes * 3 // 4)
    assert decisions(fast) == decisions(slow)
    assert fast.misses > 1000


@EVERY
def test_without_a_limit_only_first_requests_miss(name):
    trace = zipf(500, 30, 1)
    for result in both_ways(trace, name, None):
        assert (result.misses, result.evictions, result.rejected) == (len(trace.labels), 0, 0)
        assert result.peak_bytes == trace.working_set_bytes


@EVERY
def test_a_limit_below_the_smallest_entry_holds_nothing(name):
    trace = Trace.from_arrays(keys=[1, 2, 1], size_bytes=[10, 20, 10], compile_seconds=[1.0, 2.0, 1.0])
    for result in both_ways(trace, name, 9):
        assert (result.hits, result.misses, result.rejected, result.peak_bytes) == (0, 3, 3, 0)
        assert result.compile_seconds == 4.0


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30), data=st.data())
def test_events_between_requests_are_replayed_and_not_counted(name, requests, limit, data):
    plain = trace_of(requests)
    kinds = data.draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=len(requests), max_size=len(requests)))
    trace = Trace(
        plain.signatures, plain.labels, plain.size_bytes, plain.compile_seconds, plain.mappings,
        np.array(kinds, np.uint8),
    )  # fmt: skip
    policy, held, told = make_policy(name), set(), []
    for key, kind in zip(requests, kinds, strict=True):
        if kind == Event.CLEAR:
            told.append(EVENT)
            if key in held:
                policy.remove(key)
                held.remove(key)
        elif key in held:
            told.append(EVENT if kind else HIT)
            if not kind:
                policy.hit(key)
        else:
            room = sum(map(size_of, held)) + size_of(key) <= limit
            kept = size_of(key) <= limit and (room or policy.admit(key, size_of(key), cost_of(key)))
            told.append(EVENT if kind else MISS if kept else REJECTED)
            if kept:
                while sum(map(size_of, held)) + size_of(key) > limit:
                    policy.remove(victim := policy.victim())
                    held.remove(victim)
                policy.add(key, size_of(key), cost_of(key))
                held.add(key)
    for result in both_ways(trace, name, limit):
        assert result.outcomes.tolist() == told
        assert result.requests == kinds.count(0)


def test_what_is_made_ahead_hits_at_once():
    trace = Trace.from_arrays(keys=["a", "b", "a"], size_bytes=[5, 6, 5], compile_seconds=[1.0, 2.0, 1.0])
    result = replay(trace, "lru", 20, warm=["b"])
    assert (result.hits, result.misses, result.compile_seconds) == (2, 1, 1.0)
    assert len(result.outcomes) == 3
    with pytest.raises(ValueError, match="warm must name labels of the trace, but 'c' is none"):
        replay(trace, "lru", 20, warm=["c"])


def test_a_directory_loads_what_was_compiled_once():
    trace = Trace.from_arrays(keys=list("abab"), size_bytes=[10] * 4, compile_seconds=[1.0, 2.0, 1.0, 2.0])
    cold = replay(trace, "lru", 10, disk=Disk(load_share=0.1))
    assert (cold.misses, cold.compile_seconds) == (4, 3.0)
    assert cold.load_seconds == pytest.approx(0.3)
    warm = replay(trace, "lru", 10, disk=Disk(load_share=0.1, warm=True))
    assert (warm.misses, warm.compile_seconds) == (4, 0.0)
    assert warm.load_seconds == pytest.approx(0.6)
    with pytest.raises(ValueError, match="load_share must be 0 or more"):
        Disk(load_share=-1)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_directory_has_what_was_made_ahead(compiled):
    trace = Trace.from_arrays(keys=["a", "b"] * 3, size_bytes=[10] * 6, compile_seconds=[1.0, 2.0] * 3)
    result = replay(trace, "lru", 10, warm=["a", "b"], disk=Disk(load_share=0.1), compiled=compiled)
    assert (result.misses, result.compile_seconds) == (6, 0.0)
    assert result.load_seconds == pytest.approx(0.9)


@pytest.mark.parametrize("compiled", [False, True])
@EVERY
def test_what_is_made_ahead_and_not_kept_is_counted_as_rejected(name, compiled):
    trace = Trace.from_arrays(keys=["a", "b"], size_bytes=[10, 10], compile_seconds=[1.0, 2.0])
    assert replay(trace, name, 5, warm=["a"], compiled=compiled).rejected == 3


def test_limits_and_seeds_may_be_numbers_of_numpy():
    trace = Trace.from_arrays(keys=[1, 2, 1], size_bytes=[10, 20, 10], compile_seconds=[1.0, 2.0, 1.0])
    assert replay(trace, "random", limits_of(trace)[0], seed=np.int64(1)).misses == 3


def test_the_bytes_held_are_sampled_over_the_trace():
    trace = zipf(5000, 100, 0)
    for result in both_ways(trace, "gdsf", trace.working_set_bytes // 3):
        assert result.sampled_rows[-1] == len(trace) - 1
        assert len(result.sampled_rows) == len(result.sampled_bytes) <= 1025
        assert result.sampled_bytes.max() <= result.peak_bytes <= trace.working_set_bytes // 3


def test_a_grid_is_each_replay():
    trace = zipf(2000, 60, 0)
    limits = [2000, "8KiB", None]
    grid = replay_grid(trace, ["lru", "random"], limits, seed=3, threads=2)
    alone = [replay(trace, name, limit, seed=3) for name in ("lru", "random") for limit in limits]
    assert [decisions(one) for one in grid] == [decisions(one) for one in alone]
    assert [(one.policy, one.limit_bytes) for one in grid[:3]] == [("lru", 2000), ("lru", 8192), ("lru", None)]


def test_a_million_different_keys_are_replayed():
    rows = 1_000_000
    trace = Trace.from_arrays(keys=np.arange(rows), size_bytes=np.full(rows, 10), compile_seconds=np.ones(rows))
    for name in ("lru", "gdsf_admit", "lnc_ra"):
        assert replay(trace, name, 10_000).misses == rows


def test_a_policy_of_ones_own_is_replayed():
    trace = zipf(1000, 40, 0)
    own = replay(trace, make_policy("gdsf"), 3000)
    assert own.policy == "gdsf"
    assert decisions(own) == decisions(replay(trace, "gdsf", 3000))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("lruu", 10), ValueError, "eviction must be one of none, lru"),
        ((3, 10), TypeError, "policy must be a name such as 'lru'"),
        (("lru", -5), ValueError, "limit must be positive, such as 64MiB, but is -5"),
        (("lru", 0), ValueError, "limit must be positive"),
        (("lru", "many"), ValueError, "limit must be a size such as 64MiB"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        replay(zipf(10, 3, 0), *arguments)


def test_seeds_threads_and_shares_that_are_no_such_numbers_are_refused_in_words():
    trace = zipf(10, 3, 0)
    with pytest.raises(ValueError, match=r"seed must be a whole number, such as 0, but is 0\.5"):
        replay(trace, "random", 10, seed=0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"threads must be a whole number, 1 or more, or None, but is 1\.5"):
        replay_grid(trace, ["lru"], [10], threads=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"load_share must be 0 or more, such as 0\.05, but is 'half'"):
        Disk(load_share="half")  # pyright: ignore[reportArgumentType]


class WithoutAdmit:
    add = hit = victim = remove = print


@pytest.mark.parametrize("policy", [WithoutAdmit(), POLICIES["lru"], None])
def test_a_policy_without_the_methods_of_one_is_refused_as_a_cache_refuses_it(policy):
    wanted = (
        "must be a name such as 'lru', or an object with the methods add, hit, victim, remove and admit of jaxcache"
    )
    with pytest.raises(TypeError, match=f"policy {wanted}"):
        replay(zipf(10, 3, 0), policy, 10)
    with pytest.raises(TypeError, match=f"eviction {wanted}"):
        JitCache(10, policy)


def test_a_result_is_shown_with_its_limit():
    trace = Trace.from_arrays(keys=[0], size_bytes=[1], compile_seconds=[1.0])
    assert repr(replay(trace, "lru")).startswith("<lru at no limit: 0 hits, 1 misses")
    assert repr(replay(trace, "lru", 10)).startswith("<lru at 10 bytes: ")


def test_what_is_no_trace_is_refused():
    with pytest.raises(TypeError, match=r"trace must be a Trace, such as Trace\.load"):
        replay("trace.parquet", "lru", 10)  # pyright: ignore[reportArgumentType]


@EVERY
def test_without_numba_the_decisions_are_the_same(name, monkeypatch):
    trace = zipf(800, 40, 5)
    expected = decisions(replay(trace, name, 3000))
    hide_numba(monkeypatch)
    assert decisions(replay(trace, name, 3000)) == expected
    with pytest.raises(ImportError, match=r"pip install 'jaxcache\[lab\]'"):
        replay(trace, name, 3000, compiled=True)
