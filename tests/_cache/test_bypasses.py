"""Calls that go past the cache: what XLA compiles for them is counted, said once, and comes with the way out."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache, MissStormWarning, suggest

from .._support.compiles import count_compiles


def fresh():
    """Return a function that JAX has not compiled yet."""

    def energy(x):
        return jnp.sum(jnp.sin(x) ** 2)

    return energy


def shapes(count, dimensions=1):
    return [jax.device_put(np.ones((n,) + (2,) * (dimensions - 1), np.float32)) for n in range(1, count + 1)]


def compiled(cache):
    return sum(sum(one.bypassed_programs.values()) for one in cache.stats().by_function.values())


def test_an_eager_gradient_over_many_shapes_is_warned_about_once_with_the_way_out():
    cache = JitCache("4MiB")
    f = cache.jit(fresh())
    gradient = jax.grad(f)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [gradient(x) for x in shapes(20)]
    assert all(np.allclose(x, np.sin(2.0)) for x in results)
    (warning,) = caught
    assert (warning.category, warning.filename) == (MissStormWarning, __file__)
    assert "calls of jax.grad(energy)" in str(warning.message)
    assert "wrap the transformation, as in cache.jit(jax.grad(energy))" in str(warning.message)
    function = cache.stats().by_function["energy"]
    assert (function.bypassed, function.misses) == (20, 0)
    assert function.bypassed_programs == {"jax.grad(energy)": 40}  # of the function, and of its derivative
    assert function.bypassed_seconds > 0


def test_programs_past_the_cache_are_as_many_as_xla_compiled():
    cache = JitCache()
    gradient = jax.value_and_grad(cache.jit(fresh()))
    ones = shapes(4)
    gradient(ones[0])  # what JAX compiles once, beside it
    before = compiled(cache)
    with count_compiles() as counted:
        [gradient(x) for x in ones[1:]]
    broadcasts = 3 if counted[0] > 6 else 0  # JAX fills an array for each shape
    assert compiled(cache) - before == counted[0] - broadcasts == 6
    with count_compiles() as counted:
        [gradient(x) for x in ones]
    assert (counted, compiled(cache) - before) == ([0], 6)


@pytest.mark.parametrize(
    ("transform", "called"),
    [
        (jax.grad, "jax.grad(energy)"),
        (jax.vmap, "jax.vmap(energy)"),
        (lambda f: jax.vmap(jax.grad(f)), "jax.vmap(jax.grad(energy))"),
        (lambda f: lambda x: jax.jvp(f, (x,), (x,)), "jax.grad(energy)"),
        (lambda f: lambda x: jax.linearize(f, x), "jax.grad(energy)"),
    ],
)
def test_what_is_called_is_told_by_its_transformations(transform, called):
    cache = JitCache()
    transformed = transform(cache.jit(fresh()))
    for x in shapes(3, dimensions=2):
        transformed(x)
    assert list(cache.stats().by_function["energy"].bypassed_programs) == [called]


def test_the_way_out_is_one():
    cache = JitCache("64MiB")
    wrapped = cache.jit(jax.grad(fresh()))
    for x in shapes(15):
        wrapped(x)
    stats = cache.stats()
    assert (stats.misses, stats.bypassed, compiled(cache)) == (15, 0, 0)


def test_a_function_within_another_program_compiles_nothing_past_the_cache():
    cache = JitCache()
    inner = cache.jit(fresh())
    for outer in (jax.jit(lambda x: inner(x) + 1), jax.jit(jax.grad(inner)), cache.jit(jax.grad(lambda x: inner(x)))):
        for x in shapes(12):
            outer(x)
    stats = cache.stats()
    assert stats.by_function["energy"].bypassed == stats.bypassed >= 36
    assert compiled(cache) == 0


def test_a_users_own_program_of_the_same_name_is_not_counted_for_long():
    cache = JitCache()
    inner = cache.jit(lambda x: jnp.sum(x**2))
    jax.grad(inner)(shapes(1)[0])
    before = compiled(cache)
    for x in shapes(20)[5:]:
        jax.jit(lambda x: x + 1)(x)
    assert compiled(cache) <= before + 2


def test_misses_of_the_cache_itself_are_not_counted_as_past_it():
    cache = JitCache()
    f = cache.jit(fresh())
    jax.vmap(f)(jnp.ones((2, 3)))
    before = compiled(cache)
    for x in shapes(5):
        f(x)
    assert compiled(cache) == before == 1
    assert cache.stats().misses == 5


def test_arguments_that_no_executable_is_looked_up_by_are_counted_too():
    cache = JitCache()
    f = cache.jit(lambda ref: ref[...] + 1)
    for n in range(1, 4):
        assert f(jax.new_ref(jnp.ones(n))).tolist() == [2] * n
    function = cache.stats().by_function["<lambda>"]
    assert function.bypassed_programs == {"<lambda>": 3}
    assert "no executable can be looked up for" in cache.explain(f, np.ones(3)).reason


def test_explain_tells_what_was_compiled_past_the_cache():
    cache = JitCache()
    f = cache.jit(fresh())
    x = shapes(1)[0]
    assert "past" not in str(cache.explain(f, x))
    jax.grad(f)(x)
    told = cache.explain(f, x)
    assert (told.outcome, told.miss.cause) == ("miss", "first_call")
    assert "calls of jax.grad(energy) have gone to jax.jit itself, which has compiled 2 programs" in str(told)
    assert "cache.jit(jax.grad(energy))" in told.reason


def test_a_cache_that_is_off_is_the_callers_choice():
    cache = JitCache(enabled=False)
    f = cache.jit(fresh())
    other = JitCache()
    g = other.jit(fresh())
    for x in shapes(12):
        f(x)
        with jax.disable_jit():
            g(x)
    assert compiled(cache) == compiled(other) == 0
    assert cache.stats().bypassed == other.stats().bypassed == 12


def test_a_call_that_fails_fails_as_that_of_jax_jit_and_the_next_is_counted():
    cache = JitCache()

    def picky(x):
        if x.shape == (3,):
            raise ValueError("not three")
        return jnp.sum(x)

    f = cache.jit(picky)
    with pytest.raises(ValueError, match="not three"):
        jax.grad(f)(np.ones(3))
    jax.grad(f)(np.ones(2))
    assert compiled(cache) == 2


def test_a_cache_that_is_dropped_is_not_kept_by_what_it_counted():
    import gc
    import weakref

    cache = JitCache()
    jax.grad(cache.jit(fresh()))(np.ones(3))
    gone = weakref.ref(cache._state)
    del cache
    gc.collect()
    assert gone() is None


def test_it_is_suggested_to_wrap_the_gradient():
    cache = JitCache("4MiB")
    gradient = jax.grad(cache.jit(fresh()))
    with pytest.warns(MissStormWarning):
        [gradient(x) for x in shapes(30)]
    stats = cache.stats()
    first = suggest(stats)[0]
    assert first.rule == "bypassed"
    assert first.python == "cache.jit(jax.grad(energy))"
    assert "60 programs" in first.evidence
    assert first.saved_seconds == pytest.approx(stats.by_function["energy"].bypassed_seconds)
