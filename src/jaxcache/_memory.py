"""JitCache: look-up, miss, limit, statistics."""

import functools
import os
import sys
import threading
import time
import types
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, overload

from . import _jax
from ._bytesize import format_size, parse_size
from ._costs import Cost, CostTable
from ._describe import Description
from ._executable import Executable, Program, mappings_limit
from ._function import CachedFunction, name_of
from ._misses import MISS_CAUSES, REPEAT_CAUSES, Explanation, Miss, MissStormWarning, StormWatch
from ._policies import Policy, make_policy, options_of
from ._residents import Residents, Weight
from ._signature import Key
from ._statistics import CacheStats, FunctionStats, add_up
from ._variants import (
    HISTORY,
    Entry,
    Families,
    Flight,
    Held,
    Past,
    Programs,
    Sources,
    Variants,
    explain_new,
    explain_repeat,
    source_of,
)

_RECENT_MISSES = 64
_DECORATOR = object()  # in place of the function: it comes later
_OWN_FILES = str(Path(__file__).parent / "_")


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
    ) -> None:
        """Make an empty cache.

        Args:
            limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit. What an entry weighs is
                modelled, see ``_executable.py``. Memory mappings, which Linux bounds, have a limit of their own: half
                of what ``vm.max_map_count`` allows a process.
            eviction: A name in ``jaxcache.POLICIES``, or an object with the methods of ``jaxcache.Policy``.
            seed: For policies that draw.
            costs: A cost table, or the path of one, from ``cache.costs()`` of an earlier run. Signatures in it weigh
                and cost what it says, so that decisions repeat; others what is measured first.
            max_compiles: For tests and CI: a call that would make more programs than this raises
                :class:`CompileLimitExceeded`, which says why it missed. None for no such limit.

        Raises:
            ValueError: If an argument is out of range; the message says what to write.
            TypeError: If ``eviction`` is neither a name nor a policy.
            OSError: If the cost table cannot be read.
        """
        limit_bytes = None if limit is None else parse_size(limit, "limit")
        self._residents = Residents(_policy_maker(eviction, seed), limit_bytes, mappings_limit())
        self._known = CostTable(costs) if costs is None or isinstance(costs, Mapping) else CostTable.load(costs)
        self._max_compiles = check_max_compiles(max_compiles)
        self._lock = threading.RLock()  # a finaliser or a signal handler may call while this thread holds it
        self._torn = False  # who is held is being changed, or was when an interrupt came
        self._compiling = threading.local()
        # Hits are noted here without the lock, and told to the policy in their order before it decides anything.
        self._log: deque[Held] = deque()
        self._held: dict[int, Held] = {}  # by slot
        self._functions: dict[int, Variants] = {}
        self._families = Families()
        self._sources = Sources()
        self._storms = StormWatch()
        self._retired: dict[str, FunctionStats] = {}
        self._retired_costs: OrderedDict[str, Cost] = OrderedDict()
        self._dead: deque[int] = deque()  # functions collected by Python, to be forgotten when the lock is free
        self._numbers = 0
        self._slots = 0
        self._requests = 0
        self._recent_misses: deque[Miss] = deque(maxlen=_RECENT_MISSES)
        self._programs = 0  # made or in the making
        self._compiled = 0
        self._disk_hits = 0
        self._rejected = 0
        self._bypassed = 0
        self._own_elements = 0
        self._padded_elements = 0
        self._cost_seconds = 0.0
        self._repeated_cost_seconds = 0.0
        self._warned: set[str] = set()
        if _jax.FAULT:
            self._warn("fault", f"{_jax.FAULT}: every call goes to jax.jit, nothing is cached")

    @property
    def limit_bytes(self) -> int | None:
        """The limit; None if there is none."""
        return self._residents.limit_bytes

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
        return CachedFunction(self, fun, key, check_max_compiles(max_compiles), options)

    def stats(self) -> CacheStats:
        """Return what was counted so far, as one consistent snapshot."""
        with self._change():
            gone = self._catch_up()
            parts: dict[str, list[FunctionStats]] = {name: [one] for name, one in self._retired.items()}
            for function in self._functions.values():
                if (counted := function.snapshot()) != FunctionStats():
                    parts.setdefault(function.name, []).append(counted)
            by_function = {name: add_up(each) for name, each in parts.items()}
            total = add_up(by_function.values())
            stats = CacheStats(
                hits=total.hits,
                misses=total.misses,
                misses_by_cause={
                    cause: total.misses_by_cause[cause] for cause in MISS_CAUSES if cause in total.misses_by_cause
                },
                recent_misses=tuple(self._recent_misses),
                warmed=total.warmed,
                disk_hits=self._disk_hits,
                compiled=self._compiled,
                evictions=total.evictions,
                rejected=self._rejected,
                bypassed=self._bypassed,
                own_elements=self._own_elements,
                padded_elements=self._padded_elements,
                functions=len(by_function),
                variants=len(self._held),
                live_bytes=self._residents.live_bytes,
                live_mappings=self._residents.live_mappings,
                peak_bytes=self._residents.peak_bytes,
                limit_bytes=self.limit_bytes,
                compile_seconds=total.compile_seconds,
                cost_seconds=self._cost_seconds,
                repeated_cost_seconds=self._repeated_cost_seconds,
                compile_seconds_avoided=total.compile_seconds_avoided,
                by_function=by_function,
            )
        del gone  # executables, and what their functions captured, are freed without the lock
        return stats

    def costs(self) -> CostTable:
        """Return what each signature weighs and costs, for ``JitCache(costs=…)`` of a later run.

        Of signatures that are not held, the last 4096 of each function are in it, and of functions that are gone.
        """
        with self._lock:
            past = [one for function in self._functions.values() for one in function.past.values()]
            seen = {one.description.text: one.cost for one in [*past, *self._held.values()]}
            return CostTable({**self._retired_costs, **seen})

    def explain(self, fun: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """Say what a call would be, and if a miss, why. Nothing is run, compiled or counted.

        Args:
            fun: A function from ``cache.jit``, or a method made of one.
            *args: The call's arguments; ``jax.ShapeDtypeStruct`` may stand for arrays.
            **kwargs: The call's keyword arguments.

        Raises:
            TypeError: If ``fun`` is not from ``cache.jit`` of this cache.
        """
        cached, args = self._own_function(fun, args)
        key = cached._key_of(args, kwargs)
        if key is None:
            return Explanation(
                cached._variants.name, "bypassed", None, "goes to jax.jit itself: under a transformation, "
                "with jit disabled, or with arguments that no executable can be looked up by",
            )  # fmt: skip
        description = cached._describe(args, kwargs)
        with self._change():
            gone = self._catch_up()
            entry = cached._programs.entries.get(key)
            miss = None if entry else self._diagnose(cached, key, description)
        del gone
        if entry is None:
            assert miss is not None
            return Explanation(description.text, "miss", miss, miss.reason)
        return Explanation(description.text, "hit", None, f"is a hit; {entry.held.hits} before it")

    def clear(self, fun: Callable[..., Any] | None = None) -> None:
        """Free all entries, or those of one function. Counters stay."""
        cached = None if fun is None else self._own_function(fun, ())[0]
        with self._change():
            gone: list[object] = [self._catch_up()]
            for held in list(self._held.values()):
                if cached is None or held.function is cached._variants:
                    gone.append(self._drop(held, "cleared"))
        del gone  # executables are freed here, without the lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __repr__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else format_size(self.limit_bytes)
        return f"<JitCache {len(self._held)} entries, {format_size(self._residents.live_bytes)} of {limit}>"

    # What CachedFunction calls.

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the lock while who is held is changed, or looked at as a whole.

        What interrupts a change, Ctrl-C above all, may leave it half done: the next one begins by putting it right.
        """
        inside = self._lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]  # a finaliser, in a change
        with self._lock:
            if self._torn and not inside:
                self._put_right()
            self._torn = True
            yield
            self._torn = inside

    def _put_right(self) -> None:
        """Hold again just what functions have entries for; the policy begins anew."""
        entries = [
            entry
            for function in self._functions.values()
            for programs in filter(None, [function.owner()])
            for entry in programs.entries.values()
        ]
        self._held = {entry.held.slot: entry.held for entry in entries}
        for function in self._functions.values():
            function.held = {one.slot: one for one in self._held.values() if one.function is function}
        for one in self._held.values():
            one.live = True
        self._residents.begin_anew({one.slot: (one.weight, one.cost.seconds) for one in self._held.values()})

    def _programs_of(self, fun: Callable[..., Any], options: Hashable | None) -> Programs:
        """Return the programs of a function: those of an earlier wrapper with the same options, if there was one.

        Options that are equal to no others are None.
        """
        with self._lock:
            shared = None if options is None else self._families.find(fun, options)
            if shared is not None:
                return shared
            source = source_of(fun)
            place = f" ({Path(source[0]).name}:{source[1].co_firstlineno})" if source else ""
            programs = Programs(Variants(name_of(fun), place, source))
            self._numbers += 1
            self._functions[self._numbers] = programs.variants
            if not self._families.know(fun):
                self._sources.note_function(source)
            if options is not None:
                self._families.add(fun, options, programs)
            # A finaliser may run anywhere, also while this thread holds the lock, so it only leaves a note.
            weakref.finalize(programs, self._dead.append, self._numbers).atexit = False
        return programs

    def _count_bypass(self) -> None:
        with self._lock:
            self._bypassed += 1

    def _count_padding(self, own_elements: int, padded_elements: int) -> None:
        with self._lock:
            self._own_elements += own_elements
            self._padded_elements += padded_elements

    def _settle_hits(self) -> None:
        with self._change():
            self._settle()

    def _miss(self, cached: CachedFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry | None:
        """Return an entry for a call that found none: compiled here, or by another thread meanwhile.

        None if this thread is itself compiling and would have to wait for another, which might wait for it.
        """
        flights = cached._variants.flights
        while True:
            with self._lock:
                entry, flight = cached._programs.entries.get(key), flights.get(key)
            if entry is None and flight is None:
                entry = self._lead(cached, key, args, kwargs)
                if entry is None:  # another thread was faster
                    continue
                return entry
            if entry is None:
                assert flight is not None
                if getattr(self._compiling, "depth", 0):
                    return None
                if flight.thread == threading.get_ident() or flight.done.is_set():  # its end was interrupted
                    self._land(cached, key, flight)
                    continue
                flight.done.wait()
                entry = flight.entry
            if entry is not None:
                self._log.append(entry.held)
                return entry

    def _lead(self, cached: CachedFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry | None:
        """Compile, unless another thread has begun to; None then."""
        flight = Flight()
        self._compiling.depth = getattr(self._compiling, "depth", 0) + 1
        try:
            if not self._take_off(cached, key, flight):
                return None
            self._check_max_compiles(cached, key, args, kwargs)
            executable = Program(cached.__wrapped__, cached._options, args, kwargs).compile()
            self._keep(cached, key, cached._describe(args, kwargs), executable, flight, requested=True)
        finally:  # also after an error or an interrupt: whoever waits tries for itself
            self._compiling.depth -= 1
            self._land(cached, key, flight)
        self._warn_of_misses(flight)
        return flight.entry

    def _take_off(self, cached: CachedFunction, key: Key, flight: Flight) -> bool:
        """Begin to compile; say whether this flight is the one that does."""
        function = cached._variants
        with self._lock:
            if key in cached._programs.entries or function.flights.setdefault(key, flight) is not flight:
                return False
            self._programs += 1
            function.compiling += 1
        return True

    def _land(self, cached: CachedFunction, key: Key, flight: Flight) -> None:
        """End a flight, whether it brought an entry or not."""
        flight.done.set()
        function = cached._variants
        with self._lock:
            if function.flights.get(key) is flight:
                del function.flights[key]
                function.compiling -= 1
                self._programs -= flight.entry is None

    def _check_max_compiles(
        self, cached: CachedFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        function = cached._variants
        for whose, limit, programs in (
            ("this cache", self._max_compiles, self._programs),
            (function.name, cached._max_compiles, function.programs),
        ):
            if limit is not None and programs > limit:
                with self._lock:
                    miss = self._diagnose(cached, key, cached._describe(args, kwargs))
                raise CompileLimitExceeded(
                    f"max_compiles={limit} allows {whose} no more programs, and {miss}; "
                    "raise max_compiles, or keep the call from changing"
                )

    def _diagnose(self, cached: CachedFunction, key: Key, description: Description) -> Miss:
        """Say why a call finds no entry. With the lock."""
        function = cached._variants
        past = function.find_past(key, description)
        if past is not None:
            return explain_repeat(past, self._requests + 1, time.monotonic())
        recreated = self._sources.recreated(function, description)
        return explain_new(function, description, recreated, cached._key is not None)

    def _keep(
        self,
        cached: CachedFunction,
        key: Key,
        description: Description,
        executable: Executable,
        flight: Flight,
        *,
        requested: bool,
    ) -> None:
        """Count a program that was made, and hold it if the limits and the policy allow; the flight has its entry."""
        function = cached._variants
        with self._change():
            gone: list[object] = [self._catch_up()]
            miss = self._diagnose(cached, key, description)
            past = function.find_past(key, description)
            if past is None:
                self._slots += 1
                held = Held(function, self._slots, description, self._cost_of(description, executable))
            else:
                held = Held(function, past.slot, description, past.cost)
            entry = Entry(held, key, executable.call)
            held.weight = Weight(held.cost.size_bytes, executable.weight.mappings)
            function.forget_past(key)
            self._count(function, held.cost, executable, miss if requested else None)
            self._sources.note_call(function, description)
            evicted = self._residents.offer(held.slot, held.weight, held.cost.seconds)
            if evicted is None:
                self._rejected += 1
                function.remember(key, self._past(held, "not_kept"))
            else:
                gone += [self._evict(slot, description) for slot in evicted]
                held.live = True
                function.held[held.slot] = self._held[held.slot] = held
                cached._programs.entries[key] = entry
            flight.entry, flight.miss = entry, miss if requested else None
        del gone  # executables are freed here, without the lock

    def _cost_of(self, description: Description, executable: Executable) -> Cost:
        cost = self._known.get(description.text)
        if cost is None or cost.size_bytes < executable.constants_bytes:  # another function of that name
            return Cost(executable.weight.size_bytes, executable.seconds)
        return cost

    def _count(self, function: Variants, cost: Cost, executable: Executable, miss: Miss | None) -> None:
        """Count a program that was made, for a call that missed or ahead of one."""
        function.compile_seconds += executable.seconds
        self._disk_hits += executable.from_disk
        self._compiled += not executable.from_disk
        if miss is None:
            function.warmed += 1
            return
        self._requests += 1
        function.misses += 1
        function.causes[miss.cause] += 1
        self._recent_misses.append(miss)
        self._cost_seconds += cost.seconds
        if miss.cause in REPEAT_CAUSES:
            self._repeated_cost_seconds += cost.seconds

    def _evict(self, slot: int, newcomer: Description) -> Entry | None:
        """Drop what the residents have let go; nothing if it went meanwhile."""
        held = self._held.get(slot)
        if held is None:
            return None
        held.function.evictions += 1
        return self._drop(held, "evicted", newcomer.text)

    def _drop(self, held: Held, cause: str, made_room_for: str = "") -> Entry | None:
        """Let go of an entry; the caller frees what is returned without the lock."""
        function = held.function
        entry, owner = held.entry(), function.owner()
        if entry is not None and owner is not None:
            owner.let_go(entry)
        self._residents.remove(held.slot)
        self._held.pop(held.slot, None)
        function.held.pop(held.slot, None)
        held.live = False
        function.hits += held.hits
        function.avoided_seconds += held.hits * held.cost.seconds
        held.hits = 0
        if entry is not None:  # else it is gone with its function
            function.remember(entry.key, self._past(held, cause, made_room_for))
        return entry

    def _past(self, held: Held, cause: str, made_room_for: str = "") -> Past:
        return Past(held.slot, held.description, held.cost, cause, self._requests, time.monotonic(), made_room_for)

    def _catch_up(self) -> list[object]:
        """Take note of hits, and of functions that Python has collected. With the lock.

        The caller frees what is returned without it.
        """
        self._settle()
        gone: list[object] = []
        while self._dead:
            function = self._functions.pop(self._dead.popleft())
            costs = {one.description.text: one.cost for one in [*function.past.values(), *function.held.values()]}
            gone += [self._drop(held, "cleared") for held in list(function.held.values())]
            self._retired_costs.update(costs)
            while len(self._retired_costs) > HISTORY:
                self._retired_costs.popitem(last=False)
            if (counted := function.snapshot()) != FunctionStats():
                parts = [counted, *filter(None, [self._retired.get(function.name)])]
                self._retired[function.name] = add_up(parts)
        return gone

    def _settle(self) -> None:
        """Tell the policy of the hits since it was last told, in their order. With the lock."""
        log, hit = self._log, self._residents.hit
        for _ in range(len(log)):
            try:
                held = log.popleft()
            except IndexError:  # a signal handler that asked for statistics was here meanwhile
                return
            self._requests += 1
            if held.live:
                held.hits += 1
                hit(held.slot)
            else:  # evicted between the call and now, or never kept
                held.function.hits += 1
                held.function.avoided_seconds += held.cost.seconds

    def _own_function(self, fun: Callable[..., Any], args: tuple[Any, ...]) -> tuple[CachedFunction, tuple[Any, ...]]:
        """Return the cached function behind ``fun``, and its arguments with the ``self`` of a method."""
        if isinstance(fun, types.MethodType) and isinstance(fun.__func__, CachedFunction):
            fun, args = fun.__func__, (fun.__self__, *args)
        if not isinstance(fun, CachedFunction) or fun._cache is not self:
            raise TypeError(f"fun must be a function from jit of this cache, such as f = cache.jit(g), but is {fun!r}")
        return fun, args

    def _warn_of_misses(self, flight: Flight) -> None:
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
        if self._residents.fault:
            self._warn("policy", self._residents.fault)
        if flight.miss is not None:
            with self._lock:
                storm = self._storms.note(function.name, function.place, flight.miss)
            if storm:
                self._warn(storm, storm, MissStormWarning)

    def _warn(self, kind: str, message: str, category: type[Warning] = RuntimeWarning) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"jaxcache: {message}", category, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """Return the stack level of the user's line, as ``warnings.warn`` called by our caller counts it."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FILES):
        frame, depth = frame.f_back, depth + 1
    return depth


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
