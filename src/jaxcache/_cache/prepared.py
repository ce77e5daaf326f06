"""Signatures that were traced, but not compiled yet: by ``lower``, ``trace``, ``eval_shape``, or inside of others.

``jax.jit`` traces a function once for a signature, whatever for. So the first tracing is kept for the next use.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from .._calls.signature import Key, unplaced
from .executable import OwnJit

_PREPARED = 64  # of each function; the oldest is dropped, and traced again if it comes back


class Prepared:
    """Bounded map from keys to the :class:`OwnJit` that has traced them, for arrays on any device. Thread-safe."""

    __slots__ = ("_by_key", "_lock", "_refused")

    def __init__(self) -> None:
        self._by_key: OrderedDict[Key, OwnJit] = OrderedDict()
        self._refused: OrderedDict[Key, None] = OrderedDict()
        self._lock = threading.RLock()  # a signal handler may trace while this thread holds it

    def is_held_here(self) -> bool:
        """Return whether this thread has the lock: a signal handler has interrupted it then."""
        return self._lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]

    def has(self, key: Key) -> bool:
        """Return whether the signature was traced, and not too long ago."""
        return unplaced(key) in self._by_key

    def refuse(self, key: Key) -> None:
        """Remember a signature that could not be lowered ahead of its call, and that ``jax.jit`` has run."""
        with self._lock:
            self._refused[key] = None
            while len(self._refused) > _PREPARED:
                self._refused.popitem(last=False)

    def refuses(self, key: Key) -> bool:
        """Return whether only ``jax.jit`` can run the signature."""
        return key in self._refused

    def get_or_make(self, key: Key, make: Callable[[], OwnJit]) -> OwnJit:
        """Return the jit that has traced the signature, or will."""
        key = unplaced(key)
        traced = self._by_key.get(key)
        candidate = make() if traced is None else traced  # without our lock: JAX takes its own there
        with self._lock:
            own_jit = self._by_key.setdefault(key, candidate)
            self._by_key.move_to_end(key)
            while len(self._by_key) > _PREPARED:
                self._by_key.popitem(last=False)
        return own_jit

    def forget(self, key: Key) -> None:
        """Forget a signature that has an entry from now on."""
        with self._lock:
            self._by_key.pop(unplaced(key), None)

    def clear(self) -> object:
        """Forget all; the caller frees the returned object."""
        with self._lock:
            dropped = self._by_key, self._refused
            self._by_key, self._refused = OrderedDict(), OrderedDict()
        return dropped
