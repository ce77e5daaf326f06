"""Compiler: conducts every miss. Of equal misses one compiles and the others wait; what it compiles is kept."""

import functools
import itertools
import threading
import weakref
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from .._calls.description import Description
from .._calls.misses import Miss, MissStormWarning, StormWatch
from .._calls.signature import Call, Key
from .._jax import interfaces, tracing
from .._jax.compile_events import Cause, caused_by
from .._jax.notices import called_from, source_line_of_user, warn
from .._primitives.sizes import format_size
from .bypasses import end_of_bypasses
from .entries import Entry, FunctionEntries, FunctionRecord, PendingCompile
from .executable import Buildable, Executable, NotLowerable
from .recorder import Recorder
from .state import CacheState


class CompileLimitExceeded(RuntimeError):
    """A call would have compiled more programs than ``max_compiles`` allows; nothing was compiled for it."""


class Compilable(Protocol):
    """A cached function as the compiler sees it.

    Attributes:
        function: The cache's record of it.
        entries: Its executables.
        has_own_key: Whether the caller's ``key=`` replaces the signature.
        max_compiles: The most programs it may make; None for no limit.
    """

    function: FunctionRecord
    entries: FunctionEntries
    has_own_key: bool
    max_compiles: int | None

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """Return the key by which the call is looked up; None if ``jax.jit`` itself has to serve it."""
        ...

    def describe(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        """Describe a call that is looked up by ``key``."""
        ...

    def program(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Buildable:
        """Trace and lower for a key that has no entry."""
        ...


class _Compiling(threading.local):
    """Lock of one thread, held while the thread compiles; a ``with`` releases it however the compile ends."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def here(self) -> bool:
        """Return whether this thread compiles."""
        return self.lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]


class Compiler:
    """Makes and keeps programs for calls that find no entry.

    Functions hold it, so that it lives as long as they do, whatever becomes of the ``JitCache``.

    Attributes:
        state: Of the cache.
        enabled: False if every call goes to ``jax.jit`` itself.
        max_compiles: The most programs that all functions together may make; None for no limit.
        shared_traces: Of JAX's own functions, where there is no limit: no program is to make room for another then.
    """

    def __init__(
        self, state: CacheState, max_compiles: int | None, *, enabled: bool = True, recorder: Recorder | None = None
    ) -> None:
        self.state = state
        self.enabled = enabled
        self.max_compiles = max_compiles
        self.shared_traces = tracing.SharedTraces() if state.residents.limit_bytes is None else None
        self._recorder = recorder
        self._compiling = _Compiling()
        self._numbers = itertools.count(1)  # of pending compiles
        self._storms = StormWatch()
        self._warned: set[str] = set()
        if recorder is not None:
            recorder.begin(state)
            weakref.finalize(self, recorder.close)
        interfaces.clear_with_jax(self)
        if interfaces.FAULT:
            self._warn("fault", f"{interfaces.FAULT}: every call goes to jax.jit, nothing is cached")

    def compiles_here(self) -> bool:
        """Return whether this thread compiles for a function of the cache."""
        return self._compiling.here()

    def clear(self, function: FunctionRecord | None = None) -> None:
        """Free all entries, or those of one function. Counters stay."""
        self.state.clear(function)
        if function is None and self.shared_traces is not None:
            self.shared_traces.clear()
        tracing.forget_values(now=True)

    def miss(
        self, dispatcher: Compilable, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], *, requested: bool = True
    ) -> Entry | None:
        """Return an entry for a call that has none yet: compiled here, or by another thread meanwhile.

        None if it would have to wait for another thread, which might wait for it. Without ``requested`` the program is
        compiled ahead of a call.

        Raises:
            Uncacheable: If no executable can be called with the arguments, which passes a caller's own key alone.
        """
        all_pending = dispatcher.function.pending
        while True:
            with self.state.lock:
                entry, pending = dispatcher.entries.by_key.get(key), all_pending.get(key)
            if entry is None and (pending is None or not pending.under_way()):
                entry = self._compile(dispatcher, key, args, kwargs, requested)
                if entry is None:  # another thread was faster
                    continue
                return entry
            if entry is None:
                assert pending is not None
                if not self.may_wait(dispatcher):
                    return None
                pending.wait()
                entry = pending.entry
            if entry is not None:
                if requested:
                    self.state.log.append(entry.record)
                return entry

    def may_wait(self, dispatcher: Compilable) -> bool:
        """Return whether no compile of another thread can wait for this one.

        It can if this thread compiles, or is in a signal handler that has interrupted it where it had a lock.
        """
        entries = dispatcher.entries
        is_held = self.state.is_held_here() or entries.prepared.is_held_here() or tracing.is_held_here()
        return not (self._compiling.here() or is_held)

    def compile_ahead(
        self, dispatcher: Compilable, key: Key, call: Call, description: Description, pool: Executor
    ) -> "Future[PendingCompile] | None":
        """Lower a program and hand it to the pool; None if it is held, or under way elsewhere.

        The caller passes what the future brings to :meth:`warn_of_misses`.

        Raises:
            TypeError: If the program cannot be lowered ahead of a call.
            CompileLimitExceeded: If there would be more programs than allowed.
        """
        pending, within = PendingCompile(), not self.may_wait(dispatcher)
        with self._compiling.lock, pending.busy:
            try:
                if not self._begin(dispatcher, key, pending):
                    return None
                self._check_max_compiles(dispatcher, key, description, pending, within)
                program = dispatcher.program(key, call.args, call.kwargs)

                cause = dispatcher.function.cause(Miss(description.text, "warmed", "compiled ahead by warm"))

                line = source_line_of_user()

                def finish() -> PendingCompile:
                    try:
                        with caused_by(lambda: cause), called_from(line):
                            executable = program.compile()
                        self._keep(dispatcher, key, description, executable, pending, requested=False)
                    finally:
                        self._finish(dispatcher, key, pending)
                    return pending

                pending.queued = pool.submit(finish)
            except NotLowerable as error:
                self._finish(dispatcher, key, pending)
                message = f"signatures must be of what can be compiled ahead of a call, but {call} is not"
                raise TypeError(message) from error
            except BaseException:
                self._finish(dispatcher, key, pending)
                raise
        return pending.queued

    def _compile(
        self, dispatcher: Compilable, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], requested: bool
    ) -> Entry | None:
        """Compile, unless another thread has begun to; None then."""
        pending, within = PendingCompile(), not self.may_wait(dispatcher)
        end_of_bypasses()
        with self._compiling.lock, pending.busy:
            try:
                if not self._begin(dispatcher, key, pending):
                    return None
                description = dispatcher.describe(key, args, kwargs)
                self._check_max_compiles(dispatcher, key, description, pending, within)
                program = dispatcher.program(key, args, kwargs)
                with caused_by(functools.partial(self._cause, dispatcher, description)):
                    executable = program.compile()
                self._keep(dispatcher, key, description, executable, pending, requested=requested)
            finally:  # also after an error or an interrupt: each waiting thread then tries for itself
                self._finish(dispatcher, key, pending)
        self.warn_of_misses(pending)
        return pending.entry

    def _begin(self, dispatcher: Compilable, key: Key, pending: PendingCompile) -> bool:
        """Begin to compile, holding ``pending.busy``; return whether this is the compile that others wait for."""
        all_pending = dispatcher.function.pending
        with self.state.lock:
            ended = [each for each, other in all_pending.items() if not other.under_way()]  # and were interrupted then
            dropped = [all_pending.pop(each) for each in ended]
            pending.number = next(self._numbers)
            first = key not in dispatcher.entries.by_key and all_pending.setdefault(key, pending) is pending
        del dropped  # their executables are freed without the lock
        return first

    def _finish(self, dispatcher: Compilable, key: Key, pending: PendingCompile) -> None:
        """End a compile, whether it brought an entry or not."""
        all_pending = dispatcher.function.pending
        with self.state.lock:
            if all_pending.get(key) is pending:
                del all_pending[key]

    def _check_max_compiles(
        self, dispatcher: Compilable, key: Key, description: Description, pending: PendingCompile, within: bool
    ) -> None:
        """Refuse a compile that would make more programs than allowed.

        Compiles that began before it count once they have made their programs, so it waits for them: they may fail.
        They wait for earlier ones alone. A compile within another one waits for none, and counts them as completed.
        """
        function = dispatcher.function
        for whose, limit, counted in (
            ("this cache", self.max_compiles, self.state.compiled_and_under_way),
            (
                function.name,
                dispatcher.max_compiles,
                functools.partial(self.state.compiled_and_under_way, only=function),
            ),
        ):
            while limit is not None:
                compiled, earlier = counted(pending)
                if compiled + len(earlier) < limit:
                    break
                if compiled < limit and not within:
                    earlier[0].wait()
                    continue
                with self.state.lock:
                    miss = self.state.diagnose(function, description, dispatcher.has_own_key)
                raise CompileLimitExceeded(
                    f"max_compiles={limit} allows {whose} no more programs, and {miss}; "
                    "raise max_compiles, or keep the call from changing"
                )

    def _cause(self, dispatcher: Compilable, description: Description) -> Cause:
        """Return why a program is about to be compiled, for observers of compiles."""
        function = dispatcher.function
        with self.state.lock:
            return function.cause(self.state.diagnose(function, description, dispatcher.has_own_key))

    def _keep(
        self,
        dispatcher: Compilable,
        key: Key,
        description: Description,
        executable: Executable,
        pending: PendingCompile,
        *,
        requested: bool,
    ) -> None:
        pending.entry, pending.miss = self.state.keep(
            dispatcher.entries, key, description, executable, own_key=dispatcher.has_own_key, requested=requested
        )

    def warn_of_misses(self, pending: PendingCompile) -> None:
        """Warn of what a compile has shown, each once: a limit that is too small, a storm, a policy that failed."""
        entry, limit = pending.entry, self.state.residents.limit_bytes
        if entry is None:
            return
        record, function = entry.record, entry.record.function
        if limit is not None and record.cost.size_bytes > limit:
            self._warn(
                "larger",
                f"{record.description.text} weighs {format_size(record.cost.size_bytes)}, more than the limit of "
                f"{format_size(limit)}: it runs, but is compiled again at each call; raise the limit",
            )
        if self.state.residents.fault:
            self._warn("policy", self.state.residents.fault)
        self.warn_of_recording()
        if pending.miss is not None:
            with self.state.lock:
                source = function.origin.key if function.origin else None
                seconds = record.cost.seconds
                storm = self._storms.record(function.name, function.source_location, pending.miss, source, seconds)
            if storm:
                warn(f"jaxcache: {storm}", MissStormWarning)

    def warn_of_recording(self) -> None:
        """Warn, once, if the recording has ended by a fault."""
        if self._recorder is not None and self._recorder.fault:
            self._warn("record", self._recorder.fault)

    def _warn(self, kind: str, message: str, category: type[Warning] = RuntimeWarning) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warn(f"jaxcache: {message}", category)
