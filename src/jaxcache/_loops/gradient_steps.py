"""Steps of gradient descent, through the cache."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map

from .._cache.cached_function import CachedFunction, dispatcher_of, name_of
from .._cache.front import FrontFunction
from .._cache.jit_cache import JitCache, check_cache
from .._calls.signature import Statics, resolve_statics
from .donation import without_shared_buffers


class Optimizer(Protocol):
    """Interface of optax's gradient transformations."""

    @property
    def init(self) -> Callable[..., Any]:
        """Return the state for parameters."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """Return updates, and the state after them, for gradients, a state and parameters."""
        ...


class DonatingStep(FrontFunction):
    """Cached step that donates; arrays that share memory with others in the call are copied first."""

    def __init__(self, cached: CachedFunction, donated: Statics) -> None:
        functools.update_wrapper(self, cached.__wrapped__, updated=())
        self._cached = cached
        self._donated = donated

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        kept, kept_named, fixed = self._donated.split(args, kwargs)
        donated = [value for _, _, value in fixed]
        apart = without_shared_buffers(donated, (kept, kept_named))
        if apart is donated:
            return self._cached(*args, **kwargs)
        positional = list(args)
        for (where, _, _), value in zip(fixed, apart, strict=True):
            if isinstance(where, str):
                kwargs[where] = value
            else:
                positional[where] = value
        return self._cached(*positional, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the cached function, whose arguments are the same."""
        cached = vars(self).get("_cached")
        if cached is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cached, name)

    def _cached_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    def _reduce_elsewhere(self) -> Any:
        return self._cached.__reduce__()


def value_and_grad_step(
    loss: Callable[..., Any], *, cache: JitCache, has_aux: bool = False, **options: Any
) -> CachedFunction | DonatingStep:
    """Return ``step(params, *batch) -> (value, grads)``, compiled by the cache.

    Args:
        loss: Takes the parameters and a batch; returns a scalar, or a scalar and something else if ``has_aux``.
        cache: The cache that compiles it.
        has_aux: As for ``jax.value_and_grad``: the value is then a pair.
        **options: What ``cache.jit`` takes.

    Raises:
        TypeError: When called, if the loss is not a real scalar.
    """
    checked = jax.value_and_grad(_scalar_loss(loss, has_aux), has_aux=has_aux)

    def step(params: Any, *batch: Any, **named: Any) -> Any:
        return checked(params, *batch, **named)

    return _step(step, loss, cache, options)


def update_step(
    loss: Callable[..., Any], optimizer: Optimizer, *, cache: JitCache, **options: Any
) -> CachedFunction | DonatingStep:
    """Return ``step(params, opt_state, *batch) -> (params, opt_state, value)``, compiled by the cache.

    Parameters and optimizer state are donated: their memory holds the new ones, and the old arrays can no longer be
    used. Of arrays that share memory, as those of fresh states do, one is donated and the others are
    copied; what a batch holds too stays as it is.

    Args:
        loss: Takes the parameters and a batch; returns a scalar.
        optimizer: A gradient transformation of optax, or what has its ``update``. One that takes ``value``, ``grad`` or
            ``value_fn``, as optax's L-BFGS and line searches do, is given them.
        cache: The cache that compiles it.
        **options: What ``cache.jit`` takes.

    Raises:
        TypeError: If ``optimizer`` has no ``update`` or ``cache`` is no cache; when called, if the loss is not a real
            scalar.
    """
    if not callable(getattr(optimizer, "update", None)):
        raise TypeError(f"optimizer must be a gradient transformation, such as optax.adam(1e-3), but is {optimizer!r}")
    scalar = _scalar_loss(loss, False)
    value_and_grad, extra_names = jax.value_and_grad(scalar), _extra_names(optimizer.update)

    def step(params: Any, opt_state: Any, *batch: Any, **named: Any) -> Any:
        value, grads = value_and_grad(params, *batch, **named)
        offered = {"value": value, "grad": grads, "value_fn": lambda at: scalar(at, *batch, **named)}
        extra = {name: argument for name, argument in offered.items() if name in extra_names}
        updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
        params = tree_map(lambda p, u: (p + u).astype(jnp.asarray(p).dtype), params, updates)
        return params, opt_state, value

    return _step(step, loss, cache, {"donate_argnums": (0, 1), **options})


def _step(step: Callable[..., Any], loss: Callable[..., Any], cache: JitCache, options: dict[str, Any]) -> Any:
    """Return a step through the cache under the name of its loss."""
    step.__qualname__ = step.__name__ = name_of(loss)
    cached = check_cache(cache).jit(step, **options)
    options_taken = dispatcher_of(cached).options
    donated = resolve_statics(step, options_taken.get("donate_argnums"), options_taken.get("donate_argnames"))
    return cached if donated is None else DonatingStep(cached, donated)


def _extra_names(update: Callable[..., Any]) -> Collection[str]:
    """Return the arguments that an optimizer takes besides gradients, state and parameters; ``**extra_args`` is all."""
    offered = ("value", "grad", "value_fn")
    try:
        parameters = inspect.signature(update).parameters
    except (TypeError, ValueError):  # its signature cannot be read
        return ()
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return offered if takes_any else [name for name in offered if name in parameters]


def _scalar_loss(loss: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    def checked(params: Any, *batch: Any, **named: Any) -> Any:
        result = loss(params, *batch, **named)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"with has_aux=True loss must return a pair of a scalar and something else, not {result}")
        if not has_aux and isinstance(result, tuple | list | dict):
            raise TypeError(
                f"loss must return a real scalar, but returns a {type(result).__name__}; for a scalar and something "
                "else, value_and_grad_step takes has_aux=True"
            )
        value = jnp.asarray(result[0] if has_aux else result)
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"loss must return a real scalar, such as jnp.mean(…), but returns {value.dtype}{list(value.shape)}"
            )
        return result

    return checked
