"""What loops on the device save: over a Python loop around ``jax.jit``, and over the ecosystem's own solvers.

    python -m benchmarks.loops [--rounds 20]

The same algorithm on the same problem, compiled before, interleaved, each call waited for: fixed points against
optimistix, conjugate gradients against ``jax.scipy``, Levenberg-Marquardt against optimistix and SciPy, an Adam step
against the same under ``jax.jit``, Monte Carlo against one large ``jax.jit``. ``lax.while_loop`` is the same loop by
hand, with no more than a count, a limit and, for a solver, the true residual. Ratios are ours over theirs, with the
95 % interval of the median; "error" is how far the answers are apart. Needs the ``dev`` extra.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import scipy.optimize

from benchmarks.record import record
from jaxcache import JitCache, iterative_solver, least_squares, monte_carlo, optimization_loop, update_step
from jaxcache._loops.benchmark import median_interval

Contender = Callable[[], Any]  # returns its answer, an array
BLOCK_SECONDS = 0.002  # a single call of some microseconds tells of the machine
LARGE = (10_000, 1_000_000)  # numbers, beside the 8 whose time is mostly that of calls


def mean_seconds(call: Contender, repeats: int) -> float:
    """Return the mean time of calls in a row, each waited for."""
    started = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.perf_counter() - started) / repeats


def race(title: str, ours: Contender, others: dict[str, Contender], rounds: int) -> dict[str, Any]:
    """Time ours and others in turn; print a line each."""
    answer = np.asarray(ours())
    errors = {name: float(np.max(np.abs(np.asarray(other()) - answer))) for name, other in others.items()}
    calls, seconds = {"": ours, **others}, {name: [] for name in ["", *others]}
    repeats = {name: 1 + int(BLOCK_SECONDS / mean_seconds(call, 3)) for name, call in calls.items()}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 else -1]:
            seconds[name].append(mean_seconds(calls[name], repeats[name]))
    print(f"\n{title}: {1000 * float(np.median(seconds[''])):.3f} ms")
    measured = {}
    for name in others:
        ratio = median_interval([a / b for a, b in zip(seconds[""], seconds[name], strict=True)])
        milliseconds = 1000 * float(np.median(seconds[name]))
        print(f"  ÷ {name:34} {milliseconds:9.3f} ms: {ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f}), "
              f"error {errors[name]:.1e}")  # fmt: skip
        measured[name] = {"ratio": [ratio.median, ratio.low, ratio.high], "ms": milliseconds, "error": errors[name]}
    return measured


def fixed_point(cache: JitCache, rounds: int, numbers: int = 8) -> dict[str, Any]:
    """X = cos(x), of each number."""
    start = jnp.linspace(0, 1, numbers)
    first = (start, start + 1)

    def step(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jnp.cos(pair[0]), pair[0]

    def near(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.max(jnp.abs(pair[0] - pair[1])) < 1e-6

    loop, jitted, checked = optimization_loop(step, near, cache=cache), jax.jit(step), jax.jit(near)

    def in_python() -> jax.Array:
        pair = first
        while not checked(pair):
            pair = jitted(pair)
        return pair[0]

    solver = optimistix.FixedPointIteration(rtol=1e-6, atol=1e-6)

    @jax.jit
    def by_optimistix(x: jax.Array) -> jax.Array:
        return optimistix.fixed_point(lambda y, _: jnp.cos(y), solver, x, max_steps=1000).value

    @jax.jit
    def by_hand(pair: tuple[jax.Array, jax.Array], limit: jax.Array) -> Any:
        """Count the steps, and stop at a limit: the least that a loop has to tell."""
        return jax.lax.while_loop(
            lambda carry: ~near(carry[0]) & (carry[1] < limit),
            lambda carry: (step(carry[0]), carry[1] + 1),
            (pair, jnp.int32(0)),
        )

    limit = jnp.int32(1000)
    others = {
        "Python loop around jax.jit": in_python,
        "optimistix": lambda: by_optimistix(start),
        "lax.while_loop": lambda: by_hand(first, limit)[0][0],
    }
    return race(f"a fixed point of {numbers:,} numbers", lambda: loop(first).state[0], others, rounds)


def conjugate_gradients(cache: JitCache, rounds: int) -> dict[str, Any]:
    """A tridiagonal system of 200 unknowns."""
    n = 200
    b = jnp.asarray(np.random.default_rng(0).normal(size=n).astype(np.float32))

    def multiply(x: jax.Array) -> jax.Array:
        return 2.2 * x - jnp.roll(x, 1) - jnp.roll(x, -1)

    def step(state: Any, b: jax.Array) -> Any:
        x, r, p, square = state
        image = multiply(p)
        alpha = square / (p @ image)
        r_next = r - alpha * image
        square_next = r_next @ r_next
        return x + alpha * p, r_next, r_next + square_next / square * p, square_next

    def residual(state: Any, b: jax.Array) -> jax.Array:
        return b - multiply(state[0])

    solve = iterative_solver(step, residual=residual, tolerance=1e-5, check_every=5, cache=cache)
    jitted, norm = jax.jit(step), jax.jit(lambda state, b: jnp.linalg.norm(residual(state, b)))
    first = (jnp.zeros(n), b, b, b @ b)

    def in_python() -> jax.Array:
        state, goal = first, 1e-5 * float(norm(first, b))
        while float(norm(state, b)) > goal:
            for _ in range(5):
                state = jitted(state, b)
        return state[0]

    @jax.jit
    def by_hand(state: Any, b: jax.Array, limit: jax.Array) -> Any:
        size = jnp.linalg.norm(b)

        def body(carry: Any) -> Any:
            state = jax.lax.fori_loop(0, 5, lambda _, each: step(each, b), carry[0])
            return state, carry[1] + 1, jnp.linalg.norm(residual(state, b))

        return jax.lax.while_loop(
            lambda carry: (carry[2] > 1e-5 * size) & (carry[1] < limit), body, (state, jnp.int32(0), size)
        )

    limit = jnp.int32(200)
    by_scipy = jax.jit(lambda b: jax.scipy.sparse.linalg.cg(multiply, b, tol=1e-5)[0])
    return race("conjugate gradients", lambda: solve(first, b).state[0],
                {"Python loop around jax.jit": in_python, "jax.scipy.sparse.linalg.cg": lambda: by_scipy(b),
                 "lax.while_loop": lambda: by_hand(first, b, limit)[0][0]},
                rounds)  # fmt: skip


def fit(cache: JitCache, rounds: int) -> dict[str, Any]:
    """Three parameters of a decay, 100 points."""
    t = jnp.linspace(0, 4, 100)
    y = 3 * jnp.exp(-1.3 * t) + 0.5 + 0.05 * jax.random.normal(jax.random.key(0), (100,))
    start = jnp.array([1.0, 1.0, 0.0])

    def residuals(p: jax.Array, data: Any) -> jax.Array:
        return p[0] * jnp.exp(-p[1] * data[0]) + p[2] - data[1]

    mine = least_squares(residuals, tolerance=1e-6, cache=cache)
    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    by_optimistix = jax.jit(lambda p, data: optimistix.least_squares(residuals, solver, p, data).value)
    times, values = np.asarray(t, float), np.asarray(y, float)

    def by_scipy() -> Any:
        return scipy.optimize.least_squares(lambda p: p[0] * np.exp(-p[1] * times) + p[2] - values, start).x

    return race("Levenberg-Marquardt", lambda: mine(start, (t, y)).state,
                {"optimistix": lambda: by_optimistix(start, (t, y)), "scipy.optimize.least_squares": by_scipy},
                rounds)  # fmt: skip


def adam_step(cache: JitCache, rounds: int) -> dict[str, Any]:
    """A hundred steps of Adam on a small network."""
    optimizer = optax.adam(1e-2)
    draw = np.random.default_rng(0)
    first = {"w": draw.normal(size=(16, 16)).astype(np.float32), "v": draw.normal(size=16).astype(np.float32)}
    x = jnp.asarray(draw.normal(size=(32, 16)).astype(np.float32))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - 1) ** 2)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def plain(params: Any, state: Any, x: jax.Array) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def train(step: Callable[..., Any]) -> jax.Array:
        params = jax.tree.map(jnp.array, first)
        state = optimizer.init(params)
        value = jnp.zeros(())
        for _ in range(100):
            params, state, value = step(params, state, x)
        return value

    mine = update_step(loss, optimizer, cache=cache)
    return race("a hundred Adam steps", lambda: train(mine), {"the same under jax.jit": lambda: train(plain)}, rounds)


def sampling(cache: JitCache, rounds: int) -> dict[str, Any]:
    """A European option, 200,000 paths, 4 strikes."""
    strikes, key = jnp.array([80.0, 90.0, 100.0, 110.0]), jax.random.key(0)

    def payoff(key: jax.Array, strike: jax.Array) -> jax.Array:
        return jnp.maximum(100 * jnp.exp(0.2 * jax.random.normal(key) - 0.02) - strike, 0)

    run = monte_carlo(payoff, 200_000, cache=cache)
    numbers = jnp.arange(200_000)

    @jax.jit
    def at_once(key: jax.Array, strike: jax.Array) -> jax.Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)
        return jnp.mean(jax.vmap(payoff, (0, None))(keys, strike))

    def in_python() -> jax.Array:
        return jnp.stack([at_once(jax.random.fold_in(key, n), strike) for n, strike in enumerate(strikes)])

    return race("Monte Carlo", lambda: run(key, strikes).mean, {"Python loop around jax.jit": in_python}, rounds)


def main() -> None:
    """Print and record all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    rounds, cache = parser.parse_args().rounds, JitCache()
    races = (fixed_point, conjugate_gradients, fit, adam_step, sampling)
    measured = {each.__name__: each(cache, rounds) for each in races}
    for numbers in LARGE:
        measured[f"fixed_point_{numbers}"] = fixed_point(cache, rounds, numbers)
    print(f"\nwritten to benchmarks/results/{record('loops', measured).name}")


if __name__ == "__main__":
    main()
