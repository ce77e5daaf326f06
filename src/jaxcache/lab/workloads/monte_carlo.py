"""Option prices by simulation, against their closed forms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ... import monte_carlo
from .compiler import Compiler
from .protocol import Answer
from .settings import MonteCarlo

_RATE, _YEARS, _SPOT = 0.03, 1.0, 100.0
_DISCOUNT = math.exp(-_RATE * _YEARS)


def _payoffs(key: jax.Array, strike: jax.Array, *, steps: int, volatility: float) -> jax.Array:
    """Simulate one path of a geometric Brownian motion, exactly in distribution at every step.

    Returns the discounted pay-offs of a European and of a geometric Asian call: [2]. The log price at the end and the
    mean log price over the steps are both sums of the increments: the mean weighs each by the share of the steps that
    come after it.
    """
    noise = jax.random.normal(key, (steps,), strike.dtype)
    dt = _YEARS / steps
    increments = (_RATE - 0.5 * volatility**2) * dt + volatility * math.sqrt(dt) * noise
    later = jnp.arange(steps, 0, -1, dtype=strike.dtype) / steps
    log_returns = jnp.stack([jnp.sum(increments), later @ increments])
    return _DISCOUNT * jnp.maximum(_SPOT * jnp.exp(log_returns) - strike, 0)


def _book(prices: jax.Array, errors: jax.Array, positions: jax.Array) -> jax.Array:
    """Return the book's value, European and Asian calls apart, and its standard error: [2, 2].

    Prices and errors are [options, 2], positions [options].
    """
    held = positions.astype(prices.dtype)[:, None]
    return jnp.stack([jnp.sum(held * prices, axis=0), jnp.sqrt(jnp.sum((held * errors) ** 2, axis=0))])


def _call_on_lognormal(mean: float, deviation: float, strike: float) -> tuple[float, float]:
    """Return the mean and the standard deviation of ``exp(-r T) max(exp(Z) - strike, 0)``, Z normal."""
    d = (mean - math.log(strike)) / deviation

    def moment(power: int) -> float:  # E[exp(power Z); Z > log strike]
        above = 0.5 * math.erfc(-(d + power * deviation) / math.sqrt(2))
        return math.exp(power * mean + 0.5 * (power * deviation) ** 2) * above

    first = moment(1) - strike * moment(0)
    second = moment(2) - 2 * strike * moment(1) + strike**2 * moment(0)
    return _DISCOUNT * first, _DISCOUNT * math.sqrt(second - first**2)


class Pricing:
    """Prices of one book a request."""

    def __init__(self, config: MonteCarlo, compiler: Compiler, seed: int) -> None:
        self._config, self._seed, self._dtype = config, seed, compiler.dtype
        self._draw = np.random.default_rng(seed)
        self._price = monte_carlo(
            partial(_payoffs, steps=config.steps, volatility=config.volatility),
            config.paths,
            (2,),
            cache=compiler.cache_for(axes={"parameters": 0}),
        )
        self._value = compiler.dynamic(_book, axes={"prices": 0, "errors": 0, "positions": 0})
        self._request: tuple[np.ndarray, np.ndarray]
        self._rounding = 2 * compiler.rounding * _SPOT  # of a price
        self._worst = 0.0

    def serve(self, number: int, length: int) -> np.ndarray:
        """Return [length + 1, 4]: the calls' prices and standard errors, in the last row those of the whole book."""
        strikes = self._draw.uniform(85, 115, size=length).astype(self._dtype)
        positions = self._draw.integers(-5, 6, size=length).astype(self._dtype)
        self._request = strikes, positions
        key = jax.random.wrap_key_data(jnp.array([self._seed, number], jnp.uint32))
        priced = self._price(key, strikes)
        whole = self._value(priced.mean, priced.standard_error, positions)
        options = np.concatenate([np.asarray(priced.mean), np.asarray(priced.standard_error)], axis=1)
        return np.concatenate([options, np.asarray(whole).reshape(1, 4)])

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
        """Compare each price with its closed form, in exact standard errors, and add the book up again."""
        strikes, positions = (array.astype(np.float64) for array in self._request)
        options, whole = result[:-1].astype(np.float64), result[-1].astype(np.float64)
        exact = np.array([self._exact(strike) for strike in strikes])  # [options, 2 calls, price and deviation]
        deviation = exact[..., 1] / math.sqrt(self._config.paths)
        wrong = np.maximum(np.abs(options[:, :2] - exact[..., 0]) - self._rounding, 0) / deviation
        again = np.append(positions @ options[:, :2], np.sqrt(positions**2 @ options[:, 2:] ** 2))
        most = np.abs(positions) @ options  # what rounding is relative to
        off = np.abs(whole - again) / (1e-5 * most + 1e-5)  # of the tolerance
        self._worst = float(np.max(np.array([self._worst, wrong.max(), 6 * off.max()])))  # keeps a NaN

    def answer(self) -> Answer:
        """Return the largest deviation; six standard errors come once in five hundred million draws."""
        return Answer(
            measure="largest deviation from the closed form, in standard errors", error=self._worst, tolerance=6.0
        )
