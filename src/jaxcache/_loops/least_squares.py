"""Nonlinear least squares on the device, for many sizes of data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_map

from .._cache.jit_cache import JitCache, cache_or_new
from .._primitives.checks import check_positive, check_whole_number
from .loops import Ended, LoopFunction, LoopResult, _named, signatures_to_warm


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeastSquaresResult(LoopResult):
    """Result of a fit; ``state`` is the parameters.

    Attributes:
        cost: Half of the sum of the squared residuals.
        gradient_norm: The largest component of its gradient.
    """

    cost: jax.Array
    gradient_norm: jax.Array

    @property
    def params(self) -> Any:
        """Fitted parameters."""
        return self.state


def least_squares(
    residuals: Callable[..., Any],
    *,
    tolerance: float | None = None,
    max_steps: int = 100,
    warm: Sequence[Any] = (),
    cache: JitCache | None = None,
    precompile: Sequence[Any] | None = None,
) -> LoopFunction:
    """Return a function that fits parameters by Levenberg-Marquardt, in one executable for each size of data.

    Minimises half of the sum of the squared residuals r(x): each step solves (J'J + mu D) h = -J'r, with J the Jacobian
    (by forward differentiation) and D the diagonal of J'J; mu falls by max(1/3, 1 - (2 rho - 1)^3) after a step whose
    gain ratio rho, the decrease over the predicted one, is positive, and otherwise the step is not taken and mu grows
    by 2, 4, 8, … It has converged when the gradient, the step or the decrease is within the tolerance.

    Source: K. Madsen, H. B. Nielsen, O. Tingleff, Methods for Non-Linear Least Squares Problems, 2nd edition, DTU 2004,
    algorithm 3.16, with Marquardt's scaling.

    Args:
        residuals: Takes the parameters, any tree of arrays, and the data; returns an array, or a tree of them.
        tolerance: Relative; None for the dtype's precision to the power of 2/3.
        max_steps: At most so many steps, taken or not.
        warm: Signatures to compile ahead: each a tuple of the parameters and the data.
        cache: The cache that compiles it; a new one without a limit if None.
        precompile: The former name of ``warm``; deprecated.

    Returns:
        ``fit(params, *data) -> LeastSquaresResult``.

    Raises:
        ValueError: If a number is out of range, or ``warm`` is given under both names.
        TypeError: When called, if the residuals are not real numbers.
    """
    warm = signatures_to_warm(warm, precompile)
    max_steps = check_whole_number(max_steps, "max_steps")
    tolerance = None if tolerance is None else check_positive(tolerance, "tolerance", "1e-6")

    def fit(params: Any, limit: Any, *data: Any) -> tuple[Any, ...]:
        x, unravel = ravel_pytree(tree_map(_as_real, params))
        if not x.size:
            raise ValueError("params must hold at least one number, but is empty")

        def flat(x: jax.Array) -> jax.Array:
            r = ravel_pytree(residuals(unravel(x), *data))[0]
            if not jnp.issubdtype(r.dtype, jnp.floating):
                raise TypeError(f"residuals must return real numbers, but returns {r.dtype}{list(r.shape)}")
            return r.astype(x.dtype)

        small = float(jnp.finfo(x.dtype).eps) ** (2 / 3) if tolerance is None else tolerance
        x, count, status, cost, gradient = _levenberg_marquardt(flat, x, limit, small)
        return tree_map(_as_given, unravel(x), params), count, status, cost, jnp.max(jnp.abs(gradient))

    cached = cache_or_new(cache).jit(_named(fit, residuals))
    all_steps = jnp.int32(max_steps)

    def call(params: Any, *data: Any) -> LeastSquaresResult:
        return LeastSquaresResult(*cached(params, all_steps, *data))

    return LoopFunction(call, cached, lambda params, *data: (params, all_steps, *data), warm)


def _as_real(param: Any) -> jax.Array:
    """Return a parameter as it is fitted: in floating point, whole numbers too, and in at least single precision."""
    x = jnp.asarray(param)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"params must be real numbers, but one is {x.dtype}; fit real and imaginary parts")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else float)


def _as_given(fitted: jax.Array, param: Any) -> jax.Array:
    """Return a fitted parameter in the precision of the caller's, if that was floating point."""
    dtype = jnp.asarray(param).dtype
    return fitted.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else fitted


def _is_orthogonal(gradient: jax.Array, hessian: jax.Array, cost: jax.Array, small: float) -> jax.Array:
    """Return whether the residuals are orthogonal to each column of the Jacobian: whether each cosine is small.

    It is the same for residuals of any unit, as in MINPACK's ``gtol`` (Moré, Garbow and Hillstrom 1980).
    """
    return jnp.all(jnp.abs(gradient) <= small * jnp.sqrt(jnp.diag(hessian)) * jnp.sqrt(2 * cost))


def _levenberg_marquardt(
    residuals: Callable[[jax.Array], jax.Array], x: jax.Array, limit: Any, small: float
) -> tuple[jax.Array, ...]:
    def linearized(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        r, jacobian = residuals(x), jax.jacfwd(residuals)(x)
        return 0.5 * r @ r, jacobian.T @ r, jacobian.T @ jacobian

    def running(carry: Any) -> Any:
        return (carry[1] < limit) & (carry[2] == 0)

    def body(carry: Any) -> Any:
        x, count, _, cost, gradient, hessian, mu, growth = carry
        scale = jnp.maximum(jnp.diag(hessian), jnp.finfo(x.dtype).tiny ** 0.5)
        h = jnp.linalg.solve(hessian + mu * jnp.diag(scale), -gradient)
        new_cost, new_gradient, new_hessian = linearized(x + h)
        predicted = 0.5 * h @ (mu * scale * h - gradient)
        ratio = (cost - new_cost) / jnp.where(predicted > 0, predicted, 1)
        better = jnp.isfinite(new_cost) & (predicted > 0) & (ratio > 0)
        done = jnp.linalg.norm(h) <= small * (jnp.linalg.norm(x) + small)
        done |= better & (cost - new_cost <= small * cost)
        done |= better & _is_orthogonal(new_gradient, new_hessian, new_cost, small)
        lost = ~jnp.all(jnp.isfinite(h)) | ~jnp.isfinite(cost)
        keep = lambda new, old: jnp.where(better, new, old)  # noqa: E731
        status = jnp.where(lost, Ended.NOT_FINITE.value, jnp.where(done, Ended.CONVERGED.value, 0))
        return (
            keep(x + h, x), count + 1, status.astype(jnp.int32),
            keep(new_cost, cost), keep(new_gradient, gradient), keep(new_hessian, hessian),
            mu * keep(jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), growth), keep(2.0, 2 * growth).astype(x.dtype),
        )  # fmt: skip

    cost, gradient, hessian = linearized(x)
    at_once = _is_orthogonal(gradient, hessian, cost, float(jnp.finfo(x.dtype).eps))
    status = jnp.where(jnp.isfinite(cost), jnp.where(at_once, Ended.CONVERGED.value, 0), Ended.NOT_FINITE.value)
    first = (x, jnp.int32(0), status.astype(jnp.int32), cost, gradient, hessian,
             jnp.asarray(1e-3, x.dtype), jnp.asarray(2.0, x.dtype))  # fmt: skip
    x, count, status, cost, gradient, *_ = lax.while_loop(running, body, first)
    return x, count, jnp.where(status == 0, Ended.MAX_STEPS_REACHED.value, status).astype(jnp.int32), cost, gradient
