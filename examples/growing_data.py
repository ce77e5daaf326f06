"""A straight line fitted again and again to data that grow: under ``jax.jit``, each length is another program."""

import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def fit(x, y):
    """Return slope and intercept of the least-squares line through ``n`` points, as an array of two floats."""
    design = jnp.stack([x, jnp.ones_like(x)], axis=1)
    return jnp.linalg.solve(design.T @ design, design.T @ y)


random = np.random.default_rng(0)
x = random.uniform(size=200).astype(np.float32)
y = 3 * x + 1 + random.normal(scale=0.1, size=200).astype(np.float32)
for n in range(20, 60):
    slope, intercept = fit(x[:n], y[:n])
print(f"slope {slope:.2f}, intercept {intercept:.2f}")
