"""JitCache: look-up, miss, limit, statistics."""

import functools
import os
import threading
import warnings
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, overload

from . import _jax
from ._bytesize import format_size, parse_size
from ._costs import Cost, CostTable
from ._executable import Executable, build
from ._function import CachedFunction
from ._policies import make_policy
from ._signature import Key, describe_call
from ._statistics import MISS_CAUSES, REPEAT_CAUSES, CacheStats, FunctionStats

_HISTORY = 4096  # signatures without an executable that are remembered for each function


class _Entry:
    """An executable that is, or was, held."""

    __slots__ = ("call", "cost", "description", "function", "held", "hits", "key", "slot")

    def __init__(self, function: "_Function", key: Key, slot: int, description: str, cost: Cost, call: Any) -> None:
        self.function = function
        self.key = key
        self.slot = slot  # the number that the policy knows it by, the same after an eviction
        self.description = description
        self.cost = cost
        self.call = call
        self.held = False
        self.hits = 0


@dataclass(slots=True)
class _Past:
    """A signature that was seen and is not held."""

    slot: int
    description: str
    cost: Cost
    cause: str


class _Flight:
    """A compile under way, which equal misses of other threads wait for."""

    __slots__ = ("done", "entry")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.entry: _Entry | None = None


@dataclass(slots=True)
class _Function:
    """What the cache keeps for one cached function. ``hits`` and the like are those of entries that are gone."""

    name: str
    entries: dict[Key, _Entry] = field(default_factory=dict)
    past: OrderedDict[int, _Past] = field(default_factory=OrderedDict)  # by hash, so that no static value is kept
    flights: dict[Key, _Flight] = field(default_factory=dict)
    latest: _Entry | None = None  # of the last hit: found without hashing the key; None once it is dropped
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    compile_seconds: float = 0.0
    avoided_seconds: float = 0.0

    def snapshot(self) -> FunctionStats:
        held = list(self.entries.values())
        return FunctionStats(
            hits=self.hits + sum(entry.hits for entry in held),
            misses=self.misses,
            evictions=self.evictions,
            live_entries=len(held),
            live_bytes=sum(entry.cost.size_bytes for entry in held),
            compile_seconds=self.compile_seconds,
            compile_seconds_avoided=self.avoided_seconds + sum(entry.hits * entry.cost.seconds for entry in held),
        )


def _add(a: FunctionStats, b: FunctionStats) -> FunctionStats:
    return FunctionStats(**{name: getattr(a, name) + getattr(b, name) for name in FunctionStats.__dataclass_fields__})


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
        eviction: str = "lru",
        *,
        seed: int = 0,
        costs: Mapping[str, Cost] | str | os.PathLike[str] | None = None,
    ) -> None:
        """Make an empty cache.

        Args:
            limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit. What an entry weighs is
                modelled, see ``_executable.py``.
            eviction: ``none``, ``lru``, ``random``, ``size_based`` or ``gdsf``.
            seed: For policies that draw.
            costs: A cost table, or the path of one, from ``cache.costs()`` of an earlier run. Signatures in it weigh
                and cost what it says, so that decisions repeat; others what is measured first.

        Raises:
            ValueError: If an argument is out of range; the message says what to write.
            OSError: If the cost table cannot be read.
        """
        self.limit_bytes: int | None = None if limit is None else parse_size(limit, "limit")
        self._policy = make_policy(eviction, **({"seed": seed} if eviction == "random" else {}))
        self._known: Mapping[str, Cost] = (
            {} if costs is None else costs if isinstance(costs, Mapping) else CostTable.load(costs)
        )
        self._lock = threading.RLock()  # a signal handler may ask for statistics while this thread counts
        self._compiling = threading.local()
        self._entries: dict[int, _Entry] = {}  # by slot: what the policy holds
        self._functions: dict[int, _Function] = {}
        self._retired: dict[str, FunctionStats] = {}
        self._retired_costs: OrderedDict[str, Cost] = OrderedDict()
        self._dead: deque[int] = deque()  # functions collected by Python, to be forgotten when the lock is free
        self._numbers = 0
        self._slots = 0
        self._live_bytes = 0
        self._peak_bytes = 0
        self._causes: Counter[str] = Counter()
        self._disk_hits = 0
        self._rejected = 0
        self._bypassed = 0
        self._cost_seconds = 0.0
        self._repeated_cost_seconds = 0.0
        self._warned: set[str] = set()
        if _jax.FAULT:
            self._warn("fault", f"{_jax.FAULT}: every call goes to jax.jit, nothing is cached")

    @overload
    def jit(self, fun: Callable[..., Any], **options: Any) -> CachedFunction: ...
    @overload
    def jit(self, fun: None = None, **options: Any) -> Callable[[Callable[..., Any]], CachedFunction]: ...
    def jit(
        self, fun: Callable[..., Any] | None = None, *, key: Callable[..., Any] | None = None, **options: Any
    ) -> CachedFunction | Callable[[Callable[..., Any]], CachedFunction]:
        """Return ``fun`` as a function compiled on demand and held by this cache.

        Works as a decorator, as a decorator with arguments, and as a call.

        Args:
            fun: What ``jax.jit`` takes.
            key: Replaces the signature: called with the arguments, it returns something hashable. Calls with equal
                keys share an entry; if they differ in shape, that entry compiles for each and weighs more than it says.
            **options: What ``jax.jit`` takes: ``static_argnums``, ``static_argnames``, ``donate_argnums``, …
        """
        if fun is None:
            return functools.partial(self.jit, key=key, **options)
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function of the arguments, but is {key!r}")
        return CachedFunction(self, fun, key, options)

    def stats(self) -> CacheStats:
        """Return what was counted so far, as one consistent snapshot."""
        with self._lock:
            gone = self._forget_dead()
            by_function = dict(self._retired)
            for function in self._functions.values():
                if (counted := function.snapshot()) != FunctionStats():
                    by_function[function.name] = _add(by_function.get(function.name, FunctionStats()), counted)
            total = functools.reduce(_add, by_function.values(), FunctionStats())
            stats = CacheStats(
                hits=total.hits,
                misses=total.misses,
                misses_by_cause={cause: self._causes[cause] for cause in MISS_CAUSES if self._causes[cause]},
                disk_hits=self._disk_hits,
                compiled=total.misses - self._disk_hits,
                evictions=total.evictions,
                rejected=self._rejected,
                bypassed=self._bypassed,
                functions=len(by_function),
                variants=len(self._entries),
                live_bytes=self._live_bytes,
                peak_bytes=self._peak_bytes,
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
            functions = self._functions.values()
            past = {one.description: one.cost for function in functions for one in function.past.values()}
            held = {entry.description: entry.cost for entry in self._entries.values()}
            return CostTable({**self._retired_costs, **past, **held})

    def clear(self, fun: CachedFunction | None = None) -> None:
        """Free all entries, or those of one function. Counters stay."""
        with self._lock:
            gone = self._forget_dead()
            cleared = [entry for entry in self._entries.values() if fun is None or entry.function is fun._function]
            for entry in cleared:
                self._drop(entry, "cleared")
            gone += cleared
            del cleared
        del gone  # executables are freed here, without the lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __repr__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else format_size(self.limit_bytes)
        return f"<JitCache {len(self._entries)} entries, {format_size(self._live_bytes)} of {limit}>"

    # What CachedFunction calls.

    def _register(self, cached: CachedFunction, name: str) -> _Function:
        function = _Function(name)
        with self._lock:
            self._numbers += 1
            self._functions[self._numbers] = function
            # A finaliser may run anywhere, also while this thread holds the lock, so it only leaves a note.
            weakref.finalize(cached, self._dead.append, self._numbers).atexit = False
        return function

    def _count_bypass(self) -> None:
        with self._lock:
            self._bypassed += 1

    def _count_hit(self, entry: _Entry) -> None:
        with self._lock:
            if entry.held:
                entry.hits += 1
                entry.function.latest = entry
                self._policy.hit(entry.slot)
            else:  # evicted between look-up and now, or never kept
                entry.function.hits += 1
                entry.function.avoided_seconds += entry.cost.seconds

    def _miss(self, cached: CachedFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry | None:
        """Return an entry for a call that found none: compiled here, or by another thread meanwhile.

        None if this thread is itself compiling and would have to wait for another, which might wait for it.
        """
        function = cached._function
        while True:
            with self._lock:
                entry = function.entries.get(key)
                flight = function.flights.get(key)
                leads = entry is None and flight is None
            if leads:
                entry = self._lead(cached, key, args, kwargs)
                if entry is None:  # another thread was faster
                    continue
                return entry
            if entry is None:
                assert flight is not None
                if getattr(self._compiling, "depth", 0):
                    return None
                flight.done.wait()
                entry = flight.entry
            if entry is not None:
                self._count_hit(entry)
                return entry

    def _lead(self, cached: CachedFunction, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry | None:
        """Compile, unless another thread has begun to; None then."""
        function, flight = cached._function, _Flight()
        self._compiling.depth = getattr(self._compiling, "depth", 0) + 1
        try:
            with self._lock:
                if function.flights.setdefault(key, flight) is not flight or key in function.entries:
                    return None
            executable = build(cached.__wrapped__, cached._options, args, kwargs)
            description = describe_call(function.name, cached._statics, args, kwargs)
            flight.entry = self._keep(function, key, description, executable)
            return flight.entry
        finally:  # also after an error or an interrupt: whoever waits tries for itself
            self._compiling.depth -= 1
            with self._lock:
                if function.flights.get(key) is flight:
                    del function.flights[key]
            flight.done.set()

    def _keep(self, function: _Function, key: Key, description: str, executable: Executable) -> _Entry:
        """Count a miss, and hold its executable if the limit and the policy allow."""
        with self._lock:
            gone = self._forget_dead()
            past = function.past.pop(hash(key), None)
            if past is None or past.description != description:
                self._slots += 1
                cost = self._known.get(description)
                if cost is None or cost.size_bytes < executable.constants_bytes:  # another function of that name
                    cost = Cost(executable.size_bytes, executable.seconds)
                cause = "new_signature" if function.misses else "first_call"
                past = _Past(self._slots, description, cost, cause)
            entry = _Entry(function, key, past.slot, description, past.cost, executable.call)
            function.misses += 1
            function.compile_seconds += executable.seconds
            self._causes[past.cause] += 1
            self._disk_hits += executable.from_disk
            self._cost_seconds += entry.cost.seconds
            if past.cause in REPEAT_CAUSES:
                self._repeated_cost_seconds += entry.cost.seconds
            evicted = self._make_room(entry)
            if evicted is None:
                self._rejected += 1
                self._remember(entry, "not_kept")
            else:
                self._hold(entry)
        del evicted, gone  # executables are freed here, without the lock
        size, limit = entry.cost.size_bytes, self.limit_bytes
        if limit is not None and size > limit:
            self._warn(
                "larger",
                f"{entry.description} weighs {format_size(size)}, more than the limit of {format_size(limit)}: "
                "it runs, but is compiled again at each call; raise the limit",
            )
        return entry

    def _make_room(self, entry: _Entry) -> list[_Entry] | None:
        """Evict until the entry fits; return what went, or None if the entry is not to be kept."""
        limit, size = self.limit_bytes, entry.cost.size_bytes
        if limit is None or self._live_bytes + size <= limit:
            return []
        if size > limit or not self._policy.admit(entry.slot, size, entry.cost.seconds):
            return None
        evicted: list[_Entry] = []
        while self._live_bytes + size > limit:
            victim = self._entries[self._policy.victim()]
            self._drop(victim, "evicted")
            victim.function.evictions += 1
            evicted.append(victim)
        return evicted

    def _hold(self, entry: _Entry) -> None:
        self._policy.add(entry.slot, entry.cost.size_bytes, entry.cost.seconds)
        entry.held = True
        entry.function.entries[entry.key] = entry
        self._entries[entry.slot] = entry
        self._live_bytes += entry.cost.size_bytes
        self._peak_bytes = max(self._peak_bytes, self._live_bytes)

    def _drop(self, entry: _Entry, cause: str) -> None:
        function = entry.function
        self._policy.remove(entry.slot)
        entry.held = False
        del function.entries[entry.key], self._entries[entry.slot]
        if function.latest is entry:
            function.latest = None
        self._live_bytes -= entry.cost.size_bytes
        function.hits += entry.hits
        function.avoided_seconds += entry.hits * entry.cost.seconds
        entry.hits = 0
        self._remember(entry, cause)

    def _remember(self, entry: _Entry, cause: str) -> None:
        past = entry.function.past
        past[hash(entry.key)] = _Past(entry.slot, entry.description, entry.cost, cause)
        if len(past) > _HISTORY:
            past.popitem(last=False)

    def _forget_dead(self) -> list[_Entry]:
        """Forget functions that Python has collected; the caller frees what is returned without the lock."""
        gone: list[_Entry] = []
        while self._dead:
            function = self._functions.pop(self._dead.popleft())
            for entry in list(function.entries.values()):
                self._drop(entry, "cleared")
                gone.append(entry)
            self._retired_costs.update((past.description, past.cost) for past in function.past.values())
            while len(self._retired_costs) > _HISTORY:
                self._retired_costs.popitem(last=False)
            if (counted := function.snapshot()) != FunctionStats():
                self._retired[function.name] = _add(self._retired.get(function.name, FunctionStats()), counted)
        return gone

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"jaxcache: {message}", RuntimeWarning, stacklevel=2)
