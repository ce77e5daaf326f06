"""The cache: what is compiled, what is held, what is counted."""

import functools
import gc
import importlib
import pickle
import sys
import threading
import warnings
import weakref

import cachetools
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxcache
from jaxcache import Cost, JitCache, bucketed

from .._support.compiles import count_compiles

UNDER_STORM = pytest.mark.filterwarnings("ignore::jaxcache.MissStormWarning")


def double(x):
    return jnp.sum(x) * 2


def column(x):
    """Return the vector as a column: XLA compiles this in a quarter of the time that ``double`` takes."""
    return x.reshape(-1, 1)


def live_executables() -> int:
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


def test_a_second_call_with_the_same_signature_does_not_compile():
    f = JitCache().jit(double)
    f(np.ones(3, np.float32))
    with count_compiles() as compiles:
        results = [float(f(np.ones(3, np.float32))) for _ in range(3)]
    assert compiles == [0]
    assert results == [6, 6, 6]


def test_what_jax_compiles_once_the_cache_compiles_once():
    """NumPy and JAX arrays of one shape share a program, as under jax.jit; so do equal Python numbers."""
    x = jnp.ones(5)
    f = JitCache().jit(lambda x, y: x * y)
    f(x, 2.0)
    with count_compiles() as compiles:
        f(np.ones(5, np.float32), 3.0)
        f(x, -1.0)
    assert compiles == [0]


def test_an_evicted_signature_compiles_again_and_one_that_stayed_does_not():
    cache = JitCache(800 * 1024, "lru")  # room for two small programs
    f = cache.jit(double)
    a, b, c = (np.ones(n, np.float32) for n in (3, 4, 5))
    f(a), f(b), f(c)
    assert cache.stats().evictions == 1
    with count_compiles() as compiles:
        f(c), f(b)
    assert compiles == [0]
    with count_compiles() as compiles:
        f(a)
    assert compiles == [1]


def test_eviction_and_clear_free_the_executables():
    before = live_executables()
    cache = JitCache(1024**2, "lru")
    f = cache.jit(lambda x: jnp.sum(jnp.sin(x)))
    for n in range(1, 13):
        f(np.ones(n, np.float32))
    held = cache.stats().variants
    assert 0 < held < 12
    assert live_executables() - before == held
    cache.clear()
    assert live_executables() == before


def test_a_function_that_is_dropped_frees_its_executables_and_keeps_its_counts():
    cache = JitCache()
    before = live_executables()
    f = cache.jit(lambda x: x - 1)
    f(np.ones(3)), f(np.ones(3))
    del f
    gc.collect()
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.variants, stats.live_bytes) == (1, 1, 0, 0)
    assert live_executables() == before


def test_clear_of_one_function_leaves_the_others():
    cache = JitCache()
    f, g = cache.jit(double), cache.jit(jnp.cumsum)
    f(np.ones(3)), g(np.ones(3))
    cache.clear(f)
    with count_compiles() as compiles:
        g(np.ones(3))
    assert compiles == [0]
    with count_compiles() as compiles:
        f(np.ones(3))
    assert compiles == [1]
    assert cache.stats().misses_by_cause == {"first_call": 2, "cleared": 1}


def test_the_context_manager_clears_at_the_end_and_the_function_goes_on():
    with JitCache() as cache:
        f = cache.jit(double)
        f(np.ones(3))
    assert cache.stats().variants == 0
    assert f(np.ones(3)) == 6


@UNDER_STORM
@pytest.mark.parametrize("eviction", sorted(jaxcache.POLICIES))
def test_the_limit_holds_and_every_call_is_counted_once(eviction):
    limit = 900 * 1024
    cache = JitCache(limit, eviction)
    f = cache.jit(column)
    draw = np.random.default_rng(0)
    for calls, n in enumerate(draw.integers(1, 9, size=40), start=1):
        assert f(np.ones(n, np.float32)).shape == (n, 1)
        stats = cache.stats()
        assert stats.live_bytes <= limit
        assert stats.hits + stats.misses == calls
        assert stats.misses == sum(stats.misses_by_cause.values()) == stats.compiled
        assert stats.variants == stats.by_function["column"].live_entries
        assert stats.variants + stats.evictions + stats.rejected == stats.misses
    assert stats.hits > 0
    assert stats.misses_by_cause["first_call"] == 1
    assert stats.misses_by_cause["new_shape"] == 7


@settings(max_examples=4)
@given(st.lists(st.integers(1, 6), min_size=20, max_size=40))
def test_hits_and_misses_of_lru_are_those_of_cachetools(lengths):
    """With the weights of a cost table, so that both bound the same bytes."""
    sizes = {n: (1 + n % 3) * 1000 for n in range(1, 7)}
    table = {f"column(float32[{n}])": Cost(size, 1.0) for n, size in sizes.items()}
    cache, oracle = JitCache(5000, "lru", costs=table), cachetools.LRUCache(5000, getsizeof=sizes.__getitem__)
    f = cache.jit(column)
    hits = 0
    for n in lengths:
        f(np.ones(n, np.float32))
        if n in oracle:
            hits += 1
            oracle[n]
        else:
            oracle[n] = n
        assert cache.stats().hits == hits
        assert cache.stats().live_bytes == oracle.currsize


@UNDER_STORM
def test_a_cost_table_repeats_the_decisions_of_a_cost_aware_policy(tmp_path):
    lengths = np.random.default_rng(3).integers(1, 8, size=60)

    def run(costs):
        cache = JitCache(800 * 1024, "gdsf", costs=costs)
        f = cache.jit(column)
        outcomes = []
        for n in lengths:
            before = cache.stats().misses
            f(np.ones(n, np.float32))
            outcomes.append(cache.stats().misses - before)
        return outcomes, cache

    first, cache = run({f"column(float32[{n}])": Cost(300_000, float(n)) for n in range(1, 8)})
    cache.costs().save(tmp_path / "costs.json")
    second, again = run(tmp_path / "costs.json")
    assert first == second
    assert again.stats().cost_seconds == pytest.approx(cache.stats().cost_seconds)
    assert first != run({f"column(float32[{n}])": Cost(300_000, 1.0 / n) for n in range(1, 8)})[0]


def test_compile_seconds_are_those_of_lowering_and_compiling():
    cache = JitCache()
    f = cache.jit(lambda x: jnp.linalg.norm(jnp.sin(x) @ x.T))
    assert cache.stats().compile_seconds == 0  # wrapping is not compiling
    f(np.ones((8, 8), np.float32))
    first = cache.stats().compile_seconds
    assert 0.005 < first < 60
    f(np.ones((8, 8), np.float32))
    stats = cache.stats()
    assert stats.compile_seconds == first
    assert stats.compile_seconds_avoided == pytest.approx(first)


def test_a_program_larger_than_the_limit_runs_is_not_kept_and_is_warned_about_once():
    cache = JitCache(1000, "lru")
    f = cache.jit(double)
    with pytest.warns(RuntimeWarning, match=r"double\(float32\[3\]\) weighs .* more than the limit of 1000 B"):
        assert f(np.ones(3, np.float32)) == 6
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert f(np.ones(3, np.float32)) == 6
    assert caught == []
    stats = cache.stats()
    assert (stats.misses, stats.rejected, stats.variants) == (2, 2, 0)
    assert stats.misses_by_cause == {"first_call": 1, "not_kept": 1}


def test_equal_misses_of_many_threads_compile_once():
    cache = JitCache()
    f = cache.jit(lambda x: jnp.sum(jnp.cos(x) @ x))
    x = np.ones((20, 20), np.float32)
    start, results = threading.Barrier(8), []

    def call():
        start.wait()
        results.append(float(f(x)))

    threads = [threading.Thread(target=call) for _ in range(8)]
    with count_compiles() as compiles:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert compiles == [1]
    assert len(set(results)) == 1
    assert (cache.stats().misses, cache.stats().hits) == (1, 7)


@UNDER_STORM
def test_threads_get_right_results_while_entries_come_and_go():
    cache = JitCache(700 * 1024, "gdsf")
    f = cache.jit(column)
    wrong = []

    def call(seed):
        for n in np.random.default_rng(seed).integers(1, 9, size=60):
            if f(np.ones(n, np.float32)).shape != (n, 1):
                wrong.append(n)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert not wrong
    assert stats.hits + stats.misses == 240
    assert stats.live_bytes == sum(function.live_bytes for function in stats.by_function.values()) <= 700 * 1024


def test_the_lock_is_free_while_a_program_compiles():
    cache = JitCache()
    tracing, go_on = threading.Event(), threading.Event()

    def slow(x):
        tracing.set()
        assert go_on.wait(30)
        return x + 1

    thread = threading.Thread(target=cache.jit(slow), args=(np.ones(2),))
    f = cache.jit(double)
    f(np.ones(3))
    thread.start()
    assert tracing.wait(30)
    assert f(np.ones(3)) == 6  # a hit, with the other compile under way
    assert cache.stats().hits == 1
    go_on.set()
    thread.join()


def test_a_compile_that_fails_raises_jax_own_error_and_leaves_the_cache_as_it_was():
    cache = JitCache()

    def broken(x):
        return x @ jnp.ones((7, 7))

    f = cache.jit(broken)
    with pytest.raises(TypeError) as expected:
        jax.jit(broken)(np.ones(3))
    for _ in range(2):
        with pytest.raises(TypeError) as raised:
            f(np.ones(3))
        assert str(raised.value) == str(expected.value)
    assert cache.stats() == JitCache().stats()
    assert f(np.ones(7)).shape == (7,)


def test_an_interrupt_in_the_middle_of_a_compile_leaves_a_usable_cache():
    cache = JitCache()
    interrupt = [True]

    def f(x):
        if interrupt.pop() if interrupt else False:
            raise KeyboardInterrupt
        return x + 1

    cached = cache.jit(f)
    with pytest.raises(KeyboardInterrupt):
        cached(np.ones(2))
    assert cached(np.ones(2)).tolist() == [2, 2]
    assert cache.stats().misses == 1


def test_own_keys_replace_the_signature_and_still_give_right_results():
    cache = JitCache()
    f = cache.jit(double, key=lambda x: len(x) // 4)
    assert f(np.ones(5, np.float32)) == 10
    assert f(np.ones(6, np.float32)) == 12  # same key, other shape
    stats = cache.stats()
    assert (stats.misses, stats.hits) == (1, 1)


def test_with_an_own_key_what_no_executable_takes_goes_to_jit():
    def add(ref, x):
        return ref[...] + x

    cache = JitCache()
    f, g = cache.jit(add, key=lambda *_: 1), cache.jit(double, key=lambda x: 1)
    ref = jax.new_ref(jnp.ones(3))
    assert [f(ref, 1.0).tolist() for _ in range(2)] == [[2, 2, 2]] * 2
    with pytest.raises(TypeError, match="<class 'object'>"):
        g(object())
    with pytest.raises(ValueError, match="Non-hashable static"):
        cache.jit(lambda x, n: x * len(n), static_argnums=1, key=lambda *_: 1)(np.ones(3), [1, 2])
    assert cache.explain(g, object()).outcome == "bypassed"
    with pytest.raises(TypeError, match="signatures must be of arrays"):
        g.warm(object())
    stats = cache.stats()
    assert (stats.bypassed, stats.misses, stats.compiled) == (4, 0, 0)


def test_cached_functions_travel_by_name_or_as_functions_of_jit(tmp_path, monkeypatch):
    (tmp_path / "travelling.py").write_text(
        "import jaxcache\ncache = jaxcache.JitCache()\n@cache.jit\ndef double(x):\n    return 2 * x\n"
        "def scale(x, n):\n    return n * x\nscaled = cache.jit(scale, static_argnums=1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    travelling = importlib.import_module("travelling")
    assert pickle.loads(pickle.dumps(travelling.double)) is travelling.double
    partial = JitCache().jit(functools.partial(travelling.scale, n=3))
    assert pickle.loads(pickle.dumps(partial))(np.ones(2)).tolist() == [3, 3]
    there = pickle.loads(pickle.dumps(travelling.scaled))
    assert type(there) is type(jax.jit(double))
    assert there(np.ones(3), 3).tolist() == [3, 3, 3]


def test_an_own_key_that_cannot_be_hashed_is_refused():
    f = JitCache().jit(double, key=lambda x: [1])
    with pytest.raises(TypeError, match=r"key must return something hashable, .* for double it returned \[1\]"):
        f(np.ones(3))
    with pytest.raises(TypeError, match="key must be a function"):
        JitCache().jit(double, key=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": -5}, "limit must be positive, such as 64MiB, but is -5"),
        ({"limit": "64 parsecs"}, "limit must be a size such as 64MiB"),
        ({"eviction": "lruu"}, "eviction must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        JitCache(**arguments)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"signatures": 3}', '{"signatures": {"f": {"size_bytes": 1}}}',
     '{"signatures": {"f": {"size_bytes": -1, "seconds": 1}}}',
     '{"signatures": {"f": {"size_bytes": 1, "seconds": NaN}}}'],
)  # fmt: skip
def test_a_file_that_is_no_cost_table_is_refused_by_name(tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="costs"):
        JitCache(costs=path)


def test_disk_hits_are_told_from_compiles(tmp_path):
    """JAX's own event counts are the oracle."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache",
             "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip
    before = {name: getattr(jax.config, name) for name in names}
    from jax._src import compilation_cache

    try:
        for name, value in zip(names, (str(tmp_path), True, 0.0, -1), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()

        def program(x):
            return jnp.sum(jnp.tanh(x) * 3)

        cold, warm = JitCache(), JitCache()
        cold.jit(program)(np.ones(11, np.float32))
        warm.jit(program)(np.ones(11, np.float32))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert (cold.stats().compiled, cold.stats().disk_hits) == (1, 0)
    assert (warm.stats().compiled, warm.stats().disk_hits) == (0, 1)
    assert warm.stats().misses == 1


def test_what_a_dropped_function_captured_may_ask_the_cache_when_it_goes():
    cache, asked = JitCache(), []

    class Owner:
        def __del__(self):
            asked.append(cache.stats().misses)

    def make():
        owner = Owner()
        return cache.jit(lambda x: x + (owner is not None))

    f = make()
    f(np.ones(2))
    del f
    gc.collect()
    assert cache.stats().variants == 0
    gc.collect()
    assert asked == [1]


def test_evicted_and_cleared_entries_keep_no_static_value_alive():
    class Setting:
        """Hashed by identity."""

    cache, settings = JitCache(400 * 1024, "lru"), [Setting() for _ in range(6)]
    kept = [weakref.ref(setting) for setting in settings]
    f = cache.jit(lambda x, setting: x + 1, static_argnums=1)
    for setting in settings:
        f(np.ones(2), setting)
    del setting, settings
    jax.clear_caches()  # JAX's own tracing caches hold static values too
    gc.collect()
    assert sum(ref() is not None for ref in kept) <= 1
    cache.clear()
    jax.clear_caches()
    gc.collect()
    assert not any(ref() for ref in kept)


def test_a_static_value_whose_repr_fails_is_served_all_the_same():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    cache, rude = JitCache(), Rude()
    f = cache.jit(lambda x, _: x + 1, static_argnums=1)
    assert [f(1.0, rude) + 0, f(1.0, rude) + 0] == [2, 2]
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_an_error_in_the_callers_key_function_is_the_callers():
    f = JitCache().jit(double, key=lambda x: x.no_such_thing)
    with pytest.raises(AttributeError, match="no_such_thing"):
        f(np.ones(3))


def test_a_cost_table_never_makes_a_program_lighter_than_its_constants():
    big = np.random.default_rng(0).normal(size=(500_000,)).astype(np.float32)
    cache = JitCache("1MiB", costs={"<lambda>(float32[])": Cost(300_000, 0.1)})
    with pytest.warns(RuntimeWarning, match="more than the limit of 1 MiB"):
        cache.jit(lambda x: x + jnp.asarray(big))(np.float32(1))
    assert cache.stats().live_bytes == 0


def test_costs_of_functions_that_are_gone_are_in_the_table():
    cache = JitCache()
    cache.jit(double)(np.ones(3, np.float32))
    gc.collect()
    cache.stats()
    assert [name.partition(" #")[0] for name in cache.costs()] == ["double(float32[3])"]


def test_a_cached_method_does_not_keep_its_object_alive():
    class Model:
        def __init__(self):
            self.weights = jnp.ones(3)
            self.step = cache.jit(self.step)

        def step(self, x):
            return x * self.weights

    cache = JitCache()
    model = Model()
    gone, before = weakref.ref(model), live_executables()
    assert model.step(np.ones(3)).tolist() == [1, 1, 1]
    del model
    gc.collect()
    assert gone() is None
    assert live_executables() <= before
    assert (cache.stats().variants, cache.stats().live_bytes) == (0, 0)
    assert cache.stats().misses == 1


def test_programs_live_as_long_as_their_function_and_are_freed_with_it():
    cache, before = JitCache(), live_executables()

    def f(x):
        return jnp.sum(x) + 3

    cache.jit(f)(np.ones(3))
    assert cache.stats().variants == 1  # the wrapper is gone, the function is not
    del f
    assert cache.stats().variants == 0
    assert live_executables() <= before


def test_what_was_called_in_a_loop_is_freed_with_its_function_at_once():
    """Guesses of what comes next refer to each other; the garbage collector must not be needed for them."""
    cache, a, b = JitCache(), jnp.ones(3), jnp.ones(4)

    def make():
        constant = jnp.arange(7.0)
        f = cache.jit(lambda x: jnp.sum(x) + constant[0])
        for _ in range(5):
            f(a)
        for _ in range(5):
            f(a), f(b)
        return weakref.ref(constant), len(jax.devices()[0].client.live_executables())

    gc.collect()
    gc.disable()
    try:
        constant, before = make()
        assert constant() is None
        assert len(jax.devices()[0].client.live_executables()) == before - 2
    finally:
        gc.enable()


def test_a_cache_that_is_dropped_frees_everything_at_once():
    before = live_executables()
    cache = JitCache()
    cache.jit(double)(np.ones(17, np.float32))
    del cache
    assert len(jax.devices()[0].client.live_executables()) <= before


def test_clearing_one_function_leaves_the_others_alone():
    cache = JitCache()
    f, g = cache.jit(double), cache.jit(lambda x: x + 1)
    f(np.ones(3)), f(np.ones(4)), g(np.ones(3))
    cache.clear(f)
    with count_compiles() as compiles:
        g(np.ones(3))
    assert (compiles, cache.stats().variants) == ([0], 1)
    with count_compiles() as compiles:
        f(np.ones(3)), f(np.ones(4))
    assert compiles == [2]
    with pytest.raises(TypeError, match="fun must be a function from jit of this cache"):
        cache.clear(double)


def test_hits_are_told_to_the_policy_in_their_order_before_it_decides():
    """Three entries fit; the two asked for last stay, however the hits were served."""
    costs = {f"double(float32[{n}])": Cost(1000, 1.0) for n in range(1, 9)}
    cache = JitCache(3000, "lru", costs=costs)
    f = cache.jit(double)
    for n in (1, 2, 3, 2, 2, 2, 1, 1, 1, 1, 4):
        f(np.ones(n, np.float32))
    with count_compiles() as compiles:
        f(np.ones(1, np.float32)), f(np.ones(2, np.float32))
    assert compiles == [0]
    assert cache.explain(f, np.ones(3, np.float32)).miss.cause == "evicted"


def test_many_hits_are_counted_exactly_and_the_note_of_them_stays_short():
    cache = JitCache()
    f = cache.jit(double)
    x, y = jnp.ones(3), jnp.ones(4)
    for _ in range(3000):
        f(x)
    f(y)
    for _ in range(7):
        f(x), f(y)
    assert len(cache._state.log) < 2000
    assert (cache.stats().hits, cache.stats().misses) == (2999 + 14, 2)


def test_threads_that_repeat_one_call_lose_no_hit():
    cache = JitCache()
    f = cache.jit(double)
    inputs = [jnp.ones(3), jnp.ones(4)]

    def call(number):
        for _ in range(2000):
            assert f(inputs[number]) == 2 * (3 + number)

    threads = [threading.Thread(target=call, args=(number % 2,)) for number in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert cache.stats().hits + cache.stats().misses == 12_000
    assert cache.stats().misses == 2


def test_an_entry_that_was_served_again_and_again_is_freed_when_it_goes():
    costs = {f"double(float32[{n}])": Cost(1000, 1.0) for n in range(1, 9)}
    cache = JitCache(1500, "lru", costs=costs)
    f = cache.jit(double)
    before = live_executables()
    for n in (1, 2, 3):
        for _ in range(4):
            f(np.ones(n, np.float32))
    assert live_executables() == before + 1
    cache.clear()
    assert live_executables() == before


class Interrupt:
    """Raises Ctrl-C on the entry of the n-th function of ours from now on, as a signal would."""

    def __init__(self, at):
        self.left, self.fired = at, False

    def __enter__(self):
        sys.setprofile(self.look)
        return self

    def look(self, frame, event, _):
        if event == "call" and "/jaxcache/_" in frame.f_code.co_filename and not self.fired:
            self.left -= 1
            if self.left < 0:
                self.fired = True
                raise KeyboardInterrupt

    def __exit__(self, kind, *_):
        sys.setprofile(None)
        return kind is KeyboardInterrupt


@UNDER_STORM
@pytest.mark.parametrize(("eviction", "stride"), [("lru", 17), ("gdsf_admit", 19)])
@pytest.mark.parametrize("what", ["call", "clear"])
def test_an_interrupt_at_any_point_leaves_a_usable_cache(points, what, eviction, stride):
    costs = {f"column(float32[{n}])": Cost(1000, 1.0 + n % 3) for n in range(1, 200)}
    for number in points:
        at = max(number, 100 + (number - 100) * stride)  # most further points read one value after another
        cache = JitCache(2500, eviction, costs=costs)
        f = cache.jit(lambda x: column(x))
        f._jaxcache.function.name = "column"
        f(np.ones(1, np.float32)), f(np.ones(2, np.float32))
        with Interrupt(at) as interrupt:
            f(np.ones(3, np.float32)) if what == "call" else cache.clear()
        for n in (1, 2, 3, 1):
            assert f(np.ones(n, np.float32)).shape == (n, 1)
        stats = cache.stats()
        assert stats.live_bytes == 1000 * stats.variants == 1000 * len(f._jaxcache.entries.by_key) <= 2500, at
        cache.clear()
        assert (cache.stats().variants, cache.stats().live_bytes) == (0, 0), at
        if not interrupt.fired:
            break
    assert at > 10  # there were points to interrupt at


def test_a_cache_that_is_not_enabled_hands_every_call_to_jax_jit():
    cache = JitCache("1MiB", enabled=False)
    f = cache.jit(lambda x: 2 * x)
    assert f.warm(np.ones(5)) == 0
    for _ in range(3):
        assert np.array_equal(f(np.ones(3)), jax.jit(lambda x: 2 * x)(np.ones(3)))
    stats = cache.stats()
    assert (stats.bypassed, stats.hits, stats.misses, stats.variants) == (3, 0, 0, 0)
    assert cache.explain(f, np.ones(3)).reason == "goes to jax.jit itself: the cache is not enabled"
    padded = bucketed(lambda x: x + 1, cache=cache, buckets=(4, 8))
    assert np.array_equal(padded(np.ones(3)), np.full(3, 2.0))
    assert padded.stats().by_bucket == {(4,): 1}
