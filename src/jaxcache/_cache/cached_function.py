"""CachedFunction: what ``cache.jit`` returns, and the way of a hit; Dispatcher: all other ways of a call."""

import contextlib
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import jax
from jax.tree_util import tree_leaves, tree_map

from .._calls.description import Description, describe_call, parameter_names
from .._calls.identity import combine
from .._calls.signature import (
    Key,
    Statics,
    Uncacheable,
    abstract_tracer,
    call_key,
    context_token,
    resolve_statics,
    unplaced,
)
from .._jax import interfaces as _jax
from .._jax.fast_dispatch import OTHER, is_reentrant
from .entries import Entry
from .executable import NotLowerable, OwnJit, Program
from .jitted import take_over
from .stages import shared
from .warm import warm

if TYPE_CHECKING:
    from .jit_cache import JitCache

_SETTLE_AFTER = 1024  # hits; noting them is cheap, and their number has a bound
_OF_JAX = ("_fun", "_jit_info")  # attributes that it gives what it wraps; they are those of its own function


def name_of(fun: Callable[..., Any]) -> str:
    """Return what statistics call ``fun``: ``solve``, ``Model.step``; for a partial, what it is a partial of."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    name = getattr(fun, "__qualname__", None) or getattr(fun, "__name__", None) or type(fun).__qualname__
    return name.rpartition("<locals>.")[2]


def global_name(function: Any) -> str | None:
    """Return the name under which a function's module has it; None if there is none, or in ``__main__``."""
    held: Any = sys.modules.get(function.__module__)
    own_name: str = getattr(function, "__qualname__", "")
    for name in own_name.split("."):
        held = getattr(held, name, None)
    return own_name if held is function and function.__module__ != "__main__" else None


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


def _is_abstract(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether there is nothing to call with: descriptions of arrays are for compiling ahead."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in tree_leaves((args, kwargs)))


class Dispatcher:
    """Serves the calls of one function from the entries of a cache, or by ``jax.jit`` itself."""

    def __init__(
        self,
        cache: "JitCache",
        fun: Callable[..., Any],
        key: Callable[..., Any] | None,
        max_compiles: int | None,
        options: dict[str, Any],
    ) -> None:
        given, own_options = fun, _read_once(options)
        fun, options = take_over(fun, own_options, CachedFunction)
        # It refuses what jax.jit refuses, and serves what cannot be cached.
        self._plain: Any = _jax.jit(fun, **options) if own_options else _jax.jit_quietly(fun, options)
        self._fun = fun
        self._cache = cache
        self._key = key
        self._max_compiles = max_compiles
        self._options = options
        self._statics: Statics | None = resolve_statics(
            fun, options.get("static_argnums"), options.get("static_argnames")
        )
        self._state = cache._state
        self._log = self._state.log
        self._programs = self._state.programs_of(fun, name_of(given), None if key else _comparable(options))
        self._variants = self._programs.variants

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
                self._state.flush_hits()
        elif not _is_abstract(args, kwargs) and not self._programs.prepared.refuses(key):
            try:
                entry = self._cache._miss(self, key, args, kwargs)
            except NotLowerable:
                result = self._bypass(args, kwargs)  # or the error of jax.jit, which may be another one next time
                self._programs.prepared.refuse(key)
                return result
            except Uncacheable:  # jax.jit knows what to do
                pass
        if entry is None:
            return self._bypass(args, kwargs)
        return self._serve(entry, args, kwargs)

    def _serve(self, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an entry; a table would not know what the caller's own key makes of a call."""
        if self._key is not None:
            return entry.serve(args, kwargs)
        return self._programs.serve(entry, self._plain, self._fun, args, kwargs)

    def _count_raised(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count a call that raised before the table told what served it."""
        self._programs.table.forget()  # JAX would ask for what was interrupted within it at each call from now on
        key = self._key_of(args, kwargs)
        if key is None:
            self._state.count_bypass(self._variants)
            return
        with contextlib.suppress(Exception):  # of static values that cannot be compared: the error under way counts
            entry = self._programs.entries.get(key)
            if entry is not None:
                self._log.append(entry.held)  # a hit, whatever became of it

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

    def call_of_lengths(
        self, face: "CachedFunction", lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call for arguments whose dynamic lengths were ``lengths`` before they were padded."""
        return face(*args, **kwargs)

    def _bypass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._state.count_bypass(self._variants)
        return self._cache._call_past(self, args, kwargs)

    def jit_under_tracing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        """Return what has traced the signature, so that it is traced once, or ``jax.jit`` of the function."""
        if self._key is not None or not self._cache._enabled or _jax.FAULT or _jax.is_top_level():
            return self._plain
        try:
            abstract_args, abstract_kwargs = tree_map(abstract_tracer, (args, kwargs))
            return self._traced_by(call_key(self._statics, abstract_args, abstract_kwargs)).call
        except Exception:  # such as a tracer as a static argument: jax.jit knows what to say
            return self._plain

    def _traced_by(self, key: Key) -> OwnJit:
        """Return what has traced a signature, or is to trace it; where its arrays are placed does not matter."""
        entries, prepared = self._programs.entries, self._programs.prepared
        entry = entries.get(key)
        if entry is None and not prepared.has(key):
            alike = (one for one in list(entries.values()) if unplaced(one.key) == unplaced(key))
            entry = next(alike, None)
        return self._to_trace(key) if entry is None else OwnJit(entry.jitted)

    def _to_trace(self, key: Key) -> OwnJit:
        return self._programs.prepared.get_or_make(key, self._own_jit)

    def _own_jit(self) -> OwnJit:
        return OwnJit.over(self._fun, self._options, self._plain)

    def program(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program:
        """Trace and lower for a key that has no entry, unless that was done.

        Raises:
            NotLowerable: If it cannot be lowered ahead of a call.
            Exception: Whatever ``jax.jit`` raises for such a call before it compiles.
        """
        if self._key is not None:
            return Program(self._fun, self._options, args, kwargs, self._own_jit())
        try:
            return Program(self._fun, self._options, args, kwargs, self._to_trace(key))
        finally:
            self._programs.prepared.forget(key)

    def trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what ``jax.jit(fun).trace`` does, and share with the entry what is traced."""
        key = self._key_of(args, kwargs) if self._cache._enabled and self._key is None else None
        if key is None:
            return self._plain.trace(*args, **kwargs)
        try:
            own = self._traced_by(key)
        except Exception:  # a static value that cannot be compared, a function without a hash
            return self._plain.trace(*args, **kwargs)
        return shared(own.trace(args, kwargs), self, key, own, args, kwargs)

    def _describe(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        """Describe a call that is looked up by ``key``.

        Raises:
            Uncacheable: If it cannot be, as with what is no array.
        """
        try:
            if not self._variants.identity:
                self._variants.identity = self._identify()
            return describe_call(
                self._variants.name, self._parameter_names, self._statics, key, args, kwargs, self._state.identifier
            )
        except Exception as error:  # of the caller's values, such as a static one without a hash
            raise Uncacheable from error

    def _identify(self) -> bytes:
        """Return what tells this function, under its options, from all others."""
        identifier, variants = self._state.identifier, self._variants
        parts = [variants.name.encode(), identifier.label(self._fun), identifier.of(_comparable(self._options))]
        return identifier.next_of(combine("function", parts))

    @functools.cached_property
    def _parameter_names(self) -> Callable[[int], str]:
        return parameter_names(self._fun)

    def warm(self, signatures: tuple[Any, ...], threads: int | None) -> int:
        """Do what ``CachedFunction.warm`` promises."""
        return warm(self, signatures, threads) if self._cache._enabled else 0

    def clear(self) -> None:
        """Free the function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._state.clear(self._variants)
        self._plain.clear_cache()


class CachedFunction:
    """What ``cache.jit`` returns: called as ``jax.jit(fun)`` would be.

    Its attributes are those of the function, as those of ``jax.jit(fun)`` are; all else is in ``_jaxcache``.
    """

    __slots__ = ("__dict__", "__weakref__", "_jaxcache")

    def __init__(
        self,
        cache: "JitCache",
        fun: Callable[..., Any],
        key: Callable[..., Any] | None,
        max_compiles: int | None,
        options: dict[str, Any],
    ) -> None:
        self._jaxcache = self._dispatcher_type()(cache, fun, key, max_compiles, options)
        for attributes in (vars(self._jaxcache._plain), getattr(fun, "__dict__", {})):
            self.__dict__.update({name: value for name, value in attributes.items() if name not in _OF_JAX})
        self.__wrapped__ = fun

    def __init_subclass__(cls) -> None:
        cls.__name__ = cls.__qualname__ = CachedFunction.__name__

    @classmethod
    def _dispatcher_type(cls) -> type[Dispatcher]:
        return Dispatcher

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        dispatcher = self._jaxcache
        try:
            answer = dispatcher._programs.table.call(*args, **kwargs)
        except BaseException as error:
            if is_reentrant(error):
                return dispatcher._look_up(args, kwargs)
            dispatcher._count_raised(args, kwargs)
            raise
        if answer is OTHER:
            return dispatcher._look_up(args, kwargs)
        held, result = answer.popitem()
        log = dispatcher._log
        log.append(held)
        if len(log) >= _SETTLE_AFTER:
            dispatcher._state.flush_hits()
        return result

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of ``jax.jit`` of the function."""
        if name == "_jaxcache" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._jaxcache._plain, name)

    def __getstate__(self) -> Any:
        return self._jaxcache._plain.__getstate__()

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
        plain = functools.partial(jax.jit, **self._jaxcache._options), (self._jaxcache._fun,)
        return global_name(self) or plain

    def __repr__(self) -> str:
        return repr(self._jaxcache._plain)

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
        return self._jaxcache.warm(signatures, threads)

    def lower(self, /, *args: Any, **kwargs: Any) -> Any:
        """Lower for these arguments, as ``jax.jit(fun).lower`` does.

        To compile what is returned makes the entry ahead of a call, as :meth:`warm` does.
        """
        return self._jaxcache.trace(args, kwargs).lower()

    def trace(self, /, *args: Any, **kwargs: Any) -> Any:
        """Trace for these arguments, as ``jax.jit(fun).trace`` does; once for a signature."""
        return self._jaxcache.trace(args, kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the shapes and dtypes of the result, as ``jax.jit(fun).eval_shape`` does."""
        return self._jaxcache.trace(args, kwargs).out_info

    def _cache_size(self) -> int:
        return len(self._jaxcache._programs.entries)  # as jax.jit has it, for tests that count

    def clear_cache(self) -> None:
        """Free this function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._jaxcache.clear()


# Libraries know a jitted function by the name of its type: chex.assert_max_traces, haiku.transform.
CachedFunction.__name__ = CachedFunction.__qualname__ = _jax.jitted_type.__name__
