"""A solver that jits its loop anew in each call: a program a call under ``jax.jit``, a program a size with jaxcache."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcache


def jacobi(x, load):
    """Return the next iterate of the heat equation on an ``(n, n)`` grid whose edge is held at 0."""
    around = jnp.pad(x, 1)
    return (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] + load) / 4


def residual(x, load):
    """Return what is missing at each point of the grid, times 4."""
    return 4 * (jacobi(x, load) - x)


def plain_solve(load):
    """Solve for one load; the inner function is another one in each call, so that nothing is ever found again."""

    @jax.jit
    def loop(x):
        return jax.lax.while_loop(lambda x: jnp.linalg.norm(residual(x, load)) > 1e-4, lambda x: jacobi(x, load), x)

    return loop(jnp.zeros_like(load))


random = np.random.default_rng(0)
loads = [random.uniform(size=(n, n)).astype(np.float32) for n in (8, 12, 8, 12, 8, 12, 8, 12)]
with jaxcache.watch() as compiles:
    expected = [plain_solve(load) for load in loads]
programs = [record for record in compiles.compiles if record.function == "loop"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(loads)} calls, {size}")
print(f"          {programs[-1].cause}: {programs[-1].way_out.partition(':')[0]}")

cache = jaxcache.JitCache("64MiB")
solve = jaxcache.iterative_solver(
    jacobi, residual=residual, tolerance=1e-4, relative=False, max_steps=5000, cache=cache
)
results = [solve(np.zeros_like(load), load) for load in loads]
stats = cache.stats()
print(f"jaxcache: {stats.compiled} programs for {len(loads)} calls, {jaxcache.format_size(stats.live_bytes)}")
print(f"          {results[-1].ended.name} after {results[-1].steps} steps")
print("results equal:", all(np.allclose(a.state, b, atol=1e-5) for a, b in zip(results, expected, strict=True)))
