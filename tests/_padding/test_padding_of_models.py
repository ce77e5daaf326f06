"""Models whose padding is masked rightly pass at every length, and those with one thing forgotten are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcache import JitCache, PaddingError, bucketed
from jaxcache._padding.precision import InOtherPrecision

VOCABULARY, WIDTH = 11, 4


def parameters(dtype, seed=0, depth=2):
    draw = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(draw.normal(size=shape) / shape[0] ** 0.5, dtype)  # noqa: E731
    layers = [{name: normal(WIDTH, WIDTH) for name in ("q", "k", "v", "up", "down")} | {"bias": normal(WIDTH)}
              for _ in range(depth)]  # fmt: skip
    return {"embed": normal(VOCABULARY, WIDTH), "layers": layers, "out": normal(WIDTH, 3)}


def normalised(x):
    wide = x.astype(jnp.float32)
    return ((wide - wide.mean(-1, keepdims=True)) / jnp.sqrt(wide.var(-1, keepdims=True) + 1e-5)).astype(x.dtype)


def encode(params, tokens, mask, *, masked_layers=(0, 1), fill=-1e9, pool=None):
    x = params["embed"][tokens]
    for number, layer in enumerate(params["layers"]):
        h = normalised(x)
        # The bias of the keys has no say in the softmax: its gradient is nothing but rounding.
        scores = (h @ layer["q"]) @ (h @ layer["k"] + layer["bias"]).T / WIDTH**0.5
        scores = jnp.where(mask, scores, fill) if number in masked_layers else scores
        x = x + jax.nn.softmax(scores, axis=-1) @ (h @ layer["v"])
        x = x + jax.nn.gelu(normalised(x) @ layer["up"]) @ layer["down"]
    pooled = pool(x) if pool else jnp.sum(jnp.where(mask[:, None], x, 0), axis=0) / jnp.sum(mask)
    return jax.nn.log_softmax(pooled.astype(jnp.float32) @ params["out"].astype(jnp.float32))


def value_and_grad(params, tokens, mask, **changes):
    return jax.value_and_grad(lambda p: -encode(p, tokens, mask, **changes)[1])(params)


def tokens_of(length):
    return np.random.default_rng(length).integers(0, VOCABULARY, length).astype(np.int32)


def bucketed_model(function):
    return bucketed(function, cache=JitCache(), buckets=(8,), axes={"tokens": 0})


@pytest.mark.parametrize(("dtype", "size"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.1)])
def test_gradients_of_a_masked_encoder_pass(dtype, size):
    model = bucketed_model(value_and_grad)
    for length in (3, 7):
        params, tokens = parameters(dtype, seed=length), tokens_of(length)
        got = model(params, tokens)
        exact = jax.jit(value_and_grad)(params, tokens, np.ones(length, bool))
        largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(exact))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=0, atol=size * largest)


def leaking(params, tokens, mask):
    """A thousandth of one element of one gradient."""
    grads = value_and_grad(params, tokens, mask)[1]
    grads["embed"] = grads["embed"].at[tokens[0], 0].multiply(1 + 1e-3 * (tokens.size - mask.sum() > 0))
    return grads


def unmasked_in_the_gradient(params, tokens, mask):
    @jax.custom_vjp
    def pool(x):
        return jnp.sum(jnp.where(mask[:, None], x, 0), axis=0) / mask.sum()

    pool.defvjp(lambda x: (pool(x), None), lambda _, g: (jnp.broadcast_to(g / tokens.size, (tokens.size, *g.shape)),))
    return value_and_grad(params, tokens, mask, pool=pool)


FORGOTTEN = {
    "the mean": lambda p, tokens, mask: encode(p, tokens, mask, pool=lambda x: x.mean(0)),
    "the length": lambda p, tokens, mask: jnp.where(mask[:, None], p["embed"][tokens], 0).sum(0) / tokens.shape[0],
    "the largest": lambda p, tokens, mask: encode(p, tokens, mask, pool=lambda x: (-jnp.abs(x)).max(0)),
    "the softmax": lambda p, tokens, mask: encode(p, tokens, mask, masked_layers=()),
    "one of two layers": lambda p, tokens, mask: value_and_grad(p, tokens, mask, masked_layers=(1,)),
    "a position": lambda p, tokens, mask: encode(p, tokens, jnp.roll(mask, 1).at[0].set(True)),
    "what small scores leave": lambda p, tokens, mask: value_and_grad(p, tokens, mask, fill=-6.0),
    "the gradient": unmasked_in_the_gradient,
    "one element": leaking,
}


@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_an_encoder_with_one_thing_forgotten_is_refused(forgotten):
    wrong = FORGOTTEN[forgotten]
    params = parameters(jnp.float32, depth=2 if forgotten == "one of two layers" else 1)
    with pytest.raises(PaddingError, match=r"It is handed its parameter `mask`, but .*; check=False takes"):
        bucketed_model(lambda params, tokens, mask: wrong(params, tokens, mask))(params, tokens_of(5))


def recurrent(x, mask):
    def step(h, row):
        return jnp.where(row[1], jnp.tanh(0.5 * h + row[0]), h), None

    return lax.scan(step, jnp.zeros(x.shape[1], x.dtype), (x, mask))[0]


def batch_normalised(x, mask):
    mean, variance = jnp.mean(x, 0, where=mask[:, None]), jnp.var(x, 0, where=mask[:, None])
    return jnp.sum(jnp.where(mask[:, None], (x - mean) / jnp.sqrt(variance + 1e-5), 0), 0), mean


def convolved(x, mask):
    rows = jnp.where(mask[:, None], x, 0)
    kernel = jnp.arange(27, dtype=x.dtype).reshape(3, 3, 3) / 27
    return jnp.where(mask[:, None], lax.conv_general_dilated(rows.T[None], kernel, (1,), "SAME")[0].T, 0)


MASKED = {
    "recurrent": recurrent,
    "batch statistics": batch_normalised,
    "convolution": convolved,
    "prefix sums": lambda x, mask: jnp.where(mask[:, None], jnp.cumsum(jnp.where(mask[:, None], x, 0), 0), 0),
    "segment sums": lambda x, mask: jax.ops.segment_sum(jnp.where(mask[:, None], x, 0), jnp.arange(len(x)) % 3, 3),
    "covariances": lambda x, mask: jnp.linalg.inv(x.T @ jnp.where(mask[:, None], x, 0) + jnp.eye(3, dtype=x.dtype)),
    "by length": lambda x, length: lax.fori_loop(0, length, lambda i, h: jnp.tanh(0.5 * h + x[i]), x[0]),
}


@pytest.mark.parametrize("name", MASKED)
def test_gradients_of_other_masked_models_pass(name):
    function = MASKED[name]

    def gradient(x, mask):
        return jax.grad(lambda y: sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(function(y, mask))))(x)

    for length in (2, 7):
        x = np.random.default_rng(length).normal(size=(length, 3)).astype(np.float32)
        bucketed(function if name == "by length" else gradient, cache=JitCache(), buckets=(8,))(x)


def test_noise_of_double_precision_is_no_padding_either():
    def noise(x, mask):
        return jnp.sum(jnp.where(mask, x - jnp.mean(x, where=mask), 0)), jnp.mean(x, where=mask)

    with jax.enable_x64(True):
        for length in (3, 5, 6, 7):
            x = np.random.default_rng(length).normal(10, 1, length)
            np.testing.assert_allclose(bucketed(noise, cache=JitCache(), buckets=(8,))(x)[1], x.mean(), rtol=1e-14)
        with pytest.raises(PaddingError, match=r"output\[1\] differs by 0\.38"):
            bucketed(lambda x, mask: (1e6 * x.sum(), x.mean()), cache=JitCache(), buckets=(8,))(np.full(5, 7.0))


def test_numbers_that_swallow_others_in_one_precision_only_are_padding():
    def swallowed(x, mask):
        return jnp.sum(x) + 1e10 * jnp.sum(~mask) - 1e10 * jnp.sum(~mask)

    with pytest.raises(PaddingError, match="differs by"):
        bucketed(swallowed, cache=JitCache(), buckets=(8,))(np.ones(5, np.float32) / 3)


def test_a_program_in_double_precision_is_the_same_program():
    """Casts, carries, products and scatters whose dtypes the program names; held against NumPy in float64."""

    def program(x, index):
        half = x.astype(jnp.bfloat16).astype(jnp.float32)
        product = jnp.dot(half, half, precision="high", preferred_element_type=jnp.float32)
        carried = lax.scan(lambda c, row: (c + row, None), jnp.zeros(3, jnp.float32), product)[0]
        branch = lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, carried)
        return jax.checkpoint(jax.nn.relu)(branch), jnp.zeros(3, jnp.float32).at[index].add(carried), index + 1

    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    index = np.array([2, 0, 2], np.int32)
    repeated = InOtherPrecision(jax.jit(program).trace(x, index), np.float64)
    got = repeated([x, index])
    carried = (x.astype(float) @ x.astype(float)).sum(0)
    wanted = np.maximum((np.sin if x[0, 0] > 0 else np.cos)(carried), 0), np.bincount(index, carried, 3), index + 1
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert [leaf.dtype for leaf in got] == [np.float64, np.float64, np.int32]
    assert repeated.keeps == set()


def test_a_program_that_takes_bits_apart_keeps_its_precision_there():
    def program(x):
        return lax.bitcast_convert_type(x, np.int32) & 1, x / 3

    x = np.arange(1, 4, dtype=np.float32)
    repeated = InOtherPrecision(jax.jit(program).trace(x), np.float64)
    bits, third = repeated([x])
    assert bits.tolist() == (x.view(np.int32) & 1).tolist()
    np.testing.assert_allclose(third, x.astype(float) / 3, rtol=1e-15)
    assert repeated.keeps
