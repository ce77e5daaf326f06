"""The way of a hit: one look by JAX's own dispatch, whatever alternates; right, counted, and freed as before."""

import gc
import sys
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import Cost, JitCache
from jaxcache._cache.cached_function import CachedFunction
from jaxcache._jax import fast_dispatch as _jax_dispatch

from .._support.compiles import count_compiles


def live_executables() -> int:
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


class Entered:
    """Names of our functions that were entered."""

    def __enter__(self):
        self.names = []
        sys.setprofile(self.look)
        return self.names

    def look(self, frame, event, _):
        if event == "call" and "/jaxcache/_" in frame.f_code.co_filename:
            self.names.append(frame.f_code.co_name)

    def __exit__(self, *_):
        sys.setprofile(None)


x, wide, weak = jnp.ones(3), jnp.ones(5), jnp.asarray(1.0) * 1
strong = jnp.float32(1)
placed = jax.device_put(x, jax.devices()[0])
host = np.ones(3, np.float32)
tree = {f"layer{n}": {"weights": jnp.ones(3), "bias": jnp.ones(2)} for n in range(30)}
ALTERNATIONS = {
    "jax and numpy arrays": [(x, x), (host, host), (x, host), (host, x)],
    "weak and strong types": [(x, weak), (x, strong)],
    "python scalars and arrays": [(x, 1), (x, 1.0), (x, True), (x, x), (x, np.float32(1)), (x, np.int32(1))],
    "committed and uncommitted": [(x, x), (placed, placed), (x, placed)],
    "shapes": [(x, x), (wide, wide), (x, 1.0)],
    "dtypes": [(x, jnp.arange(3)), (x, jnp.ones(3, bool)), (x, x)],
}


@pytest.mark.parametrize("calls", ALTERNATIONS.values(), ids=ALTERNATIONS)
def test_whatever_alternates_a_hit_is_decided_by_one_look(calls):
    def combine(x, y):
        return x + 2 * y

    cache, theirs = JitCache(), jax.jit(combine)
    mine = cache.jit(combine)
    [mine(*call) for call in calls]
    misses = cache.stats().misses
    [mine(*call) for call in calls]
    order = np.random.default_rng(0).integers(len(calls), size=40)
    results = []
    with Entered() as names, count_compiles() as compiles:
        for number in order:
            results.append(mine(*calls[number]))
    assert (names, compiles) == (["__call__"] * len(order), [0])
    for number, result in zip(order, results, strict=True):
        expected = theirs(*calls[number])
        assert (result.dtype, result.weak_type) == (expected.dtype, expected.weak_type)
        assert result.committed == expected.committed
        assert np.array_equal(result, expected)
    stats = cache.stats()
    assert (stats.misses, stats.hits) == (misses, len(calls) * 2 - misses + len(order))


@pytest.mark.parametrize("options", [{"static_argnums": 1}, {"static_argnames": "n"}])
def test_static_values_at_random_are_decided_by_one_look(options):
    cache = JitCache()
    f = cache.jit(lambda x, n: x * n, **options)
    calls = [(n,) if "static_argnums" in options else (n, "by name") for n in range(1, 9)]

    def call(n, *by_name):
        return f(x, n=n) if by_name else f(x, n)

    [call(*arguments) for arguments in calls * 2]
    order = np.random.default_rng(0).integers(len(calls), size=40)
    with Entered() as names:
        results = [call(*calls[number]) for number in order]
    assert names == ["__call__"] * 40
    assert [result.tolist() for result in results] == [[number + 1.0] * 3 for number in order]
    cache.stats()  # tells the policy
    hits = [one.hits for one in f._jaxcache.function.held.values()]
    assert hits == (1 + np.bincount(order, minlength=8)).tolist()


def test_trees_of_numpy_and_jax_arrays_are_decided_by_one_look():
    def total(tree):
        return sum(map(jnp.sum, jax.tree.leaves(tree)))

    f, on_host = JitCache().jit(total), jax.tree.map(np.asarray, tree)
    for _ in range(2):
        f(tree), f(on_host)
    with Entered() as names:
        assert [float(f(one)) for one in (tree, on_host, on_host, tree)] == [150.0] * 4
    assert names == ["__call__"] * 4


def test_donated_arguments_are_decided_by_one_look_and_really_donated():
    f, theirs = (jit(lambda x: x + 1, donate_argnums=0) for jit in (JitCache().jit, jax.jit))
    for jitted in (f, theirs):
        for _ in range(3):
            jitted(jnp.ones(3)), jitted(host)
    arguments = [jnp.ones(3), host, jnp.ones(3)]
    with Entered() as names:
        results = [f(argument) for argument in arguments]
    assert names == ["__call__"] * 3
    assert [result.tolist() for result in results] == [[2.0] * 3] * 3
    gone = jnp.ones(3)
    assert theirs(gone).tolist() == [2.0] * 3
    assert arguments[0].is_deleted() == arguments[2].is_deleted() == gone.is_deleted()


@pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")
def test_an_evicted_entry_takes_no_other_off_the_short_way_for_long():
    costs = {f"double(float32[{n}])": Cost(1000, 1.0) for n in range(1, 30)}

    def double(x):
        return 2 * x

    cache = JitCache(3000, "lru", costs=costs)
    f, inputs = cache.jit(double), {n: jnp.ones(n) for n in range(1, 9)}
    before = live_executables()
    for newcomer in range(3, 9):
        for n in (1, 2, newcomer, 1, 2, 1, 2):
            assert f(inputs[n]).tolist() == [2.0] * n
        with Entered() as names:
            f(inputs[1]), f(inputs[2])
        assert names == ["__call__"] * 2
        assert cache.stats().variants == live_executables() - before == 3
    assert cache.stats().evictions == 5
    with count_compiles() as compiles:
        f(inputs[3])
    assert compiles == [1]  # evicted, and served by nobody


@pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")
@pytest.mark.parametrize("eviction", ["lru", "gdsf"])
def test_decisions_are_those_of_a_cache_whose_hits_are_all_looked_up(eviction):
    """A caller's own key is looked up at every call: with the signature as the key, the oracle of the short way."""
    names = [f"affine(float32[{n}]{text})" for n in range(1, 7) for text in (", float32[]", ", int32[]")]
    costs = {name: Cost(1000 + 300 * number % 700, 1.0 + number % 3) for number, name in enumerate(names)}

    def affine(x, y):
        return x + y

    draw = np.random.default_rng(5)
    arrays = [[jnp.ones(n), np.ones(n, np.float32)] for n in range(1, 7)]
    requests = [
        (arrays[draw.integers(6)][draw.integers(2)], (np.float32(1), np.int32(1))[draw.integers(2)]) for _ in range(45)
    ]

    def outcomes(**options):
        cache = JitCache(5000, eviction, costs=costs)
        f, misses = cache.jit(affine, **options), []
        for x, y in requests:
            assert np.array_equal(f(x, y), x + y)
            misses.append(cache.stats().misses)
        return misses, cache.stats().evictions

    mine, oracle = outcomes(), outcomes(key=lambda x, y: (x.shape, y.dtype))
    assert mine == oracle
    assert mine[1] > 5


def test_an_entry_cleared_during_its_own_call_is_freed_when_the_call_ends():
    cache, before = JitCache(), live_executables()

    def clear(x):
        cache.clear()
        return x

    @cache.jit
    def f(x):
        return jax.pure_callback(clear, x, x) * 2

    for _ in range(3):  # cleared in its first call, so made each time
        assert f(x).tolist() == [2.0] * 3
    assert cache.stats().variants == 0
    assert live_executables() == before
    clears = cache.clear
    cache.clear = lambda: None
    f(x), f(x)
    cache.clear = clears
    assert f(x).tolist() == [2.0] * 3  # cleared within a hit
    assert cache.stats().variants == 0
    assert live_executables() == before


def test_static_values_are_freed_with_their_entry_however_they_were_served():
    class Setting:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return self.value == other.value

        def __hash__(self):
            return hash(self.value)

    cache, alive = JitCache(), []
    f = cache.jit(lambda x, setting: x + setting.value, static_argnums=1)
    for value in (1, 2):
        for argument in (x, host, x, host):
            setting = Setting(value)
            alive.append(weakref.ref(setting))
            f(argument, setting)
    del setting
    cache.clear()
    jax.clear_caches()  # JAX's own tracing caches hold static values too
    gc.collect()
    assert not any(ref() for ref in alive)


def test_what_a_call_does_within_itself_is_told_from_it():
    """A finaliser, a signal handler or a callback may call the same function while JAX asks us of a call."""
    cache = JitCache()
    f = cache.jit(lambda x: x * 2)
    f(wide)
    inner, entered = [], []

    def call_within(frame, event, _):
        nonlocal left
        if event != "call" or frame.f_code.co_filename != _jax_dispatch.__file__ or entered:
            return
        left -= 1
        if left < 0:
            entered.append(frame.f_code.co_name)
            inner.extend([f(x), f(wide), f(host)])

    left, names = 0, set()
    for nth in range(12):
        if nth % 2:
            cache.clear()
        f._jaxcache.entries.table.forget()  # as after an eviction
        left = nth
        inner.clear(), entered.clear()
        sys.setprofile(call_within)
        try:
            outer = f(x)
        finally:
            sys.setprofile(None)
        assert outer.tolist() == [2.0] * 3, nth
        assert [one.tolist() for one in inner] == [[2.0] * 3, [2.0] * 5, [2.0] * 3][: len(inner)]
        assert [f(one).tolist() for one in (x, wide, host)] == [[2.0] * 3, [2.0] * 5, [2.0] * 3]
        assert {held.description.text: held.live for held in f._jaxcache.function.held.values()} == {
            "<lambda>(float32[3])": True,
            "<lambda>(float32[5])": True,
        }
        names.update(entered)
    assert {"answer", "serve"} <= names


def test_an_interrupt_while_jax_asks_takes_no_call_off_the_short_way():
    cache = JitCache()
    f = cache.jit(lambda x: x * 3)
    f(x), f(x)

    def interrupt(frame, event, _):
        if event == "call" and frame.f_code.co_name == "answer":
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        f(host)
    sys.setprofile(None)
    assert [f(one).tolist() for one in (host, host, x, x)] == [[3.0] * 3] * 4
    with Entered() as names:
        f(host), f(x)
    assert names == ["__call__"] * 2


def test_a_call_that_raises_when_it_runs_is_a_hit_and_raises_what_jit_raises():
    def fail(x):
        if x[0] < 0:
            raise ZeroDivisionError("negative")
        return x

    def program(x):
        return jax.pure_callback(fail, x, x)

    cache, theirs = JitCache(), jax.jit(program)
    mine = cache.jit(program)
    for sign in (1, 1, -1, 1, -1, -1, 1):
        if sign > 0:
            assert np.array_equal(mine(x), theirs(x))
            continue
        with pytest.raises(Exception, match="negative") as expected:
            jax.block_until_ready(theirs(-x))
        with pytest.raises(type(expected.value), match="negative"):
            jax.block_until_ready(mine(-x))
    assert (cache.stats().hits, cache.stats().misses) == (6, 1)


@pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")
def test_threads_that_alternate_while_entries_come_and_go_get_right_results_and_lose_no_count():
    costs = {f"double(float32[{n}])": Cost(1000, 1.0) for n in range(1, 9)}

    def double(x):
        return x * 2

    cache = JitCache(4000, "lru", costs=costs)
    f, wrong, calls = cache.jit(double), [], 150
    inputs = [[jnp.ones(n), np.ones(n, np.float32)] for n in range(1, 7)]

    def call(seed):
        draw = np.random.default_rng(seed)
        for _ in range(calls):
            n, kind = draw.choice(6, p=[0.3, 0.3, 0.3, 0.05, 0.03, 0.02]), draw.integers(2)
            if f(inputs[n][kind]).tolist() != [2.0] * (n + 1):
                wrong.append(n)

    before = live_executables()
    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    stats = cache.stats()
    assert not wrong
    assert stats.hits + stats.misses == 4 * calls
    assert live_executables() - before == stats.variants <= 4
    cache.clear()
    assert live_executables() == before


def test_where_jax_lets_nothing_be_copied_every_call_is_looked_up_and_right(monkeypatch):
    def refuse(*_):
        raise TypeError("not to be copied")

    monkeypatch.setattr(_jax_dispatch, "_copy", refuse)
    cache = JitCache()
    f = cache.jit(lambda x: x * 2)
    for argument in (x, host, x, host, wide):
        assert f(argument).tolist() == jax.jit(lambda x: x * 2)(argument).tolist()
    assert (cache.stats().hits, cache.stats().misses, cache.stats().bypassed) == (3, 2, 0)


def test_programs_with_effects_are_served_each_time():
    seen, cache = [], JitCache()

    @cache.jit
    def f(x):
        jax.debug.callback(lambda y: seen.append(float(y)), x[0])
        return x + 1

    for _ in range(4):
        assert f(x).tolist() == [2.0] * 3
    jax.effects_barrier()
    assert seen == [1.0] * 4
    assert (cache.stats().hits, cache.stats().misses) == (3, 1)


def test_a_wrapper_is_freed_with_the_table_of_its_calls():
    def make():
        captured = jnp.arange(4.0)
        f = JitCache().jit(lambda x: jnp.sum(x) + captured[0])
        for _ in range(3):
            f(x), f(host), f(wide)
        assert isinstance(f, CachedFunction)
        return weakref.ref(captured)

    jnp.arange(4.0)  # compiles a program of its own
    before = live_executables()
    gc.disable()
    try:
        captured = make()
        assert captured() is None
    finally:
        gc.enable()
    assert live_executables() <= before
