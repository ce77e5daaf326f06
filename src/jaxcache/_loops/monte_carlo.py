"""Monte Carlo: vectorised over samples, in chunks that fit a memory limit, scanned over parameter sets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import tree_leaves, tree_map

from .._cache.jit_cache import JitCache, cache_or_new
from .._primitives.checks import check_whole_number
from .._primitives.sizes import parse_size
from .loops import LoopFunction, _named


@dataclass(frozen=True)
class MonteCarloResult:
    """Estimates of a mean; for several parameter sets, along a first axis.

    Attributes:
        mean: Mean of the samples; float32 where they are narrower.
        standard_error: Standard error of the mean.
        n_samples: Samples of each parameter set.
    """

    mean: jax.Array
    standard_error: jax.Array
    n_samples: int


def monte_carlo(
    step: Callable[..., Any],
    n_samples: int,
    sample_shape: tuple[int, ...] = (),
    *,
    memory_limit: int | str = "64MiB",
    cache: JitCache | None = None,
) -> LoopFunction:
    """Return a function that estimates the mean of ``step`` over random samples, in one executable for each shape.

    Each sample of each parameter set has a key of its own, derived from its number and that of its set, so that
    samples are independent, and the same whatever the memory limit. Means and variances of chunks are put together as
    by T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, COMPSTAT 1982.

    Args:
        step: Takes a key and one parameter set; returns one sample, of ``sample_shape``.
        n_samples: 2 or more.
        sample_shape: Of one sample.
        memory_limit: Of what the samples of a chunk take, by what ``step`` computes for one: in bytes, or as text.
        cache: The cache that compiles it; a new one without a limit if None.

    Returns:
        ``run(key, *parameters) -> MonteCarloResult``. The leaves of parameters have one row a parameter set, all
        equally many; scalars are the same for all sets. Without rows there is one set.

    Raises:
        ValueError: If a number is out of range; when called, if parameters disagree on the number of sets.
        TypeError: When called, if a sample is not of ``sample_shape`` and real.
    """
    n_samples = check_whole_number(n_samples, "n_samples", 2)  # a single sample has no standard error
    limit_bytes = parse_size(memory_limit, "memory_limit")
    if not isinstance(sample_shape, tuple | list):
        raise ValueError(f"sample_shape must be a tuple of lengths, such as (3,), but is {sample_shape!r}")
    sample_shape = tuple(sample_shape)

    def estimate(key: jax.Array, parameters: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        sets = _parameter_sets(parameters)
        if sets is None:
            return _estimate_set(step, key, parameters, n_samples, sample_shape, limit_bytes)

        def of_set(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            chosen = tree_map(lambda leaf: jnp.asarray(leaf)[number] if jnp.ndim(leaf) else leaf, parameters)
            return _estimate_set(step, jax.random.fold_in(key, number), chosen, n_samples, sample_shape, limit_bytes)

        return lax.map(of_set, jnp.arange(sets))

    cached = cache_or_new(cache).jit(_named(estimate, step))

    def run(key: jax.Array, *parameters: Any) -> MonteCarloResult:
        mean, standard_error = cached(key, parameters)
        return MonteCarloResult(mean, standard_error, n_samples)

    return LoopFunction(run, cached, lambda key, *parameters: (key, parameters))


def _parameter_sets(parameters: tuple[Any, ...]) -> int | None:
    rows = {jnp.shape(leaf)[0] for leaf in tree_leaves(parameters) if jnp.ndim(leaf)}
    if len(rows) > 1:
        raise ValueError(f"parameters must have one row a parameter set, all equally many, but have {sorted(rows)}")
    if 0 in rows:
        raise ValueError("parameters must have at least one row, but have 0")
    return rows.pop() if rows else None


def _bytes_a_sample(step: Callable[..., Any], key: jax.Array, parameters: tuple[Any, ...]) -> int:
    """Return what all intermediate arrays of one sample take together: at least what is held at a time."""
    return max(8, _bytes_of(jax.make_jaxpr(step)(key, *parameters).jaxpr))


def _bytes_of(jaxpr: Any) -> int:
    size_bytes = 0
    for equation in jaxpr.eqns:
        size_bytes += sum(math.prod(out.aval.shape) * 8 for out in equation.outvars if hasattr(out.aval, "shape"))
        inner = [getattr(parameter, "jaxpr", parameter) for parameter in tree_leaves(list(equation.params.values()))]
        size_bytes += sum(_bytes_of(parameter) for parameter in inner if hasattr(parameter, "eqns"))
    return size_bytes


def _estimate_set(
    step: Callable[..., Any],
    key: jax.Array,
    parameters: tuple[Any, ...],
    n_samples: int,
    sample_shape: tuple[int, ...],
    limit_bytes: int,
) -> tuple[jax.Array, jax.Array]:
    sample = jax.eval_shape(step, key, *parameters)
    if getattr(sample, "shape", None) != sample_shape or not jnp.issubdtype(sample.dtype, jnp.floating):
        raise TypeError(f"step must return a real sample of sample_shape={sample_shape}, but returns {sample}")
    chunk = max(1, min(n_samples, limit_bytes // _bytes_a_sample(step, key, parameters)))
    chunks = -(-n_samples // chunk)
    wide = jnp.promote_types(sample.dtype, jnp.float32)  # float16 and bfloat16 cannot even count the samples

    def add(number: jax.Array, so_far: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        count, mean, squares = so_far
        index = number * chunk + jnp.arange(chunk)
        mine = index < n_samples
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        samples = jax.vmap(lambda k: step(k, *parameters))(keys).astype(wide)
        counts = mine.reshape(-1, *(1 for _ in sample_shape))
        size = jnp.sum(mine).astype(wide)
        chunk_mean = jnp.sum(samples, axis=0, where=counts) / size
        chunk_squares = jnp.sum((samples - chunk_mean) ** 2, axis=0, where=counts)
        total, delta = count + size, chunk_mean - mean
        merged = jnp.where(jnp.isfinite(delta), mean + delta * size / total, mean + chunk_mean)
        return total, merged, squares + chunk_squares + delta * (delta * (count / total) * size)

    zero = jnp.zeros(sample_shape, wide)
    count, mean, squares = lax.fori_loop(0, chunks, add, (jnp.zeros((), wide), zero, zero))
    return mean, jnp.sqrt(squares / (count - 1) / count)
