"""Option prices by simulation, against their closed forms."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveFloat, PositiveInt
from scipy.special import ndtr

from ._protocol import Answer, Jit, WorkloadConfig

_RATE, _YEARS, _SPOT = 0.03, 1.0, 100.0


def _paths(key_data: jax.Array, volatility: float, *, paths: int, steps: int) -> tuple[jax.Array, jax.Array]:
    """Simulate log prices of a geometric Brownian motion, exactly in distribution at every step.

    Returns the log price at the end and the mean log price over the steps, each [paths]. Both are sums of the
    increments: the mean weighs each by the share of the steps that come after it.
    """
    noise = jax.random.normal(jax.random.wrap_key_data(key_data), (steps, paths))
    dt = _YEARS / steps
    increments = (_RATE - 0.5 * volatility**2) * dt + volatility * math.sqrt(dt) * noise
    later = jnp.arange(steps, 0, -1) / steps
    return math.log(_SPOT) + jnp.sum(increments, axis=0), math.log(_SPOT) + later @ increments


def _price(log_price: jax.Array, strike: float) -> jax.Array:
    """Return the discounted mean pay-off of a call, and its standard error: [2]."""
    payoff = math.exp(-_RATE * _YEARS) * jnp.maximum(jnp.exp(log_price) - strike, 0.0)
    return jnp.stack([jnp.mean(payoff), jnp.std(payoff, ddof=1) / math.sqrt(payoff.size)])


def _call_on_lognormal(mean: float, deviation: float, strike: float) -> tuple[float, float]:
    """Return the mean and the standard deviation of ``exp(-r T) max(exp(Z) - strike, 0)``, Z normal."""
    d = (mean - math.log(strike)) / deviation

    def moment(power: int) -> float:  # E[exp(power Z); Z > log strike]
        return math.exp(power * mean + 0.5 * (power * deviation) ** 2) * float(ndtr(d + power * deviation))

    first = moment(1) - strike * moment(0)
    second = moment(2) - 2 * strike * moment(1) + strike**2 * moment(0)
    discount = math.exp(-_RATE * _YEARS)
    return discount * first, discount * math.sqrt(second - first**2)


class MonteCarlo(WorkloadConfig):
    """Prices a European and a geometric Asian call on ``paths_per_length`` × length paths.

    Attributes:
        paths_per_length: How many paths a unit of the request's length stands for.
        steps: Time steps of a path; the Asian call averages over them.
        volatility: A year's. Strikes vary from request to request.
    """

    name: Literal["monte_carlo"]
    paths_per_length: PositiveInt
    steps: PositiveInt
    volatility: PositiveFloat

    def start(self, jit: Jit, seed: int) -> "_Pricing":
        """Return a session whose programs are compiled by ``jit``."""
        return _Pricing(self, jit, seed)


class _Pricing:
    def __init__(self, config: MonteCarlo, jit: Jit, seed: int) -> None:
        self._config, self._seed = config, seed
        self._paths = jit(_paths, static_argnames=("paths", "steps"))
        self._price = jit(_price)
        self._request: tuple[float, int]
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return [2, 2]: European and Asian; price and standard error."""
        config = self._config
        strike = 85.0 + 5.0 * (number % 7)
        self._request = strike, length * config.paths_per_length
        key = np.array([self._seed, number], np.uint32)
        ends = self._paths(key, config.volatility, paths=self._request[1], steps=config.steps)
        return np.stack([np.asarray(self._price(end, strike)) for end in ends])

    def _exact(self, strike: float) -> list[tuple[float, float]]:
        config, drift = self._config, _RATE - 0.5 * self._config.volatility**2
        share = (config.steps + 1) / (2 * config.steps)  # of the drift, seen by the mean over the steps
        spread = share * (2 * config.steps + 1) / (3 * config.steps)  # of the variance
        sides: list[tuple[float, float]] = [(1.0, 1.0), (share, spread)]
        root = config.volatility * math.sqrt(_YEARS)
        return [
            _call_on_lognormal(math.log(_SPOT) + drift * _YEARS * mean, root * math.sqrt(variance), strike)
            for mean, variance in sides
        ]

    def check(self, result: np.ndarray) -> None:
        """Compare each price with its closed form, in exact standard errors."""
        strike, paths = self._request
        for (price, _), (exact, deviation) in zip(result, self._exact(strike), strict=True):
            error: Any = abs(float(price) - exact) / (deviation / math.sqrt(paths))
            self._worst = float(np.maximum(self._worst, error))

    def answer(self) -> Answer:
        """Return the largest deviation; five standard errors come once in two million draws."""
        return Answer(
            measure="largest deviation from the closed form, in standard errors", error=self._worst, tolerance=5.0
        )
