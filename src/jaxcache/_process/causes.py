"""Causes of the compiles of a whole process: those of caches as these say, others from the calls seen so far.

While anybody observes compiles, each call that something is compiled for is compared with the earlier ones of its
function or source, once somebody asks for the cause. Of what was compiled before, nothing is known.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .._cache.cached_function import name_of
from .._cache.executable import function_behind
from .._calls.misses import Miss
from .._jax import compile_events
from .._jax.calls_under_way import CallUnderWay, call_under_way
from .._jax.compile_events import Cause
from .seen_calls import TRANSFORMED, SeenCall, SeenCalls, SeenFunction

_WRAP = "call it within a function of yours that is jitted as a whole"
_UNKNOWN = "nothing more is known of it"
_MOST_OPERATIONS = 1024
_MOST_LATER = 200  # half as many compiles; to find so many causes takes some 20 ms


class LateCause:
    """Cause of one compile, which is found out when somebody asks for it, or when too many are not known."""

    __slots__ = ("_cause", "_find_out")

    def __init__(self, cause: Cause, find_out: Callable[[], None] | None = None) -> None:
        """Take the cause, or one to give in its place if ``find_out`` does not find it."""
        self._cause = cause
        self._find_out = find_out

    def get(self) -> Cause:
        """Return the cause."""
        if self._find_out is not None:
            self._find_out()
        return self._cause

    def set(self, cause: Cause) -> None:
        """Take what was found out."""
        self._cause, self._find_out = cause, None


class _CauseUnderWay(threading.local):
    """This thread's: why it compiles what it compiles, and the call that is to be remembered of that."""

    cause: LateCause | None = None
    call: SeenCall | None = None


class CompileCauses:
    """Observer that knows why each program of the process is compiled; the others ask it.

    What is found out later is found in the order in which the compiles began and ended.
    """

    def __init__(self) -> None:
        self._seen = SeenCalls()
        self._operations: dict[
            tuple[str, int], Any
        ] = {}  # what stands for the functions that JAX makes for each operation
        self._thread = _CauseUnderWay()
        self._later: deque[Callable[[], None]] = deque()  # what is left to do for the compiles so far

    def current(self, name: str) -> LateCause:
        """Return why the compile under way in this thread is needed."""
        return self._thread.cause or LateCause(Cause(name, "", "", "other", _UNKNOWN, ""))

    def find_out(self) -> None:
        """Find the causes that nobody has asked for yet."""
        if self._seen.is_describing_here():
            return
        with self._seen.lock:
            for _ in range(len(self._later)):
                with contextlib.suppress(Exception):  # of the caller's values; and a signal handler may have been here
                    self._later.popleft()()

    def on_compiling(self, name: str) -> None:
        """Take what the cause of a program that is about to be compiled can be found out from."""
        thread = self._thread
        thread.cause = thread.call = None
        try:
            known = compile_events.known_cause()
            thread.cause = self._of_call(name, call_under_way()) if known is None else LateCause(known)
        except Exception:  # of the caller's values, such as a static one that cannot be compared
            return

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Remember the call that a program was compiled for."""
        call, self._thread.call = self._thread.call, None
        if call is not None:
            self._seen.add_function(call)
            self._later.append(partial(self._seen.remember, call))
        if len(self._later) > _MOST_LATER:
            self.find_out()

    def on_traced(self, name: str, seconds: float) -> None:
        """Do nothing: only what is compiled needs a cause."""

    def on_lowered(self, name: str, seconds: float) -> None:
        """Do nothing, likewise."""

    def _of_call(self, name: str, call: CallUnderWay | None) -> LateCause:
        if call is None:
            reason = "compiled ahead of a call, as by lower().compile(), or not by jax.jit"
            return LateCause(Cause(name, "", "", "other", reason, ""))
        if self._seen.is_describing_here():
            return LateCause(Cause(name, "", "", "other", _UNKNOWN, ""))
        call = call._replace(function=function_behind(call.function))
        known_as: Any = call.function
        if call.is_operation:
            if len(self._operations) >= _MOST_OPERATIONS:
                self._operations.clear()
            known_as = self._operations.setdefault((name, call.parameters), _Operation(name))
        seen = self._seen.begin(call, known_as, name_of)
        late = LateCause(Cause(name, "", "", "other", _UNKNOWN, ""), self.find_out)
        self._later.append(partial(self._explain, late, seen))
        self._thread.call = seen
        return late

    def _explain(self, late: LateCause, call: SeenCall) -> None:
        miss = self._seen.explain(call)
        late.set(_as_of_jax(call.function.record.cause(miss), miss, call.function))


class _Operation:
    """Stands for an operation of JAX, for which JAX makes a function for each set of its parameters."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any) -> None:
        """Do nothing: it is never called."""


def _as_of_jax(cause: Cause, miss: Miss, function: SeenFunction) -> Cause:
    """Say of what no cache holds why it is compiled again, and of JAX's own functions what would spare that."""
    if cause.kind == "cleared":
        cause = cause._replace(kind="other" if miss.reason == TRANSFORMED else "forgotten", way_out="")
    if cause.kind == "first_call" and not function.is_operation:
        cause = cause._replace(reason="the first time that it was seen to compile", way_out="")
    if not function.is_of_jax:
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
            _causes.find_out()
