"""Functions within a function under ``code_key=True`` are traced anew, whatever JAX remembers of them.

What JAX remembers was traced from values that may have changed since. A program traced from former values under a key
of those that are there now would be wrong in every other process.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import JitCache

GAIN = 1.0
X = np.arange(1.0, 4.0, dtype=np.float32)


def scaled(x):
    return x * GAIN


@jax.checkpoint
def remembered(x):
    return jnp.sin(x) * GAIN


@jax.custom_vjp
def with_rule(x):
    return x * GAIN


with_rule.defvjp(lambda x: (x * GAIN, None), lambda _, g: (g * GAIN,))


@jax.custom_jvp
def with_tangents(x):
    return x * GAIN


@with_tangents.defjvp
def tangents(primals, tangents):
    return primals[0] * GAIN, tangents[0] * GAIN


def body(carry, x):
    return carry * GAIN, x * GAIN


def going_on(state):
    return state[0] < 3 * GAIN


def step(state):
    return state[0] + 1, state[1] * GAIN


def both(a, b):
    return a + b * GAIN


jitted = jax.jit(scaled)
nested = JitCache().jit(scaled)


def gradient(function, x):
    return jax.grad(lambda y: function(y).sum())(x)


PROGRAMS = {
    "jit": lambda x: jitted(x),
    "a cached function": lambda x: nested(x),
    "vmap of jit": lambda x: jax.vmap(jitted)(x),
    "grad of jit": lambda x: gradient(jitted, x),
    "linearize": lambda x: jax.linearize(jitted, x)[1](x),
    "checkpoint": lambda x: remembered(x),
    "grad of checkpoint": lambda x: gradient(remembered, x),
    "custom_vjp": lambda x: (with_rule(x), gradient(with_rule, x)),
    "custom_jvp": lambda x: (with_tangents(x), gradient(with_tangents, x)),
    "scan": lambda x: jax.lax.scan(body, x, x),
    "while_loop": lambda x: jax.lax.while_loop(going_on, step, (0.0, x)),
    "fori_loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, c: scaled(c), x),
    "map": lambda x: jax.lax.map(scaled, x),
    "cond": lambda x: jax.lax.cond(x.sum() > 0, scaled, scaled, x),
    "switch": lambda x: jax.lax.switch(1, [scaled, scaled], x),
    "reduce": lambda x: jax.lax.reduce(x, np.float32(0), both, (0,)),
    "associative_scan": lambda x: jax.lax.associative_scan(both, x),
    "custom_root": lambda x: jax.lax.custom_root(scaled, x, lambda f, y: f(y), lambda _, y: y),
    "closure_convert": lambda x: jax.closure_convert(scaled, x)[0](x),
    "vectorize": lambda x: (jnp.vectorize(scaled)(x), jnp.piecewise(x, [x > 2], [scaled, scaled])),
}


def values(result):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(result)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_traced_with_the_values_that_are_there_now(name, tmp_path, monkeypatch):
    program = PROGRAMS[name]
    monkeypatch.setattr(f"{__name__}.GAIN", 2.0)
    jax.clear_caches()
    expected = values(program(X))  # eagerly, and by a JAX that remembers nothing of it
    monkeypatch.setattr(f"{__name__}.GAIN", 1.0)
    jax.clear_caches()
    assert values(jax.jit(lambda x: program(x))(X)) != expected
    monkeypatch.setattr(f"{__name__}.GAIN", 2.0)
    with jaxcache.use_directory(tmp_path):
        cached = JitCache().jit(program, code_key=True)
        assert values(cached(X)) == expected
        assert cached._jaxcache._reasons == {}
