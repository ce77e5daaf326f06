"""Checks of arguments: one rule for NumPy's numbers and Python's, in every function that takes them."""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import (
    BenchmarkResult,
    DiskCache,
    JitCache,
    Trace,
    benchmark,
    bucketed,
    choose_buckets,
    iterative_solver,
    least_squares,
    linear_buckets,
    monte_carlo,
    optimization_loop,
    parse_size,
    replay,
    suggest,
    update_step,
    value_and_grad_step,
)
from jaxcache._primitives import checks

LENGTHS = [3, 5, 8, 8]


def of_max_compiles(value: Any) -> None:
    JitCache(max_compiles=value)


@pytest.mark.parametrize("wrong", ["x", 1.5, None, True, math.nan])
def test_a_cache_refuses_a_seed_that_is_no_whole_number(wrong):
    with pytest.raises(ValueError, match=r"seed must be a whole number, such as 0, but is "):
        JitCache("1MiB", "random", seed=wrong)
    assert JitCache("1MiB", "random", seed=np.int64(-3)).stats().hits == 0


def of_threads(value: Any) -> None:
    JitCache().jit(jnp.sin).warm(np.ones(2), threads=value)


def of_max_buckets(value: Any) -> None:
    choose_buckets(LENGTHS, compile_cost=1.0, max_buckets=value)


def of_linear_buckets(value: Any) -> None:
    linear_buckets(LENGTHS, value)


def of_rounds(value: Any) -> None:
    assert isinstance(benchmark(jnp.sin, [(np.ones(2),)], rounds=value), BenchmarkResult)


def of_max_steps(value: Any) -> None:
    iterative_solver(lambda x: x, residual=lambda x: x, max_steps=value)


def of_samples(value: Any) -> None:
    monte_carlo(jax.random.normal, n_samples=value)


WHOLE: dict[str, Callable[[Any], None]] = {
    "max_compiles": of_max_compiles,
    "threads": of_threads,
    "max_buckets": of_max_buckets,
    "count": of_linear_buckets,
    "rounds": of_rounds,
    "max_steps": of_max_steps,
    "n_samples": of_samples,
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("number", [2, np.int64(2), np.uint8(2), np.asarray(2)])
def test_whole_numbers_are_taken_from_numpy_too(name: str, number: Any) -> None:
    WHOLE[name](number)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("number", [2.5, 2.0, np.float64(2), True, np.True_, "2", -1, math.nan, [2], Fraction(2)])
def test_what_is_no_whole_number_is_refused_in_words(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a whole number, \d or more.* but is ") as refused:
        WHOLE[name](number)
    assert repr(number) in str(refused.value)


@pytest.mark.parametrize("number", [0, 1.5, np.float32(1.5), np.int16(3), np.asarray(2.0)])
def test_seconds_are_taken_from_numpy_too(number: Any, tmp_path: Any) -> None:
    assert DiskCache(tmp_path, fingerprint={}, min_compile_seconds=number).min_compile_seconds == float(number)


@pytest.mark.parametrize("number", [-1, math.inf, math.nan, True, "1", 1j, np.ones(2), None])
def test_what_is_no_time_is_refused_in_words(number: Any) -> None:
    with pytest.raises(ValueError, match="wait must be seconds, 0 or more, but is "):
        checks.check_seconds(number, "wait")


@pytest.mark.parametrize("number", [True, 0, 1, 0.5, np.float64(0.25)])
def test_shares_are_numbers_from_0_to_1_or_truth_values(number: Any) -> None:
    assert checks.check_share(number, "verify") == float(number)


@pytest.mark.parametrize("number", [-0.1, 1.1, math.nan, "half", None])
def test_what_is_no_share_is_refused_in_words(number: Any) -> None:
    with pytest.raises(ValueError, match=r"verify must be True, False or a share from 0 to 1, such as 0\.01, but is "):
        checks.check_share(number, "verify")


@pytest.mark.parametrize("deviation", [-1.0, math.nan, True, "small"])
def test_a_deviation_is_a_number_or_none(deviation: Any) -> None:
    with pytest.raises(ValueError, match="max_deviation must be 0 or more, or None, but is "):
        bucketed(jnp.sin, cache=JitCache(), buckets=(4,), max_deviation=deviation)


@pytest.mark.parametrize("size", [1.5, "1.5", "0.5 B", np.float64(2.5)])
def test_a_part_of_a_byte_is_no_limit(size: Any) -> None:
    with pytest.raises(ValueError, match="limit must be a whole number of bytes, or text with a unit such as 64MiB"):
        JitCache(size)


@pytest.mark.parametrize(("size", "size_bytes"), [(64e6, 64_000_000), (np.int64(5), 5), ("2.0", 2), ("0.3 KiB", 307)])
def test_sizes_that_are_whole_bytes_are_taken_in_any_form(size: Any, size_bytes: int) -> None:
    assert parse_size(size) == size_bytes


OF_CACHES: dict[str, Callable[[Any], object]] = {
    "bucketed": lambda cache: bucketed(jnp.sin, cache=cache, buckets=(2, 4)),
    "optimization_loop": lambda cache: optimization_loop(jnp.sin, jnp.any, cache=cache),
    "iterative_solver": lambda cache: iterative_solver(jnp.sin, residual=jnp.sin, cache=cache),
    "least_squares": lambda cache: least_squares(jnp.sin, cache=cache),
    "monte_carlo": lambda cache: monte_carlo(lambda key: 1.0, 8, cache=cache),
    "value_and_grad_step": lambda cache: value_and_grad_step(jnp.sum, cache=cache),
    "benchmark": lambda cache: benchmark(jnp.sin, [(1.0,)], cache=cache),
}


@pytest.mark.parametrize("entry", OF_CACHES)
@pytest.mark.parametrize("wrong", ["64MiB", 0, JitCache])
def test_what_is_no_cache_is_refused_in_words(entry: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r'^cache must be a JitCache, such as JitCache\("64MiB"\), but is '):
        OF_CACHES[entry](wrong)


OF_OTHERS: dict[str, Callable[[], object]] = {
    "stats must be a CacheStats, such as cache.stats(), but is <JitCache": lambda: suggest(JitCache()),  # pyright: ignore[reportArgumentType]
    "costs['f'] must be a Cost, such as Cost(": lambda: JitCache(costs={"f": (1, 2.0)}),  # pyright: ignore[reportArgumentType]
    "disk must be a Disk, such as Disk(load_share=0.05), but is True": lambda: replay(TRACE, "lru", disk=True),  # pyright: ignore[reportArgumentType]
    "optimizer must be a gradient transformation, such as optax.adam(1e-3), but is 'adam'": lambda: update_step(
        jnp.sum,
        "adam",
        cache=JitCache(),  # pyright: ignore[reportArgumentType]
    ),
}
TRACE = Trace.from_arrays(keys=[0], size_bytes=[1], compile_seconds=[1.0])


@pytest.mark.parametrize("words", OF_OTHERS)
def test_what_is_of_another_class_is_refused_in_words(words: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(words)}"):
        OF_OTHERS[words]()


@pytest.mark.parametrize("wrong", ["a program", 5, None])
def test_a_directory_takes_bytes_alone(wrong: Any, tmp_path: Any) -> None:
    with DiskCache(tmp_path, min_compile_seconds=0) as directory:
        with pytest.raises(TypeError, match=f"value must be bytes, but is a {type(wrong).__name__}"):
            directory.put("key", wrong)
        directory.put("key", bytearray(b"a program"), 1.0)
        assert directory.get("key") == b"a program"
