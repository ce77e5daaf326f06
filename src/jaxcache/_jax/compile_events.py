"""JAX's own events of tracing, lowering and compiling, told to whoever observes them, in the thread that they are of.

``jax.monitoring`` is public. It says when each of the three begins and ends, and of which function; what raises as a
compile begins is raised by the call that asked for it, before the compiler or a directory on disk is asked.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from jax import monitoring

from .interfaces import persistent_hits

_PREFIX = "/jax/core/compile/"
_TRACING = f"{_PREFIX}jaxpr_trace_duration"
_LOWERING = f"{_PREFIX}jaxpr_to_mlir_module_duration"
_COMPILING = f"{_PREFIX}backend_compile_duration"


class Cause(NamedTuple):
    """Reason for which a program is compiled.

    Attributes:
        function: Its name.
        place: Where its source stands, such as ``solve.py:12``; empty if nowhere.
        call: The signature of the call.
        kind: One of the causes of ``jaxcache.Miss``, or what stands for one.
        reason: The same in words.
        way_out: What would spare such compiles; empty if nothing.
    """

    function: str
    place: str
    call: str
    kind: str
    reason: str
    way_out: str


class CompileObserver(Protocol):
    """Told of what one thread after the other traces, lowers and compiles."""

    def on_traced(self, name: str, seconds: float) -> None:
        """Note that a function was traced."""
        ...

    def on_lowered(self, name: str, seconds: float) -> None:
        """Note that a program was lowered."""
        ...

    def on_compiling(self, name: str) -> None:
        """Note that a program is about to be compiled or loaded; what this raises stops it."""
        ...

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Note that a program was compiled, or loaded from JAX's persistent cache; also if that failed."""
        ...


class _CompileUnderWay(threading.local):
    """This thread's: the owner of the compile under way, and how many programs had been loaded before it."""

    cause: Any = None  # returns a Cause
    hits = 0


_thread = _CompileUnderWay()
_lock = threading.RLock()
_observers: tuple[CompileObserver, ...] = ()


def observe(observer: CompileObserver) -> None:
    """Tell ``observer`` of everything from now on; it comes after those that are there."""
    global _observers
    with _lock:
        if not _observers:
            monitoring.register_scalar_listener(_on_begin)
            monitoring.register_event_duration_secs_listener(_on_end)
        _observers = (*_observers, observer)


def forget(observer: CompileObserver) -> None:
    """Tell ``observer`` nothing more."""
    global _observers
    with _lock:
        if observer not in _observers:
            return
        _observers = tuple(other for other in _observers if other is not observer)
        if not _observers:
            monitoring.unregister_scalar_listener(_on_begin)
            monitoring.unregister_event_duration_listener(_on_end)


@contextmanager
def caused_by(cause: Any) -> Iterator[None]:
    """Have what this thread compiles meanwhile known as a program of a cache; ``cause()`` says why it is needed."""
    before, _thread.cause = _thread.cause, cause
    try:
        yield
    finally:
        _thread.cause = before


def is_of_a_cache() -> bool:
    """Say whether the compile under way in this thread is that of a cache's entry."""
    return _thread.cause is not None


def known_cause() -> Cause | None:
    """Return why the compile under way in this thread is needed, if it is that of a cache's entry."""
    return None if _thread.cause is None else _thread.cause()


def _on_begin(event: str, value: float | int, **about: str | int) -> None:
    del value  # the time
    if event == _COMPILING:
        _thread.hits = persistent_hits()
        for observer in _observers:
            observer.on_compiling(_name(about))


def _on_end(event: str, duration_secs: float, **about: str | int) -> None:
    if not event.startswith(_PREFIX):
        return
    name = _name(about)
    for observer in _observers:
        if event == _TRACING:
            observer.on_traced(name, duration_secs)
        elif event == _LOWERING:
            observer.on_lowered(name, duration_secs)
        elif event == _COMPILING:
            observer.on_compiled(name, duration_secs, persistent_hits() > _thread.hits)


def _name(about: dict[str, str | int]) -> str:
    """Return the function's name, of ``f``, ``jit(f)`` and ``jit_f``."""
    name = str(about.get("fun_name", ""))
    return name[4:-1] if name.startswith("jit(") and name.endswith(")") else name.removeprefix("jit_")


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
