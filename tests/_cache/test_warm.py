"""Compiling ahead: what is warmed is a hit, and nothing runs."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import Call, CompileLimitExceeded, JitCache

from .._support.compiles import count_compiles

x3 = np.ones(3, np.float32)


def test_a_warmed_signature_is_a_hit_and_compiles_nothing():
    cache = JitCache()
    f = cache.jit(lambda x, y, *, n: (x * n + y["a"]).sum(), static_argnames="n")
    tree = {"a": jax.ShapeDtypeStruct((3,), jnp.float32)}
    assert f.warm(Call(jax.ShapeDtypeStruct((3,), jnp.float32), tree, n=2)) == 1
    ones = jnp.ones(3)  # compiled by JAX itself, as the comparison below
    with count_compiles() as compiles:
        result = f(x3, {"a": ones}, n=2)
    assert result == 9
    assert compiles == [0]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.warmed, stats.compiled) == (1, 0, 1, 1)
    assert stats.compile_seconds > 0


@pytest.mark.parametrize(
    ("signature", "args"),
    [
        (jax.ShapeDtypeStruct((3,), jnp.float32), (x3,)),
        ((np.ones(3),), (jnp.ones(3),)),
        (x3, (jnp.ones(3),)),
        (1.0, (2.0,)),
        ([x3, 1], ([x3, 2],)),
        (jax.ShapeDtypeStruct((3,), jnp.float32, weak_type=True), (jnp.broadcast_to(1.0, 3),)),
        (jax.eval_shape(lambda: jnp.ones(3)), (x3,)),
    ],
)
def test_arrays_and_their_descriptions_warm_the_same_program(signature, args):
    cache = JitCache()
    f = cache.jit(lambda x: jax.tree.map(lambda leaf: leaf * 2, x))
    f.warm(signature)
    with count_compiles() as compiles:
        f(*args)
    assert (compiles, cache.stats().misses) == ([0], 0)


def test_a_sharding_in_a_description_is_part_of_it():
    cache = JitCache()
    f = cache.jit(lambda x: x * 2)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    f.warm(jax.ShapeDtypeStruct((3,), jnp.float32, sharding=place))
    f(jax.device_put(x3, jax.devices()[0]))
    assert (cache.stats().hits, cache.stats().misses) == (1, 0)


def test_what_is_held_or_named_twice_is_compiled_once():
    cache = JitCache()
    f = cache.jit(lambda x: x * 2)
    f(x3)
    sizes = [np.ones(n, np.float32) for n in (3, 4, 5, 4)]
    with count_compiles() as compiles:
        assert f.warm(*sizes, threads=2) == 2
    assert compiles == [2]
    assert f.warm(*sizes) == 0


def test_the_callers_contexts_hold_for_what_is_warmed():
    cache = JitCache()
    f = cache.jit(lambda x: x * 2)
    with jax.enable_x64(True):
        f.warm(np.ones(3), np.ones(4), threads=2)
        assert f(np.ones(3)).dtype == np.float64
    assert (cache.stats().hits, cache.stats().misses) == (1, 0)
    assert f(np.ones(3)).dtype == np.float32


def test_the_limit_holds_while_warming():
    cache = JitCache(800 * 1024, "lru")
    f = cache.jit(lambda x: x * 2)
    f.warm(*(np.ones(n, np.float32) for n in range(1, 9)), threads=2)
    stats = cache.stats()
    assert stats.live_bytes <= 800 * 1024
    assert (stats.warmed, stats.evictions) == (8, 8 - stats.variants)


def test_errors_are_those_of_jit_and_what_was_made_before_stays():
    cache = JitCache()
    f = cache.jit(lambda x: x @ jnp.ones((3, 3)))
    with pytest.raises(TypeError, match="dot_general"):
        f.warm(x3, np.ones(4, np.float32))
    assert cache.stats().warmed == 1
    assert f(x3).shape == (3,)
    with pytest.raises(TypeError, match="signatures must be of arrays"):
        f.warm("text")
    for threads in (0, -1, 1.5):
        with pytest.raises(ValueError, match="threads must be a whole number, 1 or more"):
            f.warm(x3, threads=threads)
    with pytest.raises(CompileLimitExceeded):
        JitCache(max_compiles=1).jit(lambda x: x)  .warm(x3, np.ones(4))  # fmt: skip


def test_donated_arguments_are_only_looked_at():
    f = JitCache().jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.ones(3)
    f.warm(x)
    assert not x.is_deleted()
    f(x)
    assert x.is_deleted()


def test_warming_and_calling_at_once_compiles_once():
    cache = JitCache()
    f = cache.jit(lambda x: jnp.linalg.norm(jnp.sin(x) @ x))
    sizes = [np.ones((n, n), np.float32) for n in range(2, 6)]
    caller = threading.Thread(target=lambda: [f(x) for x in sizes])
    with count_compiles() as compiles:
        caller.start()
        f.warm(*sizes, threads=2)
        caller.join()
        [f(x) for x in sizes]
    assert compiles == [4]
