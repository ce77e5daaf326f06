"""Calls that go past the cache to ``jax.jit``, and the programs that XLA compiles for them.

Under an eager ``jax.grad`` or ``jax.vmap`` a cached function is handed tracers, which no executable takes. Its program
and, later, that of its derivative are then compiled by ``jax.jit``, for each shape, and held without a limit.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Any

from jax import monitoring
from jax.core import Tracer
from jax.tree_util import tree_leaves

from .._calls.misses import MissStormWarning
from .._jax import interfaces
from .._jax.notices import warn
from .bypass_description import MANY_PROGRAMS, describe_bypasses
from .entries import FunctionEntries, FunctionRecord
from .state import CacheState

_COMPILED = "/jax/core/compile/backend_compile_duration"
_WRAPPERS = {"JVPTracer": ("jax.grad", "primal"), "LinearizeTracer": ("jax.grad", "primal"),
             "BatchTracer": ("jax.vmap", "val")}  # fmt: skip  # of JAX's tracers by name: what made it, and of what
_STAGED = "DynamicJaxprTracer"  # part of a program that is compiled as a whole, by its own wrapper
_AFTERWARDS = 2  # programs that one call brings after its end: that of the derivative, once or twice
_REMEMBERED = 64  # functions, in each thread
LONG_SECONDS = 10.0

Count = Callable[[str, float], None]  # of what was called, and the seconds that its program took


class _Bypass:
    """A call past the cache, under way or the last of its function in this thread."""

    __slots__ = ("called", "count", "left")

    def __init__(self, called: str, count: Count) -> None:
        self.called = called
        self.count = count
        self.left: int | None = None  # programs that are still this call's; any number while it is under way


class _Latest(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, _Bypass] = {}


_latest = _Latest()


def _listen(event: str, duration_secs: float, **about: str | int) -> None:
    """Count a program that was compiled, if it is that of a function that has just been called past the cache."""
    if event != _COMPILED:
        return
    bypass = _latest.by_name.get(str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")"))
    if bypass is None or bypass.left == 0:
        return
    if bypass.left is not None:
        bypass.left -= 1
    bypass.count(bypass.called, duration_secs)


monitoring.register_event_duration_secs_listener(_listen)


def bypass(
    state: CacheState, entries: FunctionEntries, jitted: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call ``jax.jit`` of a function; count the programs that it compiles, and warn of many."""
    called = what_is_called(entries.function.name, args, kwargs, interfaces.is_top_level())
    if called is None:
        return jitted(*args, **kwargs)
    state_of_cache, entries_of_function = weakref.ref(state), weakref.ref(entries)  # the count outlives the call

    def count(called: str, seconds: float) -> None:
        if (state := state_of_cache()) is not None and (entries := entries_of_function()) is not None:
            state.count_bypassed_program(entries.function, called, seconds)

    result = call_past(jitted, args, kwargs, called, count)
    _warn_of_many(state, entries.function)
    return result


def bypasses_of(state: CacheState, function: FunctionRecord) -> str:
    """Say how many programs calls of a function have compiled past the cache; empty if none."""
    counts = function.counts
    with state.lock:
        return describe_bypasses(function.name, counts.bypassed_programs, counts.bypassed_seconds)


def _warn_of_many(state: CacheState, function: FunctionRecord) -> None:
    """Warn, once for a function, of many programs that JAX holds past the cache."""
    counts = function.counts
    with state.lock:
        few = sum(counts.bypassed_programs.values()) < MANY_PROGRAMS and counts.bypassed_seconds < LONG_SECONDS
        if few or counts.warned_of_bypasses:
            return
        counts.warned_of_bypasses = True
    warn(f"jaxcache: {bypasses_of(state, function)}", MissStormWarning)


def call_past(plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any], called: str, count: Count) -> Any:
    """Call a function of ``jax.jit``, and have the programs compiled for it counted."""
    if len(_latest.by_name) >= _REMEMBERED:
        _latest.by_name.clear()
    bypass = _latest.by_name[getattr(plain, "__name__", "")] = _Bypass(called, count)
    try:
        return plain(*args, **kwargs)
    finally:
        bypass.left = _AFTERWARDS if "(" in called else 0


def end_of_bypasses() -> None:
    """Count nothing more in this thread for calls that have ended: the cache compiles from here on."""
    _latest.by_name.clear()


def what_is_called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], top_level: bool) -> str | None:
    """Return the expression that calls ``name`` past the cache: ``jax.vmap(jax.grad(f))``; ``f`` if no transformation.

    None within a program that is being traced, where nothing is compiled for the function alone.
    """
    chains = [_transformations(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tracer)]
    if any(chain is None for chain in chains):
        return None
    if not chains and not top_level:
        return f"transformation({name})"
    for transformation in max((chain for chain in chains if chain), key=len, default=[]):
        name = f"{transformation}({name})"
    return name


def _transformations(tracer: Any) -> list[str] | None:
    """Return the transformations that created a tracer, the innermost first; None if it is of a program."""
    names: list[str] = []
    while isinstance(tracer, Tracer):
        kind = type(tracer).__name__
        if kind == _STAGED:
            return None
        name, of = _WRAPPERS.get(kind, ("transformation", ""))
        names.append(name)
        tracer = getattr(tracer, of, None)
    return names
