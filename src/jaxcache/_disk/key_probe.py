"""KeyProbe: JAX's own key of a call, found by having JAX begin a compile that ends where it asks for the key."""

import functools
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax

from .._jax.fast_dispatch import function_in, jit_like


class _KeyKnown(BaseException):
    """JAX has asked for a key; raised through JAX, which catches errors of a cache, but no others."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _Probing(threading.local):
    """Whether this thread only wants to know a key."""

    is_on = False


_probing = _Probing()


def answer_probe(key: str) -> None:
    """End the compile that asks for ``key``, if this thread only wants to know the key."""
    if _probing.is_on:
        raise _KeyKnown(key)


def key_of(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return JAX's key of a call, for which the function is traced and lowered; None if JAX asks for none.

    Args:
        fun: A function, or what ``jax.jit`` has returned.
        args: Of the call.
        kwargs: Of the call.

    Raises:
        Exception: What ``jax.jit`` raises for such a call before it compiles.
    """
    if isinstance(fun, types.MethodType):
        fun, args = fun.__func__, (fun.__self__, *args)
    is_jitted = hasattr(fun, "lower") and hasattr(fun, "__wrapped__")
    inner = function_in(fun) if is_jitted else fun

    @functools.wraps(inner)
    def closure(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)  # a function of its own, of which JAX holds no program yet

    try:
        jitted = jit_like(fun, closure)
    except Exception:  # it is none of jax.jit, or JAX has changed
        jitted = jax.jit(closure)
    lowered = jitted.lower(*args, **kwargs)
    _probing.is_on = True
    try:
        lowered.compile()
    except _KeyKnown as known:
        return known.key
    finally:
        _probing.is_on = False
    return None
