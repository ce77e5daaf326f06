"""A test suite that keeps its compiles: the second run loads what the first compiled, and a mark forbids others.

    pytest --jaxcache .compiles examples/suite.py

In CI, keep the directory under the key that ``python -m jaxcache ci-key`` prints.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@jax.jit
def orthogonal(a):
    """Return an orthogonal basis of the columns of ``(m, n)`` numbers, as an array of the same shape."""
    return jnp.linalg.qr(a)[0]


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_columns_are_orthogonal(n):
    """Columns have length 1 and right angles between them, whatever their number."""
    basis = orthogonal(np.random.default_rng(n).normal(size=(8, n)).astype(np.float32))
    np.testing.assert_allclose(basis.T @ basis, np.eye(n), atol=1e-5)


@pytest.fixture
def warm():
    """Compile before the test begins to count."""
    return orthogonal(np.eye(8, 3, dtype=np.float32))


@pytest.mark.no_compiles
def test_a_second_matrix_of_a_shape_compiles_nothing(warm):
    """What would compile here fails the test, and says why."""
    np.testing.assert_allclose(orthogonal(np.array(warm)), warm, atol=1e-5)
