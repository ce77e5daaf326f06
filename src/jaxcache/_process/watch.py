"""watch: every compile of the process, whoever asked for it: of what, where, why, and how long."""

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from .._jax import compile_events, executables
from .._jax.notices import source_line_of_user
from .causes import LateCause, begin_causes, end_causes
from .late_weights import LateWeight, LateWeights


@dataclass(frozen=True, slots=True)
class CompileRecord:
    """One program that was compiled, or loaded from JAX's persistent cache.

    Attributes:
        function: Its name.
        place: File and line of the function's source; empty for JAX's own.
        call: The signature of the call: ``solve(float32[512], n=3)``.
        call_site: File and line of the innermost code of the user's that led to it; in a thread that runs none, such as
            one of a pool, ``place`` again, or the thread's name.
        cause: Why: one of the causes of :class:`jaxcache.Miss`; ``eager`` for operations and functions of JAX that are
            called outside of a jitted function; ``warmed``; ``forgotten`` by JAX.
        reason: The cause in words, with what changed.
        way_out: What would spare such compiles; empty if nothing.
        tracing_seconds: Running the Python function.
        lowering_seconds: Making the module for the compiler.
        compile_seconds: Of the compiler; 0 if the program was loaded.
        load_seconds: Loading; 0 if the program was compiled.
        tier: ``compiled`` or ``loaded``; ``traced`` for what was traced or lowered, and nothing compiled for it.
        weight: Its weight, which is modelled when ``size_bytes`` is asked for.
        started_seconds: When it began, since the watch did.
        thread: The thread's name.
    """

    function: str
    place: str
    call: str
    call_site: str
    cause: str
    reason: str
    way_out: str
    tracing_seconds: float
    lowering_seconds: float
    compile_seconds: float
    load_seconds: float
    tier: str
    weight: LateWeight = field(repr=False, compare=False)
    started_seconds: float
    thread: str

    @property
    def size_bytes(self) -> int:
        """What it weighs while JAX holds it, by the model; 0 if nobody knows."""
        return self.weight.size_bytes()

    @property
    def seconds(self) -> float:
        """All of its seconds."""
        return self.tracing_seconds + self.lowering_seconds + self.compile_seconds + self.load_seconds


_MOST_RECORDS = 50_000  # the oldest go
_MOST_SPANS = 1_000


@dataclass(slots=True)
class _Pending:
    """Seconds of a function that was traced or lowered, and is not compiled yet; it began so long after the watch."""

    call_site: str
    started_seconds: float
    thread: str
    tracing_seconds: float = 0.0
    lowering_seconds: float = 0.0


class _Compiled:
    """Program that was compiled or loaded. Its record is made when somebody asks, since its cause is known by then."""

    __slots__ = ("_cause", "_loaded", "_pending", "_record", "_seconds", "_weight")

    def __init__(self, pending: _Pending, cause: LateCause, seconds: float, loaded: bool, weight: LateWeight) -> None:
        self._pending = pending
        self._cause = cause
        self._seconds = seconds
        self._loaded = loaded
        self._weight = weight
        self._record: CompileRecord | None = None

    def record(self) -> CompileRecord:
        """Return the record, the same each time."""
        if self._record is None:
            pending, cause = self._pending, self._cause.get()
            self._record = CompileRecord(
                function=cause.function,
                place=cause.place,
                call=cause.call or cause.function,
                call_site=pending.call_site or cause.place or f"thread {pending.thread}",
                cause=cause.kind,
                reason=cause.reason,
                way_out=cause.way_out,
                tracing_seconds=pending.tracing_seconds,
                lowering_seconds=pending.lowering_seconds,
                compile_seconds=0.0 if self._loaded else self._seconds,
                load_seconds=self._seconds if self._loaded else 0.0,
                tier="loaded" if self._loaded else "compiled",
                weight=self._weight,
                started_seconds=pending.started_seconds,
                thread=pending.thread,
            )
        return self._record


class _Spans(threading.local):
    """This thread's spans that have ended, none within another: when each began, and its seconds; and a weight."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self.weight = LateWeight()

    def own_seconds(self, seconds: float) -> float:
        """Return what is left of a span that ends now without those within it, which were counted already."""
        began, within = time.perf_counter() - seconds, 0.0
        while self.spans and self.spans[-1][0] >= began:
            within += self.spans.pop()[1]
        self.spans.append((began, seconds))
        del self.spans[:-_MOST_SPANS]
        return max(0.0, seconds - within)


class Watch:
    """Compiles of the process while it is open; what ``jaxcache.watch()`` returns.

    It costs a look at the stack for each event of JAX's, and nothing for a call that compiles nothing. Why a program
    was compiled is found out when somebody asks for its record.
    """

    def __init__(self) -> None:
        self._compiled: deque[_Compiled] = deque(maxlen=_MOST_RECORDS)
        self._traced: deque[CompileRecord] = deque(maxlen=_MOST_RECORDS)
        self._pending: dict[tuple[int, str], _Pending] = {}  # by thread and function
        self._started = self._ended = time.perf_counter()
        self._folder = ""  # that it was begun in, from which files are named
        self._open = False
        self._thread = _Spans()
        self._weights = LateWeights()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> Self:
        """Watch from now on, as ``with`` does; a watch that has ended begins anew."""
        if not self._open:
            self._open = True
            self._compiled.clear()
            self._traced.clear()
            self._pending.clear()
            self._started = time.perf_counter()
            self._folder = _present_folder()
            self._causes = begin_causes()
            executables.tell(self._on_executable)
            compile_events.observe(self)
        return self

    def end(self) -> None:
        """Watch no more; what was seen stays."""
        if self._open:
            self._open = False
            self._ended = time.perf_counter()
            compile_events.forget(self)
            executables.tell_no_more(self._on_executable)
            end_causes()

    @property
    def compiles(self) -> Sequence[CompileRecord]:
        """What was compiled or loaded so far, in order."""
        return [compiled.record() for compiled in list(self._compiled)]

    @property
    def traced(self) -> Sequence[CompileRecord]:
        """What was traced or lowered so far, and nothing compiled for it."""
        pending = [_traced_alone(name, pending) for (_, name), pending in list(self._pending.items())]
        return [record for record in [*self._traced, *pending] if record.seconds]

    @property
    def seconds(self) -> float:
        """How long the watch was open so far."""
        return (time.perf_counter() if self._open else self._ended) - self._started

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a page that says what compiled and what to change: one HTML file that needs nothing else.

        Raises:
            OSError: If it cannot be written.
        """
        from .page import write_page

        write_page(self, path)

    # What JAX tells.

    def on_traced(self, name: str, seconds: float) -> None:
        """Note that a function was traced."""
        own_seconds = self._thread.own_seconds(seconds)
        earlier = self._pending.pop((threading.get_ident(), name), None)
        if earlier is not None and earlier.tracing_seconds:  # it was traced alone
            self._traced.append(_traced_alone(name, earlier))
        self._of(name, seconds).tracing_seconds += own_seconds

    def on_lowered(self, name: str, seconds: float) -> None:
        """Note that a program was lowered."""
        self._of(name, seconds).lowering_seconds += self._thread.own_seconds(seconds)

    def on_compiling(self, name: str) -> None:
        """Note when and where a program begins to be compiled."""
        self._thread.weight = LateWeight()
        self._of(name, 0.0)

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Note a program that was compiled or loaded."""
        own_seconds = self._thread.own_seconds(seconds)
        pending = self._pending.pop((threading.get_ident(), name), None)
        if pending is None:  # the watch began meanwhile
            return
        cause, weight = self._causes.current(name), self._thread.weight
        self._compiled.append(_Compiled(pending, cause, own_seconds, loaded, weight))

    def _on_executable(self, executable: Any) -> None:
        self._thread.weight = self._weights.add(executable)

    def _of(self, name: str, seconds: float) -> _Pending:
        """Return what is known of a function in this thread, which has just taken so many seconds."""
        key = threading.get_ident(), name
        pending = self._pending.get(key)
        if pending is None:
            file, line = source_line_of_user()
            started = time.perf_counter() - seconds - self._started
            thread = threading.current_thread().name
            call_site = f"{file.removeprefix(self._folder)}:{line}" if file else ""
            pending = self._pending[key] = _Pending(call_site, started, thread)
        return pending


def _traced_alone(name: str, pending: _Pending) -> CompileRecord:
    return CompileRecord(
        name, "", name, pending.call_site or f"thread {pending.thread}",
        "other", "traced or lowered alone, as by a transformation", "",
        pending.tracing_seconds, pending.lowering_seconds, 0.0, 0.0, "traced", LateWeight(),
        pending.started_seconds, pending.thread,
    )  # fmt: skip


def _present_folder() -> str:
    """Return the present folder as files in it begin; nothing if it was removed."""
    try:
        return os.path.join(os.getcwd(), "")
    except OSError:
        return ""


def watch() -> Watch:
    """Return what watches every compile of the process: ``with jaxcache.watch() as compiles: train_step(batch)``.

    Returns:
        The watch; ``compiles.compiles`` has a row for each program, ``compiles.write("compiles.html")`` makes a page.
    """
    return Watch()
