"""Bucketed functions: the answer of the exact call, a few compiles, and refusals where padding is wrong."""

import copy
import dataclasses
import functools
import inspect
import math
import os
import pickle
import sys
import threading
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcache import Call, JitCache, PaddingError, bucketed, choose_buckets
from tests._support.interpreters import run_python

from .._support.compiles import count_compiles


def masked_mean(x, mask):
    return jnp.mean(x, where=mask)


def test_a_few_buckets_serve_many_lengths_with_as_many_compiles():
    cache = JitCache()
    f = bucketed(masked_mean, cache=cache, buckets=(8, 16, 32), check=False)
    draw = np.random.default_rng(0)
    with count_compiles() as compiles:
        for n in range(1, 33):
            x = draw.normal(size=n).astype(np.float32)
            assert float(f(x)) == pytest.approx(float(np.mean(x)), abs=1e-6)
    assert compiles == [3]
    assert cache.stats().misses == 3


PROGRAMS = {
    "elementwise": (lambda x: x * 2 + 1, {}),
    "sum": (lambda x: jnp.sum(x), {}),  # zeros do not count
    "masked mean": (masked_mean, {}),
    "by length": (lambda x, length: jnp.sum(x) / length, {}),
    "largest": (lambda x: jnp.max(x), {"pad_value": -np.inf}),
    "differences": (lambda x: jnp.diff(jnp.concatenate([jnp.zeros(1), x])), {}),
    "outer": (lambda x: x[:, None] * x[None, :], {}),
    "a tree": (lambda x, mask: {"y": x + 1, "s": (jnp.sum(jnp.where(mask, x, 0)), 3)}, {}),
    "prefix sums": (lambda x: jnp.cumsum(x), {}),
    "several sizes": (lambda x: (x, x[:-1], jnp.ones(4)), {}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_answer_is_that_of_the_exact_call(name):
    function, options = PROGRAMS[name]
    f = bucketed(function, cache=JitCache(), buckets=(4, 8), **options)
    for n in (3, 4, 7, 2, 8, 11):
        x = np.random.default_rng(n).normal(size=n).astype(np.float32)
        extra = {key: value for key, value in (("mask", np.ones(n, bool)), ("length", n))
                 if key in inspect.signature(f).parameters}  # fmt: skip
        exact, got = jax.jit(function)(x, **extra), f(x)
        assert jax.tree.structure(got) == jax.tree.structure(exact)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
            assert a.dtype == b.dtype


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    buckets=st.sets(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    deviation=st.none() | st.floats(0, 3),
)
def test_an_input_goes_to_the_smallest_bucket_that_holds_it_or_keeps_its_size(lengths, buckets, deviation):
    seen = []

    def function(x):
        seen.append(x.shape)
        return jnp.sum(x)

    f = bucketed(function, cache=JitCache(), buckets=sorted(buckets), axes=(0, 1), max_deviation=deviation, check=False)
    assert f(np.ones(lengths, np.float32)) == lengths[0] * lengths[1]
    size = lambda shape: shape[0] * shape[1]  # noqa: E731
    holding = [one for one in buckets if one[0] >= lengths[0] and one[1] >= lengths[1]]
    best = min(map(size, holding), default=0)
    fits = holding and (deviation is None or best / size(lengths) - 1 <= deviation)
    (shape,) = {one for one in seen if all(isinstance(axis, int) for axis in one)}
    assert (size(shape), all(a >= b for a, b in zip(shape, lengths, strict=True))) == (
        (best, True) if fits else (size(lengths), True)
    )
    stats = f.stats()
    assert (stats.calls, stats.own_size + stats.too_large) == (1, 0 if fits else 1)
    assert stats.too_large == (not holding)
    assert stats.padded_elements == (best - size(lengths) if fits else 0)


def test_padding_waste_is_counted_by_function_and_by_cache():
    cache = JitCache()
    f = bucketed(masked_mean, cache=cache, buckets=(4, 8), check=False)
    for n in (3, 4, 6, 20):
        f(np.ones(n, np.float32))
    stats = f.stats()
    assert (stats.by_bucket, stats.too_large, stats.padding) == ({(4,): 2, (8,): 1}, 1, 3 / 33)
    assert (cache.stats().own_elements, cache.stats().padded_elements) == (33, 3)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: jnp.mean(x), r"padding changes the answer of <lambda>: padded from 3 to 4, the output differs by"),
        (lambda x: {"a": x, "m": jnp.max(-x)}, r"the output\['m'\] differs by"),
        (lambda x: x[::-1], "jnp.sum\\(jnp.where\\(mask, x, 0\\)\\)"),
        (lambda x: jnp.argmin(x), "differs by"),
        (lambda x: jnp.log(x).sum(), "differs by inf"),
        (
            lambda x: jnp.concatenate([x, x]),
            r"padding cannot be trimmed from <lambda>'s output: its axis 0 has .* 2\*d0",
        ),
        (lambda x: (x[: x.shape[0] // 2],), r"output\[0\]"),
    ],
)
def test_a_function_for_which_padding_is_wrong_is_refused_at_every_call(function, words):
    f = bucketed(function, cache=JitCache(), buckets=(4, 8))
    x = np.arange(1, 4, dtype=np.float32)
    for _ in range(2):
        with pytest.raises(PaddingError, match=words):
            f(x)
    assert jax.tree.leaves(f(np.ones(4, np.float32)))  # nothing is padded


def test_sizes_that_happen_to_be_equal_are_not_taken_for_the_inputs():
    """The second output has four rows whatever the input, and the input has four at first."""
    f = bucketed(lambda x: (x + 1, jnp.zeros((4, 8))), cache=JitCache(), buckets=(8,))
    for n in (4, 5, 8):
        assert [one.shape for one in f(np.ones(n, np.float32))] == [(n,), (4, 8)]


def test_declared_axes_are_trimmed_and_no_others():
    def twice(x):
        return {"rows": jnp.tile(x, (2, 1)), "sum": jnp.sum(x)}

    f = bucketed(twice, cache=JitCache(), buckets=(4,), out_axes={"rows": 1, "sum": None})
    assert {name: leaf.shape for name, leaf in f(np.ones(3)).items()} == {"rows": (2, 3), "sum": ()}
    for wrong, words in (({"rows": 1}, "nothing at"), ({"rows": 5, "sum": None}, "has no axis 5")):
        with pytest.raises(ValueError, match=words):
            bucketed(twice, cache=JitCache(), buckets=(4,), out_axes=wrong)(np.ones(3))


def test_functions_that_no_symbolic_length_goes_through_are_served_too():
    def stubborn(x):
        return x[jnp.arange(len(range(x.shape[0])))] if x.shape[0] > 2 else x

    f = bucketed(stubborn, cache=JitCache(), buckets=(8,))
    assert f(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]


def test_arguments_that_are_named_are_padded_and_others_left_alone():
    def predict(params, x, y, scale=2.0):
        return scale * jnp.sum(x @ params["w"] * y)

    f = bucketed(predict, cache=JitCache(), buckets=(8,), axes={"x": 0, "y": 0})
    x, y, w = np.ones((5, 3), np.float32), np.arange(5, dtype=np.float32), np.ones((3,), np.float32)
    assert f({"w": w}, x, y=y) == f({"w": w}, x, y, 2.0) == 2 * 3 * 10
    g = bucketed(lambda a, b: a @ b, cache=JitCache(), buckets=[(4, 4), (8, 8)], axes={"a": (0, 1), "b": (None, 0)})
    assert g(np.ones((3, 2)), np.ones((2, 7))).shape == (3, 7)


def test_static_and_donated_arguments_and_decorators_work():
    cache = JitCache()

    @bucketed(cache=cache, buckets=(4, 8), static_argnames="n", donate_argnames="x")
    def power(x, n):
        """Doc."""
        return x**n

    x = jnp.arange(3.0)
    assert power(x, n=2).tolist() == [0, 1, 4]
    assert not x.is_deleted()  # what was donated is the padded copy
    assert (power.__name__, power.__doc__) == ("power", "Doc.")
    assert cache.stats().by_function["power"].misses == 1


def test_under_transformations_the_function_keeps_its_size():
    f = bucketed(lambda x, mask: jnp.sum(x**2, where=mask), cache=JitCache(), buckets=(4, 8))
    assert jax.grad(f)(jnp.arange(3.0)).tolist() == [0, 2, 4]
    assert jax.jit(f)(jnp.arange(3.0)) == 5


def test_chosen_buckets_can_be_given_as_they_are():
    chosen = choose_buckets([3, 3, 7, 8], compile_cost=2.0)
    f = bucketed(lambda x: x + 1, cache=JitCache(), buckets=chosen)
    f(np.ones(3)), f(np.ones(8))
    assert set(f.stats().by_bucket) <= {(one,) for one in chosen.buckets}


BAD = [
    ({"buckets": ()}, "buckets must be ascending whole numbers"),
    ({"buckets": (8, 4)}, r"buckets must be ascending .* but is \[8, 4\]"),
    ({"buckets": (4, (8, 8))}, "buckets must have 1 length each"),
    ({"buckets": (4,), "axes": (0, 1)}, "buckets must have 2 lengths each"),
    ({"buckets": [(8, 8), (4, 4)], "axes": (0, 1)}, "sorted"),
    ({"buckets": (0, 4)}, "buckets must be ascending whole numbers, 1 or more"),
    ({"buckets": (4,), "axes": {"z": 0}}, "axes names 'z', which is no parameter; there are x"),
    ({"buckets": (4,), "axes": {"x": 0, "y": (0, 1)}}, "as many axes"),
    ({"buckets": (4,), "axes": "x"}, "axes must be an axis"),
    ({"buckets": (4,), "axes": {"x": "a"}}, "axes must be an axis, a tuple of them, or None for 'x', but is 'a'"),
    ({"buckets": 8}, "buckets must be ascending lengths, such as"),
    ({"buckets": (4,), "pad_value": {"z": 0}}, "pad_value names 'z', which is no parameter; there are x, y"),
    ({"buckets": (4,), "max_deviation": -1}, "max_deviation must be 0 or more, or None, but is -1"),
    ({"buckets": (4,), "max_deviation": "a"}, "max_deviation must be 0 or more, or None, but is 'a'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_arguments_are_refused_before_any_call(options, message):
    with pytest.raises(ValueError, match=message):
        bucketed(lambda x, y=0: x, cache=JitCache(), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(np.ones(0)), "x has the length 0 on axis 0"),
        (lambda f: f(np.ones((3, 3)), np.ones(4)), "x has the length 3, but y has 4 on axis 0; give the axes by name"),
        (lambda f: f(3.0), r"axes=\(0,\) names no axis of an array in the call"),
        (
            lambda f: bucketed(lambda x, mask, y=0: x, cache=JitCache(), buckets=(4,))(np.ones(3), np.ones(3)),
            "has a parameter mask, which bucketed hands to it unless the call does: argument number 2 .* as in mask=…",
        ),
        (lambda f: bucketed(lambda x: x, cache=JitCache(), buckets=(4,), axes=1)(np.ones(3)), "x has no axis 1"),
    ],
)
def test_bad_calls_are_refused_by_name(call, message):
    f = bucketed(lambda x, y=0, mask=None: x, cache=JitCache(), buckets=(4,))
    with pytest.raises(ValueError, match=message):
        call(f)


def test_partials_and_methods_can_be_bucketed():
    class Model:
        def predict(self, x, mask):
            return jnp.sum(x, where=mask)

    f = bucketed(Model().predict, cache=JitCache(), buckets=(4,))
    g = bucketed(functools.partial(jnp.multiply, 2.0), cache=JitCache(), buckets=(4,), axes=0)
    assert (float(f(np.ones(3))), g(np.ones(3)).tolist()) == (3, [2, 2, 2])


def test_static_values_of_equal_hash_are_trimmed_each_in_its_own_way():
    """hash(-1) == hash(-2): what was proved for one must not be taken for the other."""
    f = bucketed(
        lambda x, axis: jnp.sum(x, axis), cache=JitCache(), buckets=(4,), axes={"x": 0}, static_argnames="axis"
    )
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert f(x, axis=-2).tolist() == [6, 9]
    assert f(x, axis=-1).tolist() == [1, 5, 9]


def test_positional_only_arguments_work_under_transformations_too():
    def total(x, /, *rest, mask):
        return jnp.sum(x, where=mask) + sum(jnp.sum(one, where=mask) for one in rest)

    f = bucketed(total, cache=JitCache(), buckets=(4,))
    assert f(np.ones(3), np.ones(3)) == 6
    assert jax.grad(f)(jnp.ones(3), jnp.ones(3)).tolist() == [1, 1, 1]


def test_little_padding_is_told_from_rounding():
    f = bucketed(lambda x: jnp.mean(x), cache=JitCache(), buckets=(4096,))
    with pytest.raises(PaddingError, match="padded from 4095 to 4096"):
        f(np.random.default_rng(0).normal(10, 1, 4095).astype(np.float32))


def test_a_wrong_element_is_seen_beside_a_large_one():
    f = bucketed(lambda x: jnp.stack([1e6 * jnp.sum(x), jnp.mean(x)]), cache=JitCache(), buckets=(4096,))
    with pytest.raises(PaddingError, match=r"the output differs by 0\.27"):
        f(np.full(3000, 7, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])  # JAX cuts 64 bits to 32
def test_sums_that_cancel_are_not_taken_for_wrong(dtype):
    def centred(x, mask):
        return jnp.sum(jnp.where(mask, x - jnp.mean(x, where=mask), 0))

    for seed in range(5):
        x = np.random.default_rng(seed).normal(10, 1, 3000).astype(dtype)
        assert abs(bucketed(centred, cache=JitCache(), buckets=(4096,))(x)) < 0.1


MIXED, LATER = np.array([1, -2, 3, -1, 2]), np.array([-1, -2, -3, -1])


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: jnp.max(x), np.arange(1.0, 6)),
        (lambda x: jnp.sort(-x), np.arange(1.0, 6)),
        (lambda x: jax.nn.relu(-x).min() - x, np.arange(1.0, 6)),
        (lambda x: jnp.max(x), MIXED.astype(np.float32)),
        (lambda x: jnp.mean(x), np.zeros(5, np.float32)),
        (lambda x: jnp.all(x > 0.5), np.array([0.1, 0.9, 0.9])),
        (lambda x: jnp.max(x), MIXED),
        (lambda x: jnp.argmax(x), MIXED.astype(np.int8)),
        (lambda x: jnp.max(x), MIXED.astype("int4")),
        (lambda x: jnp.all(x), np.array([3, 0, 2], np.uint8)),
        (lambda x: jnp.min(x), np.array([3, 0, 2], np.int32)),
        (lambda x: jnp.all(x), np.array([True, False, True])),
        (lambda x: jnp.max(x), np.array([3, 1, 2j], np.complex64)),
    ],
)
def test_values_that_padding_does_not_change_by_chance_do_not_pass_the_check(function, x):
    f = bucketed(function, cache=JitCache(), buckets=(8,))
    with pytest.raises(PaddingError, match=r"if the values are (raised|lowered)"):
        f(x)


def test_whole_numbers_are_compared_again_when_there_are_negative_ones():
    f = bucketed(lambda x: jnp.max(x), cache=JitCache(), buckets=(8,))
    assert f(np.array([3, 1, 2])) == 3  # they may be indices, of which none is less than the padding
    with pytest.raises(PaddingError):
        f(LATER)


ORDER, LINE = np.array([4, 3, 2, 1, 0], np.int32), np.arange(5, dtype=np.float32)


@pytest.mark.parametrize(
    ("function", "given", "options"),
    [
        (lambda x, p: x[p], (LINE, ORDER), {}),
        (lambda x, p: x[p], (LINE, ORDER.astype(np.uint8)), {}),
        (lambda x, p: jnp.take(x, p, mode="clip"), (LINE, ORDER.astype(np.uint32)), {}),
        (lambda x, p: jnp.zeros_like(x).at[p].add(x), (LINE, ORDER), {}),
        (lambda x, p: jax.ops.segment_sum(x, p, 5), (LINE, ORDER), {}),
        (lambda x: x[jnp.sum(x >= 0) - 1], (np.array([3, 5, 7, 2, 9], np.int32),), {"pad_value": -1}),
        (lambda x, q: jnp.digitize(q, x), (LINE, np.linspace(-1, 6, 9)), {"axes": {"x": 0}, "pad_value": np.inf}),
        (lambda x, mask: jnp.max(jnp.where(mask, x, -1)), (ORDER,), {}),
        (lambda x, mask: jnp.max(x, where=mask, initial=-(2**31)), (MIXED.astype(np.int32),), {}),
        (lambda x: jnp.max(x), (np.array([3, 1, 2], np.uint32),), {}),
        (lambda x: jnp.any(x), (np.array([False, True, False]),), {}),
        (lambda x: jnp.all(x), (np.array([False, True, False]),), {"pad_value": True}),
        (lambda x: jnp.fft.ifft(jnp.fft.fft(jnp.ones(4) * x.sum())),
         (np.random.default_rng(0).normal(size=2000).astype(np.complex64),), {}),
    ],
)  # fmt: skip
def test_programs_that_are_right_for_every_length_pass(function, given, options):
    f = bucketed(function, cache=JitCache(), buckets=(8, 64, 4096), **options)
    extra = {"mask": np.ones(len(given[0]), bool)} if "mask" in inspect.signature(function).parameters else {}
    np.testing.assert_allclose(f(*given), jax.jit(function)(*given, **extra), rtol=1e-4, atol=1e-4)


NOTHING_BUT_ROUNDING = [
    lambda x, mask: (x - jnp.mean(x, where=mask)) / (jnp.std(x, where=mask) + 1e-6),
    lambda x, mask: jnp.sum((x > jnp.mean(x, where=mask)) & mask),
    lambda x, mask: jnp.floor(jnp.sum(jnp.where(mask, 10 * x, 0)) / jnp.sum(jnp.where(mask, x, 0))).astype(int),
]


@pytest.mark.parametrize("function", NOTHING_BUT_ROUNDING)
def test_an_answer_that_roundings_decide_is_no_wrong_one(function):
    for value in np.random.default_rng(0).normal(size=10):
        bucketed(function, cache=JitCache(), buckets=(64,))(np.full(33, value, np.float32))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_none_of_which_is_finite_are_compared_without_a_warning(value):
    f = bucketed(lambda x: x * 2, cache=JitCache(), buckets=(8,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # as an error, the check would pass over it
        np.testing.assert_array_equal(f(np.full(5, value, np.float32)), np.full(5, value, np.float32))
    assert caught == []


@pytest.mark.parametrize("options", [{"max_compiles": 5}, {"key": lambda x: x.shape}])
def test_what_the_cache_takes_can_be_given(options):
    assert bucketed(lambda x: x * 2, cache=JitCache(), buckets=(8,), **options)(np.ones(3)).tolist() == [2, 2, 2]


def test_numbers_that_the_caller_did_not_give_neither_loop_for_ever_nor_are_printed_nor_raise(capfd):
    countdown = lambda x: jax.lax.while_loop(lambda v: jnp.any(v != 0), lambda v: jnp.where(v != 0, v - 1, v), x)  # noqa: E731
    x = np.array([1, 2, 3, 2, 1], np.float32)
    assert bucketed(countdown, cache=JitCache(), buckets=(8,))(x).tolist() == [0] * 5

    def telling(x):
        jax.debug.print("saw {}", x[0])
        return x * 2

    bucketed(telling, cache=JitCache(), buckets=(8,))(x)
    jax.effects_barrier()
    assert set(capfd.readouterr().out.split()) == {"saw", "1.0"}
    with jax.debug_nans(True):
        bucketed(lambda x: jnp.arcsin(x), cache=JitCache(), buckets=(8,))(np.ones(5, np.float32))


def test_values_that_a_program_does_not_take_say_nothing_of_it():
    f = bucketed(lambda x, mask: jnp.log(jnp.where(mask, x, 1)).sum(), cache=JitCache(), buckets=(4,))
    with jax.debug_nans(True):
        assert float(f(np.ones(3, np.float32))) == 0


@pytest.mark.parametrize("committed", [False, True])
def test_weak_types_stay_weak(committed):
    def scaled(x):
        return x * jnp.ones(1, jnp.bfloat16), x + 1

    x = jnp.broadcast_to(3.0, 5)
    x = jax.device_put(x, jax.devices()[0]) if committed else x
    assert x.weak_type
    for one in (x, jnp.asarray(np.ones(5, np.float32))):
        got, exact = bucketed(scaled, cache=JitCache(), buckets=(8,))(one), jax.jit(scaled)(one)
        assert [a.aval for a in got] == [a.aval for a in exact]
        assert [a.tolist() for a in got] == [a.tolist() for a in exact]


def test_an_answer_of_another_type_is_another_answer():
    f = bucketed(
        lambda x: jnp.ones((), jnp.float16 if x.shape[0] == 3 else jnp.float32), cache=JitCache(), buckets=(4,)
    )
    with pytest.raises(PaddingError, match="the output is float32 instead of float16"):
        f(np.ones(3, np.float32))


def test_declared_axes_may_be_named_as_the_output_is():
    class Moments(NamedTuple):
        centred: jax.Array
        mean: jax.Array

    def moments(x, mask):
        mean = jnp.mean(x, where=mask)
        return Moments(x - mean, mean)

    f = bucketed(moments, cache=JitCache(), buckets=(4,), out_axes=Moments(0, None))
    got = f(np.array([1, 2, 3], np.float32))
    assert (got.centred.tolist(), float(got.mean)) == ([-1, 0, 1], 2)
    f = bucketed(moments, cache=JitCache(), buckets=(4,), out_axes=(0, None))
    with pytest.raises(ValueError, match=r"out_axes=\(0, None\) does not fit the output: it has nothing at .centred"):
        f(np.array([1, 2, 3], np.float32))


def test_programs_that_might_not_end_are_compared_for_the_callers_numbers_only():
    def halve(x, mask):
        return jax.lax.while_loop(lambda s: jnp.sum(s, where=mask) != 0, lambda s: jnp.maximum(s - 1, 0), x)

    f = bucketed(lambda x, mask: halve(jnp.where(x < 0, jnp.nan, x), mask), cache=JitCache(), buckets=(8,))
    assert f(np.arange(5, dtype=np.float32)).tolist() == [0] * 5


def test_a_call_that_is_padded_much_more_than_those_compared_is_compared_again():
    tail = lambda x: jnp.sum(jnp.where(jnp.arange(x.shape[0]) < 6, jnp.exp(x), 0))  # noqa: E731
    f = bucketed(tail, cache=JitCache(), buckets=(8,))
    assert f(np.ones(7, np.float32)) == pytest.approx(6 * math.e, rel=1e-6)
    with pytest.raises(PaddingError, match="padded from 4 to 8"):
        f(np.ones(4, np.float32))


def test_infinities_of_other_sign_are_another_answer():
    f = bucketed(lambda x: jnp.where(x[-1] == 0, 1, -1) * jnp.inf, cache=JitCache(), buckets=(8,))
    with pytest.raises(PaddingError, match="differs by inf"):
        f(np.ones(5, np.float32))


def test_what_was_not_proved_at_symbolic_lengths_is_looked_at_for_each_length():
    def rounded_up(x):
        return jnp.zeros(2 ** math.ceil(math.log2(int(x.shape[0]))))

    f = bucketed(rounded_up, cache=JitCache(), buckets=(8,))
    assert f(np.ones(5)).shape == (8,)
    with pytest.raises(PaddingError, match="cannot be trimmed"):
        f(np.ones(3))


def test_constants_can_be_padded_inside_another_program():
    f = bucketed(lambda x: x + 1, cache=JitCache(), buckets=(8,))
    assert jax.jit(lambda y: y + f(np.ones(3, np.float32)))(1.0).tolist() == [3, 3, 3]
    with jax.disable_jit():
        assert np.asarray(f(np.ones(3))).tolist() == [2, 2, 2]


def test_random_keys_are_padded_trimmed_and_compared():
    def draw(key, keys):
        return jax.random.split(key)[0], jax.vmap(jax.random.normal)(keys), keys

    f = bucketed(draw, cache=JitCache(), buckets=(8,))
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), 5)
    for got, exact in zip(f(key, keys), draw(key, keys), strict=True):
        assert got.dtype == exact.dtype
        assert jnp.array_equal(got, exact)


def test_padded_arrays_stay_on_their_devices():
    program = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxcache import JitCache, bucketed
f = bucketed(lambda x: x + 1, cache=JitCache(), buckets=(8,))
second = jax.devices()[1]
assert f(jax.device_put(np.ones(3), second)).devices() == {second}
mesh = Mesh(np.array(jax.devices()), ("rows",))
split = NamedSharding(mesh, PartitionSpec("rows"))
assert f(jax.device_put(np.ones(6), split)).sharding == split
g = bucketed(lambda x: jax.lax.with_sharding_constraint(x, split), cache=JitCache(), buckets=(8,), check=False)
assert g(np.ones(5)).tolist() == [1] * 5  # cannot be split
"""
    run_python(program, env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, check=True)


@pytest.mark.parametrize("value", [0.5, -np.inf, np.nan, -1])
def test_padding_that_an_array_cannot_hold_is_refused(value):
    f = bucketed(lambda x: x + 1, cache=JitCache(), buckets=(8,), pad_value=value)
    with pytest.raises(ValueError, match=r"pad_value .* is none of x's type, uint8; give one by name"):
        f(np.ones(5, np.uint8))


def test_a_function_that_is_given_its_arguments_memory_is_checked_too():
    def step(total, count, x, mask):
        return total + jnp.sum(x, where=mask), count + 1

    f = bucketed(step, cache=JitCache(), buckets=(8, 16), axes={"x": 0}, donate_argnums=(0, 1))
    total, count = jnp.zeros(()), jnp.int32(0)
    for length in (3, 5, 12, 7):
        total, count = f(total, count, np.ones(length, np.float32))
    assert (float(total), int(count)) == (27.0, 4)


def test_what_is_known_of_signatures_is_bounded_and_found_out_again(monkeypatch):
    monkeypatch.setattr("jaxcache._padding.bucketed._MOST_REMEMBERED", 2)
    f = bucketed(lambda x: x + 1, cache=JitCache(), buckets=(4,))
    for dtype in (np.float32, np.int32, np.int8, np.uint8, np.float16) * 2:
        np.testing.assert_array_equal(f(np.ones(3, dtype)), np.full(3, 2, dtype))
        assert max(len(f._rules), len(f._checked)) <= 2


def attend(x, mask, scale=1.0):
    return scale * jnp.sum(jnp.where(mask, x, 0)), jnp.where(mask, x, -1)


KEPT = np.array([True, False, True])


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (lambda x, mask: attend(x, mask), (LINE[:3], KEPT), {}),
        (lambda x, mask: attend(x, mask), (LINE[:3],), {"mask": KEPT}),
        (lambda mask, x: attend(x, mask), (KEPT, LINE[:3]), {}),
        (lambda x, *, mask: attend(x, mask), (LINE[:3],), {"mask": KEPT}),
        (attend, (LINE[:3], KEPT), {}),
        (attend, (LINE[:3], jnp.asarray(KEPT), 2.0), {}),
        (attend, (LINE[:3], KEPT), {"scale": 2.0}),
        (lambda x, mask: attend(x, mask > 0), (LINE[:3], KEPT.astype(np.float32)), {}),
        (lambda x, mask, length=3: attend(x, mask, length), (LINE[:3], KEPT), {}),
        (lambda x, mask, length: attend(x, mask, length), (LINE[:3], KEPT, 3), {}),
        (lambda x, length: (jnp.sum(x) / length,), (LINE[:3], 2), {}),
    ],
)
def test_a_mask_or_length_of_the_callers_own_is_an_argument_as_any_other(function, args, kwargs):
    f = bucketed(function, cache=JitCache(), buckets=(8,))
    for got, exact in zip(f(*args, **kwargs), function(*args, **kwargs), strict=True):
        np.testing.assert_allclose(got, exact)


def test_a_mask_of_the_callers_own_leaves_padding_out_whatever_else_is_padded_with():
    f = bucketed(attend, cache=JitCache(), buckets=(8,), pad_value=7)
    assert float(f(LINE[:3], KEPT)[0]) == 2
    wrong = bucketed(lambda x, mask: x.mean() + 0 * mask.sum(), cache=JitCache(), buckets=(8,))
    with pytest.raises(PaddingError, match="The call gives it a parameter `mask`, but padding gets past it"):
        wrong(LINE[:3], KEPT)


def test_a_mask_that_is_static_or_has_an_axis_is_never_handed_over():
    f = bucketed(lambda x, mask=True: x + mask, cache=JitCache(), buckets=(4,), static_argnames="mask")
    assert (f(np.ones(3)).tolist(), f(np.ones(3), False).tolist()) == ([2, 2, 2], [1, 1, 1])
    g = bucketed(attend, cache=JitCache(), buckets=(8,), axes={"x": 0, "mask": 0})
    assert float(g(LINE[:3], KEPT)[0]) == 2
    with pytest.raises(TypeError, match="missing a required argument: 'mask'"):
        g(LINE[:3])


def test_what_stands_where_a_mask_that_is_handed_over_would_is_the_next_argument():
    f = bucketed(attend, cache=JitCache(), buckets=(8,))
    assert (float(f(LINE[:3])[0]), float(f(LINE[:3], 2.0)[0]), float(f(LINE[:3], scale=3.0)[0])) == (3, 6, 9)
    with pytest.raises(TypeError, match="too many positional arguments"):
        f(LINE[:3], KEPT, 2.0, 3.0)


SHARED = JitCache("64MiB")


@bucketed(cache=SHARED, buckets=(4, 8))
def shared_mean(x, mask):
    return jnp.mean(x, where=mask)


def test_a_bucketed_function_is_explained_warmed_and_cleared_by_its_buckets():
    cache = JitCache()
    f = bucketed(masked_mean, cache=cache, buckets=(4, 8), check=False)
    x, shape = np.ones(3, np.float32), jax.ShapeDtypeStruct((2,), np.float32)
    for described in (x, shape, jnp.asarray(x)):
        assert (cache.explain(f, described).outcome, f.explain(described).outcome) == ("miss", "miss")
    assert (f.warm(shape), f.warm(x, (x,), Call(x=x))) == (1, 0)  # all are of one bucket
    with count_compiles() as compiles:
        f(x)
    assert (compiles, cache.explain(f, shape).outcome, cache.explain(f, np.ones(5, np.float32)).outcome) == (
        [0], "hit", "miss",
    )  # fmt: skip
    assert f.stats().calls == 1
    f.clear()
    assert (cache.stats().live_bytes, cache.explain(f, x).outcome) == (0, "miss")
    f(x)
    cache.clear(f)
    f(x)
    f.clear_cache()
    assert cache.stats().live_bytes == 0


def test_a_bucketed_function_of_another_cache_is_not_explained():
    with pytest.raises(TypeError, match="fun must be a function from jit of this cache"):
        JitCache().explain(shared_mean, np.ones(3))


@pytest.mark.parametrize("options", [{"static_argnums": 0, "axes": {"x": 0}}, {"static_argnames": "self"}])
def test_methods_are_bucketed_in_their_class(options):
    cache = JitCache()

    class Model:
        def __init__(self, scale):
            self.scale = scale

        @bucketed(cache=cache, buckets=(4, 8), **options)
        def total(self, x, mask, power=1):
            return self.scale * jnp.sum(jnp.where(mask, x, 0)) ** power

    double, triple, x = Model(2), Model(3), np.ones(3, np.float32)
    assert (float(double.total(x)), float(triple.total(x)), float(double.total(x, power=2))) == (6, 9, 18)
    assert (cache.explain(double.total, x).outcome, cache.explain(Model(4).total, x).outcome) == ("hit", "miss")
    assert Model.total.stats().calls == 3


def test_a_pytree_can_be_the_self_of_a_bucketed_method():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Model:
        weights: jax.Array

        @bucketed(cache=SHARED, buckets=(4, 8), axes={"x": 0})
        def __call__(self, x, mask):
            return jnp.sum(jnp.where(mask[:, None], x * self.weights, 0), 0)

    assert Model(jnp.arange(2.0))(np.ones((3, 2), np.float32)).tolist() == [0, 3]


def test_copies_are_the_function_itself_and_pickles_lead_to_it():
    assert copy.copy(shared_mean) is copy.deepcopy(shared_mean) is shared_mean
    assert pickle.loads(pickle.dumps(shared_mean)) is shared_mean


def test_pickles_of_functions_without_a_name_take_a_cache_of_the_same_limit():
    f = bucketed(masked_mean, cache=JitCache("32MiB"), buckets=(4, 8), max_deviation=1.5, pad_value=7)
    other = pickle.loads(pickle.dumps(f))
    x = np.array([1, 2, 6], np.float32)
    assert (float(other(x)), other.stats().by_bucket) == (3, {(4,): 1})
    assert other._limit_bytes == 32 * 2**20


def test_a_signal_handler_may_call_a_bucketed_function_at_any_point_of_a_call():
    cache = JitCache()
    f = bucketed(lambda x: x + 1, cache=cache, buckets=(4, 8), check=False)
    x, answers = np.ones(3, np.float32), []
    f(x)

    def watch(frame, event, _argument):
        return handle if frame.f_code.co_name == "_count" else None

    def handle(frame, event, _argument):
        """Do what a handler would that runs before this line."""
        if event == "line":
            sys.settrace(None)
            answers.append((f(x), f.stats().calls))
            sys.settrace(watch)
        return handle

    def call():
        sys.settrace(watch)
        answers.append((f(x), f.stats().calls))
        sys.settrace(None)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(timeout=30)
    assert not caller.is_alive()
    assert len(answers) > 4
    assert all(np.array_equal(answer, [2.0, 2.0, 2.0]) for answer, _ in answers)
    assert answers[-1][1] == 1 + len(answers)


@pytest.mark.parametrize(
    "compares",
    [
        lambda x, y: jnp.max(x - y),
        lambda x, y: jnp.max(x * y),
        lambda x, y: jnp.min(x / (1 + jnp.abs(y))),
        lambda x, y: jnp.any(jnp.isclose(x, y)),
    ],
)
def test_what_compares_two_padded_arrays_is_refused(compares):
    x, y = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    with pytest.raises(PaddingError, match="pad"):
        bucketed(compares, cache=JitCache(), buckets=(16,))(x, y)


@pytest.mark.parametrize(
    "sums", [lambda x, y: x @ y, lambda x, y: jnp.sum((x - y) ** 2), lambda x, y: jnp.abs(x - y), lambda x, y: x > y]
)
def test_what_compares_element_by_element_is_padded(sums):
    x, y = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    np.testing.assert_allclose(bucketed(sums, cache=JitCache(), buckets=(16,))(x, y), sums(x, y), rtol=1e-5)
