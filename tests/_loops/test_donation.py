"""Steps that donate go on where arrays share memory, and leave alone what is not theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcache import JitCache, benchmark, update_step, value_and_grad_step
from jaxcache._loops.donation import without_shared_buffers


def loss(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = X @ np.array([1, -2, 3], np.float32) + 0.5


def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


@pytest.mark.parametrize("optimizer", [optax.lbfgs(), optax.adam(0.1), optax.lbfgs(linesearch=None)])
def test_a_step_from_a_fresh_state_follows_optax(optimizer):
    step = update_step(loss, optimizer, cache=JitCache())
    params, wanted = start(), start()
    state, wanted_state = optimizer.init(params), optimizer.init(wanted)

    @jax.jit  # a line search is compiled once, and not in each step
    def optax_step(params, state):
        value, grads = jax.value_and_grad(loss)(params, X, Y)
        updates, state = optimizer.update(
            grads, state, params, value=value, grad=grads, value_fn=lambda p: loss(p, X, Y)
        )
        return optax.apply_updates(params, updates), state, value

    for _ in range(8):
        params, state, value = step(params, state, X, Y)
        wanted, wanted_state, wanted_value = optax_step(wanted, wanted_state)
        assert float(value) == pytest.approx(float(wanted_value), rel=1e-3, abs=1e-6)


class Remembering:
    """An optimizer whose state begins as the parameters, all of them one array."""

    def init(self, params):
        return {"first": params, "average": params}

    def update(self, grads, state, params):
        average = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, state["average"], params)
        return jax.tree.map(lambda g: -0.1 * g, grads), {"first": state["first"], "average": average}


def test_tied_parameters_and_states_that_begin_as_the_parameters_are_updated_apart():
    weight = jnp.ones(3)
    params = {"w": weight, "v": weight}
    step = update_step(lambda p, x: jnp.sum(x * (p["w"] + 2 * p["v"])), Remembering(), cache=JitCache())
    state = Remembering().init(params)
    x = np.arange(3, dtype=np.float32)
    for _ in range(2):
        params, state, _ = step(params, state, x)
    np.testing.assert_allclose(params["w"], 1 - 0.2 * x, rtol=1e-6)
    np.testing.assert_allclose(params["v"], 1 - 0.4 * x, rtol=1e-6)
    np.testing.assert_allclose(state["first"]["w"], np.ones(3))
    assert weight.is_deleted()


def test_what_a_batch_shares_with_the_parameters_stays_the_callers():
    """A target network begins as the parameters."""
    params = {"w": jnp.ones(3)}
    target = {"w": params["w"]}
    step = update_step(lambda p, t: jnp.sum((p["w"] - 2 * t["w"]) ** 2), optax.sgd(0.5), cache=JitCache())
    got, state, _ = step(params, optax.sgd(0.5).init(params), target)
    got, state, _ = step(got, state, target)
    assert target["w"].tolist() == [1, 1, 1]
    assert got["w"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("donated", [{"donate_argnums": 0}, {"donate_argnames": "params"}])
def test_gradient_steps_that_donate_take_parameters_that_share_memory(donated):
    weight = jnp.ones(3)
    step = value_and_grad_step(lambda params, x: jnp.sum(x * params[0] * params[1]), cache=JitCache(), **donated)
    value, grads = step((weight, weight), np.arange(3, dtype=np.float32))
    assert (float(value), [g.tolist() for g in grads]) == (3, [[0, 1, 2]] * 2)
    assert step(params=(jnp.ones(3),) * 2, x=np.arange(3, dtype=np.float32))[0] == 3


def test_one_of_arrays_that_share_memory_is_donated_and_the_others_are_copied():
    one, other = jnp.arange(3.0), jnp.arange(4.0)
    also = jax.device_put(one, one.devices().pop())  # another array of the same buffer
    given = without_shared_buffers([one, {"a": also, "b": other}], [])
    assert (given[0] is one, given[1]["b"] is other) == (True, True)
    assert given[1]["a"].unsafe_buffer_pointer() != one.unsafe_buffer_pointer()
    assert given[1]["a"].tolist() == one.tolist()
    apart = [one, other]
    assert without_shared_buffers(apart, [np.ones(3)]) is apart


def test_donating_steps_are_traced_explained_and_warmed_as_cached_functions_are():
    cache = JitCache()
    step = update_step(loss, optax.sgd(0.1), cache=cache)
    params, state = start(), optax.sgd(0.1).init(start())
    assert cache.explain(step, params, state, X, Y).outcome == "miss"
    assert step.warm((params, state, X, Y)) == 1
    assert cache.explain(step, params, state, X, Y).outcome == "hit"
    assert step.lower(params, state, X, Y).compile() is not None
    moved = jax.jit(step)(params, state, X, Y)[0]
    np.testing.assert_allclose(moved["b"], -0.1 * jax.grad(loss)(params, X, Y)["b"], rtol=1e-5)
    assert not params["w"].is_deleted()


def test_a_benchmark_of_functions_that_donate_leaves_its_inputs():
    weight = jnp.ones(3)
    params, state = {"w": weight, "b": jnp.zeros(())}, optax.sgd(0.1).init(start())
    step = update_step(loss, optax.sgd(0.1), cache=JitCache())
    benchmark(step, [(params, state, X, Y)], rounds=2)
    benchmark(jax.jit(lambda x, y: (x + y, x - y), donate_argnums=(0, 1)), [(weight, weight)], rounds=2)
    benchmark(lambda x, y: (x + y, x - y), [(weight, weight)], rounds=2, donate_argnums=(0, 1))
    assert weight.tolist() == [1, 1, 1]
