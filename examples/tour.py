"""A walk through the library, one screen of output a section.

    python examples/tour.py

Needs only jax, numpy and jaxcache. Times are of this machine; every call is waited for.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcache
from jaxcache import JitCache


def section(title: str) -> None:
    """Print a heading."""
    print(f"\n== {title} ==")


def timed(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return the finished result of a call, and how long it took."""
    started = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, f"{1000 * (time.perf_counter() - started):.2f} ms"


def energy(x: jax.Array) -> jax.Array:
    """Sum of squares of a product."""
    return jnp.sum((x @ x.T) ** 2)


def caching(cache: JitCache) -> None:
    """Compile once, call often; what is dropped is compiled again."""
    section("Caching a function: cold, warm, and after it was cleared")
    f, x = cache.jit(energy), jnp.ones((100, 100))
    for moment in ("cold", "warm", "warm"):
        print(f"{moment:8} {timed(lambda: f(x))[1]}")
    cache.clear(f)
    print(f"{'cleared':8} {timed(lambda: f(x))[1]}")
    print(jaxcache.benchmark(energy, [(x,)], rounds=10))


def optimization(cache: JitCache) -> None:
    """Iterate on the device until converged."""
    section("An optimization loop: gradient descent on Rosenbrock's valley")

    def valley(x: jax.Array) -> jax.Array:
        return (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2

    slope = jax.grad(valley)
    loop = jaxcache.optimization_loop(
        lambda x: x - 0.01 * slope(x), lambda x: jnp.linalg.norm(slope(x)) < 1e-3, max_steps=20_000, cache=cache
    )
    loop(jnp.zeros(2))
    result, took = timed(lambda: loop(jnp.array([-1.0, 1.0])))
    print(f"{result.ended.name} after {result.steps} steps in {took}: {np.round(result.state, 3)}")


def solver(cache: JitCache) -> None:
    """Solve a linear system by Jacobi's method, to a tolerance on the true residual."""
    section("An iterative solver, compiled ahead for two sizes")

    def jacobi(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return x + (b - a @ x) / jnp.diag(a)

    def shapes(n: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        vector, matrix = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n,), (n, n)))
        return vector, matrix, vector

    solve = jaxcache.iterative_solver(
        jacobi, residual=lambda x, a, b: b - a @ x, tolerance=1e-5, warm=[shapes(50), shapes(100)], cache=cache
    )
    for n in (50, 100):
        a = 4 * jnp.eye(n) - jnp.eye(n, k=1) - jnp.eye(n, k=-1)
        start, right = jnp.zeros(n), jnp.ones(n)
        result, took = timed(lambda call=(start, a, right): solve(*call))
        print(f"n={n}: {result.ended.name} after {result.steps} steps in {took}, residual {result.residual_norm:.1e}")


def gradient_fit(cache: JitCache) -> None:
    """Fit a curve, by gradient steps and by least squares."""
    section("A fit: value and gradient, then Levenberg-Marquardt")
    t = jnp.linspace(0, 4, 60)
    y = 3 * jnp.exp(-1.3 * t) + 0.5

    def residuals(p: jax.Array, t: jax.Array, y: jax.Array) -> jax.Array:
        return p[0] * jnp.exp(-p[1] * t) + p[2] - y

    step = jaxcache.value_and_grad_step(lambda p, t, y: jnp.mean(residuals(p, t, y) ** 2), cache=cache)
    p = jnp.ones(3)
    for _ in range(100):
        value, slope = step(p, t, y)
        p = p - 0.2 * slope
    print(f"100 gradient steps: {np.round(p, 2)}, loss {value:.1e}")
    fit = jaxcache.least_squares(residuals, cache=cache)(jnp.ones(3), t, y)
    print(f"least squares: {np.round(fit.params, 3)}, {fit.ended.name} after {fit.steps} steps")


def sampling(cache: JitCache) -> None:
    """Estimate means with standard errors."""
    section("Monte Carlo: a quarter of pi, and a parameter scan")

    def inside(key: jax.Array, radius: jax.Array) -> jax.Array:
        return jnp.sum(jax.random.uniform(key, (2,)) ** 2, dtype=jnp.float32) < radius**2

    run = jaxcache.monte_carlo(lambda key, r: inside(key, r).astype(jnp.float32), 100_000, cache=cache)
    radii = jnp.array([0.5, 1.0])
    result = run(jax.random.key(0), radii)
    for radius, mean, error in zip(radii, result.mean, result.standard_error, strict=True):
        print(f"radius {radius}: {mean:.4f} ± {error:.4f}, exactly {np.pi / 4 * radius**2:.4f}")


def dynamic_shapes(cache: JitCache) -> None:
    """Serve many lengths with a few executables."""
    section("Dynamic shapes: pad to buckets, mask what is padding")
    lengths = np.random.default_rng(0).integers(5, 200, size=60)
    chosen = jaxcache.choose_buckets(lengths, compile_cost=500.0)
    print(f"{len(set(lengths.tolist()))} lengths, buckets {chosen.buckets}")

    @jaxcache.bucketed(cache=cache, buckets=chosen)
    def mean(x: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.mean(x, where=mask)

    worst = max(abs(float(mean(np.arange(n, dtype=np.float32))) - (n - 1) / 2) for n in lengths.tolist())
    print(f"largest error {worst:.1e}, padding {mean.stats().padding:.0%}")
    careless = jaxcache.bucketed(lambda x: jnp.mean(x), cache=cache, buckets=chosen)
    try:
        careless(np.ones(int(lengths.min()) - 1, np.float32))
    except jaxcache.PaddingError as error:
        print(f"refused: {error}")


def explanations(cache: JitCache) -> None:
    """Say what happened, and why."""
    section("Statistics, and why a call misses")
    f = cache.jit(energy)
    print(cache.explain(f, jnp.ones((100, 100))))
    print(cache.explain(f, jnp.ones((100, 7))))
    stats = cache.stats()
    print(f"{stats.hits} hits, {stats.misses} misses {dict(stats.misses_by_cause)}")
    print(f"{jaxcache.format_size(stats.live_bytes)} held, {stats.compile_seconds:.1f} s compiled")


def suggestions() -> None:
    """Ask what to change, of a cache that is too small."""
    section("Suggestions, for a cache that is too small")
    cache = JitCache("500KiB", eviction="lru")
    f = cache.jit(energy)
    for n in (3, 4, 5) * 40:
        f(jnp.ones((n, n)))
    for suggestion in jaxcache.suggest(cache.stats(), "lru") or [None]:
        print(
            suggestion and f"- {suggestion.title}\n  {suggestion.evidence}; {suggestion.effect}\n  {suggestion.python}"
        )


def main() -> None:
    """Walk through."""
    cache = JitCache("256MiB", eviction="gdsf")
    for part in (caching, optimization, solver, gradient_fit, sampling, dynamic_shapes, explanations):
        part(cache)
    suggestions()


if __name__ == "__main__":
    main()
