"""Faults of a shared directory: counted, warned about once, and kept from the user's program."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .._jax.notices import warn
from .connection import IndexUnavailable
from .tier_answers import TierAnswers


class DiskCacheWarning(RuntimeWarning):
    """The shared directory cannot be used, or held something that it should not."""


class Faults:
    """Faults of one directory that one process has met.

    Attributes:
        last: The last of them; None if there was none.
        tiers: Answers of the stores below the directory, of which faults are some.
    """

    def __init__(self, path: Path, count: Callable[[], None]) -> None:
        """Name ``path`` in warnings, and call ``count`` for every fault."""
        self._path = path
        self._count = count
        self._lock = threading.RLock()
        self._warned: set[str] = set()
        self.tiers = TierAnswers()
        self.last: str | None = None

    def forget_locks(self) -> None:
        """Make the lock anew in a forked child: another thread of the parent may have held it."""
        self._lock = threading.RLock()
        self.tiers.forget()

    @contextlib.contextmanager
    def guarded(self, done: str) -> Iterator[None]:
        """Keep faults of the directory and defects of ours from the program; ``done`` is the message's verb."""
        try:
            yield
        except OSError as error:
            self.record(f"it cannot be {done} ({error})")
        except Exception as error:
            self.record(f"it cannot be {done} ({type(error).__name__}: {error})")

    @contextlib.contextmanager
    def index_guarded(self) -> Iterator[None]:
        """Go on without the index where it cannot be used: entries can still be read and written."""
        try:
            yield
        except IndexUnavailable as error:
            self.record(f"its index cannot be used: {error}")
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a defect of ours
            self.record(f"its index cannot be used ({type(error).__name__}: {error})")

    def record(self, fault: str) -> None:
        """Record a fault, and warn about the first."""
        self.last = fault
        self._count()
        self.warn("fault", f"{fault}; the program goes on without it where need be")

    def record_of(self, store: str, fault: str) -> None:
        """Record a fault of a store beside the directory, such as a layer, and warn about the store's first."""
        self.last = f"the {store} {fault}"
        self._count()
        self.tiers.failed(store, fault)
        self.warn(store, f"the {store} {fault}; the program goes on without it where need be")

    def warn(self, subject: str, text: str) -> None:
        """Warn, once for each subject."""
        with self._lock:
            if subject in self._warned:
                return
            self._warned.add(subject)
        warn(f"the shared directory {self._path}: {text}", DiskCacheWarning)
