"""Sample a posterior again as data come in: NUTS is compiled for each number of rows, or for one bucket of them."""

import jax
import numpy as np
import numpyro
from numpyro import distributions
from numpyro.infer import MCMC, NUTS

import jaxcache

random = np.random.default_rng(0)
x = random.uniform(-1, 1, size=60).astype(np.float32)
y = (2 * x + 0.5 + random.normal(scale=0.3, size=60)).astype(np.float32)
rows = (40, 60)  # after the first week, and the second


def model(x, y, mask):
    """Draw a line through the rows that the mask does not leave out."""
    slope = numpyro.sample("slope", distributions.Normal(0, 5))
    level = numpyro.sample("level", distributions.Normal(0, 5))
    noise = numpyro.sample("noise", distributions.HalfNormal(1))
    with numpyro.handlers.mask(mask=mask):
        numpyro.sample("y", distributions.Normal(level + slope * x, noise), obs=y)


def posterior_means(x, y, mask):
    """Return the mean of each parameter over 300 samples."""
    mcmc = MCMC(NUTS(model), num_warmup=200, num_samples=300, progress_bar=False)
    mcmc.run(jax.random.key(0), x, y, mask)
    return {name: samples.mean() for name, samples in mcmc.get_samples().items()}


plain = jax.jit(posterior_means)
with jaxcache.watch() as compiles:
    expected = [plain(x[:n], y[:n], np.ones(n, bool)) for n in rows]
programs = [record for record in compiles.compiles if record.function == "posterior_means"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(rows)} weeks, {size}")

cache = jaxcache.JitCache("64MiB")
sample = jaxcache.bucketed(posterior_means, cache=cache, buckets=(64,), out_axes=None, check=False)
results = [sample(x[:n], y[:n]) for n in rows]
stats = cache.stats()
print(f"jaxcache: {stats.compiled} program for {len(rows)} weeks, {jaxcache.format_size(stats.live_bytes)}")
close = all(np.allclose(a[name], b[name], atol=0.05) for a, b in zip(results, expected, strict=True) for name in a)
print(f"slope {results[-1]['slope']:.1f}, level {results[-1]['level']:.1f}; means equal to 0.05: {close}")
