"""What goes wrong with a shared directory: counted, said once, and kept from the user's program."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .._jax.notices import warn
from .database import IndexUnavailable


class DiskCacheWarning(RuntimeWarning):
    """The shared directory cannot be used, or held something that it should not."""


class Faults:
    """The faults of one directory, as one process meets them."""

    def __init__(self, path: Path, count: Callable[[], None]) -> None:
        """Speak of ``path``, and call ``count`` for every fault."""
        self._path = path
        self._count = count
        self._lock = threading.RLock()
        self._said: set[str] = set()
        self.last: str | None = None

    def forget_locks(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def guarded(self, done: str) -> Iterator[None]:
        """Let no fault of the directory, and no defect of ours, reach the program while it is ``done``."""
        try:
            yield
        except OSError as error:
            self.note(f"it cannot be {done} ({error})")
        except Exception as error:
            self.note(f"it cannot be {done} ({type(error).__name__}: {error})")

    @contextlib.contextmanager
    def index_guarded(self) -> Iterator[None]:
        """Go on without the index where it cannot be used: no entry that is read is lost by it."""
        try:
            yield
        except IndexUnavailable as error:
            self.note(f"its index cannot be used: {error}")
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a defect of ours
            self.note(f"its index cannot be used ({type(error).__name__}: {error})")

    def note(self, fault: str) -> None:
        """Note a fault; the first one is said."""
        self.last = fault
        self._count()
        self.say("fault", f"{fault}; the program goes on without it where need be")

    def say(self, about: str, text: str) -> None:
        """Warn, once about the same thing."""
        with self._lock:
            if about in self._said:
                return
            self._said.add(about)
        warn(f"the shared directory {self._path}: {text}", DiskCacheWarning)
