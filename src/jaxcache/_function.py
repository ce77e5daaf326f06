"""CachedFunction: what ``cache.jit`` returns, and the way of a hit."""

import contextlib
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import jax
from jax.tree_util import tree_leaves

from . import _jax
from ._describe import Description, describe_call, parameter_names
from ._signature import Key, Statics, Uncacheable, call_key, context_token, resolve_statics
from ._variants import Entry
from ._warm import warm

if TYPE_CHECKING:
    from ._memory import JitCache

_SETTLE_AFTER = 1024  # hits; noting them is cheap, and their number has a bound
_OTHER = _jax.OTHER


def name_of(fun: Callable[..., Any]) -> str:
    """Return what statistics call ``fun``: ``solve``, ``Model.step``; for a partial, what it is a partial of."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    name = getattr(fun, "__qualname__", None) or getattr(fun, "__name__", None) or type(fun).__qualname__
    return name.rpartition("<locals>.")[2]


_STATICS = ("static_argnums", "donate_argnums", "static_argnames", "donate_argnames")


def _read_once(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with positions and names as tuples: an iterator among them could be read only once."""
    read = dict(options)
    for name in _STATICS:
        value = read.get(name)
        if value is None or isinstance(value, str):
            continue
        try:
            each = (value,) if hasattr(value, "__index__") else tuple(value)
            read[name] = tuple(one if isinstance(one, str) else operator.index(one) for one in each)
        except TypeError:  # jax.jit knows what to say
            continue
    return read


def _comparable(options: dict[str, Any]) -> Hashable | None:
    """Return what is equal for options that do the same; None for those that nobody can compare."""
    told = []
    for name in sorted(options):
        value = options[name]
        if name in _STATICS and value is not None:
            value = tuple(sorted(set((value,) if isinstance(value, str) else value), key=str))
        elif isinstance(value, dict):
            value = tuple(sorted(value.items()))
        told.append((name, type(value), value))
    try:
        hash(tuple(told))
    except TypeError:
        return None
    return tuple(told)


def _serve(entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call an entry, by its shortcut if that is for calls of this kind: to JAX, NumPy arrays are another one."""
    if entry.shortcut is not None:
        result = entry.shortcut(*args, **kwargs)
        if result is not _OTHER:
            return result
    if not entry.shortcuts_left:
        return entry.call(*args, **kwargs)
    entry.shortcuts_left -= 1
    result, entry.shortcut = _jax.call_and_make_shortcut(entry.call, args, kwargs)
    return result


def _is_abstract(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether there is nothing to call with: descriptions of arrays are for compiling ahead."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in tree_leaves((args, kwargs)))


class CachedFunction:
    """What ``cache.jit`` returns: called as ``jax.jit(fun)`` would be."""

    def __init__(
        self,
        cache: "JitCache",
        fun: Callable[..., Any],
        key: Callable[..., Any] | None,
        max_compiles: int | None,
        options: dict[str, Any],
    ) -> None:
        options = _read_once(options)
        self._plain: Any = _jax.jit(fun, **options)  # refuses what jax.jit refuses; serves what cannot be cached
        functools.update_wrapper(self, fun, updated=())  # its attributes would take the place of ours
        self.__wrapped__ = fun
        self._cache = cache
        self._key = key
        self._max_compiles = max_compiles
        self._options = options
        self._statics: Statics | None = resolve_statics(
            fun, options.get("static_argnums"), options.get("static_argnames")
        )
        self._ledger = cache._ledger
        self._log = self._ledger.log
        self._programs = self._ledger.programs_of(fun, name_of(fun), None if key else _comparable(options))
        self._variants = self._programs.variants

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        programs = self._programs
        shortcut, entry = programs.guess
        if entry is not None and not _jax.disable_jit.value:
            try:
                result = shortcut(*args, **kwargs)
            except BaseException:
                self._log.append(entry.held)  # a hit, whatever became of it
                raise
            if result is not _OTHER:
                programs.latest = entry
                programs.guess = entry.next_guess
                log = self._log
                log.append(entry.held)
                if len(log) >= _SETTLE_AFTER:
                    self._ledger.settle_hits()
                return result
        return self._look_up(args, kwargs)

    def _look_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Serve a call by its key."""
        key = self._key_of(args, kwargs) if self._cache._enabled else None
        if key is None:
            return self._bypass(args, kwargs)
        try:
            entry = self._programs.entries.get(key)
        except Exception:  # a static value whose comparison fails: jax.jit knows what to say
            return self._bypass(args, kwargs)
        if entry is not None:
            self._log.append(entry.held)
            if len(self._log) >= _SETTLE_AFTER:
                self._ledger.settle_hits()
        elif not _is_abstract(args, kwargs):
            with contextlib.suppress(Uncacheable):  # jax.jit knows what to do
                entry = self._cache._miss(self, key, args, kwargs)
        if entry is None:
            return self._bypass(args, kwargs)
        result = _serve(entry, args, kwargs)
        if self._key is None:
            with self._ledger.lock:
                self._programs.note(entry)
        return result

    def _key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """Return what the call is looked up by; None if ``jax.jit`` itself has to serve it."""
        if _jax.FAULT or not _jax.is_top_level() or _jax.disable_jit.value:
            return None
        if self._key is not None:
            return self._own_key(self._key(*args, **kwargs))
        try:
            key = call_key(self._statics, args, kwargs)
            hash(key)
        except Exception:  # a tracer, an unhashable static, no array: jax.jit knows what to do or what to say
            return None
        return key

    def _own_key(self, own: Any) -> Key:
        try:
            hash(own)
        except TypeError:
            raise TypeError(
                f"key must return something hashable, such as a tuple of ints, but for {self._variants.name} "
                f"it returned {own!r}"
            ) from None
        return (context_token(), own)

    def _call_of_lengths(self, lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call for arguments whose dynamic lengths were ``lengths`` before they were padded."""
        return self(*args, **kwargs)

    def _bypass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._ledger.count_bypass(self._variants)
        return self._cache._call_past(self, args, kwargs)

    def _describe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        """Describe a call.

        Raises:
            Uncacheable: If it cannot be, as with what is no array.
        """
        try:
            return describe_call(self._variants.name, self._parameter_names, self._statics, args, kwargs)
        except Exception as error:  # of the caller's values, such as a static one without a hash
            raise Uncacheable from error

    @functools.cached_property
    def _parameter_names(self) -> Callable[[int], str]:
        return parameter_names(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the function, or of the ``jax.jit`` of it, as the latter has them."""
        plain = vars(self).get("_plain")
        if plain is None or (name.startswith("__") and name not in vars(plain)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(plain, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __copy__(self) -> "CachedFunction":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedFunction":
        return self  # as functions are

    def __reduce__(self) -> Any:
        """Travel by name where that leads to this function elsewhere, and otherwise uncached, as ``jax.jit`` has it.

        As with ``jax.jit``, a function of ``__main__`` or without a name needs cloudpickle.
        """
        found: Any = sys.modules.get(self.__module__)
        own_name: str = getattr(self, "__qualname__", "")
        for name in own_name.split("."):
            found = getattr(found, name, None)
        if found is self and self.__module__ != "__main__":
            return own_name
        return functools.partial(jax.jit, **self._options), (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<cached {self._variants.name} of {self._cache!r}>"

    def warm(self, *signatures: Any, threads: int | None = None) -> int:
        """Compile ahead of the first call.

        Args:
            *signatures: Each a tuple of the positional arguments, one argument that is no tuple, or a
                :class:`Call`. Arrays are looked at, not used; ``jax.ShapeDtypeStruct`` may stand for them. Static
                arguments are given as they are.
            threads: How many compile at a time; all cores if None. Tracing and lowering is done here, one after the
                other.

        Returns:
            How many programs were compiled or loaded; the others were held already. 0 if the cache is not enabled.

        Raises:
            TypeError: If a signature cannot be compiled ahead, such as one with tracers.
            Exception: What ``jax.jit`` raises for such a call. Programs made before it stay.
        """
        return warm(self, signatures, threads) if self._cache._enabled else 0

    def lower(self, /, *args: Any, **kwargs: Any) -> Any:
        """Lower for these arguments, as ``jax.jit(fun).lower`` does; nothing is cached."""
        return self._plain.lower(*args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> Any:
        """Trace for these arguments, as ``jax.jit(fun).trace`` does; nothing is cached."""
        return self._plain.trace(*args, **kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the shapes and dtypes of the result, as ``jax.jit(fun).eval_shape`` does."""
        return self._plain.eval_shape(*args, **kwargs)

    def _cache_size(self) -> int:
        return len(self._programs.entries)  # as jax.jit has it, for tests that count

    def clear_cache(self) -> None:
        """Free this function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._cache.clear(self)
        self._plain.clear_cache()
