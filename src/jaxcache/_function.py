"""CachedFunction: what ``cache.jit`` returns, and the way of a hit."""

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _jax
from ._signature import Key, Statics, call_key, resolve_statics

if TYPE_CHECKING:
    from ._memory import JitCache


def _name(fun: Callable[..., Any]) -> str:
    """Return what statistics call ``fun``: ``solve``, ``Model.step``; for a partial, what it is a partial of."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    name = getattr(fun, "__qualname__", None) or getattr(fun, "__name__", None) or type(fun).__qualname__
    return name.rpartition("<locals>.")[2]


class CachedFunction:
    """What ``cache.jit`` returns: called as ``jax.jit(fun)`` would be."""

    def __init__(
        self, cache: "JitCache", fun: Callable[..., Any], key: Callable[..., Any] | None, options: dict[str, Any]
    ) -> None:
        self._plain: Any = _jax.jit(fun, **options)  # refuses what jax.jit refuses; serves what cannot be cached
        functools.update_wrapper(self, fun, updated=())  # its attributes would take the place of ours
        self.__wrapped__ = fun
        self._cache = cache
        self._key = key
        self._options = options
        self._statics: Statics | None = resolve_statics(
            fun, options.get("static_argnums"), options.get("static_argnames")
        )
        self._function = cache._register(self, _name(fun))
        self._entries = self._function.entries

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if _jax.FAULT or not _jax.is_top_level() or _jax.disable_jit.value:
            return self._bypass(args, kwargs)
        own = () if self._key is None else self._own_key(args, kwargs)
        try:
            key = own or call_key(self._statics, args, kwargs)
            latest = self._function.latest
            entry = latest if latest is not None and latest.key == key else self._entries.get(key)
        except Exception:  # a tracer, an unhashable static, no array: jax.jit knows what to do or what to say
            return self._bypass(args, kwargs)
        if entry is not None:
            self._cache._count_hit(entry)
        else:
            entry = self._cache._miss(self, key, args, kwargs)
            if entry is None:
                return self._bypass(args, kwargs)
        return entry.call(*args, **kwargs)

    def _own_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        assert self._key is not None
        own = self._key(*args, **kwargs)
        try:
            hash(own)
        except TypeError:
            raise TypeError(
                f"key must return something hashable, such as a tuple of ints, but for {self._function.name} "
                f"it returned {own!r}"
            ) from None
        return (_jax.trace_context(), _jax.default_device.value, own)

    def _bypass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._cache._count_bypass()
        return self._plain(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __copy__(self) -> "CachedFunction":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedFunction":
        return self  # as functions are

    def __repr__(self) -> str:
        return f"<cached {self._function.name} of {self._cache!r}>"

    def lower(self, /, *args: Any, **kwargs: Any) -> Any:
        """Lower for these arguments, as ``jax.jit(fun).lower`` does; nothing is cached."""
        return self._plain.lower(*args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> Any:
        """Trace for these arguments, as ``jax.jit(fun).trace`` does; nothing is cached."""
        return self._plain.trace(*args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the shapes and dtypes of the result, as ``jax.jit(fun).eval_shape`` does."""
        return self._plain.eval_shape(*args, **kwargs)

    def clear_cache(self) -> None:
        """Free this function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._cache.clear(self)
        self._plain.clear_cache()
