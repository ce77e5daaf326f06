"""Signatures that were traced, but not compiled yet: by ``lower``, ``trace``, ``eval_shape``, or inside of others.

``jax.jit`` traces a function once for a signature, whoever asks. So what traced it first is kept for who comes next.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from .._calls.signature import Key, unplaced
from .executable import OwnJit

_PREPARED = 64  # of each function; what was traced longest ago is traced again


class Prepared:
    """Bounded map from keys to the :class:`OwnJit` that has traced them, wherever arrays are. Threads may share it."""

    __slots__ = ("_by_key", "_lock", "_refused")

    def __init__(self) -> None:
        self._by_key: OrderedDict[Key, OwnJit] = OrderedDict()
        self._refused: OrderedDict[Key, None] = OrderedDict()
        self._lock = threading.RLock()  # a signal handler may trace while this thread holds it

    def has(self, key: Key) -> bool:
        """Whether the signature was traced, and not too long ago."""
        return unplaced(key) in self._by_key

    def refuse(self, key: Key) -> None:
        """Note a signature that could not be lowered ahead of its call, and that ``jax.jit`` has run."""
        with self._lock:
            self._refused[key] = None
            while len(self._refused) > _PREPARED:
                self._refused.popitem(last=False)

    def refuses(self, key: Key) -> bool:
        """Whether only ``jax.jit`` can run the signature."""
        return key in self._refused

    def get_or_make(self, key: Key, make: Callable[[], OwnJit]) -> OwnJit:
        """Return what has traced the signature, or is to trace it."""
        key = unplaced(key)
        known = self._by_key.get(key)
        made = make() if known is None else known  # without the lock: JAX has one of its own there
        with self._lock:
            own = self._by_key.setdefault(key, made)
            self._by_key.move_to_end(key)
            while len(self._by_key) > _PREPARED:
                self._by_key.popitem(last=False)
        return own

    def forget(self, key: Key) -> None:
        """Forget a signature that has an entry from now on."""
        with self._lock:
            self._by_key.pop(unplaced(key), None)

    def clear(self) -> object:
        """Forget all; the caller frees what is returned."""
        with self._lock:
            gone = self._by_key, self._refused
            self._by_key, self._refused = OrderedDict(), OrderedDict()
        return gone
