"""Causes of the compiles of a whole process: those of caches as these say, others from the calls seen so far.

While anybody observes compiles, each call that something is compiled for is described as those of a cache are, and
compared with the earlier ones of its function or source. Of what was compiled before, nothing is known.
"""

import threading
from typing import Any

from jax.tree_util import tree_map

from .._cache.cached_function import name_of
from .._cache.entries import FunctionEntries
from .._cache.state import CacheState
from .._calls.description import Description, describe_call, parameter_names
from .._calls.misses import Miss
from .._calls.signature import Statics, abstract_tracer, call_key
from .._jax import compile_events
from .._jax.calls_under_way import CallUnderWay, call_under_way, is_of_jax
from .._jax.compile_events import Cause
from .._policies import Never
from .._policies.bounded_set import BoundedSet
from .._replay.costs import CostTable

_WRAP = "call it within a function of yours that is jitted as a whole"
_MOST_OPERATIONS = 1024


class _CauseUnderWay(threading.local):
    """This thread's: why it compiles what it compiles, and what is to be remembered of that."""

    cause: Cause | None = None
    seen: tuple[FunctionEntries, Description] | None = None


class CompileCauses:
    """Observer that knows why each program of the process is compiled; the others ask it."""

    def __init__(self) -> None:
        self._seen = CacheState(BoundedSet(Never), CostTable())
        self._operations: dict[str, Any] = {}  # what stands for the functions that JAX makes for each operation
        self._thread = _CauseUnderWay()

    def current(self, name: str) -> Cause:
        """Return why the compile under way in this thread is needed."""
        return self._thread.cause or Cause(name, "", "", "other", "nothing more is known of it", "")

    def on_compiling(self, name: str) -> None:
        """Find out why a program is about to be compiled."""
        thread = self._thread
        thread.cause, thread.seen = None, None
        try:
            thread.cause = compile_events.known_cause() or self._of_call(name, call_under_way())
        except Exception:  # of the caller's values, such as a static one that cannot be compared
            return

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Remember the call that a program was compiled for."""
        seen, self._thread.seen = self._thread.seen, None
        if seen is not None:
            self._seen.record_seen(*seen)

    def on_traced(self, name: str, seconds: float) -> None:
        """Do nothing: only what is compiled needs a cause."""

    def on_lowered(self, name: str, seconds: float) -> None:
        """Do nothing, likewise."""

    def _of_call(self, name: str, call: CallUnderWay | None) -> Cause:
        if call is None:
            reason = "compiled ahead of a call, as by lower().compile(), or not by jax.jit"
            return Cause(name, "", "", "other", reason, "")
        function: Any = call.function
        if call.is_operation:
            if len(self._operations) >= _MOST_OPERATIONS:
                self._operations.clear()
            function = self._operations.setdefault(name, _Operation(name))
        called = name if call.is_operation else name_of(function)
        options = (call.static_argnums, call.static_argnames)
        entries = self._seen.entries_of(function, called, options)
        statics = Statics(call.static_argnums, frozenset(call.static_argnames)) if any(options) else None
        args, kwargs = tree_map(abstract_tracer, (call.args, call.kwargs))
        key = call_key(statics, args, kwargs)
        names = parameter_names(call.function)
        description = describe_call(called, names, statics, key, args, kwargs, self._seen.identifier)
        self._thread.seen = entries, description
        with self._seen.lock:
            miss = self._seen.diagnose(entries.function, description, False)
        return _as_of_jax(entries.function.cause(miss), miss, call)


class _Operation:
    """Stands for an operation of JAX, for which JAX makes a function for each set of its parameters."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any) -> None:
        """Do nothing: it is never called."""


def _as_of_jax(cause: Cause, miss: Miss, call: CallUnderWay) -> Cause:
    """Say of what no cache holds why it is compiled again, and of JAX's own functions what would spare that."""
    if cause.kind == "cleared":
        cause = cause._replace(kind="forgotten", reason="compiled before, and forgotten by JAX since", way_out="")
    if cause.kind == "first_call" and not call.is_operation:
        cause = cause._replace(reason="the first time that it was seen to compile", way_out="")
    if not (call.is_operation or is_of_jax(call.function)):
        return cause
    repeated = miss.cause not in ("first_call", "function_recreated")
    reason = f"called op by op, outside of a jitted function{f'; {cause.reason}' if repeated else ''}"
    return cause._replace(place="", kind="eager", reason=reason, way_out=_WRAP)


_causes = CompileCauses()
_lock = threading.RLock()
_users = 0


def begin_causes() -> CompileCauses:
    """Have causes found from now on; who calls this ends it by :func:`end_causes`."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            compile_events.observe(_causes)
    return _causes


def end_causes() -> None:
    """Have no more causes found, once nobody else wants them."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            compile_events.forget(_causes)
