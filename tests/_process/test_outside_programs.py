"""What JAX itself holds beside an installed cache takes from its limit, and goes as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import JitCache
from jaxcache._cache.executable import JAX_HOLDS_BYTES, weigh_outside
from jaxcache._jax import executables
from jaxcache._process.outside_programs import OutsidePrograms

from .._support.compiles import count_compiles


@pytest.fixture
def watched():
    """Make a cache beside which JAX may hold nothing but half the limit, as one that is installed."""
    outside = []

    def make(limit=None):
        cache = JitCache(limit)
        outside.append(OutsidePrograms(cache, least_bytes=0))
        outside[-1].begin()
        return cache, outside[-1]

    yield make
    outside[-1].end()


def live():
    return sum(len(client.live_executables()) for client in {device.client for device in jax.local_devices()})


def eager(n):
    return jnp.cumsum(jnp.ones(n)) + jnp.sin(jnp.ones(n))


def test_the_installed_jax_tells_of_its_executables():
    assert executables.FAULT is None


def test_eager_operations_are_held_up_to_half_the_limit_and_entries_stay(watched):
    jax.clear_caches()
    limit = 8 if jax.__version_info__ < (0, 11) else 3
    cache, outside = watched(f"{limit}MiB")
    f = cache.jit(lambda x: x * 2)
    f(np.ones(3, np.float32))
    most = before = live()
    for n in range(101, 107):
        eager(n)
        most = max(most, live())
    assert outside.releases >= 1
    assert outside.held()[1] + cache.stats().live_bytes <= limit * 2**20
    assert most - before <= 10  # 24 or more without
    with count_compiles() as compiled:
        np.testing.assert_array_equal(f(np.ones(3, np.float32)), [2, 2, 2])
    assert (compiled, cache.stats().misses, cache.stats().variants) == ([0], 1, 1)


def test_an_entry_that_runs_from_no_memory_of_its_own_goes_with_what_jax_forgets(watched):
    cache, _ = watched()
    seen = []

    @cache.jit
    def f(x):
        jax.debug.callback(seen.append, x, ordered=True)
        return x + 1

    plain = cache.jit(lambda x: x - 1)
    for g in (f, plain):
        g(np.float32(1))
    assert executables.release_caches()
    cache._state.drop_unpinned()
    assert cache.stats().variants == 1
    for g in (f, plain):
        np.asarray(g(np.float32(1)))
    assert cache.stats().misses_by_cause == {"first_call": 2, "cleared": 1}
    jax.effects_barrier()
    assert len(seen) == 2


def test_what_jax_holds_takes_from_the_limit_and_gives_it_back(watched):
    cache, _ = watched("2MiB")
    functions = [cache.jit(lambda x, n=n: x + n) for n in range(6)]
    for f in functions:
        f(np.float32(1))
    assert cache.stats().variants == 6
    cache._state.reserve(2**20)
    stats = cache.stats()
    assert 0 < stats.live_bytes <= 2**20
    assert stats.evictions == 6 - stats.variants
    functions[0](np.float32(1))
    assert "to make room for programs that JAX itself holds" in cache.stats().recent_misses[-1].reason
    cache._state.reserve(2**21)
    functions[1](np.float32(1))  # what has no company is held, however much is taken
    assert cache.stats().variants == 1


def test_nothing_is_made_to_be_forgotten_within_a_function_that_is_traced(watched):
    cache, outside = watched("1MiB")

    @cache.jit
    def f(x):
        with jax.ensure_compile_time_eval():
            constants = [jnp.cumsum(jnp.ones(n))[-1] for n in range(201, 208)]
        return x + sum(constants)

    assert np.asarray(f(np.float32(0))) == sum(range(201, 208))
    assert (outside.releases, cache.stats().misses) == (0, 1)
    eager(208)
    assert outside.releases > 0
    with count_compiles() as compiled:
        f(np.float32(0))
    assert compiled == [0]


def test_what_is_installed_counts_what_jax_holds(logged_warnings):
    with jaxcache.installed("64MiB") as cache:
        eager(301)
        stats = cache.stats()
        assert 2 <= stats.jax_programs <= 12
        assert stats.jax_bytes > stats.jax_programs * 172 * 1024
        jax.clear_caches()
        assert cache.stats().jax_programs == 0
    logged_warnings.clear()


def test_programs_outside_weigh_what_those_within_do_and_what_jax_holds_with_them():
    cache = JitCache()
    weights = []
    executables.tell(keep := lambda executable: weights.append(weigh_outside(executable).size_bytes))
    try:
        f = cache.jit(lambda x: jnp.sort(jnp.tanh(x @ x.T)))
        f(np.ones((7, 7), np.float32))
    finally:
        executables.tell_no_more(keep)
    assert abs(weights[-1] - JAX_HOLDS_BYTES - cache.stats().live_bytes) < 0.3 * cache.stats().live_bytes
