"""Executables of the whole process: told of as they are made, weighed, and let go as a whole.

JAX's memories hold what nobody asks a cache for: eager operations, functions that were jitted before, calls past a
cache. No public interface says what is held, or frees less than all. ``compile_or_get_cached`` is the one function
through which every program comes; a client tells which of its executables live. What JAX remembers is freed without
the entries of our caches: those run from memories of their own (``fast_dispatch``), which only
``jax.clear_caches()`` empties.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax

from . import interfaces

Listener = Callable[[Any], None]

_lock = threading.RLock()
_listeners: tuple[Listener, ...] = ()


class _Hook:
    """Replacement of JAX's function that compiles or loads a program; installed while there are listeners."""

    def __init__(self) -> None:
        """Bind; raises whatever shows that the installed JAX is another."""
        from jax._src import compiler

        self._compiler: Any = compiler
        self._original: Any = compiler.compile_or_get_cached

        @functools.wraps(self._original)
        def compile_or_get_cached(*args: Any, **kwargs: Any) -> Any:
            executable = self._original(*args, **kwargs)
            for listener in _listeners:
                listener(executable)
            return executable

        self._ours = compile_or_get_cached

    def apply(self) -> None:
        """Take the function's place, unless somebody has put something else in ours."""
        if self._compiler.compile_or_get_cached is self._original:
            self._compiler.compile_or_get_cached = self._ours

    def undo(self) -> None:
        """Put it back, unless somebody has put something else in our place."""
        if self._compiler.compile_or_get_cached is self._ours:
            self._compiler.compile_or_get_cached = self._original


def _bind() -> tuple[_Hook | None, str | None]:
    try:
        return _Hook(), None
    except Exception as error:  # nobody is told of executables then
        return None, f"{type(error).__name__}: {error}"


_hook, FAULT = _bind()


def tell(listener: Listener) -> bool:
    """Have ``listener(executable)`` called, which must not raise, for each program that is compiled or loaded.

    Returns:
        Whether this JAX has a place for it.
    """
    global _listeners
    if _hook is None:
        return False
    with _lock:
        _listeners = (*_listeners, listener)
        _hook.apply()
    return True


def tell_no_more(listener: Listener) -> None:
    """Call ``listener`` no more."""
    global _listeners
    with _lock:
        _listeners = tuple(other for other in _listeners if other != listener)
        if not _listeners and _hook is not None:
            _hook.undo()


def alive_of(executables: set[int]) -> set[int]:
    """Return those executables, given by their ``id``, that are alive; all of them where JAX does not tell."""
    try:
        clients: Any = {id(device.client): device.client for device in jax.local_devices()}.values()
        return {id(executable) for client in clients for executable in client.live_executables()} & executables
    except Exception:
        return executables


def release_caches() -> bool:
    """Let JAX forget what it has traced, lowered and compiled, without a word to our caches.

    Entries that run from a memory of their own stay as they are; ``fast_dispatch.is_pinned`` tells which do.

    Returns:
        Whether that can be done; False where only ``jax.clear_caches()`` could, which empties our caches too.
    """
    try:
        from jax._src import pjit, util

        memories = [pjit._cpp_pjit_cache_fun_only, pjit._cpp_pjit_cache_explicit_attributes]
        forget: list[Callable[[], None]] = [
            cache.cache_clear
            for cache in list(util._caches)  # pyright: ignore[reportAttributeAccessIssue]
            if cache is not interfaces._when_cleared
        ]
        forget += [memory.clear for memory in memories]
    except Exception:
        return False
    for clear in forget:
        clear()
    return True


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
