"""``lower``, ``trace`` and ``eval_shape`` share with the entry what they make: the oracle is what ``jax.jit`` does."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import CompileLimitExceeded, JitCache

from .._support.compiles import count_compiles

x = jnp.arange(5.0)
jnp.sin(x)

ORDERS = {
    "call, lower, compile": lambda f: (f(x), f.lower(x).compile()(x)),
    "lower, compile, call": lambda f: (f.lower(x).compile()(x), f(x)),
    "trace, lower, compile, call": lambda f: (f.trace(x).lower().compile()(x), f(x)),
    "trace, call, trace": lambda f: (f.trace(x), f(x), f.trace(x)),
    "eval_shape, call": lambda f: (f.eval_shape(x), f(x)),
    "jax.eval_shape, call, jax.eval_shape": lambda f: (jax.eval_shape(f, x), f(x), jax.eval_shape(f, x)),
    "call, lower, text": lambda f: (f(x), f.lower(x).as_text(), f.lower(x).compile()(x)),
    "shapes, call": lambda f: (f.lower(jax.ShapeDtypeStruct((5,), np.float32)).compile()(x), f(x)),
    "inside, call": lambda f: (jax.jit(lambda x: f(x) + f(x))(x), f(x)),
    "call, inside": lambda f: (f(x), jax.jit(lambda x: f(x) + f(x))(x)),
    "inside: lower, call": lambda f: jax.eval_shape(lambda x: (f.lower(x), f(x))[1], x),
    "inside: call, trace, eval_shape": lambda f: jax.eval_shape(lambda x: (f(x), f.trace(x), f.eval_shape(x))[0], x),
    "inside: lower, outside: call": lambda f: (jax.eval_shape(lambda x: f.lower(x).out_info.shape[0] * x, x), f(x)),
    "call, inside: lower": lambda f: (f(x), jax.eval_shape(lambda x: f.lower(x).out_info.shape[0] * x, x)),
    "under grad: lower, call": lambda f: jax.grad(lambda x: (f.lower(x), f(x).sum())[1])(x),
    "make_jaxpr, call": lambda f: (jax.make_jaxpr(f)(x), f(x)),
    "vmap, call of a row": lambda f: (jax.vmap(f)(jnp.ones((2, 5))), f(x)),
    "placed, call": lambda f: (f(jax.device_put(x, jax.devices()[0])), jax.eval_shape(f, x)),
    "options of the compiler": lambda f: (f(x), f.lower(x).compile({"xla_embed_ir_in_executable": True})(x)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_signature_is_traced_and_compiled_as_often_as_under_jit(order):
    counts = []
    for jit in (jax.jit, jax.jit, JitCache().jit):  # the first for what is compiled once for all
        traced = []
        f = jit(lambda x, traced=traced: traced.append(1) or jnp.sin(x) * 2)
        with count_compiles() as compiles:
            ORDERS[order](f)
        counts.append((len(traced), compiles))
    assert counts[2] == counts[1]


def test_what_is_lowered_keeps_its_text_whatever_becomes_of_the_entry():
    f, g = JitCache().jit(lambda x: jnp.sin(x) * 2), jax.jit(lambda x: jnp.sin(x) * 2)
    before = f.lower(x)
    text = g.lower(x).as_text()
    compiled = before.compile()
    f(x)
    after = f.lower(x)
    for lowered in (before, after):
        assert lowered.as_text() == text
        assert lowered.compile()(x).tolist() == g(x).tolist()
        assert lowered.cost_analysis() == g.lower(x).cost_analysis()
    assert compiled.as_text() == after.compile().as_text()
    assert isinstance(after, jax.stages.Lowered)
    assert isinstance(f.trace(x), jax.stages.Traced)


def test_what_is_compiled_by_a_stage_is_an_entry_that_was_made_ahead():
    cache = JitCache()
    f = cache.jit(lambda x: x + 1)
    f.lower(x).compile()
    assert (cache.stats().warmed, cache.stats().misses, cache.stats().variants) == (1, 0, 1)
    f(x)
    assert (cache.stats().hits, cache.stats().compiled) == (1, 1)
    cache.clear()
    assert f.lower(x).compile()(x).tolist() == (x + 1).tolist()
    assert cache.stats().warmed == 2


def test_programs_of_stages_count_for_max_compiles():
    f = JitCache(max_compiles=1).jit(lambda x: x + 1)
    f.lower(x).compile(), f(x)
    with pytest.raises(CompileLimitExceeded):
        f.lower(jnp.ones(7)).compile()


def test_a_stage_lowered_under_another_configuration_keeps_that():
    f = JitCache().jit(lambda x: x + 1)
    with jax.enable_x64(True):
        wide = np.ones(3)
        lowered = f.lower(wide)
    compiled = lowered.compile()
    assert compiled.out_avals[0].dtype if hasattr(compiled, "out_avals") else lowered.out_info.dtype == np.float64
    assert f(wide).dtype == np.float32


def test_stages_keep_no_arrays_of_the_caller():
    f = JitCache().jit(lambda x: x + 1)
    array = jnp.ones(9)
    gone = weakref.ref(array)
    lowered = f.lower(array)
    del array
    gc.collect()
    assert gone() is None
    lowered.compile()


def test_signatures_that_were_only_traced_are_bounded_and_cleared():
    from jaxcache._cache import prepared as _prepared

    cache = JitCache()
    f = cache.jit(lambda x: x + 1)
    for n in range(_prepared._PREPARED + 10):
        f.eval_shape(jax.ShapeDtypeStruct((n,), np.float32))
    prepared = f._jaxcache.entries.prepared
    assert len(prepared._by_key) == _prepared._PREPARED
    cache.clear()
    assert not prepared._by_key


def test_statics_donation_and_keywords_go_through_stages():
    def f(x, n, *, scale=1.0):
        return x * n * scale

    options = {"static_argnames": "n", "donate_argnums": 0}
    mine, theirs = JitCache().jit(f, **options), jax.jit(f, **options)
    for g in (mine, theirs):
        lowered = g.lower(jnp.ones(3), n=2, scale=3.0)
        assert lowered.donate_argnums == theirs.lower(jnp.ones(3), n=2, scale=3.0).donate_argnums
        given = jnp.ones(3)
        assert lowered.compile()(given, scale=3.0).tolist() == [6, 6, 6]
        assert given.is_deleted()
    assert mine(jnp.ones(3), n=2, scale=3.0).tolist() == [6, 6, 6]
    with pytest.raises(ValueError, match="Non-hashable static"):
        mine.lower(jnp.ones(3), n=[2])


def test_what_cannot_be_lowered_ahead_of_its_call_is_run_by_jit():
    """A function that closes over a box: JAX lowers it in a call alone."""
    hijax = pytest.importorskip("jax._src.hijax")
    if not hasattr(hijax, "Box"):
        pytest.skip("this JAX has no box")
    results, cache = [], JitCache()
    for jit in (jax.jit, cache.jit):
        box = hijax.Box(1.0)

        def step(x, box=box):
            box.set(box.get() * x)
            return box.get() + 1

        f = jit(step)
        results.append((float(f(2.0)), float(f(2.0)), float(jax.jit(f)(2.0)), float(box.get())))
    assert results[0] == results[1] == (3, 5, 9, 8)
    assert (cache.stats().bypassed, cache.stats().misses, cache.stats().variants) == (3, 0, 0)
    with pytest.raises(ValueError, match="leaves"):  # as that of jax.jit
        f.lower(2.0)
    with pytest.raises(TypeError, match="ahead"):
        f.warm(2.0)


def test_an_error_in_lowering_says_nothing_of_later_calls():
    """Under warnings as errors JAX raises there, of donated arrays that it cannot use."""
    import warnings

    cache = JitCache()
    f = cache.jit(lambda x: jnp.sum(x), donate_argnums=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(UserWarning, match="donated"):
                f(jnp.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [float(f(jnp.ones(3))) for _ in range(2)] == [3, 3]
    assert (cache.stats().misses, cache.stats().hits) == (1, 1)
