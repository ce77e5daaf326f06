"""Poisson regressions by Newton's method on tables of many sizes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import optimization_loop
from .compiler import Compiler
from .protocol import Answer
from .settings import OptimizationLoop

_PENALTY = 1e-2


def _gradient(beta: Any, x: Any, counts: Any, weights: Any, exp: Any) -> tuple[Any, Any]:
    """Return the gradient of the penalised mean negative log likelihood, and the rates; ``exp`` is JAX's or NumPy's."""
    rates = weights * exp(x @ beta)
    return (x.T @ (rates - weights * counts)) / weights.sum() + _PENALTY * beta, rates


def _newton(state: dict[str, jax.Array], x: jax.Array, counts: jax.Array, weights: jax.Array) -> dict[str, jax.Array]:
    """Do one step; ``slope`` is the largest component of the gradient that it started from."""
    beta = state["beta"]
    x, counts, weights = (array.astype(beta.dtype) for array in (x, counts, weights))
    gradient, rates = _gradient(beta, x, counts, weights, jnp.exp)
    hessian = (x.T * rates) @ x / jnp.sum(weights) + _PENALTY * jnp.eye(len(beta), dtype=beta.dtype)
    return {"beta": beta - jnp.linalg.solve(hessian, gradient), "slope": jnp.max(jnp.abs(gradient))}


class Regression:
    """Regressions on one table a request."""

    def __init__(self, config: OptimizationLoop, compiler: Compiler, seed: int) -> None:
        self._config, self._compiler = config, compiler
        self._draw = np.random.default_rng(seed)
        small = max(config.tolerance, 1e-6)
        self._loop = optimization_loop(
            _newton,
            lambda state, *_: state["slope"] < small,
            max_steps=config.max_steps,
            cache=compiler.cache_for(axes={"others": 0}, unit=config.rows_per_length),
        )
        self._table: tuple[np.ndarray, np.ndarray]
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return the coefficients: [features]."""
        config, dtype = self._config, self._compiler.dtype
        rows = length * config.rows_per_length
        x = self._draw.normal(scale=0.4, size=(rows, config.features)).astype(dtype)
        truth = self._draw.normal(scale=0.5, size=config.features)
        counts = self._draw.poisson(np.exp(x.astype(np.float64) @ truth)).astype(dtype)
        self._table = x, counts
        wide = self._compiler.wide
        start = {"beta": np.zeros(config.features, wide), "slope": np.asarray(np.inf, wide)}
        return np.asarray(self._loop(start, x, counts, np.ones_like(counts)).state["beta"])

    def check(self, result: np.ndarray) -> None:
        """Compute the gradient in NumPy's float64."""
        x, counts = (array.astype(np.float64) for array in self._table)
        gradient, _ = _gradient(result.astype(np.float64), x, counts, np.ones_like(counts), np.exp)
        self._worst = float(np.max(np.append(np.abs(gradient), self._worst)))  # keeps a NaN

    def answer(self) -> Answer:
        """Return the largest gradient."""
        return Answer(
            measure="largest component of the gradient, in float64, at a solution",
            error=self._worst,
            tolerance=self._config.tolerance,
        )
