"""Where a trial's time goes: a JAX profiler trace, and what each function took."""

import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from ... import JitCache
from ..._cache.cached_function import CachedFunction, dispatcher_of
from ..trial import FunctionProfile

TRACE = "perfetto_trace.json.gz"  # open it at https://ui.perfetto.dev


@contextmanager
def profiler_trace(directory: Path, scratch: Path) -> Iterator[None]:
    """Record a profiler trace of what follows, and leave it in ``directory`` in a form that Perfetto opens.

    What else the profiler writes stays in ``scratch``. Python's own calls are left out: they are most of a trace.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(str(scratch), create_perfetto_trace=True, profiler_options=options):
        yield
    for written in scratch.rglob(TRACE):
        shutil.move(written, directory / TRACE)


@dataclass
class _Spent:
    calls: int = 0
    misses: int = 0
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


class ProfilingCache(JitCache):
    """A cache that waits for the result of every call, and notes what each function took."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Take what a :class:`JitCache` takes."""
        super().__init__(*args, **settings)
        self._spent: defaultdict[str, _Spent] = defaultdict(_Spent)
        self._inside = threading.local()

    def jit(self, fun: Any, /, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a function that is timed. Works as a call only: workloads need no decorator."""
        return _TimedFunction(super().jit(fun, **options), fun, self._spent, self._inside)

    def profile(self) -> tuple[FunctionProfile, ...]:
        """Return what each function took, the dearest first."""
        each = [FunctionProfile(name=name, **vars(spent)) for name, spent in self._spent.items()]
        return tuple(sorted(each, key=lambda one: -one.compile_seconds - one.run_seconds))


class _TimedFunction(CachedFunction):
    __slots__ = ("_inside", "_spent")

    def __init__(
        self, cached: CachedFunction, fun: Any, spent: defaultdict[str, _Spent], inside: threading.local
    ) -> None:
        super().__init__(dispatcher_of(cached), fun)
        self._spent, self._inside = spent, inside

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if getattr(self._inside, "a_call", False):  # traced as a part of another: its time is the other's
            return super().__call__(*args, **kwargs)
        self._inside.a_call = True
        function = dispatcher_of(self).function
        compiled, misses = function.compile_seconds, function.misses
        started = time.perf_counter()
        try:
            with jax.profiler.TraceAnnotation(function.name):
                return jax.block_until_ready(super().__call__(*args, **kwargs))
        finally:
            self._inside.a_call = False
            total, compiled = time.perf_counter() - started, function.compile_seconds - compiled
            spent = self._spent[function.name]
            spent.calls += 1
            spent.misses += function.misses - misses
            spent.compile_seconds += compiled
            spent.run_seconds += max(0.0, total - compiled)
