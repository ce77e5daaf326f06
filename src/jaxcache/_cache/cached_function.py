"""CachedFunction: result of ``cache.jit``, with the hit path; Dispatcher: every other path of a call."""

import contextlib
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.tree_util import tree_leaves, tree_map

from .._calls.description import Description, describe_call, parameter_names
from .._calls.identity import combine
from .._calls.misses import Explanation
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
from .._jax import interfaces
from .._jax.fast_dispatch import NOT_THIS_SIGNATURE, is_reentrant
from .bypasses import bypass, bypasses_of
from .compiler import Compiler
from .entries import Entry
from .executable import NotLowerable, OwnJit, Program
from .jitted import take_over
from .stages import shared
from .warm import warm

FLUSH_AFTER = 1024  # hits in the log, so that its length has a bound
_OF_JAX = ("_fun", "_jit_info")  # attributes that jax.jit sets on its results; they concern its own function


def name_of(fun: Callable[..., Any]) -> str:
    """Return the name of ``fun`` in statistics: ``solve``, ``Model.step``; for a partial, that of its function."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    name = getattr(fun, "__qualname__", None) or getattr(fun, "__name__", None) or type(fun).__qualname__
    return name.rpartition("<locals>.")[2]


def global_name(function: Any) -> str | None:
    """Return the name under which a function's module has it; None if there is none, or in ``__main__``."""
    value: Any = sys.modules.get(function.__module__)
    qualified_name: str = getattr(function, "__qualname__", "")
    for name in qualified_name.split("."):
        value = getattr(value, name, None)
    return qualified_name if value is function and function.__module__ != "__main__" else None


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
            read[name] = tuple(item if isinstance(item, str) else operator.index(item) for item in each)
        except TypeError:  # jax.jit knows what to say
            continue
    return read


def _comparable(options: dict[str, Any]) -> Hashable | None:
    """Return a value that is equal for options with the same effect; None if they cannot be compared."""
    items = []
    for name in sorted(options):
        value = options[name]
        if name in _STATICS and value is not None:
            value = tuple(sorted(set((value,) if isinstance(value, str) else value), key=str))
        elif isinstance(value, dict):
            value = tuple(sorted(value.items()))
        items.append((name, type(value), value))
    try:
        hash(tuple(items))
    except TypeError:
        return None
    return tuple(items)


def _is_abstract(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether there is nothing to call with: descriptions of arrays are for compiling ahead."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in tree_leaves((args, kwargs)))


class Dispatcher:
    """Server of one function's calls: from entries, from the compiler on a miss, or by ``jax.jit`` itself.

    Attributes:
        compiler: Serves misses.
        state: Of the cache.
        log: Of the cache's hits.
        function: The cache's record of the function.
        entries: Its executables.
        plain: ``jax.jit`` of the function.
        fun: The function.
        options: Those of ``jax.jit``.
        statics: The static arguments; None if there are none.
        has_own_key: Whether the caller's ``key=`` replaces the signature.
        max_compiles: The most programs that the function may make; None for no limit.
    """

    def __init__(
        self,
        compiler: Compiler,
        fun: Callable[..., Any],
        key: Callable[..., Any] | None,
        max_compiles: int | None,
        options: dict[str, Any],
    ) -> None:
        name, caller_options = name_of(fun), _read_once(options)
        fun, options = take_over(fun, caller_options, CachedFunction)
        # It refuses what jax.jit refuses, and serves what cannot be cached.
        self.plain: Any = interfaces.jit(fun, **options) if caller_options else interfaces.jit_quietly(fun, options)
        self.fun = fun
        self.compiler = compiler
        self._key = key
        self.has_own_key = key is not None
        self.max_compiles = max_compiles
        self.options = options
        self.statics: Statics | None = resolve_statics(
            fun, options.get("static_argnums"), options.get("static_argnames")
        )
        self.state = compiler.state
        self.log = self.state.log
        self.entries = self.state.entries_of(fun, name, None if key else _comparable(options))
        self.function = self.entries.function

    def look_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Serve a call by its key."""
        key = self.key_of(args, kwargs) if self.compiler.enabled else None
        if key is None:
            return self._bypass(args, kwargs)
        try:
            entry = self.entries.by_key.get(key)
        except Exception:  # a static value whose comparison fails: jax.jit knows what to say
            return self._bypass(args, kwargs)
        if entry is not None:
            self.log.append(entry.record)
            if len(self.log) >= FLUSH_AFTER:
                self.state.flush_hits()
        elif not _is_abstract(args, kwargs) and not self.entries.prepared.refuses(key):
            try:
                entry = self.compiler.miss(self, key, args, kwargs)
            except NotLowerable:
                result = self._bypass(args, kwargs)  # or the error of jax.jit, which may be another one next time
                self.entries.prepared.refuse(key)
                return result
            except Uncacheable:  # jax.jit knows what to do
                pass
        if entry is None:
            return self._bypass(args, kwargs)
        return self._serve(entry, args, kwargs)

    def _serve(self, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an entry; a table would not know what the caller's own key makes of a call."""
        if self.has_own_key:
            return entry.serve(args, kwargs)
        return self.entries.serve(entry, self.plain, self.fun, args, kwargs)

    def count_raised(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count a call that raised before the table had returned the label of its entry."""
        self.entries.table.forget()  # JAX would ask for what was interrupted within it at each call from now on
        key = self.key_of(args, kwargs)
        if key is None:
            self.state.count_bypass(self.function)
            return
        with contextlib.suppress(Exception):  # of static values that cannot be compared: the error under way counts
            entry = self.entries.by_key.get(key)
            if entry is not None:
                self.log.append(entry.record)  # a hit, whatever became of it

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """Return the key by which the call is looked up; None if ``jax.jit`` itself has to serve it."""
        if interfaces.FAULT or not interfaces.is_top_level() or interfaces.disable_jit.value:
            return None
        if self._key is not None:
            return self._own_key(self._key(*args, **kwargs))
        try:
            key = call_key(self.statics, args, kwargs)
            hash(key)
        except Exception:  # a tracer, an unhashable static, no array: jax.jit knows what to do or what to say
            return None
        return key

    def _own_key(self, value: Any) -> Key:
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"key must return something hashable, such as a tuple of ints, but for {self.function.name} "
                f"it returned {value!r}"
            ) from None
        return (context_token(), value)

    def call_of_lengths(
        self, face: "CachedFunction", lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call for arguments whose dynamic lengths were ``lengths`` before they were padded."""
        return face(*args, **kwargs)

    def _bypass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``jax.jit`` itself; count the programs it compiles, unless the caller has chosen this way."""
        self.state.count_bypass(self.function)
        chosen = not self.compiler.enabled or interfaces.FAULT or interfaces.disable_jit.value
        jitted = self.jit_under_tracing(args, kwargs)
        return jitted(*args, **kwargs) if chosen else bypass(self.state, self.entries, jitted, args, kwargs)

    def jit_under_tracing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the jit that has traced the signature, so that it is traced once, or ``jax.jit`` of the function."""
        if self.has_own_key or not self.compiler.enabled or interfaces.FAULT or interfaces.is_top_level():
            return self.plain
        try:
            abstract_args, abstract_kwargs = tree_map(abstract_tracer, (args, kwargs))
            return self._traced_by(call_key(self.statics, abstract_args, abstract_kwargs)).call
        except Exception:  # such as a tracer as a static argument: jax.jit knows what to say
            return self.plain

    def _traced_by(self, key: Key) -> OwnJit:
        """Return the jit that has traced a signature, or will; the devices of its arrays do not matter."""
        entries, prepared = self.entries.by_key, self.entries.prepared
        entry = entries.get(key)
        if entry is None and not prepared.has(key):
            elsewhere = (other for other in list(entries.values()) if unplaced(other.key) == unplaced(key))
            entry = next(elsewhere, None)
        return self._to_trace(key) if entry is None else OwnJit(entry.jitted)

    def _to_trace(self, key: Key) -> OwnJit:
        return self.entries.prepared.get_or_make(key, self._own_jit)

    def _own_jit(self) -> OwnJit:
        own_jit = OwnJit.over(self.fun, self.options, self.plain)
        own_jit.shared = self.compiler.shared_traces
        return own_jit

    def program(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program:
        """Trace and lower for a key that has no entry, unless that was done.

        Raises:
            NotLowerable: If it cannot be lowered ahead of a call.
            Exception: Whatever ``jax.jit`` raises for such a call before it compiles.
        """
        if self.has_own_key:
            return Program(self.fun, self.options, args, kwargs, self._own_jit())
        try:
            return Program(self.fun, self.options, args, kwargs, self._to_trace(key))
        finally:
            self.entries.prepared.forget(key)

    def trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what ``jax.jit(fun).trace`` does; the program is shared with the entry."""
        key = self.key_of(args, kwargs) if self.compiler.enabled and not self.has_own_key else None
        if key is None:
            return self.jit_under_tracing(args, kwargs).trace(*args, **kwargs)
        try:
            own_jit = self._traced_by(key)
        except Exception:  # a static value that cannot be compared, a function without a hash
            return self.plain.trace(*args, **kwargs)
        return shared(own_jit.trace(args, kwargs), self.compiler, self, key, own_jit, args, kwargs)

    def describe(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        """Describe a call that is looked up by ``key``.

        Raises:
            Uncacheable: If it cannot be, as with what is no array.
        """
        try:
            if not self.function.identity:
                self.function.identity = self._identify()
            name, names = self.function.name, self._parameter_names
            return describe_call(name, names, self.statics, key, args, kwargs, self.state.identifier)
        except Exception as error:  # of the caller's values, such as a static one without a hash
            raise Uncacheable from error

    def _identify(self) -> bytes:
        """Return the identity of this function under its options, which no other has."""
        identifier, name = self.state.identifier, self.function.name
        parts = [name.encode(), identifier.label(self.fun), identifier.of(_comparable(self.options))]
        return identifier.next_of(combine("function", parts))

    @functools.cached_property
    def _parameter_names(self) -> Callable[[int], str]:
        return parameter_names(self.fun)

    def explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Explanation:
        """Say whether a call would be a hit or a miss, and why. Nothing is run, compiled or counted."""
        key, description = self.key_of(args, kwargs), None
        if key is not None:
            with contextlib.suppress(Uncacheable):
                description = self.describe(key, args, kwargs)
        bypasses = bypasses_of(self.state, self.function)
        more = f"; {bypasses}" if bypasses else ""
        if key is None or description is None or not self.compiler.enabled:
            why = (
                "under a transformation, with jit disabled, or with arguments that no executable can be looked up by"
                if self.compiler.enabled
                else "the cache is not enabled"
            )
            return Explanation(self.function.name, "bypassed", None, f"goes to jax.jit itself: {why}{more}")
        hits, miss = self.state.look_up(self.entries, key, description, self.has_own_key)
        if miss is not None:
            return Explanation(description.text, "miss", miss, miss.reason + more)
        return Explanation(description.text, "hit", None, f"is a hit; {hits} before it{more}")

    def warm(self, signatures: tuple[Any, ...], threads: int | None) -> int:
        """Do what ``CachedFunction.warm`` promises."""
        return warm(self.compiler, self, signatures, threads) if self.compiler.enabled else 0

    def clear(self) -> None:
        """Free the function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self.state.clear(self.function)
        self.plain.clear_cache()


class CachedFunction:
    """Function that ``cache.jit`` returns: called as ``jax.jit(fun)`` would be.

    Its attributes are those of the function, as those of ``jax.jit(fun)`` are; all else is in its dispatcher, see
    :func:`dispatcher_of`.
    """

    __slots__ = ("__dict__", "__weakref__", "_jaxcache")

    def __init__(self, dispatcher: Dispatcher, fun: Callable[..., Any]) -> None:
        """Stand in for ``fun``, whose calls the dispatcher serves."""
        self._jaxcache = dispatcher
        for attributes in (vars(dispatcher.plain), getattr(fun, "__dict__", {})):
            self.__dict__.update({name: value for name, value in attributes.items() if name not in _OF_JAX})
        self.__wrapped__ = fun

    def __init_subclass__(cls) -> None:
        cls.__name__ = cls.__qualname__ = CachedFunction.__name__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        dispatcher = self._jaxcache
        try:
            answer = dispatcher.entries.table.call(*args, **kwargs)
        except BaseException as error:
            if is_reentrant(error):
                return dispatcher.look_up(args, kwargs)
            dispatcher.count_raised(args, kwargs)
            raise
        if answer is NOT_THIS_SIGNATURE:
            return dispatcher.look_up(args, kwargs)
        record, result = answer.popitem()
        log = dispatcher.log
        log.append(record)
        if len(log) >= FLUSH_AFTER:
            dispatcher.state.flush_hits()
        return result

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of ``jax.jit`` of the function."""
        if name == "_jaxcache" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._jaxcache.plain, name)

    def __getstate__(self) -> Any:
        return self._jaxcache.plain.__getstate__()

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
        plain = functools.partial(jax.jit, **self._jaxcache.options), (self._jaxcache.fun,)
        return global_name(self) or plain

    def __repr__(self) -> str:
        return repr(self._jaxcache.plain)

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
        return len(self._jaxcache.entries.by_key)  # as jax.jit has it, for tests that count

    def clear_cache(self) -> None:
        """Free this function's entries, and what ``jax.jit`` holds for calls that went past the cache."""
        self._jaxcache.clear()


def dispatcher_of(function: Any) -> Dispatcher:
    """Return the dispatcher of a :class:`CachedFunction`, or of a function in front of one."""
    return function._jaxcache


# Libraries know a jitted function by the name of its type: chex.assert_max_traces, haiku.transform.
CachedFunction.__name__ = CachedFunction.__qualname__ = interfaces.jitted_type.__name__
