"""Decay curves fitted to measurements of many lengths."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ... import least_squares
from .compiler import Compiler
from .protocol import Answer
from .settings import LeastSquares

_START = np.array([1.0, 1.0, 0.0])  # amplitude, rate, offset


def _decay(params: Any, times: Any, exp: Any) -> Any:
    amplitude, rate, offset = params
    return amplitude * exp(-rate * times) + offset


def _residuals(params: Any, times: Any, values: Any, weights: Any) -> Any:
    return weights * (_decay(params, times, jnp.exp) - values)


class Curves:
    """Fits of one curve a request."""

    def __init__(self, config: LeastSquares, compiler: Compiler, seed: int) -> None:
        self._config, self._compiler = config, compiler
        self._draw = np.random.default_rng(seed)
        self._fit = least_squares(_residuals, cache=compiler.cache_for(axes={"data": 0}, unit=config.rows_per_length))
        self._points: tuple[np.ndarray, np.ndarray]
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return amplitude, rate and offset, then the cost: [4]."""
        config, dtype = self._config, self._compiler.dtype
        points = length * config.rows_per_length
        times = np.linspace(0, 4, points).astype(dtype)
        truth = self._draw.uniform([1.0, 0.7, -0.5], [3.0, 2.0, 0.5])
        noise = self._draw.normal(scale=config.noise, size=points)
        values = (_decay(truth, times.astype(np.float64), np.exp) + noise).astype(dtype)
        self._points = times, values
        fitted = self._fit(_START.astype(self._compiler.wide), times, values, np.ones_like(values))
        return np.append(np.asarray(fitted.params), np.asarray(fitted.cost))

    def check(self, result: np.ndarray) -> None:
        """Fit the same points with SciPy in float64."""
        from scipy import optimize  # a third of what a fork server of trials would import, for this workload alone

        times, values = (array.astype(np.float64) for array in self._points)
        exact = optimize.least_squares(lambda params: _decay(params, times, np.exp) - values, _START, method="lm")
        expected = np.append(exact.x, exact.cost)
        off = np.abs(result.astype(np.float64) - expected) / np.maximum(np.abs(expected), 1)
        self._worst = float(np.max(np.append(off, self._worst)))  # keeps a NaN

    def answer(self) -> Answer:
        """Return the largest difference."""
        return Answer(
            measure="largest difference of a parameter, or of the cost, from SciPy's fit in float64",
            error=self._worst,
            tolerance=max(self._config.tolerance, 4 * self._compiler.rounding),
        )
