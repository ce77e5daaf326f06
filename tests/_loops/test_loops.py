"""Loops on the device: answers against NumPy, SciPy and optax, ends, refusals, and what they compile."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.stats

from jaxcache import (
    Ended,
    JitCache,
    iterative_solver,
    least_squares,
    monte_carlo,
    optimization_loop,
    update_step,
    value_and_grad_step,
)

from .._support.compiles import count_compiles


def babylonian(x, a):
    return (x + a / x) / 2


def close(x, a):
    return jnp.max(jnp.abs(x * x - a)) < 1e-5 * jnp.max(a)


def system(n, seed=0):
    draw = np.random.default_rng(seed)
    a = draw.normal(size=(n, n)).astype(np.float32)
    return a @ a.T / n + 2 * np.eye(n, dtype=np.float32), draw.normal(size=n).astype(np.float32)


# Loops


def test_a_loop_gives_state_steps_and_how_it_ended():
    loop = optimization_loop(babylonian, close, cache=JitCache())
    result = loop(jnp.ones(4), jnp.arange(2.0, 6.0))
    np.testing.assert_allclose(result.state, np.sqrt(np.arange(2.0, 6.0)), rtol=1e-5)
    x, steps = np.ones(4), 0
    while not np.max(np.abs(x * x - np.arange(2.0, 6.0))) < 1e-5 * 5:
        x, steps = (x + np.arange(2.0, 6.0) / x) / 2, steps + 1
    assert (result.steps, result.ended, result.converged) == (steps, Ended.CONVERGED, True)


def test_a_loop_is_one_executable_a_shape_and_can_be_compiled_ahead():
    cache = JitCache()
    scalar, vector = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)
    loop = optimization_loop(babylonian, close, cache=cache, warm=[(vector, vector), (scalar, scalar)])
    x = jnp.ones(3)
    with count_compiles() as compiles:
        loop(x, x), loop(x, x), loop(np.float32(1), np.float32(2))
    assert compiles == [0]
    assert (cache.stats().warmed, cache.stats().hits, cache.stats().misses) == (2, 3, 0)
    assert list(cache.stats().by_function) == ["babylonian"]


@pytest.mark.parametrize("loop", [lambda **o: optimization_loop(babylonian, close, **o),
                                  lambda **o: least_squares(lambda x, a: x * x - a, **o)])  # fmt: skip
def test_the_former_name_of_warm_goes_on_working_and_warns_at_the_users_line(loop):
    cache, scalar = JitCache(), jax.ShapeDtypeStruct((), jnp.float32)
    with pytest.warns(DeprecationWarning, match=r"write warm=\[…\] instead") as warned:
        loop(cache=cache, precompile=[(scalar, scalar)])
    assert warned[0].filename == __file__
    assert cache.stats().warmed == 1
    with pytest.raises(ValueError, match="precompile is the former name of warm"):
        loop(warm=[(scalar, scalar)], precompile=[(scalar, scalar)])


def test_what_has_converged_at_first_takes_no_step_and_what_does_not_stops_at_max_steps():
    loop = optimization_loop(babylonian, close, cache=JitCache(), max_steps=2)
    assert loop(jnp.float32(2), jnp.float32(4)).steps == 0
    result = loop(jnp.float32(1), jnp.float32(1e6))
    assert (result.steps, result.max_steps_reached, result.converged) == (2, True, False)
    assert "raise max_steps" in result.ended.advice


@pytest.mark.parametrize("check_every", [None, 3])
def test_a_step_that_is_not_finite_ends_the_loop_and_is_named(check_every):
    def shrink(state):
        return {"x": jnp.sqrt(state["x"]) - 1, "n": state["n"] + 1}

    loop = optimization_loop(shrink, lambda s: s["n"] > 50, cache=JitCache(), check_every=check_every)
    result = loop({"x": jnp.float32(9), "n": jnp.int32(0)})
    x, step = 9.0, 0
    while np.isfinite(x):
        last, step = x, step + 1
        with np.errstate(invalid="ignore"):
            x = np.sqrt(x) - 1
    assert (result.ended, result.steps) == (Ended.NOT_FINITE, step)
    assert float(result.state["x"]) == pytest.approx(last)


@pytest.mark.parametrize("shape", [(), (3,), (2000,)])
def test_leaves_are_finite_together_only_if_each_number_is_however_large_they_are(shape):
    largest = np.finfo(np.float32).max
    leaves = [
        ((largest, largest), Ended.MAX_STEPS_REACHED),  # though their sum is infinite
        ((np.inf, -np.inf), Ended.NOT_FINITE),
        ((largest, np.nan), Ended.NOT_FINITE),
        ((0.0, -np.inf), Ended.NOT_FINITE),
    ]
    loop = optimization_loop(lambda s, last: last, lambda *_: False, max_steps=3, cache=JitCache())
    for numbers, ended in leaves:
        last = tuple(jnp.full(shape, number, jnp.float32) for number in numbers)
        assert loop(tuple(jnp.zeros(shape) for _ in numbers), last).ended is ended


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.complex64])
def test_the_state_before_a_step_that_is_not_finite_is_that_of_the_steps_before(dtype):
    def step(state, bad_step, bad):
        x, count = state
        return jnp.where(count + 1 == bad_step, x.at[1].set(bad), x * x - 0.5), count + 1

    cache, first = JitCache(), (jnp.array([0.3, -0.7, 0.9], dtype), jnp.int32(0))
    loops = {n: optimization_loop(step, lambda *_: False, max_steps=n, cache=cache) for n in (1, 6, 10)}
    for bad_step, bad in ((1, np.nan), (2, np.inf), (7, -np.inf), (7, np.nan)):
        ended = loops[10](first, bad_step, jnp.asarray(bad, dtype))
        assert (ended.steps, ended.ended) == (bad_step, Ended.NOT_FINITE)
        expected = first if bad_step == 1 else loops[bad_step - 1](first, 0, jnp.asarray(0, dtype)).state
        for mine, other in zip(ended.state, expected, strict=True):
            assert np.array_equal(np.asarray(mine), np.asarray(other))


def test_convergence_may_be_judged_on_the_host_every_few_steps():
    seen = []

    def host(x, a):
        seen.append(type(x))
        return abs(x * x - a) < 1e-3

    loop = optimization_loop(babylonian, host, cache=JitCache(), check_every=4, max_steps=30)
    result = loop(jnp.float32(1), jnp.float32(1e4))
    assert (float(result.state), result.converged) == (pytest.approx(100), True)
    assert result.steps % 4 == 0
    assert len(seen) == 1 + result.steps // 4  # the first state is looked at too
    assert issubclass(seen[0], np.ndarray | np.generic)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda s: (s, s), r"structure that it takes: it takes PyTreeDef\(\*\), but returns PyTreeDef\(\(\*, \*\)\)"),
        (lambda s: s[:2], r"state is float32\[3\], but it returns float32\[2\]"),
        (lambda s: s.astype(int), r"state is float32\[3\], but it returns int32\[3\]"),
    ],
)
def test_a_step_that_returns_another_structure_is_refused_with_both(step, words):
    with pytest.raises(TypeError, match=words):
        optimization_loop(step, lambda s: False, cache=JitCache())(jnp.ones(3))


def test_bad_numbers_and_convergence_functions_are_refused():
    with pytest.raises(ValueError, match="max_steps must be a whole number, 1 or more, but is 0"):
        optimization_loop(babylonian, close, max_steps=0)
    with pytest.raises(ValueError, match="check_every"):
        optimization_loop(babylonian, close, check_every=0)
    with pytest.raises(TypeError, match=r"converged must return a boolean scalar, .* but returns float32\[3\]"):
        optimization_loop(lambda x: x, lambda x: x)(jnp.ones(3))
    with pytest.raises(ValueError, match="tolerance must be positive"):
        iterative_solver(babylonian, residual=close, tolerance=0)


# Solvers


def jacobi(x, a, b):
    diagonal = jnp.diag(a)
    return (b - a @ x + diagonal * x) / diagonal


def conjugate_gradients(state, a, b):
    x, r, p = state
    image, square = a @ p, r @ r
    alpha = square / (p @ image)
    r_next = r - alpha * image
    return x + alpha * p, r_next, r_next + (r_next @ r_next) / square * p


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("check_every", [1, 4])
def test_solvers_agree_with_numpy_to_the_tolerance_on_the_true_residual(n, check_every):
    a, b = system(n)
    a_dominant = a + n * np.eye(n, dtype=np.float32)
    cache = JitCache()
    solve = iterative_solver(jacobi, residual=lambda x, a, b: b - a @ x, tolerance=1e-4, check_every=check_every,
                             cache=cache)  # fmt: skip
    result = solve(jnp.zeros(n), a_dominant, b)
    assert result.converged
    true = np.linalg.norm(b - a_dominant.astype(np.float64) @ np.asarray(result.state, np.float64))
    assert true <= 1.05e-4 * np.linalg.norm(b)
    assert float(result.residual_norm) == pytest.approx(true, rel=0.05)
    np.testing.assert_allclose(result.state, np.linalg.solve(a_dominant, b), atol=1e-3)
    cg = iterative_solver(conjugate_gradients, residual=lambda s, a, b: b - a @ s[0], tolerance=1e-4,
                          check_every=check_every, cache=cache)  # fmt: skip
    found = cg((jnp.zeros(n), jnp.asarray(b), jnp.asarray(b)), a, b)
    np.testing.assert_allclose(found.state[0], np.linalg.solve(a, b), atol=2e-3)
    assert (found.converged, found.steps % check_every) == (True, 0)


@pytest.mark.parametrize("exponent", [-75, 0, 64, 126])
def test_solutions_do_not_depend_on_the_unit(exponent):
    solve = iterative_solver(lambda x, b: (b - x) / 3, residual=lambda x, b: b - 4 * x, tolerance=1e-5)
    unit = np.float32(2.0**exponent)
    b = np.array([1, -0.5, 0.25], np.float32)
    one, other = solve(jnp.zeros(3), b), solve(jnp.zeros(3), b * unit)
    assert (other.ended, other.steps) == (one.ended, one.steps)
    assert one.converged
    np.testing.assert_allclose(other.state, np.asarray(one.state) * unit, rtol=1e-6)
    np.testing.assert_allclose(other.residual_norm, np.asarray(one.residual_norm) * unit, rtol=0.1)


def test_a_norm_that_no_number_holds_is_not_small():
    solve = iterative_solver(lambda x, b: x, residual=lambda x, b: b, max_steps=3)
    assert not solve(jnp.zeros(3), jnp.full(3, 3e38)).converged


def test_a_solver_is_warmed_for_shapes():
    cache = JitCache()
    matrix, vector = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((6, 6), (6,)))
    solve = iterative_solver(jacobi, residual=lambda x, a, b: b - a @ x, warm=[(vector, matrix, vector)], cache=cache)
    a, b = system(6)
    solve(jnp.zeros(6), a + 9 * np.eye(6, dtype=np.float32), b)
    assert (cache.stats().warmed, cache.stats().misses) == (1, 0)


# Gradient steps


def loss(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def data(n=20, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 3)).astype(np.float32)
    return x, x @ np.array([1, -2, 3], np.float32) + 0.5


def test_values_and_gradients_are_those_of_jax():
    params = {"w": jnp.ones(3), "b": jnp.float32(0)}
    step = value_and_grad_step(loss, cache=JitCache())
    value, grads = step(params, *data())
    wanted = jax.value_and_grad(loss)(params, *data())
    assert float(value) == pytest.approx(float(wanted[0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, wanted[1])
    aux = value_and_grad_step(lambda p, x, y: (loss(p, x, y), {"n": len(x)}), cache=JitCache(), has_aux=True)
    assert aux(params, *data())[0][1] == {"n": 20}


def test_an_update_step_follows_optax_and_donates_its_state():
    optimizer = optax.adam(0.1)
    step = update_step(loss, optimizer, cache=JitCache())
    params = {"w": jnp.zeros(3), "b": jnp.float32(0)}
    mine, mine_state = params, optimizer.init(params)
    wanted, wanted_state = {"w": jnp.zeros(3), "b": jnp.float32(0)}, optimizer.init(params)
    mine = jax.tree.map(jnp.copy, params)
    for _ in range(60):
        before = mine
        mine, mine_state, value = step(mine, mine_state, *data())
        updates, wanted_state = optimizer.update(jax.grad(loss)(wanted, *data()), wanted_state, wanted)
        wanted = optax.apply_updates(wanted, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), mine, wanted)
    assert before["w"].is_deleted()
    assert value < 1


def test_an_update_step_tells_a_line_search_what_it_asks_for():
    optimizer, rosenbrock = optax.lbfgs(), lambda p: jnp.sum((1 - p[:-1]) ** 2 + 100 * (p[1:] - p[:-1] ** 2) ** 2)
    step = update_step(rosenbrock, optimizer, cache=JitCache())
    params = jnp.zeros(4)
    state = optimizer.init(params)
    for _ in range(40):
        params, state, value = step(params, state)
    np.testing.assert_allclose(params, np.ones(4), rtol=1e-3)
    assert value < 1e-6


def test_a_loss_that_is_no_scalar_is_refused():
    for wrong, words in ((lambda p, x: p * x, r"float32\[3\]"), (lambda p, x: jnp.int32(3), "int32")):
        with pytest.raises(TypeError, match=f"loss must return a real scalar, .* but returns {words}"):
            value_and_grad_step(wrong, cache=JitCache())(jnp.ones(3), jnp.ones(3))


def test_a_host_that_is_content_with_the_first_state_has_no_step_done():
    loop = optimization_loop(lambda s: s + 1, lambda s: s >= 3, max_steps=9, check_every=2, cache=JitCache())
    for first, steps in ((np.float32(5), 0), (np.float32(0), 4)):
        result = loop(first)
        assert (result.state, result.steps, result.ended) == (first + steps, steps, Ended.CONVERGED)


# Least squares


def decay(params, t, y):
    return params["a"] * jnp.exp(-params["k"] * t) + params["c"] - y


def test_fits_agree_with_scipy_over_many_data_sizes():
    cache = JitCache()
    fit = least_squares(decay, cache=cache)
    for n in (8, 50, 200):
        draw = np.random.default_rng(n)
        t = np.linspace(0, 4, n).astype(np.float32)
        y = (3 * np.exp(-1.3 * t) + 0.5 + 0.05 * draw.normal(size=n)).astype(np.float32)
        result = fit({"a": 1.0, "k": 1.0, "c": 0.0}, t, y)
        wanted = scipy.optimize.least_squares(
            lambda p, t=t, y=y: p[0] * np.exp(-p[1] * t.astype(float)) + p[2] - y, [1.0, 1.0, 0.0]
        )
        assert result.converged
        np.testing.assert_allclose([result.params[k] for k in "akc"], wanted.x, rtol=2e-3)
        assert float(result.cost) == pytest.approx(wanted.cost, rel=1e-3)
    assert cache.stats().misses == 3


@pytest.mark.parametrize("unit", [1e3, 1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_unit_of_residuals_moves_no_fit(unit, noise):
    x = np.linspace(0, 4, 50, dtype=np.float32)
    y = 5 * np.exp(-1.3 * x) + noise * np.random.default_rng(0).normal(size=50).astype(np.float32)
    wanted = scipy.optimize.least_squares(lambda p: p[0] * np.exp(-p[1] * x) - y, [1, 0.2]).x
    fit = least_squares(lambda p, x, y: unit * (p[0] * jnp.exp(-p[1] * x) - y))
    result = fit(jnp.array([1.0, 0.2]), x, y)
    assert result.converged
    np.testing.assert_allclose(result.params, wanted, rtol=1e-3)


def test_rosenbrock_is_solved_in_double_precision_from_the_usual_start():
    with jax.enable_x64(True):
        fit = least_squares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), cache=JitCache())
        result = fit(np.array([-1.2, 1.0]))
        np.testing.assert_allclose(result.params, [1, 1], rtol=1e-8)
        assert (result.converged, result.steps < 60) == (True, True)


def test_fits_that_cannot_go_on_say_so():
    assert least_squares(lambda x: jnp.log(x))(jnp.float32(-1)).ended is Ended.NOT_FINITE
    assert least_squares(decay, max_steps=1)(
        {"a": 1.0, "k": 1.0, "c": 0.0}, np.arange(5.0), np.ones(5)
    ).max_steps_reached
    with pytest.raises(TypeError, match="residuals must return real numbers"):
        least_squares(lambda x: jnp.round(x).astype(int))(jnp.ones(2))


# Monte Carlo


def uniform_square(key, scale=1.0):
    return scale * jax.random.uniform(key) ** 2


def test_means_and_standard_errors_hold_what_they_promise():
    """Over many runs, the error over the standard error is standard normal (Kolmogorov-Smirnov, level 0.001)."""
    run = monte_carlo(uniform_square, 400, cache=JitCache())
    results = [run(jax.random.key(seed)) for seed in range(200)]
    scores = [(float(one.mean) - 1 / 3) / float(one.standard_error) for one in results]
    assert scipy.stats.kstest(scores, "norm").pvalue > 0.001


def test_parameter_sets_are_scanned_and_independent():
    run = monte_carlo(uniform_square, 5000, cache=JitCache())
    scales = jnp.array([1.0, 2.0, 2.0])
    result = run(jax.random.key(1), scales)
    assert result.mean.shape == result.standard_error.shape == (3,)
    assert np.all(np.abs(result.mean - scales / 3) < 4 * result.standard_error)
    assert result.mean[1] != result.mean[2]  # equal parameters, other samples


def test_the_memory_limit_changes_chunks_and_not_samples():
    few = monte_carlo(lambda key: jax.random.normal(key, (2, 3)), 1000, (2, 3), memory_limit="8KiB", cache=JitCache())
    many = monte_carlo(lambda key: jax.random.normal(key, (2, 3)), 1000, (2, 3), cache=JitCache())
    a, b = few(jax.random.key(3)), many(jax.random.key(3))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-6)
    np.testing.assert_allclose(a.standard_error, b.standard_error, rtol=1e-4)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(1000))
    samples = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (2, 3)))(keys), np.float64)
    np.testing.assert_allclose(b.mean, samples.mean(0), atol=1e-6)
    np.testing.assert_allclose(b.standard_error, scipy.stats.sem(samples), rtol=1e-4)


@pytest.mark.parametrize("memory_limit", ["64MiB", 2000])
def test_large_means_have_an_error_and_infinite_samples_a_mean(memory_limit):
    key = jax.random.key(0)
    large = monte_carlo(lambda k: 1e20 + 1e16 * jax.random.normal(k), 1000, memory_limit=memory_limit)(key)
    assert float(large.standard_error) == pytest.approx(1e16 / np.sqrt(1000), rel=0.1)
    endless = monte_carlo(lambda k: jnp.where(jax.random.uniform(k) < 0.3, jnp.inf, 1.0), 1000,
                          memory_limit=memory_limit)(key)  # fmt: skip
    assert float(endless.mean) == np.inf


def test_bad_monte_carlo_arguments_are_refused():
    for wrong in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match="n_samples must be a whole number, 2 or more"):
            monte_carlo(uniform_square, wrong)
    with pytest.raises(ValueError, match="n_samples must be a whole number, 2 or more"):
        monte_carlo(uniform_square, 1)
    with pytest.raises(ValueError, match="memory_limit must be"):
        monte_carlo(uniform_square, 10, memory_limit="much")
    with pytest.raises(TypeError, match=r"step must return a real sample of sample_shape=\(2,\)"):
        monte_carlo(uniform_square, 10, (2,))(jax.random.key(0))
    with pytest.raises(ValueError, match="one row a parameter set, all equally many"):
        monte_carlo(lambda key, a, b: a * b, 10)(jax.random.key(0), jnp.ones(2), jnp.ones(3))


@pytest.mark.parametrize("check_every", [1, 5])
def test_a_solver_that_is_exact_between_two_checks_has_converged(check_every):
    """Conjugate gradients on the identity: the first step is exact, the second divides nothing by nothing."""

    def step(state, b):
        x, r, p = state
        square = r @ r
        r_next = r - square / (p @ p) * p
        return x + square / (p @ p) * p, r_next, r_next + (r_next @ r_next) / square * p

    b = jnp.arange(1.0, 5.0)
    solve = iterative_solver(step, residual=lambda state, b: b - state[0], check_every=check_every)
    result = solve((jnp.zeros(4), b, b), b)
    assert (result.converged, result.steps, result.state[0].tolist()) == (True, check_every, b.tolist())


def test_a_solver_that_is_not_finite_before_it_is_near_says_so():
    solve = iterative_solver(lambda x: x * 1e30, residual=lambda x: x - 1, check_every=3)
    result = solve(jnp.float32(2.0))
    assert (result.ended, float(result.state)) == (Ended.NOT_FINITE, 2.0)


def test_norms_of_half_precision_do_not_overflow():
    solve = iterative_solver(lambda x: x / 2, residual=lambda x: x, tolerance=1e-2)
    result = solve(jnp.full(4, 1000, jnp.float16))
    assert (result.converged, result.steps) == (True, 7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("memory_limit", ["64MiB", "1KiB"])
def test_many_samples_of_half_precision_are_counted_and_added_up(dtype, memory_limit):
    run = monte_carlo(lambda key: jax.random.uniform(key).astype(dtype), 80_000, memory_limit=memory_limit)
    result = run(jax.random.key(0))
    assert float(result.mean) == pytest.approx(0.5, abs=0.01)
    assert float(result.standard_error) == pytest.approx((1 / 12 / 80_000) ** 0.5, rel=0.02)


def test_whole_numbers_among_parameters_are_fitted_too():
    x = np.linspace(0, 1, 20).astype(np.float32)
    fit = least_squares(lambda p, x, y: p["a"] * x + p["b"] - y)
    params = fit({"a": 1, "b": jnp.float32(0)}, x, 2.5 * x + 0.5).params
    assert {name: float(value) for name, value in params.items()} == pytest.approx({"a": 2.5, "b": 0.5}, rel=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precisions_are_fitted_in_single_and_come_back_as_they_were(dtype):
    x = np.linspace(0, 1, 32).astype(np.float32)
    fit = least_squares(lambda p, x, y: p[0] * x + p[1] - y, cache=JitCache())
    result = fit(jnp.zeros(2, dtype), x.astype(dtype), (2 * x + 1).astype(dtype))
    assert (result.converged, result.params.dtype) == (True, dtype)
    np.testing.assert_allclose(result.params.astype(np.float32), np.polyfit(x, 2 * x + 1, 1), rtol=0.01)


def test_parameters_that_cannot_be_fitted_are_refused():
    fit = least_squares(lambda p: jnp.abs(p))
    with pytest.raises(TypeError, match="params must be real numbers, but one is complex64"):
        fit(jnp.ones(2, jnp.complex64))
    with pytest.raises(ValueError, match="params must hold at least one number"):
        fit(jnp.ones(0))
    with pytest.raises(ValueError, match=r"sample_shape must be a tuple of lengths, such as \(3,\), but is 3"):
        monte_carlo(jax.random.normal, 10, 3)


def test_results_go_through_transformations():
    loop = optimization_loop(lambda s: s / 2, lambda s: s < 0.1)
    assert jax.jit(loop)(1.0).steps == loop(1.0).steps == 4
    assert jax.vmap(loop)(jnp.array([1.0, 4.0])).step_count.tolist() == [4, 6]


def test_losses_with_something_beside_them_are_told_from_those_without():
    with pytest.raises(TypeError, match="with has_aux=True loss must return a pair"):
        value_and_grad_step(jnp.sum, cache=JitCache(), has_aux=True)(jnp.ones(3))
    with pytest.raises(TypeError, match=r"returns a tuple; .* takes has_aux=True"):
        value_and_grad_step(lambda p: (p.sum(), p), cache=JitCache())(jnp.ones(3))


LOOPS = {
    "optimization_loop": (lambda cache: optimization_loop(babylonian, close, cache=cache), (jnp.ones(3), jnp.ones(3))),
    "on the host": (
        lambda cache: optimization_loop(babylonian, lambda x, a: True, check_every=2, cache=cache),
        (jnp.ones(3), jnp.ones(3)),
    ),
    "iterative_solver": (
        lambda cache: iterative_solver(babylonian, residual=lambda x, a: x * x - a, cache=cache),
        (jnp.ones(3), jnp.ones(3)),
    ),
    "least_squares": (lambda cache: least_squares(lambda p, y: p * y - y, cache=cache), (jnp.ones(()), jnp.ones(3))),
    "monte_carlo": (lambda cache: monte_carlo(uniform_square, 4, cache=cache), (jax.random.key(0), jnp.ones(2))),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_explained_warmed_and_cleared(name):
    make, args = LOOPS[name]
    cache = JitCache()
    loop = make(cache)
    assert (cache.explain(loop, *args).outcome, loop.explain(*args).outcome) == ("miss", "miss")
    assert (loop.warm(args), loop.warm(args)) == (1, 0)
    assert cache.explain(loop, *args).outcome == "hit"
    with count_compiles() as compiles:
        loop(*args)
    assert (compiles, cache.stats().misses) == ([0], 0)
    loop.clear()
    assert (cache.explain(loop, *args).outcome, cache.stats().live_bytes) == ("miss", 0)
    assert copy.deepcopy(loop) is loop
    with pytest.raises(TypeError, match="fun must be a function from jit of this cache"):
        JitCache().explain(loop, *args)
