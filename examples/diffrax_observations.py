"""Solve an equation at the times at which each patient was seen: a program a number of times, or one for all."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import jaxcache

random = np.random.default_rng(0)
visits = [np.sort(random.uniform(0, 24, size=n)).astype(np.float32) for n in (4, 9, 14)]  # hours


def concentrations(rate, times, mask):
    """Return what is in gut and blood at the times, an array of shape ``(len(times), 2)``."""
    times = jnp.where(mask, times, 24)  # padding comes last, at the end of the solve

    def field(_, y, args):
        absorbed = 1.1 * y[0]
        return jnp.stack([-absorbed, absorbed - args * y[1]])

    return diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Tsit5(), t0=0, t1=24, dt0=0.1, y0=jnp.array([10.0, 0.0]), args=rate,
        saveat=diffrax.SaveAt(ts=times), stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    ).ys  # fmt: skip


plain = jax.jit(concentrations)
with jaxcache.watch() as compiles:
    expected = [plain(0.3, times, np.ones(len(times), bool)) for times in visits]
programs = [record for record in compiles.compiles if record.function == "concentrations"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(visits)} patients, {size}")

cache = jaxcache.JitCache("64MiB")
solve = jaxcache.bucketed(concentrations, cache=cache, buckets=(16,), axes={"times": 0}, check=False)
results = [solve(0.3, times) for times in visits]
stats = cache.stats()
print(f"jaxcache: {stats.compiled} program for {len(visits)} patients, {jaxcache.format_size(stats.live_bytes)}")
print("results equal:", all(np.allclose(*pair, atol=1e-4) for pair in zip(results, expected, strict=True)))
absorbed, left = 1.1, 0.3
times = visits[-1]
exact = 10 * absorbed / (absorbed - left) * (np.exp(-left * times) - np.exp(-absorbed * times))
print("blood as Bateman's formula has it:", np.allclose(results[-1][:, 1], exact, atol=1e-3))
