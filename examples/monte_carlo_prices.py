"""Price a call option at many strikes: a program a strike where it is captured, one program where it is an argument."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import jaxcache

PATHS, SPOT, RATE, VOLATILITY = 200_000, 100.0, 0.02, 0.3  # one year
strikes = np.linspace(80, 120, 9, dtype=np.float32)


def payoff(key, strike):
    """Return what a call is worth on one path, discounted."""
    end = SPOT * jnp.exp(RATE - VOLATILITY**2 / 2 + VOLATILITY * jax.random.normal(key))
    return jnp.exp(-RATE) * jnp.maximum(end - strike, 0)


def plain_price(strike):
    """Return the mean over all paths at once; the strike is a constant of the program."""

    @jax.jit
    def plain_mean(keys):
        return jnp.mean(jax.vmap(lambda key: payoff(key, strike))(keys))

    return plain_mean(jax.random.split(jax.random.key(0), PATHS))


with jaxcache.watch() as compiles:
    for strike in strikes:
        plain_price(strike)
programs = [record for record in compiles.compiles if record.function == "plain_mean"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs for {len(strikes)} strikes, {size}")

cache = jaxcache.JitCache("64MiB")
price = jaxcache.monte_carlo(payoff, PATHS, memory_limit="1MiB", cache=cache)
result = price(jax.random.key(0), strikes)
stats = cache.stats()
print(f"jaxcache: {stats.compiled} program for {len(strikes)} strikes, {jaxcache.format_size(stats.live_bytes)}")

above = (np.log(SPOT / strikes) + RATE + VOLATILITY**2 / 2) / VOLATILITY
exact = SPOT * norm.cdf(above) - strikes * np.exp(-RATE) * norm.cdf(above - VOLATILITY)  # Black and Scholes, 1973
off = np.abs(result.mean - exact) / result.standard_error
print(f"strike 100: {result.mean[4]:.2f} ± {result.standard_error[4]:.2f}, exactly {exact[4]:.2f}")
print("every strike within four standard errors:", bool(np.all(off < 4)))
