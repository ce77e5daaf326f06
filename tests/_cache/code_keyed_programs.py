"""Programs whose calls are compared with those of ``jax.jit``: each a function, its arguments and jit's options."""

from collections import namedtuple
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Pair = namedtuple("Pair", "low high")
WEIGHTS = np.linspace(0.0, 1.0, 5, dtype=np.float32)
SCALE = 3.0


def array(*shape, dtype=np.float32):
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def polynomial(x, *, order=2):
    return sum(x**k for k in range(order + 1)) * SCALE


def captured(x):
    return jnp.dot(x, WEIGHTS), WEIGHTS.sum()


def nested(tree, extra=None):
    return {"sum": tree["a"] + tree["b"][0], "pair": Pair(tree["b"][1], None), "extra": extra}


def linear_algebra(a, b):
    factor = jnp.linalg.cholesky(a @ a.T + jnp.eye(a.shape[0]))
    return jax.scipy.linalg.cho_solve((factor, True), b), jnp.linalg.eigh(a + a.T)[0], jnp.linalg.svd(a)[1]


def loop(x):
    return jax.lax.while_loop(lambda s: s[1] < 5, lambda s: (jnp.sin(s[0]) + s[1], s[1] + 1), (x, 0))


def gradient(x):
    return jax.value_and_grad(lambda y: jnp.sum(jnp.tanh(y) ** 2))(x)


def draws(key, n):
    return jax.random.normal(key, (n,)), jax.random.split(key)


def update(state, x):
    return state + x, jnp.sum(state)


def nothing(x):
    return ()


def unused(x, y):
    return x + 1


@jax.jit
def inner(x):
    return x * SCALE


def outer(x):
    return inner(x) + jax.vmap(inner)(x)


def typed(x, y):
    return x + y, x * 2, jnp.asarray(3), y


CALLS = {
    "an array": (polynomial, (array(3),), {}, {}),
    "a keyword": (polynomial, (array(3),), {"order": 3}, {"static_argnames": "order"}),
    "a static position": (partial(polynomial), (array(2, 2),), {}, {}),
    "captured arrays": (captured, (array(5),), {}, {}),
    "trees": (nested, ({"a": array(2), "b": (array(2), array(1))},), {"extra": array(3)}, {}),
    "linear algebra": (linear_algebra, (array(4, 4), array(4)), {}, {}),
    "a loop": (loop, (array(3),), {}, {}),
    "a gradient": (gradient, (array(6),), {}, {}),
    "random numbers": (draws, (jax.random.key(1), 4), {}, {"static_argnums": 1}),
    "raw keys": (draws, (jax.random.PRNGKey(1), 4), {}, {"static_argnums": (1,)}),
    "an unused argument": (unused, (array(3), array(100)), {}, {}),
    "an unused argument that is kept": (unused, (array(3), array(9)), {}, {"keep_unused": True}),
    "no result": (nothing, (array(3),), {}, {}),
    "functions within": (outer, (array(3),), {}, {}),
    "Python numbers": (typed, (2, 3.5), {}, {}),
    "weak types": (typed, (jnp.asarray(2.0), array(3)), {}, {}),
    "strong types": (typed, (array(), array(3)), {}, {}),
    "integers": (typed, (np.arange(3), np.int8(2)), {}, {}),
    "small floats": (typed, (jnp.ones(3, jnp.bfloat16), 2), {}, {}),
    "truth values": (unused, (np.array([True, False]), 1), {}, {}),
    "an array on a device": (typed, (jax.device_put(array(3), jax.devices()[0]), 1.0), {}, {}),
    "donation": (update, (array(1000), array(1000)), {}, {"donate_argnums": 0}),
}
