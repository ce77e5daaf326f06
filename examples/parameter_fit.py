"""Fit a decay to the samples of each patient, whose numbers differ: a program a number, or one for all."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxcache

random = np.random.default_rng(0)
patients = []
for n in (5, 8, 10, 11, 13, 16):
    t = np.sort(random.uniform(0, 4, size=n)).astype(np.float32)
    patients.append((t, (3 * np.exp(-1.3 * t) + random.normal(scale=0.02, size=n)).astype(np.float32)))
start = {"dose": np.float32(1), "rate": np.float32(1)}


def residuals(params, t, y, mask):
    """Return model minus measurement for each sample of a patient, and 0 for padding."""
    return jnp.where(mask, params["dose"] * jnp.exp(-params["rate"] * t) - y, 0)


@jax.jit
def gauss_newton(params, t, y):
    """Return the parameters after twenty steps of Gauss-Newton, the loop that people write."""
    flat, unflatten = ravel_pytree(params)

    def off(p):
        return residuals(unflatten(p), t, y, True)

    def step(_, p):
        slope = jax.jacfwd(off)(p)
        return p - jnp.linalg.solve(slope.T @ slope, slope.T @ off(p))

    return unflatten(jax.lax.fori_loop(0, 20, step, flat))


with jaxcache.watch() as compiles:
    expected = [gauss_newton(start, t, y) for t, y in patients]
programs = [record for record in compiles.compiles if record.function == "gauss_newton"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(patients)} patients, {size}")

cache = jaxcache.JitCache("64MiB")
fit = jaxcache.least_squares(residuals, cache=cache)
fitted = []
for t, y in patients:
    padding = (0, 16 - len(t))
    fitted.append(fit(start, np.pad(t, padding), np.pad(y, padding), np.arange(16) < len(t)))
stats = cache.stats()
print(f"jaxcache: {stats.compiled} program for {len(patients)} patients, {jaxcache.format_size(stats.live_bytes)}")
print(f"          converged: {sum(each.ended.name == 'CONVERGED' for each in fitted)}")
pairs = zip(fitted, expected, strict=True)
print("results equal:", all(np.allclose(a.params["rate"], b["rate"], rtol=1e-3) for a, b in pairs))
