"""What is cleared is gone: entries, the static values in their keys, and executables that JAX itself has dropped."""

import gc
import weakref

import jax
import numpy as np
import pytest

from jaxcache import JitCache
from jaxcache._jax import interfaces as _jax

from .._support.compiles import count_compiles

X = np.ones(3, np.float32)


class Table:
    """A large static value."""

    def __init__(self, number):
        self.number, self.values = number, np.full(2**20, number)

    def __eq__(self, other):
        return isinstance(other, Table) and self.number == other.number

    def __hash__(self):
        return hash(self.number)


def look_up(table, x):
    return x + table.values[:3]


@pytest.mark.parametrize("recorded", [False, True])
def test_static_values_are_gone_with_the_entries_that_a_program_clears(recorded, tmp_path):
    cache = JitCache(record=tmp_path / "t" if recorded else None)
    f, tables = cache.jit(look_up, static_argnums=0), []
    for number in range(5):
        table = Table(number)
        tables.append(weakref.ref(table))
        f(table, X)
    del table
    cache.clear()
    gc.collect()
    assert [table() for table in tables] == [None] * 5
    cache.__exit__()


def test_functions_are_gone_whose_attributes_lead_back_to_them():
    cache = JitCache()

    def call():
        def f(x):
            return x + 1

        f.itself = f
        f.cached = cache.jit(f)
        f.cached(X)
        return weakref.ref(f)

    f = call()
    gc.collect()
    assert f() is None


def test_compiles_after_jax_has_cleared_its_caches_are_misses():
    assert _jax.HEARS_CLEAR_CACHES
    with JitCache() as cache:
        f = cache.jit(lambda x: x + 1)
        for _ in range(2):
            for length in range(1, 6):
                f(np.ones(length, np.float32))
        jax.clear_caches()
        assert cache.stats().live_bytes == 0
        with count_compiles() as compiled:
            for length in range(1, 6):
                assert f(np.ones(length, np.float32)).tolist() == [2.0] * length
        stats = cache.stats()
    assert (stats.hits, stats.misses, stats.misses_by_cause["cleared"]) == (5, 10, compiled[0]) == (5, 10, 5)


def test_a_cache_that_is_gone_is_not_kept_by_jax():
    cache = weakref.ref(JitCache())
    gc.collect()
    assert cache() is None
    jax.clear_caches()
