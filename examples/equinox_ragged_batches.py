"""Train an equinox model on batches of ragged sets: a program a width under ``jax.jit``, one a bucket with jaxcache."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcache

random = np.random.default_rng(0)
batches = []
for largest in (9, 14, 20, 24, 30):
    sizes = np.append(random.integers(3, largest, size=7), largest)
    inside = np.arange(largest) < sizes[:, None]
    points = np.where(inside[..., None], random.normal(size=(8, largest, 4)), 0).astype(np.float32)
    batches.append((points, points.sum(axis=(1, 2)), inside))


class SetModel(eqx.Module):
    """A network for each point of a set, and the sum of what it says of the points inside."""

    network: eqx.nn.MLP

    def __call__(self, points, inside):
        """Return one number for a set of shape ``(size, 4)``."""
        return jnp.sum(jax.vmap(self.network)(points), where=inside)


def step(arrays, points, targets, inside):
    """Return the arrays of the model after one step of gradient descent on a batch of eight sets."""

    def loss(arrays):
        model = eqx.combine(arrays, functions)
        return jnp.mean((jax.vmap(model)(points, inside) - targets) ** 2)

    return jax.tree.map(lambda array, slope: array - 1e-4 * slope, arrays, jax.grad(loss)(arrays))


model = SetModel(eqx.nn.MLP(4, "scalar", width_size=16, depth=1, key=jax.random.key(0)))
arrays, functions = eqx.partition(model, eqx.is_array)
plain = padded = arrays
plain_step = eqx.filter_jit(step)
with jaxcache.watch() as compiles:
    for batch in batches:
        plain = plain_step(plain, *batch)
programs = [record for record in compiles.compiles if record.function == "step"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(batches)} batches, {size}")

cache = jaxcache.JitCache("64MiB")
bucket_step = jaxcache.bucketed(step, cache=cache, buckets=(32,), axes={"points": 1, "inside": 1})
for batch in batches:
    padded = bucket_step(padded, *batch)
stats = cache.stats()
print(f"jaxcache: {stats.variants} program for {len(batches)} batches, {jaxcache.format_size(stats.live_bytes)}")
print("models equal:", bool(eqx.tree_equal(plain, padded, rtol=1e-4, atol=1e-6)))
