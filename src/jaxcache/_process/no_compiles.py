"""no_compiles: nothing compiles from here on, whoever asks for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from .._cache.compiler import CompileLimitExceeded
from .._calls.misses import MissStormWarning
from .._jax import compile_events
from .._jax.notices import source_line_of_user, warn
from .causes import begin_causes, end_causes


class CompileGuard:
    """A count of the programs that may be compiled or loaded, and what happens beyond it.

    Attributes:
        allow: How many there may be.
        compiled: How many there were, those that were stopped included.
        messages: Of what was stopped or warned of; the last hundred.
        rule: The limit as the user wrote it, for messages.
    """

    def __init__(self, allow: int, on: Literal["raise", "warn"], thread: int | None) -> None:
        self.allow = allow
        self.compiled = 0
        self.messages: list[str] = []
        self.rule = f"no_compiles(allow={allow})"
        self._raises = on == "raise"
        self._thread = thread
        self._lock = threading.RLock()
        self._causes = begin_causes()

    def end(self) -> None:
        """Count nothing more."""
        compile_events.forget(self)
        end_causes()

    def on_compiling(self, name: str) -> None:
        """Count a program that is about to be made, or stop it."""
        if self._thread not in (None, threading.get_ident()):
            return
        with self._lock:
            self.compiled += 1
            if self.compiled <= self.allow:
                return
        message = self._message(name)
        self.messages[99:] = [message]
        if self._raises:
            raise CompileLimitExceeded(message)
        warn(f"jaxcache: {message}", MissStormWarning)

    def _message(self, name: str) -> str:
        cause = self._causes.current(name).get()
        file, line = source_line_of_user()
        return (
            f"{self.rule} allows no more programs, and {cause.call or cause.function} would be "
            f"compiled at {file}:{line}: {cause.reason}" + (f"; {cause.way_out}" if cause.way_out else "")
        )

    def on_traced(self, name: str, seconds: float) -> None:
        """Do nothing: tracing is allowed."""

    def on_lowered(self, name: str, seconds: float) -> None:
        """Do nothing: lowering is allowed."""

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Do nothing: it was counted before."""


@contextmanager
def no_compiles(
    allow: int = 0, on: Literal["raise", "warn"] = "raise", *, only_this_thread: bool = False
) -> Iterator[CompileGuard]:
    """Stop whatever would be compiled inside: ``with jaxcache.no_compiles(): serve(requests)``.

    It holds for functions of a cache, of ``jax.jit`` and of libraries, and for eager operations. What JAX's persistent
    cache or a shared directory would load counts as well: whether a program is there depends on earlier runs. Tracing
    and lowering are allowed.

    Args:
        allow: How many programs may be compiled or loaded before.
        on: ``"raise"``, or ``"warn"`` to be told and go on.
        only_this_thread: Whether other threads may compile. By default nobody in the process may.

    Yields:
        The count.

    Raises:
        CompileLimitExceeded: Out of the call that would compile, before the compiler starts; it says why and where.
        ValueError: If an argument makes no sense.
    """
    if isinstance(allow, bool) or not isinstance(allow, int) or allow < 0:
        raise ValueError(f"allow must be a whole number, 0 or more, but is {allow!r}")
    if on not in ("raise", "warn"):
        raise ValueError(f"on must be 'raise' or 'warn', but is {on!r}")
    guard = CompileGuard(allow, on, threading.get_ident() if only_this_thread else None)
    compile_events.observe(guard)
    try:
        yield guard
    finally:
        guard.end()
