"""Profile of a trial: a JAX profiler trace, and the time of each function."""

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

from ... import CachedFunction, JitCache
from ..._cache.cached_function import dispatcher_of
from ..layout import PROFILER_TRACE
from ..result import FunctionProfile


@contextmanager
def profiler_trace(directory: Path, scratch: Path) -> Iterator[None]:
    """Record a profiler trace of the context, and write it to ``directory`` in a form that Perfetto opens.

    The profiler's other files stay in ``scratch``. Calls of Python functions are left out: they are most of a trace.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(str(scratch), create_perfetto_trace=True, profiler_options=options):
        yield
    for written in scratch.rglob(PROFILER_TRACE):
        shutil.move(written, directory / PROFILER_TRACE)


@dataclass
class _Spent:
    calls: int = 0
    misses: int = 0
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


class ProfilingCache(JitCache):
    """Cache that waits for the result of every call, and records the time of each function."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Create the cache with the arguments of :class:`JitCache`."""
        super().__init__(*args, **settings)
        self._spent: defaultdict[str, _Spent] = defaultdict(_Spent)
        self._inside = threading.local()

    def jit(self, fun: Any, /, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a timed function. It cannot be used as a decorator, which workloads do not need."""
        return _TimedFunction(super().jit(fun, **options), fun, self._spent, self._inside)

    def profile(self) -> tuple[FunctionProfile, ...]:
        """Return the time of each function, the most expensive first."""
        profiles = [FunctionProfile(name=name, **vars(spent)) for name, spent in self._spent.items()]
        return tuple(sorted(profiles, key=lambda profile: -profile.compile_seconds - profile.run_seconds))


class _TimedFunction(CachedFunction):
    __slots__ = ("_inside", "_spent")

    def __init__(
        self, cached: CachedFunction, fun: Any, spent: defaultdict[str, _Spent], inside: threading.local
    ) -> None:
        super().__init__(dispatcher_of(cached), fun)
        self._spent, self._inside = spent, inside

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if getattr(self._inside, "a_call", False):  # traced within another call, which its time counts for
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
