"""What an entry weighs: the model's parts, against what can be seen without a second model."""

import jax.numpy as jnp
import numpy as np

from jaxcache._executable import BASE_BYTES, Program


def weigh(function, *args):
    return Program(function, {}, args, {}).compile().weight.size_bytes


def test_the_smallest_program_weighs_a_little_more_than_the_base():
    assert BASE_BYTES < weigh(lambda x: x + 1, np.float32(1)) < 2.5 * BASE_BYTES


def test_larger_programs_weigh_more():
    def unrolled(x):
        for _ in range(60):
            x = jnp.sin(x) @ x
        return x

    assert weigh(unrolled, np.ones((4, 4), np.float32)) > 2 * weigh(
        lambda x: jnp.sin(x) @ x, np.ones((4, 4), np.float32)
    )


def test_captured_constants_count_once_and_in_full():
    constant = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32))
    x = np.ones(1000, np.float32)
    extra = weigh(lambda x: x @ constant, x) - weigh(lambda x: x @ jnp.ones((1000, 1000)), x)
    assert abs(extra - constant.nbytes) < 0.1 * constant.nbytes
