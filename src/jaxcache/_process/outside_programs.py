"""OutsidePrograms: what JAX itself holds beside an installed cache, and the bound on it.

Eager operations, functions that were jitted before and calls past the cache are held by JAX, which cannot be asked to
let one go. What they weigh beyond 16 MiB takes from the limit of the cache, half of it at most. When they weigh more,
or take their share of the process's memory mappings, JAX is made to forget all of them at once, between two calls;
what the cache holds stays.
"""

import contextlib
import ctypes
import gc
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._cache.executable import mappings_limit, weigh_outside
from .._jax import compile_events, executables
from .._jax import interfaces as _jax
from .._policies.bounded_set import Weight

if TYPE_CHECKING:
    from .._cache.jit_cache import JitCache

_SHARE_OF_LIMIT = 0.5
_LEAST_BYTES = 16 * 1024**2  # fifty small programs: with fewer, a loop of eager operations would compile all the time
_SHARE_OF_MAPPINGS = 0.5  # of those that executables may take
_GROWTH = 1.5  # what survives, since somebody holds it, may grow by this factor until the next time


class OutsidePrograms:
    """Programs of a process that no cache holds, as the compiler has told of them."""

    def __init__(self, cache: "JitCache", least_bytes: int = _LEAST_BYTES) -> None:
        """Count for a cache; JAX may hold ``least_bytes`` beside the limit."""
        self.releases = 0
        self._cache = cache
        self._weights: dict[int, Weight] = {}  # by id of the executable, which JAX can tell whether it lives
        self._bytes = 0
        self._mappings = 0
        self._due = False
        self._lock = threading.RLock()
        limit, mappings = cache.limit_bytes, mappings_limit()
        self._share_bytes = int((limit or 0) * _SHARE_OF_LIMIT)
        self._least_bytes = least_bytes
        self._most_bytes = None if limit is None else self._share_bytes + least_bytes
        self._most_mappings = None if mappings is None else int(mappings * _SHARE_OF_MAPPINGS)
        self._allowed = Weight(self._most_bytes or 0, self._most_mappings or 0)

    def begin(self) -> None:
        """Count what is compiled from now on."""
        if executables.tell(self._count):
            compile_events.observe(self)

    def end(self) -> None:
        """Count nothing more, and give the limit back to the cache."""
        executables.tell_no_more(self._count)
        compile_events.forget(self)
        self._cache._state.reserve(0)

    def held(self) -> tuple[int, int]:
        """Return how many programs JAX holds, and what they weigh."""
        with self._lock:
            self._forget_dead()
            return len(self._weights), self._bytes

    # What the compiler tells.

    def _count(self, executable: Any) -> None:
        if compile_events.is_of_a_cache():
            return
        weight = weigh_outside(executable)
        with self._lock:
            self._forget(id(executable))  # one that lived at this address before
            self._weights[id(executable)] = weight
            self._bytes += weight.size_bytes
            self._mappings += weight.mappings
            if self._is_too_much():
                self._forget_dead()
                self._due = self._is_too_much()
            reserved = self._of_the_limit()
        self._cache._state.reserve(reserved)

    def on_compiling(self, name: str) -> None:
        """Make room, if it is time to and no function is being traced or built here."""
        if self._due and not compile_events.is_of_a_cache() and _jax.is_top_level():
            compilers = _jax.listeners_to_clear()
            if not any(compiler.compiles_here() for compiler in compilers):
                with contextlib.suppress(Exception):  # of another JAX: more is held then, nothing else
                    self._release(compilers)

    def on_traced(self, name: str, seconds: float) -> None:
        """Do nothing: what was traced for a program is let go with it."""

    def on_lowered(self, name: str, seconds: float) -> None:
        """Do nothing, likewise."""

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Do nothing: the compiler tells of the executable itself."""

    # What is held.

    def _release(self, compilers: list[Any]) -> None:
        """Make JAX forget what it holds, unless what Python has not collected yet was the reason."""
        self._due = False
        gc.collect()
        with self._lock:
            self._forget_dead()
            if not self._is_too_much():
                return
        self.releases += 1
        if executables.release_caches():
            for compiler in compilers:
                compiler.state.drop_unpinned()
        else:
            jax.clear_caches()
        gc.collect()
        _return_free_memory()
        with self._lock:
            self._forget_dead()
            self._allowed = Weight(
                max(self._most_bytes or 0, int(self._bytes * _GROWTH)),
                max(self._most_mappings or 0, int(self._mappings * _GROWTH)),
            )
            reserved = self._of_the_limit()
        self._cache._state.reserve(reserved)

    def _of_the_limit(self) -> int:
        return min(max(0, self._bytes - self._least_bytes), self._share_bytes)

    def _is_too_much(self) -> bool:
        too_heavy = self._most_bytes is not None and self._bytes > self._allowed.size_bytes
        return too_heavy or (self._most_mappings is not None and self._mappings > self._allowed.mappings)

    def _forget_dead(self) -> None:
        """Forget what has been freed meanwhile."""
        weighed = set(self._weights)
        for freed in weighed - executables.alive_of(weighed):
            self._forget(freed)

    def _forget(self, executable: int) -> None:
        weight = self._weights.pop(executable, None)
        if weight is not None:
            self._bytes -= weight.size_bytes
            self._mappings -= weight.mappings


def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return None


_trim = _malloc_trim() if os.name == "posix" else None


def _return_free_memory() -> None:
    """Have the allocator give back what is free, as far as it does so."""
    if _trim is not None:
        _trim(0)
