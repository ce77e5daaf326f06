"""Conjugate gradients on diffusion problems of many grid sizes."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveFloat, PositiveInt

from ._protocol import Answer, Jit, WorkloadConfig


def _apply(absorption: Any, u: Any, pad: Any) -> Any:
    """Return ``A u = (4 + absorption) u - (the four neighbours of u)``, zero outside the grid.

    The five-point stencil of ``-laplace(u) + absorption u``. Both arguments are [n, n]; ``pad`` is that of jax.numpy
    or numpy.
    """
    wide = pad(u, 1)
    return (4 + absorption) * u - wide[2:, 1:-1] - wide[:-2, 1:-1] - wide[1:-1, 2:] - wide[1:-1, :-2]


def _solve(absorption: jax.Array, b: jax.Array, tolerance: float, max_steps: int) -> jax.Array:
    """Solve ``A x = b`` by conjugate gradients, preconditioned by the diagonal (Saad, Iterative Methods, alg. 9.1)."""
    diagonal = 4 + absorption
    target = tolerance**2 * jnp.vdot(b, b)

    def unfinished(state: Any) -> jax.Array:
        _, r, _, _, step = state
        return (jnp.vdot(r, r) > target) & (step < max_steps)

    def step(state: Any) -> Any:
        x, r, p, rz, count = state
        ap = _apply(absorption, p, jnp.pad)
        alpha = rz / jnp.vdot(p, ap)
        x, r = x + alpha * p, r - alpha * ap
        z = r / diagonal
        rz_next = jnp.vdot(r, z)
        return x, r, z + rz_next / rz * p, rz_next, count + 1

    z = b / diagonal
    return jax.lax.while_loop(unfinished, step, (jnp.zeros_like(b), b, z, jnp.vdot(b, z), 0))[0]


def _energy(absorption: jax.Array, x: jax.Array) -> jax.Array:
    """Return the quadratic form ``x A x``."""
    return jnp.vdot(x, _apply(absorption, x, jnp.pad))


class IterativeSolver(WorkloadConfig):
    """Solves ``-laplace(u) + c u = b`` on an n × n grid, n being the request's length, and computes ``u A u``.

    Attributes:
        tolerance: Of the residual, over the norm of ``b``.
        max_steps: Of conjugate gradients.
    """

    name: Literal["iterative_solver"]
    tolerance: PositiveFloat
    max_steps: PositiveInt

    def start(self, jit: Jit, seed: int) -> "_Solving":
        """Return a session whose programs are compiled by ``jit``."""
        return _Solving(self, jit, seed)


class _Solving:
    def __init__(self, config: IterativeSolver, jit: Jit, seed: int) -> None:
        self._config = config
        self._draw = np.random.default_rng(seed)
        self._solve, self._energy = jit(_solve), jit(_energy)
        self._problem: tuple[np.ndarray, np.ndarray]
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return the solution row by row, then its energy: [length ** 2 + 1] float32."""
        absorption = self._draw.lognormal(-2.0, 0.5, size=(length, length)).astype(np.float32)
        b = self._draw.normal(size=(length, length)).astype(np.float32)
        self._problem = absorption, b
        x = self._solve(absorption, b, self._config.tolerance, self._config.max_steps)
        energy = self._energy(absorption, x)
        return np.append(np.asarray(x), np.asarray(energy))

    def check(self, result: np.ndarray) -> None:
        """Compute the true residual, and the energy, in float64."""
        absorption, b = (array.astype(np.float64) for array in self._problem)
        x = result[:-1].astype(np.float64).reshape(b.shape)
        ax = _apply(absorption, x, np.pad)
        residual = float(np.linalg.norm(b - ax) / np.linalg.norm(b))
        energy = abs(float(result[-1]) / float(np.vdot(x, ax)) - 1)
        self._worst = float(np.max(np.array([self._worst, residual, energy])))  # keeps a NaN, as max() may not

    def answer(self) -> Answer:
        """Return the largest error. The factor leaves room for float32 in the recurrence."""
        return Answer(
            measure="largest true residual over the norm of the right-hand side, or relative error of the energy",
            error=self._worst,
            tolerance=10 * self._config.tolerance,
        )
