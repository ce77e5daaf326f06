"""Logistic regression by Adam on batches of many sizes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ... import update_step
from .compiler import Compiler
from .protocol import Answer
from .settings import GradientOptimization

_PENALTY = 1e-3


def _loss(parameters: dict[str, Any], x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the penalised mean logistic loss; x is [batch, features], y [batch] of -1 and 1, weights [batch]."""
    slopes = parameters["weights"]
    margins = y * (jnp.matmul(x, slopes.astype(x.dtype), preferred_element_type=slopes.dtype) + parameters["bias"])
    mean = jnp.sum(weights * jax.nn.softplus(-margins)) / jnp.sum(weights, dtype=slopes.dtype)
    return mean + 0.5 * _PENALTY * jnp.sum(slopes**2)


class Fitting:
    """Fit by Adam, with the same fit in NumPy beside it."""

    def __init__(self, config: GradientOptimization, compiler: Compiler, seed: int) -> None:
        self._config = config
        self._draw = np.random.default_rng(seed)
        x = self._draw.normal(size=(config.rows, config.features))
        truth = self._draw.normal(size=config.features)
        y = np.where(self._draw.random(config.rows) < 1 / (1 + np.exp(-x @ truth)), 1, -1)
        self._x, self._y = x.astype(compiler.dtype), y.astype(compiler.dtype)
        optimizer = optax.adam(config.learning_rate)
        self._update = update_step(
            _loss, optimizer, cache=compiler.cache_for(axes={"batch": 0}, unit=config.rows_per_length)
        )
        self._evaluate = compiler.dynamic(_loss, axes={"x": 0, "y": 0, "weights": 0}, unit=config.rows_per_length)
        zeros = np.zeros(config.features, compiler.wide)
        self._parameters: Any = {"weights": zeros, "bias": np.zeros((), compiler.wide)}
        self._state = compiler.cache.jit(optimizer.init)(self._parameters)
        self._batch: tuple[np.ndarray, np.ndarray]
        self._check = _DoubleFit(config.features, config.learning_rate)
        self._tolerance = max(config.tolerance, 2 * compiler.rounding)
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return the batch's loss before and after the step, then the weights and the bias after it: [3 + features]."""
        rows = self._draw.integers(self._config.rows, size=length * self._config.rows_per_length)
        self._batch = self._x[rows], self._y[rows]
        batch = (*self._batch, np.ones_like(self._batch[1]))
        self._parameters, self._state, before = self._update(self._parameters, self._state, *batch)
        after = self._evaluate(self._parameters, *batch)
        parts = (before, after, self._parameters["weights"], self._parameters["bias"])
        return np.concatenate([np.atleast_1d(np.asarray(part)) for part in parts])

    def check(self, result: np.ndarray) -> None:
        """Do the same step in NumPy and compare."""
        expected = self._check.step(*(array.astype(np.float64) for array in self._batch))
        self._worst = float(np.maximum(self._worst, np.max(np.abs(result - expected))))

    def answer(self) -> Answer:
        """Return the largest difference from the fit in float64."""
        return Answer(
            measure="largest difference of a loss or a parameter from the same fit in NumPy's float64",
            error=self._worst,
            tolerance=self._tolerance,
        )


class _DoubleFit:
    """Reference fit in NumPy's float64: Adam as in algorithm 1 of Kingma and Ba, arXiv:1412.6980."""

    def __init__(self, features: int, learning_rate: float) -> None:
        self._rate = learning_rate
        self._flat = np.zeros(features + 1)  # weights, then bias
        self._first, self._second, self._steps = np.zeros_like(self._flat), np.zeros_like(self._flat), 0

    def step(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the loss before and after the step, and the parameters after it."""
        weights = self._flat[:-1]
        before, margins = self._loss(x, y)
        slope = -y / (1 + np.exp(margins)) / len(y)
        gradient = np.append(x.T @ slope + _PENALTY * weights, slope.sum())
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first, second = self._first / (1 - 0.9**self._steps), self._second / (1 - 0.999**self._steps)
        self._flat = self._flat - self._rate * first / (np.sqrt(second) + 1e-8)
        return np.concatenate([[before, self._loss(x, y)[0]], self._flat])

    def _loss(self, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss, and the margin of each row."""
        weights, bias = self._flat[:-1], self._flat[-1]
        margins = y * (x @ weights + bias)
        return float(np.mean(np.logaddexp(0, -margins)) + 0.5 * _PENALTY * weights @ weights), margins
