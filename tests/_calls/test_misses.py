"""Why a call missed: each cause is brought about, and told before the call and after it."""

import functools
import gc
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import Call, CompileLimitExceeded, Cost, JitCache, MissStormWarning
from jaxcache._calls.misses import STORM_MISSES, STORM_SECONDS, Miss, StormWatch
from tests._support.interpreters import run_python

x3, x4 = np.ones(3, np.float32), np.ones(4, np.float32)


def scale(x, by=2.0, *, n=1):
    return jnp.sum(jax.tree.leaves(x)[0]) * by * n


def missed(cache, cached, *args, **kwargs):
    """Explain a call, make it, and return what both say, which must agree."""
    told = cache.explain(cached, *args, **kwargs)
    before = cache.stats()
    cached(*args, **kwargs)
    after = cache.stats()
    assert (told.outcome, after.misses - before.misses) == ("miss", 1)
    counted = after.recent_misses[-1]
    assert after.misses_by_cause.get(counted.cause, 0) == before.misses_by_cause.get(counted.cause, 0) + 1
    assert told.miss is not None
    assert (counted.call, counted.cause) == (told.miss.call, told.miss.cause)
    return counted


@pytest.mark.parametrize(
    ("first", "second", "cause", "words"),
    [
        (Call(x3), Call(x4), "new_shape", "x axis 0: was 3, is 4"),
        (Call(np.ones((2, 5))), Call(np.ones((2, 7))), "new_shape", "x axis 1: was 5, is 7"),
        (Call(x3), Call(np.ones((3, 1), np.float32)), "new_shape", r"x: was \(3,\), is \(3, 1\)"),
        (Call(x3), Call(np.ones(3, np.int32)), "new_dtype", "x: was float32, is int32"),
        (Call(x3, np.float32(1)), Call(x3, 1.0), "weak_type", "by: was strong, is weak"),
        (Call(x3, n=1), Call(x3, n=2), "static_value", "n: was 1, is 2"),
        (Call(x3, n=1), Call(x3, n=True), "static_value", "n: was 1, is True"),
        (Call({"a": x3}), Call({"a": x3, "b": x4}), "tree_structure", r"was 1 arrays, is 2 arrays \(with x\['b'\]\)"),
        (Call([x3]), Call((x3,)), "tree_structure", "x: was list, is tuple"),
        (Call(x3), Call(x3, 2.0), "tree_structure", r"with by\)"),
        (Call(x3), Call(jax.device_put(x3, jax.devices()[0])), "device_or_sharding", "x: was not committed, is Single"),
        (Call(x3, np.ones(3, np.int32)), Call(x4, np.ones(4, np.float32)), "new_dtype", "x axis 0: was 3, is 4"),
    ],
)
def test_what_changed_is_named_from_what_to_what(first, second, cause, words):
    cache = JitCache()
    f = cache.jit(scale, static_argnames="n")
    assert missed(cache, f, *first.args, **first.kwargs).cause == "first_call"
    miss = missed(cache, f, *second.args, **second.kwargs)
    assert miss.cause == cause == miss.differences[0].kind
    assert re.search(words, miss.reason), miss.reason


def test_a_changed_configuration_is_named():
    cache = JitCache()
    f = cache.jit(scale)
    f(x3)
    with jax.enable_x64(True):
        miss = missed(cache, f, x3)
    assert (miss.cause, miss.differences[0].place) == ("config_context", "jax_enable_x64")
    assert "was False, is True" in miss.reason
    with jax.default_matmul_precision("float32"):
        assert "jax_default_matmul_precision" in missed(cache, f, x3).reason


def test_an_argument_that_is_given_otherwise_is_told_by_how_it_was_given():
    cache = JitCache()
    f = cache.jit(lambda x, y=None, n=1: x * n, static_argnames="n")
    f(x3, n=2)
    for args, kwargs, cause, said in (
        ((x3, None, 3), {}, "static_value", "n: was 2, is 3"),
        ((x3, None), {"n": 2}, "tree_structure", "by keyword, by position or not at all: was <lambda>(float32[3]"),
        ((x3, None, 2), {}, "tree_structure", "is <lambda>(float32[3], , 2=2)"),
    ):  # fmt: skip
        miss = cache.explain(f, *args, **kwargs).miss
        assert (miss.cause, said in miss.reason) == (cause, True), miss.reason


def test_static_values_of_equal_text_are_told_apart():
    class Setting:
        def __call__(self):
            return 1

    cache = JitCache()
    f = cache.jit(lambda x, setting: x + setting(), static_argnums=1)
    f(x3, Setting())
    miss = missed(cache, f, x3, Setting())
    assert miss.cause == "static_value"
    assert "setting: was <test_static" in miss.reason
    assert "another <test_static" in miss.reason


def test_the_most_similar_signature_is_compared_with():
    cache = JitCache()
    f = cache.jit(scale)
    f({"a": x3, "b": x3}), f([x3]), f({"a": x4, "b": x4})
    miss = missed(cache, f, {"a": x4, "b": np.ones(5, np.float32)})
    assert miss.reason == "new shape: x['b'] axis 0: was 4, is 5"


def test_an_eviction_names_for_whom_and_how_long_ago():
    cache = JitCache(400 * 1024, "lru")
    f, g = cache.jit(scale), cache.jit(lambda y: y * 3)
    f(x3), g(x3), g(x3)
    miss = missed(cache, f, x3)
    assert miss.cause == "evicted"
    assert re.search(r"evicted 2 requests and \d+\.\d s ago to make room for <lambda>\(float32\[3\]\)", miss.reason)


def test_a_signature_is_known_again_when_jax_has_made_its_abstract_values_anew():
    cache = JitCache()
    pair, total = cache.jit(lambda x: jnp.stack([x, x], 1)), cache.jit(jnp.sum)
    total(pair(x3))
    cache.clear()
    jax.clear_caches()  # JAX interns abstract values weakly: the one of [3, 2] is dropped here unless somebody has it
    gc.collect()
    others = [jax.typeof(np.ones((n, 5, 2))) for n in range(20)]  # may take its place in memory
    total(pair(x3))
    assert len(others) == 20
    assert cache.stats().misses_by_cause == {"first_call": 2, "cleared": 2}


def test_what_was_not_kept_or_cleared_is_told_apart():
    cache = JitCache("64MiB", "lru")
    f = cache.jit(scale)
    f(x3)
    cache.clear(f)
    assert missed(cache, f, x3).cause == "cleared"
    small = JitCache(1000)
    g = small.jit(scale)
    with pytest.warns(RuntimeWarning, match="more than the limit"):
        g(x3)
    assert missed(small, g, x3).cause == "not_kept"


def test_a_function_that_is_created_again_is_named_with_its_place():
    cache = JitCache()

    def step(x):
        return cache.jit(lambda y: y + 1)(x)

    step(x3)
    step(x3)
    miss = cache.stats().recent_misses[-1]
    line = step.__code__.co_firstlineno + 1
    assert miss.cause == "function_recreated"
    assert f"test_misses.py:{line}" in miss.reason
    assert "called so before" in miss.reason
    step(x4)  # a signature that is new to all of them
    miss = cache.stats().recent_misses[-1]
    assert miss.cause == "function_recreated"
    assert "called with other arguments before" in miss.reason


def test_partials_and_methods_that_are_created_again_are_noticed():
    cache = JitCache()

    class Model:
        def step(self, x):
            return x * 2

    for _ in range(2):
        cache.jit(functools.partial(scale, by=3.0))(x3)
        cache.jit(Model().step)(x3)
    assert cache.stats().misses_by_cause == {"first_call": 2, "function_recreated": 2}


def test_a_new_value_of_the_callers_key_is_its_own_cause():
    cache = JitCache()
    f = cache.jit(scale, key=lambda x: len(x) // 4)
    f(x3)
    miss = missed(cache, f, x4)
    assert (miss.cause, "new value of key=" in miss.reason) == ("own_key", True)


def test_causes_are_counted_by_function_too():
    cache = JitCache()
    f, g = cache.jit(scale), cache.jit(lambda y: y * 3)
    f(x3), f(x4), g(x3)
    by_function = cache.stats().by_function
    assert by_function["scale"].misses_by_cause == {"first_call": 1, "new_shape": 1}
    assert by_function["<lambda>" if "<lambda>" in by_function else "g"].misses_by_cause == {"first_call": 1}


def test_explain_compiles_runs_and_counts_nothing():
    ran = []
    cache = JitCache()
    f = cache.jit(lambda x: ran.append(1) or x + 1)
    told = cache.explain(f, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert str(told) == "<lambda>(float32[3]) misses: first call of the function"
    assert (ran, cache.stats()) == ([], JitCache().stats())
    f(x3), f(x3)
    assert str(cache.explain(f, x3)) == "<lambda>(float32[3]) is a hit; 1 before it"
    with jax.disable_jit():
        assert cache.explain(f, x3).outcome == "bypassed"


def test_explain_takes_methods_and_refuses_what_is_not_its_own():
    cache = JitCache()

    class Model:
        @functools.partial(cache.jit, static_argnums=0)
        def step(self, x):
            return x * 2

    model = Model()
    model.step(x3)
    assert isinstance(model.step, types.MethodType)
    assert cache.explain(model.step, x3).outcome == "hit"
    cache.clear(model.step)
    assert cache.explain(model.step, x3).miss.cause == "cleared"
    for stranger in (scale, jax.jit(scale), JitCache().jit(scale)):
        with pytest.raises(TypeError, match="fun must be a function from jit of this cache"):
            cache.explain(stranger, x3)


def test_a_storm_of_one_cause_is_told_once_with_the_way_out():
    cache = JitCache()
    f = cache.jit(lambda x: x + 1)
    told = r"test_misses\.py:\d+\) missed 30 times .* new shape; .* pad the argument"
    with pytest.warns(MissStormWarning, match=told) as caught:
        [f(np.ones(n, np.float32)) for n in range(1, STORM_MISSES + 15)]
    assert len(caught) == 1


def test_a_storm_needs_one_cause_of_one_function_in_a_short_time():
    now = [0.0]
    watch = StormWatch(lambda: now[0])

    def notes(count, cause="new_shape", function="f", step=0.0):
        told = []
        for _ in range(count):
            now[0] += step
            told.append(watch.record(function, "", Miss("f()", cause, "why")))
        return [one for one in told if one]

    slow = STORM_SECONDS / STORM_MISSES * 1.1
    assert notes(200, step=slow) == []
    assert notes(STORM_MISSES - 1, function="g") == notes(STORM_MISSES - 1, "weak_type", "g") == []
    assert notes(200, "first_call", "h") == []  # each function has one
    assert len(notes(200)) == 1


def test_more_programs_than_max_compiles_are_refused_with_the_reason():
    cache = JitCache(max_compiles=2)
    f = cache.jit(scale)
    f(x3), f(x3), f(x4)
    with pytest.raises(CompileLimitExceeded, match=r"max_compiles=2 .* scale\(float32\[5\]\) .* was 4, is 5"):
        f(np.ones(5, np.float32))
    assert f(x4) == 8
    assert (cache.stats().misses, cache.stats().compiled) == (2, 2)
    g = JitCache().jit(scale, max_compiles=1)
    g(x3)
    with pytest.raises(CompileLimitExceeded, match="allows scale no more programs"):
        g(x4)
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="max_compiles must be a whole number"):
            JitCache(max_compiles=wrong)


def test_a_compile_that_fails_is_not_counted_against_max_compiles():
    cache = JitCache(max_compiles=1)
    f = cache.jit(lambda x: x @ jnp.ones((7, 7)))
    for _ in range(3):
        with pytest.raises(TypeError):
            f(x3)
    assert f(np.ones(7)).shape == (7,)


class Broken:
    """A policy of the caller's own that fails in one method from some call on."""

    def __init__(self, method, wrong):
        self.keys, self.method, self.wrong = [], method, wrong

    def _maybe(self, method):
        if method == self.method:
            self.wrong()

    def add(self, key, size, cost):
        self._maybe("add")
        self.keys.append(key)

    def hit(self, key):
        self._maybe("hit")

    def victim(self):
        self._maybe("victim")
        return -1 if self.method == "stranger" else self.keys[0]

    def remove(self, key):
        self._maybe("remove")
        self.keys.remove(key)

    def admit(self, key, size, cost):
        self._maybe("admit")
        return True


@pytest.mark.parametrize("method", ["add", "hit", "victim", "remove", "admit", "stranger"])
def test_a_policy_that_fails_is_named_once_and_lru_takes_its_place(method):
    def wrong():
        raise ZeroDivisionError("my mistake")

    costs = {f"scale(float32[{n}])": Cost(1000, 1.0) for n in range(1, 9)}
    cache = JitCache(2500, Broken(method, wrong), costs=costs)
    f = cache.jit(scale)
    lengths = (1, 2, 1, 3, 1, 4, 5, 1)
    with pytest.warns(RuntimeWarning, match=r"the eviction policy Broken failed in \w+ \(.*; from here on lru decides"):
        results = [float(f(np.ones(n, np.float32))) for n in lengths]
    assert results == [2.0 * n for n in lengths]
    stats = cache.stats()
    assert stats.live_bytes <= 2500
    assert stats.hits + stats.misses == 8
    assert f(np.ones(1, np.float32)) == 2
    assert cache.stats().misses == stats.misses


def test_a_policy_of_the_callers_own_decides():
    class Newest(Broken):
        def victim(self):
            return self.keys[-1]

    costs = {f"scale(float32[{n}])": Cost(1000, 1.0) for n in range(1, 9)}
    cache = JitCache(2500, Newest("none", None), costs=costs)
    f = cache.jit(scale)
    for n in (1, 2, 3, 1):
        f(np.ones(n, np.float32))
    assert (cache.stats().hits, cache.stats().evictions) == (1, 1)
    for wrong in (3, None, jaxcache.POLICIES["lru"], object()):
        with pytest.raises(TypeError, match="eviction must be a name such as 'lru', or an object with the methods"):
            JitCache(1000, wrong)


REDEFINED = """
import numpy as np, jaxcache
cache = jaxcache.JitCache()
cell = "@cache.jit\\ndef f(x):\\n    return x * {}\\n"
for factor in (2, 2, 3):
    exec(compile(cell.format(factor), "<cell>", "exec"))
    assert f(np.ones(3)).tolist() == [factor] * 3
print(dict(cache.stats().misses_by_cause))
"""


def test_a_cell_run_again_is_a_function_recreated_and_one_that_was_edited_is_not():
    done = run_python(REDEFINED, check=True)
    assert done.stdout == "{'first_call': 2, 'function_recreated': 1}\n"


def test_signatures_of_equal_hash_are_remembered_apart():
    """hash(-1) == hash(-2)."""
    cache = JitCache()
    f = cache.jit(lambda x, axis: jnp.sum(x, axis), static_argnums=1)
    x = np.ones((2, 3), np.float32)
    f(x, -1), f(x, -2)
    cache.clear()
    f(x, -1), f(x, -2)
    assert cache.stats().misses_by_cause == {"first_call": 1, "static_value": 1, "cleared": 2}
