"""Train a flax network on ever larger images: the programs of earlier sizes stay under ``jax.jit``, or may go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxcache


class Network(nnx.Module):
    """A convolution, a mean over the image, and a linear layer: any size goes in, 3 numbers come out."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, images):
        """Return ``(batch, 3)`` numbers for ``(batch, n, n, 1)`` images."""
        return self.out(jnp.mean(nnx.relu(self.first(images)), axis=(1, 2)))


def train(jit):
    """Return the losses of three steps at each of three sizes, with ``jit`` in the place of ``jax.jit``."""
    model = Network(nnx.Rngs(0))
    graph, state = nnx.split((model, nnx.Optimizer(model, optax.sgd(1e-1), wrt=nnx.Param)))

    @jit
    def step(state, images, labels):
        model, optimizer = nnx.merge(graph, state)

        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

        value, slopes = nnx.value_and_grad(loss)(model)
        optimizer.update(model, slopes)
        return nnx.state((model, optimizer)), value

    random, losses = np.random.default_rng(0), []
    for n in (8, 12, 16):
        for _ in range(3):
            labels = random.integers(3, size=8)
            images = random.normal(labels[:, None, None, None], size=(8, n, n, 1)).astype(np.float32)
            state, value = step(state, images, labels)
            losses.append(float(value))
    return losses


with jaxcache.watch() as compiles:
    expected = train(jax.jit)
programs = [record for record in compiles.compiles if record.function == "step"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs, {size} held at the end")

cache = jaxcache.JitCache("3MiB", eviction="lru")
losses, stats = train(cache.jit), cache.stats()
most = jaxcache.format_size(stats.peak_bytes)
print(f"jaxcache: {stats.compiled} programs, {stats.evictions} of them evicted, at most {most} held")
print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}; losses equal: {np.allclose(losses, expected, rtol=1e-4)}")
