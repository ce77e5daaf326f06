"""Benchmarks of a cache: what is timed, and intervals against what theory says of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import JitCache, benchmark
from jaxcache._loops.benchmark import median_interval


def test_cold_holds_the_compiles_and_warm_does_not():
    cache = JitCache()
    result = benchmark(lambda x: jnp.linalg.norm(jnp.tanh(x) @ x.T), [(np.ones((n, n)),) for n in (3, 4)], cache=cache)
    (one,) = result.functions
    assert one.cold_seconds > cache.stats().compile_seconds  # which it holds, whatever a compile takes
    assert one.warm_ratio.low <= one.warm_ratio.median <= one.warm_ratio.high
    assert (cache.stats().misses, cache.stats().hits) == (2, 60)


def test_the_table_names_every_function_with_units():
    result = benchmark({"up": lambda x: x + 1, "down": lambda x: x - 1}, [(1.0,)], rounds=3)
    header, up, down = str(result).splitlines()
    assert header.startswith("function")
    assert (up.split()[0], down.split()[0]) == ("up", "down")
    assert "µs" in up or "ms" in up
    assert [one.name for one in benchmark([jnp.sin, jnp.sin], [(1.0,)], rounds=1).functions] == ["sin 1", "sin 2"]


def test_nothing_to_measure_is_refused():
    for wrong in ({"functions": []}, {"inputs": []}, {"rounds": 0}):
        with pytest.raises(ValueError, match=r"must be at least one|must be a whole number, 1 or more"):
            benchmark(**{"functions": jnp.sin, "inputs": [(1.0,)], **wrong})


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_an_interval_is_of_values_seen_and_holds_the_median(values):
    interval = median_interval(values)
    assert interval.low <= interval.median <= interval.high
    assert {interval.low, interval.high} <= set(values)


@pytest.mark.parametrize("count", [8, 30])
def test_intervals_hold_the_true_median_as_often_as_they_say(count):
    draw = np.random.default_rng(0)
    held = [one.low <= 1 <= one.high for one in (median_interval(np.exp(draw.normal(size=count))) for _ in range(2000))]
    assert 0.94 < np.mean(held) <= 1


@pytest.mark.parametrize("inputs", [[jnp.ones(3)], jnp.ones((2, 3))])
def test_inputs_that_are_no_tuples_are_refused(inputs):
    with pytest.raises(ValueError, match="inputs must be tuples of the arguments of a call, such as"):
        benchmark(lambda x: x + 1, inputs)


def test_inputs_that_are_donated_are_the_callers_own_afterwards():
    x = jnp.ones(8)
    result = benchmark(lambda x: x + 1, [(x,)], rounds=3, donate_argnums=0)
    assert result.functions[0].warm_seconds > 0
    assert not x.is_deleted()
