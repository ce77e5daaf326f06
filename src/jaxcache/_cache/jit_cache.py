"""JitCache: look-up, miss, limit, statistics."""

import contextlib
import functools
import itertools
import os
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Self, overload

from .._calls.description import Description
from .._calls.misses import Explanation, MissStormWarning, StormWatch
from .._calls.signature import Key, Uncacheable
from .._jax import interfaces as _jax
from .._jax import tracing as _jax_tracing
from .._jax.compile_events import Cause, caused_by
from .._jax.notices import warn
from .._policies import Policy, make_policy, options_of
from .._policies.bounded_set import BoundedSet
from .._primitives.sizes import format_size, parse_size
from .._replay.costs import Cost, CostTable
from .bypasses import LONG_SECONDS, MANY_PROGRAMS, call_past, describe_bypasses, end_of_bypasses, what_is_called
from .cached_function import CachedFunction, Dispatcher
from .entries import Entry, PendingCompile
from .executable import Executable, mappings_limit
from .front import FrontFunction
from .recorded_function import RecordedFunction
from .recorder import Recorder
from .settings_file import read_settings
from .state import CacheState
from .stats import CacheStats

_DECORATOR = object()  # in place of the function: it comes later


class _Compiling(threading.local):
    """Whether this thread compiles: it holds a lock of its own then, which it lets go in whatever way it ends."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def here(self) -> bool:
        return self.lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]


class CompileLimitExceeded(RuntimeError):
    """A call would have compiled more programs than ``max_compiles`` allows; nothing was compiled for it."""


class JitCache:
    """A cache of compiled JAX programs with a limit in bytes.

    ``cache.jit(f)`` stands in for ``jax.jit(f)``: same arguments, same results, same errors. What it compiles is held
    until the limit is reached; then the eviction policy says what goes, and what goes is really freed.

    Threads may share a cache. Nobody holds its lock while XLA compiles, and equal calls that miss at the same time
    compile once. As a context manager it clears itself at the end.
    """

    def __init__(
        self,
        limit: int | str | None = None,
        eviction: str | Policy = "lru",
        *,
        seed: int = 0,
        costs: Mapping[str, Cost] | str | os.PathLike[str] | None = None,
        max_compiles: int | None = None,
        enabled: bool = True,
        record: str | os.PathLike[str] | None = None,
    ) -> None:
        """Make an empty cache.

        Args:
            limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit. What an entry weighs is
                modelled, see ``_cache/executable.py``. Memory mappings, which Linux bounds, have a limit of their own:
                half of what ``vm.max_map_count`` allows a process.
            eviction: A name in ``jaxcache.POLICIES``, or an object with the methods of ``jaxcache.Policy``.
            seed: For policies that draw.
            costs: A cost table, or the path of one, from ``cache.costs()`` of an earlier run. Signatures in it weigh
                and cost what it says, so that decisions repeat; others what is measured first.
            max_compiles: For tests and CI: a call that would make more programs than this raises
                :class:`CompileLimitExceeded`, which says why it missed. None for no such limit.
            enabled: False hands every call to ``jax.jit`` itself, counted as bypassed: to see whether the cache is to
                blame, or what it gains, without another change to the program.
            record: A directory to be made, such as ``"trace.parquet"``: every request is written there, for
                :meth:`jaxcache.Trace.load`, until the cache is left as a context manager or the program ends. A
                crash loses what came in the last half minute. Needs pyarrow. None to record nothing.

        Raises:
            ValueError: If an argument is out of range; the message says what to write.
            TypeError: If ``eviction`` is neither a name nor a policy.
            OSError: If the cost table cannot be read, or what ``record`` names is there already or cannot be made.
            ImportError: If ``record`` is given and pyarrow is missing; the message names the extra to install.
        """
        limit_bytes = None if limit is None else parse_size(limit, "limit")
        known = CostTable(costs) if costs is None or isinstance(costs, Mapping) else CostTable.load(costs)
        residents = BoundedSet(_policy_maker(eviction, seed), limit_bytes, mappings_limit())
        self._max_compiles = check_max_compiles(max_compiles)
        self._enabled = enabled
        name = eviction if isinstance(eviction, str) else type(eviction).__name__
        setting = {"eviction": name, "limit_bytes": limit_bytes, "mappings_limit": mappings_limit(), "seed": seed}
        self._recorder = None if record is None else Recorder(record, setting)
        self._state = CacheState(residents, known, self._recorder)
        if self._recorder is not None:
            self._recorder.begin(self._state)
            weakref.finalize(self, self._recorder.close)
        self._compiling = _Compiling()
        self._flight_numbers = itertools.count(1)
        self._storms = StormWatch()
        self._warned: set[str] = set()
        _jax.clear_with_jax(self)
        if _jax.FAULT:
            self._warn("fault", f"{_jax.FAULT}: every call goes to jax.jit, nothing is cached")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Make a cache with the limit and the policy that a file recommends, such as the best.yaml of ``flows.tune``.

        Args:
            path: Of the file, see ``_cache/settings_file.py``.
            **settings: What else the constructor takes, or takes in the file's place.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it holds no such settings; the message names the key.
            ImportError: If PyYAML is missing.
        """
        return cls(**{**read_settings(path), **settings})

    @property
    def limit_bytes(self) -> int | None:
        """The limit; None if there is none."""
        return self._state.residents.limit_bytes

    @overload
    def jit(self, fun: Callable[..., Any], /, **options: Any) -> CachedFunction: ...
    @overload
    def jit(self, /, **options: Any) -> Callable[[Callable[..., Any]], CachedFunction]: ...
    def jit(
        self,
        fun: Any = _DECORATOR,
        /,
        *,
        key: Callable[..., Any] | None = None,
        max_compiles: int | None = None,
        **options: Any,
    ) -> CachedFunction | Callable[[Callable[..., Any]], CachedFunction]:
        """Return ``fun`` as a function compiled on demand and held by this cache.

        Works as a decorator, as a decorator with arguments, and as a call.

        Args:
            fun: What ``jax.jit`` takes.
            key: Replaces the signature: called with the arguments, it returns something hashable. Calls with equal
                keys share an entry; if they differ in shape, that entry compiles for each and weighs more than it says.
            max_compiles: As for the cache, but for this function.
            **options: What ``jax.jit`` takes: ``static_argnums``, ``static_argnames``, ``donate_argnums``, …
        """
        if fun is _DECORATOR:
            return functools.partial(self.jit, key=key, max_compiles=max_compiles, **options)
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function of the arguments, but is {key!r}")
        if self._recorder is None:
            return CachedFunction(self, fun, key, check_max_compiles(max_compiles), options)
        return RecordedFunction(self, fun, key, check_max_compiles(max_compiles), options)

    def stats(self) -> CacheStats:
        """Return what was counted so far, as one consistent snapshot."""
        return self._state.stats()

    def costs(self) -> CostTable:
        """Return what each signature weighs and costs, for ``JitCache(costs=…)`` of a later run.

        Of signatures that are not held, the last 4096 of each function are in it, and of functions that are gone.
        """
        return self._state.costs()

    def explain(self, fun: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """Say what a call would be, and if a miss, why. Nothing is run, compiled or counted.

        Args:
            fun: A function from ``cache.jit``, or a method made of one; a bucketed function, a loop or a step.
            *args: The call's arguments; ``jax.ShapeDtypeStruct`` may stand for arrays.
            **kwargs: The call's keyword arguments.

        Raises:
            TypeError: If ``fun`` is not from ``cache.jit`` of this cache.
        """
        cached, args, kwargs = self._own_function(fun, args, kwargs)
        key, description = cached._key_of(args, kwargs), None
        if key is not None:
            with contextlib.suppress(Uncacheable):
                description = cached._describe(key, args, kwargs)
        bypasses = self._describe_bypasses(cached)
        more = f"; {bypasses}" if bypasses else ""
        if key is None or description is None or not self._enabled:
            why = (
                "under a transformation, with jit disabled, or with arguments that no executable can be looked up by"
                if self._enabled
                else "the cache is not enabled"
            )
            return Explanation(cached._variants.name, "bypassed", None, f"goes to jax.jit itself: {why}{more}")
        hits, miss = self._state.look_up(cached._programs, key, description, cached._key is not None)
        if miss is not None:
            return Explanation(description.text, "miss", miss, miss.reason + more)
        return Explanation(description.text, "hit", None, f"is a hit; {hits} before it{more}")

    def clear(self, fun: Callable[..., Any] | None = None) -> None:
        """Free all entries, or those of one function. Counters stay."""
        self._state.clear(None if fun is None else self._own_function(fun)[0]._variants)
        _jax_tracing.forget_values(now=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._warn_of_recording()
        self.clear()

    def __repr__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else format_size(self.limit_bytes)
        return f"<JitCache {len(self._state)} entries, {format_size(self._state.residents.live_bytes)} of {limit}>"

    # What CachedFunction calls.

    def _miss(
        self, cached: Dispatcher, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], *, requested: bool = True
    ) -> Entry | None:
        """Return an entry for a call that found none: compiled here, or by another thread meanwhile.

        None if this thread is itself compiling and would have to wait for another, which might wait for it. What is
        not ``requested`` is compiled ahead of a call.

        Raises:
            Uncacheable: If the call has what no executable is called with, which only an own key lets come so far.
        """
        flights = cached._variants.flights
        while True:
            with self._state.lock:
                entry, flight = cached._programs.entries.get(key), flights.get(key)
            if entry is None and (flight is None or not flight.under_way()):
                entry = self._compile(cached, key, args, kwargs, requested)
                if entry is None:  # another thread was faster
                    continue
                return entry
            if entry is None:
                assert flight is not None
                if self._compiling.here():
                    return None
                flight.wait()
                entry = flight.entry
            if entry is not None:
                if requested:
                    self._state.log.append(entry.held)
                return entry

    def _call_past(self, cached: Dispatcher, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``jax.jit`` itself; count what that compiles, unless the caller has chosen it, and warn of much."""
        chosen = not self._enabled or _jax.FAULT or _jax.disable_jit.value
        name, jitted = cached._variants.name, cached.jit_under_tracing(args, kwargs)
        called = None if chosen else what_is_called(name, args, kwargs, _jax.is_top_level())
        if called is None:
            return jitted(*args, **kwargs)
        ledger, programs = weakref.ref(self._state), weakref.ref(cached._programs)  # the count outlives the call

        def count(called: str, seconds: float) -> None:
            if (known := ledger()) is not None and (function := programs()) is not None:
                known.count_bypassed_program(function.variants, called, seconds)

        result = call_past(jitted, args, kwargs, called, count)
        self._warn_of_bypasses(cached)
        return result

    def _describe_bypasses(self, cached: Dispatcher) -> str:
        counts = cached._variants.counts
        with self._state.lock:
            return describe_bypasses(cached._variants.name, counts.bypassed_programs, counts.bypassed_seconds)

    def _warn_of_bypasses(self, cached: Dispatcher) -> None:
        """Warn, once for a function, of many programs that are held past the cache."""
        counts = cached._variants.counts
        with self._state.lock:
            few = sum(counts.bypassed_programs.values()) < MANY_PROGRAMS and counts.bypassed_seconds < LONG_SECONDS
            if few or counts.warned_of_bypasses:
                return
            counts.warned_of_bypasses = True
        warn(f"jaxcache: {self._describe_bypasses(cached)}", MissStormWarning)

    def _compile(
        self, cached: Dispatcher, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], requested: bool
    ) -> Entry | None:
        """Compile, unless another thread has begun to; None then."""
        flight, within = PendingCompile(), self._compiling.here()
        end_of_bypasses()
        with self._compiling.lock, flight.busy:
            try:
                if not self._begin(cached, key, flight):
                    return None
                description = cached._describe(key, args, kwargs)
                self._check_max_compiles(cached, key, description, flight, within)
                program = cached.program(key, args, kwargs)
                with caused_by(functools.partial(self._cause, cached, key, description)):
                    executable = program.compile()
                self._keep(cached, key, description, executable, flight, requested=requested)
            finally:  # also after an error or an interrupt: whoever waits tries for itself
                self._finish(cached, key, flight)
        self._warn_of_misses(flight)
        return flight.entry

    def _begin(self, cached: Dispatcher, key: Key, flight: PendingCompile) -> bool:
        """Begin to compile, holding ``flight.busy``; say whether this flight is the one that does."""
        flights = cached._variants.flights
        with self._state.lock:
            ended = [each for each, other in flights.items() if not other.under_way()]  # and were interrupted then
            gone = [flights.pop(each) for each in ended]
            flight.number = next(self._flight_numbers)
            first = key not in cached._programs.entries and flights.setdefault(key, flight) is flight
        del gone  # what they brought is freed without the lock
        return first

    def _finish(self, cached: Dispatcher, key: Key, flight: PendingCompile) -> None:
        """End a flight, whether it brought an entry or not."""
        flights = cached._variants.flights
        with self._state.lock:
            if flights.get(key) is flight:
                del flights[key]

    def _check_max_compiles(
        self, cached: Dispatcher, key: Key, description: Description, flight: PendingCompile, within: bool
    ) -> None:
        """Refuse a flight that would make more programs than allowed.

        Those that took off before it count when they have made theirs, so it waits for them: they may fail. They wait
        for earlier ones alone. A compile within another one waits for nobody, and counts them as made.
        """
        function = cached._variants
        for whose, limit, counted in (
            ("this cache", self._max_compiles, self._state.made_and_under_way),
            (function.name, cached._max_compiles, functools.partial(self._state.made_and_under_way, only=function)),
        ):
            while limit is not None:
                made, earlier = counted(flight)
                if made + len(earlier) < limit:
                    break
                if made < limit and not within:
                    earlier[0].wait()
                    continue
                with self._state.lock:
                    miss = self._state.diagnose(function, key, description, cached._key is not None)
                raise CompileLimitExceeded(
                    f"max_compiles={limit} allows {whose} no more programs, and {miss}; "
                    "raise max_compiles, or keep the call from changing"
                )

    def _cause(self, cached: Dispatcher, key: Key, description: Description) -> Cause:
        """Say why a program is about to be compiled, to whoever observes that."""
        with self._state.lock:
            return cached._variants.cause(self._state.diagnose(cached._variants, key, description, bool(cached._key)))

    def _keep(
        self,
        cached: Dispatcher,
        key: Key,
        description: Description,
        executable: Executable,
        flight: PendingCompile,
        *,
        requested: bool,
    ) -> None:
        own_key = cached._key is not None
        flight.entry, flight.miss = self._state.keep(
            cached._programs, key, description, executable, own_key=own_key, requested=requested
        )

    def _own_function(
        self, fun: Callable[..., Any], args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> tuple[Dispatcher, tuple[Any, ...], dict[str, Any]]:
        """Return the cached function behind ``fun``, and what a call calls it with, such as the ``self`` of a method.

        Without arguments there is no call.
        """
        given, named = args or (), dict(kwargs or {})
        bound: Any = fun
        if isinstance(bound, types.MethodType) and isinstance(bound.__func__, CachedFunction | FrontFunction):
            bound, given = bound.__func__, (bound.__self__, *given)
        while isinstance(bound, FrontFunction) and bound._jaxcache._cache is self:
            if args is not None:
                given, named = bound._cached_call(given, named)
            bound = bound._cached
        if not isinstance(bound, CachedFunction) or bound._jaxcache._cache is not self:
            raise TypeError(f"fun must be a function from jit of this cache, such as f = cache.jit(g), but is {fun!r}")
        return bound._jaxcache, given, named

    def _warn_of_misses(self, flight: PendingCompile) -> None:
        """Warn of what a flight has shown, each once: a limit that is too small, a storm, a policy that failed."""
        entry, limit = flight.entry, self.limit_bytes
        if entry is None:
            return
        held, function = entry.held, entry.held.function
        if limit is not None and held.cost.size_bytes > limit:
            self._warn(
                "larger",
                f"{held.description.text} weighs {format_size(held.cost.size_bytes)}, more than the limit of "
                f"{format_size(limit)}: it runs, but is compiled again at each call; raise the limit",
            )
        if self._state.residents.fault:
            self._warn("policy", self._state.residents.fault)
        self._warn_of_recording()
        if flight.miss is not None:
            with self._state.lock:
                source = function.origin.key if function.origin else None
                seconds = held.cost.seconds
                storm = self._storms.note(function.name, function.place, flight.miss, source, seconds)
            if storm:
                warn(f"jaxcache: {storm}", MissStormWarning)

    def _warn_of_recording(self) -> None:
        if self._recorder is not None and self._recorder.fault:
            self._warn("record", self._recorder.fault)

    def _warn(self, kind: str, message: str, category: type[Warning] = RuntimeWarning) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warn(f"jaxcache: {message}", category)


def check_max_compiles(value: int | None) -> int | None:
    """Return ``value`` if it may bound the number of programs."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"max_compiles must be a whole number, 0 or more, or None, but is {value!r}")
    return value


def _policy_maker(eviction: object, seed: int) -> Callable[[], Policy]:
    """Return what makes the policy that is named, or returns the caller's own, if it has the methods of one."""
    if isinstance(eviction, str):
        options = {"seed": seed} if "seed" in options_of(eviction) else {}
        return lambda: make_policy(eviction, **options)
    methods = ("add", "hit", "victim", "remove", "admit")
    if isinstance(eviction, type) or not all(callable(getattr(eviction, name, None)) for name in methods):
        raise TypeError(
            "eviction must be a name such as 'lru', or an object with the methods add, hit, victim, remove and admit "
            f"of jaxcache.Policy, but is {eviction!r}"
        )
    own: Any = eviction
    return lambda: own
