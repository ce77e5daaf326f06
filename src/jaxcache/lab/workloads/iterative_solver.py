"""Conjugate gradients on diffusion problems of many grid sizes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import iterative_solver
from .compiler import Compiler
from .protocol import Answer
from .settings import IterativeSolver

_CHECK_EVERY = 8  # steps


def _apply(absorption: Any, u: Any, pad: Any) -> Any:
    """Return ``A u = (4 + absorption) u - (the four neighbours of u)``, zero outside the grid.

    The five-point stencil of ``-laplace(u) + absorption u``. Both arguments are [n, n]; ``pad`` is that of jax.numpy
    or numpy.
    """
    wide = pad(u, 1)
    return (4 + absorption) * u - wide[2:, 1:-1] - wide[:-2, 1:-1] - wide[1:-1, 2:] - wide[1:-1, :-2]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, dtype=jnp.promote_types(a.dtype, jnp.float32))


def _step(state: dict[str, jax.Array], absorption: jax.Array, b: jax.Array, inside: jax.Array) -> dict[str, jax.Array]:
    """Do a step of conjugate gradients, preconditioned by the diagonal (Saad, Iterative Methods, alg. 9.1).

    ``inside`` is 1 on the grid; where padding has made it 0, the state stays 0.
    """
    diagonal = 4 + absorption
    ap = inside * _apply(absorption, state["p"], jnp.pad)
    rz = _dot(state["r"], state["r"] / diagonal)
    alpha = (rz / _dot(state["p"], ap)).astype(b.dtype)
    r = state["r"] - alpha * ap
    z = r / diagonal
    beta = (_dot(r, z) / rz).astype(b.dtype)
    return {"x": state["x"] + alpha * state["p"], "r": r, "p": z + beta * state["p"]}


def _residual(state: dict[str, jax.Array], absorption: jax.Array, b: jax.Array, inside: jax.Array) -> jax.Array:
    return b - inside * _apply(absorption, state["x"], jnp.pad)


def _energy(absorption: jax.Array, x: jax.Array) -> jax.Array:
    """Return the quadratic form ``x A x``."""
    return _dot(x, _apply(absorption, x, jnp.pad))


class Solving:
    """Solves of one grid a request."""

    def __init__(self, config: IterativeSolver, compiler: Compiler, seed: int) -> None:
        self._dtype = compiler.dtype
        self._draw = np.random.default_rng(seed)
        narrow = compiler.dtype != compiler.wide
        self._tolerance = max(config.tolerance, 4 * compiler.rounding) if narrow else config.tolerance
        self._solve = iterative_solver(
            _step,
            residual=_residual,
            tolerance=self._tolerance,
            max_steps=config.max_steps,
            check_every=_CHECK_EVERY,
            cache=compiler.cache_for(axes={"state": (0, 1), "problem": (0, 1)}),
        )
        self._energy = compiler.dynamic(_energy, axes={"absorption": (0, 1), "x": (0, 1)})
        self._problem: tuple[np.ndarray, np.ndarray]
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return the solution row by row, then its energy: [length ** 2 + 1]."""
        absorption = self._draw.lognormal(-2.0, 0.5, size=(length, length)).astype(self._dtype)
        b = self._draw.normal(size=(length, length)).astype(self._dtype)
        self._problem = absorption, b
        start = {"x": np.zeros_like(b), "r": b, "p": (b / (4 + absorption)).astype(self._dtype)}
        x = self._solve(start, absorption, b, np.ones_like(b)).state["x"]
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
        """Return the largest error. The factor leaves room for rounding in the residual that the solver sees."""
        return Answer(
            measure="largest true residual over the norm of the right-hand side, or relative error of the energy",
            error=self._worst,
            tolerance=4 * self._tolerance,
        )
