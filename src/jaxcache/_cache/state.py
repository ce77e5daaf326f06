"""Who is held, of which function, and what was counted; nothing here compiles or knows the caller's functions."""

import threading
import time
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from .._calls.description import Description
from .._calls.identity import Identifier
from .._calls.misses import MISS_CAUSES, REPEAT_CAUSES, Miss
from .._calls.signature import Key
from .._jax.fast_dispatch import is_pinned
from .._policies.bounded_set import BoundedSet, Weight
from .._replay.costs import Cost, CostTable, name_of_signature
from .entries import (
    HISTORY,
    Entry,
    EntryRecord,
    FunctionEntries,
    FunctionRecord,
    FunctionRegistry,
    GhostEntry,
    PendingCompile,
    explain_new,
    explain_repeat,
)
from .executable import Executable
from .recorder import HELD, Recorder, RequestLog
from .sources import SourceRegistry, origin_of, weakly
from .stats import CacheStats, CountsByName

_RECENT_MISSES = 64


class CacheState:
    """The books of one cache.

    Attributes:
        lock: Guards all of it. Nobody compiles or frees executables while holding it.
        log: Hits, noted without the lock, and told to the policy in their order before it decides anything.
        residents: The limits and the policy.
        identifier: Tells signatures apart.
    """

    def __init__(self, residents: BoundedSet, known: CostTable, recorder: Recorder | None = None) -> None:
        """Open empty books; signatures in ``known`` weigh and cost what it says; a recorder is told of requests."""
        self.lock = threading.RLock()  # a finaliser or a signal handler may call while this thread holds it
        self.log: deque[Any] = deque() if recorder is None else RequestLog(recorder.here)
        self._recorder = recorder
        self.residents = residents
        self._known = known
        self._dirty = False  # who is held is being changed, or was when an interrupt came
        self._held: dict[int, EntryRecord] = {}  # by slot
        self._functions: dict[int, FunctionRecord] = {}
        self._families = FunctionRegistry()
        self.identifier = Identifier()
        self._sources = SourceRegistry()
        self._counts = CountsByName()
        self._started = time.monotonic()
        self._retired_costs: OrderedDict[str, Cost] = OrderedDict()
        self._dead: deque[int] = deque()  # functions collected by Python, to be forgotten when the lock is free
        self._numbers = 0
        self._slots = 0
        self._requests = 0
        self._recent_misses: deque[Miss] = deque(maxlen=_RECENT_MISSES)
        self._compiled = 0
        self._disk_hits = 0
        self._rejected = 0
        self._bypassed = 0
        self._own_elements = 0
        self._padded_elements = 0
        self._cost_seconds = 0.0
        self._repeated_cost_seconds = 0.0

    def __len__(self) -> int:
        return len(self._held)

    def stats(self) -> CacheStats:
        """Return one consistent snapshot."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone = self._flush_and_reap()
            held = list(self._held.values())  # at once: a signal handler may change it
            by_function = self._counts.snapshot(
                (one.function.counts, one.cost.size_bytes, one.hits, one.cost.seconds) for one in held
            )
            each = by_function.values()
            causes: Counter[str] = Counter()
            for function in each:
                causes.update(function.misses_by_cause)
            stats = CacheStats(
                hits=sum(one.hits for one in each),
                misses=sum(one.misses for one in each),
                misses_by_cause={cause: causes[cause] for cause in MISS_CAUSES if cause in causes},
                recent_misses=tuple(self._recent_misses),
                warmed=sum(one.warmed for one in each),
                disk_hits=self._disk_hits,
                compiled=self._compiled,
                evictions=sum(one.evictions for one in each),
                rejected=self._rejected,
                bypassed=self._bypassed,
                own_elements=self._own_elements,
                padded_elements=self._padded_elements,
                functions=len(by_function),
                variants=len(self._held),
                live_bytes=self.residents.live_bytes,
                live_mappings=self.residents.live_mappings,
                peak_bytes=self.residents.peak_bytes,
                limit_bytes=self.residents.limit_bytes,
                compile_seconds=sum(one.compile_seconds for one in each),
                cost_seconds=self._cost_seconds,
                repeated_cost_seconds=self._repeated_cost_seconds,
                compile_seconds_avoided=sum(one.compile_seconds_avoided for one in each),
                by_function=by_function,
                run_seconds=time.monotonic() - self._started,
            )
        del gone  # executables, and what their functions captured, are freed without the lock
        return stats

    def costs(self) -> CostTable:
        """Return what each signature weighs and costs."""
        with self.lock:
            rows = dict(self._retired_costs)
            for function in self._functions.values():
                rows.update(function.costs())
            return CostTable(rows)

    def look_up(
        self, programs: FunctionEntries, key: Key, description: Description, own_key: bool
    ) -> tuple[int | None, Miss | None]:
        """Return how many hits an entry has had, or why there is none."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone = self._flush_and_reap()
            entry = programs.entries.get(key)
            hits = None if entry is None else entry.held.hits
            miss = self.diagnose(programs.variants, key, description, own_key) if entry is None else None
        del gone
        return hits, miss

    def clear(self, variants: FunctionRecord | None) -> None:
        """Free all entries, or those of one function."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone: list[object] = [self._flush_and_reap()]
            for held in list(self._held.values()):
                if variants is None or held.function is variants:
                    gone.append(self._drop(held, "cleared"))
            owners = [one.owner() for one in self._functions.values() if variants is None or one is variants]
            gone += [owner.prepared.clear() for owner in owners if owner is not None]
        del gone  # executables are freed here, without the lock

    def reserve(self, size_bytes: int) -> None:
        """Leave so many bytes of the limit to programs that JAX itself holds."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone: list[object] = [self._flush_and_reap()]
            for slot in self.residents.reserve(size_bytes):
                if (held := self._held.get(slot)) is not None:
                    held.function.counts.evictions += 1
                    gone.append(self._drop(held, "evicted", "programs that JAX itself holds"))
        del gone  # executables are freed here, without the lock

    def drop_unpinned(self) -> None:
        """Drop entries whose executables JAX has just forgotten: those that run from no memory of their own."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone: list[object] = [self._flush_and_reap()]
            for held in list(self._held.values()):
                if (entry := held.entry()) is not None and not is_pinned(entry.call):
                    gone.append(self._drop(held, "cleared"))
        del gone

    def _in_change(self) -> bool:
        """Whether this thread has the lock already: in a finaliser or a signal handler within a change."""
        return self.lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]

    @contextmanager
    def _change(self, inside: bool) -> Iterator[None]:
        """Change who is held, or look at it as a whole, with the lock, within another change or not.

        What interrupts a change, Ctrl-C above all, may leave it half done: the next one begins by putting it right.
        The lock is taken outside, by ``with`` itself, so that it is let go however often the way out is interrupted:
        this generator lives as long as the traceback of such an interrupt.
        """
        if self._dirty and not inside:
            self._repair()
        before, self._dirty = inside and self._dirty, True  # who only has the lock is in no change
        yield
        self._dirty = before

    def _repair(self) -> None:
        """Hold again just what functions have entries for; the policy begins anew."""
        entries = [
            entry
            for function in self._functions.values()
            for programs in filter(None, [function.owner()])
            for entry in programs.entries.values()
        ]
        for entry in entries:
            entry.in_table = True
        self._held = {entry.held.slot: entry.held for entry in entries}
        for function in self._functions.values():
            function.held = {one.slot: one for one in self._held.values() if one.function is function}
        for one in self._held.values():
            one.live = True
        self.residents.reset({one.slot: (one.weight, one.cost.seconds) for one in self._held.values()})

    def programs_of(self, fun: Callable[..., Any], name: str, options: Hashable | None) -> FunctionEntries:
        """Return the programs of a function called ``name``: those of an earlier wrapper with the same options.

        Options that are equal to no others are None.
        """
        with self.lock:
            shared = None if options is None else self._families.find(fun, options)
            if shared is not None:
                return shared
            origin = origin_of(fun)
            counts = self._counts.of(self._sources.counted_as(origin, name))
            programs = FunctionEntries(FunctionRecord(name, origin, counts, weakly(fun)))
            self._numbers += 1
            programs.variants.number = self._numbers
            self._functions[self._numbers] = programs.variants
            if options is not None:
                self._families.add(fun, options, programs)
            # A finaliser may run anywhere, also while this thread holds the lock, so it only leaves a note.
            weakref.finalize(programs, self._dead.append, self._numbers).atexit = False
        return programs

    def count_bypass(self, function: FunctionRecord) -> None:
        """Count a call that went to ``jax.jit``."""
        with self.lock:
            self._bypassed += 1
            function.counts.bypassed += 1

    def count_bypassed_program(self, function: FunctionRecord, called: str, seconds: float) -> None:
        """Count a program that was compiled for such a call, which was one of ``called``."""
        with self.lock:
            function.counts.count_bypassed(called, seconds)

    def count_padding(self, own_elements: int, padded_elements: int) -> None:
        """Count a call of a bucketed function."""
        with self.lock:
            self._own_elements += own_elements
            self._padded_elements += padded_elements

    def made_and_under_way(
        self, flight: PendingCompile, only: FunctionRecord | None = None
    ) -> tuple[int, list[PendingCompile]]:
        """Return how many programs were made, of all functions or of one, and the flights that took off before."""
        with self.lock:
            functions = [only] if only is not None else list(self._functions.values())
            made = self._compiled + self._disk_hits if only is None else only.made
            earlier = [
                other
                for function in functions
                for other in function.flights.values()
                if other.number < flight.number and other.under_way()
            ]
        return made, earlier

    def flush_hits(self) -> None:
        """Tell the policy of the hits noted so far."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            self._settle()

    def diagnose(self, variants: FunctionRecord, key: Key, description: Description, own_key: bool) -> Miss:
        """Say why a call finds no entry. With the lock."""
        past = variants.past.get(description.identity)
        if past is not None:
            return explain_repeat(past, self._requests + 1, time.monotonic())
        return explain_new(variants, description, self._sources.recreated(variants, description), own_key)

    def keep(
        self,
        programs: FunctionEntries,
        key: Key,
        description: Description,
        executable: Executable,
        *,
        own_key: bool,
        requested: bool,
    ) -> tuple[Entry, Miss | None]:
        """Count a program that was made, and hold it if the limits and the policy allow.

        Args:
            programs: Of the function.
            key: Of the call.
            description: Of the call.
            executable: What was made.
            own_key: Whether ``key`` is the caller's.
            requested: Whether for a call that missed, and not ahead of one.

        Returns:
            Its entry, held or not, and why the call missed.
        """
        variants = programs.variants
        inside = self._in_change()
        with self.lock, self._change(inside):
            gone: list[object] = [self._flush_and_reap()]
            miss = self.diagnose(variants, key, description, own_key) if requested else None
            past = variants.past.get(description.identity)
            if past is None:
                self._slots += 1
                held = EntryRecord(variants, self._slots, description, self._cost_of(variants, description, executable))
            else:
                held = EntryRecord(variants, past.slot, description, past.cost)
            entry = Entry(held, key, executable.call)
            held.weight = Weight(held.cost.size_bytes, executable.weight.mappings)
            variants.forget_past(description)
            self._count(variants, held.cost, executable, miss)
            self._sources.note_call(variants, description)
            if self._recorder is not None:
                self._recorder.note_made(held, executable, requested)
            evicted = self.residents.try_insert(held.slot, held.weight, held.cost.seconds)
            if evicted is None:
                self._rejected += 1
                variants.remember(self._past(held, "not_kept"))
            else:
                gone += [self._evict(slot, description) for slot in evicted]
                held.live = True
                variants.held[held.slot] = self._held[held.slot] = held
                programs.keep(entry)
        del gone  # executables are freed here, without the lock
        return entry, miss

    def note_seen(self, programs: FunctionEntries, description: Description) -> None:
        """Remember a signature that was compiled elsewhere, for what is said of later ones; nothing is counted."""
        variants = programs.variants
        with self.lock:
            self._requests += 1
            self._sources.note_call(variants, description)
            record = EntryRecord(variants, 0, description, Cost(0, 0.0))
            variants.remember(self._past(record, "cleared"))

    def _cost_of(self, variants: FunctionRecord, description: Description, executable: Executable) -> Cost:
        cost = self._known.get(name_of_signature(description.text, variants.identity_of(description)))
        if cost is None or cost.size_bytes < executable.constants_bytes:  # of other constants, or of a bare text
            return Cost(executable.weight.size_bytes, executable.cost_seconds)
        return cost

    def _count(self, function: FunctionRecord, cost: Cost, executable: Executable, miss: Miss | None) -> None:
        """Count a program that was made, for a call that missed or ahead of one."""
        function.compile_seconds += executable.seconds
        function.counts.compile_seconds += executable.seconds
        self._disk_hits += executable.from_disk
        self._compiled += not executable.from_disk
        if miss is None:
            function.warmed += 1
            function.counts.warmed += 1
            return
        self._requests += 1
        function.misses += 1
        function.counts.count_miss(miss, executable.seconds)
        self._recent_misses.append(miss)
        self._cost_seconds += cost.seconds
        if miss.cause in REPEAT_CAUSES:
            self._repeated_cost_seconds += cost.seconds

    def _evict(self, slot: int, newcomer: Description) -> Entry | None:
        """Drop what the residents have let go; nothing if it went meanwhile."""
        held = self._held.get(slot)
        if held is None:
            return None
        held.function.counts.evictions += 1
        return self._drop(held, "evicted", newcomer.text)

    def _drop(self, held: EntryRecord, cause: str, made_room_for: str = "") -> Entry | None:
        """Let go of an entry; the caller frees what is returned without the lock."""
        function = held.function
        if cause == "cleared" and self._recorder is not None:
            self._recorder.note_clear(held)
        entry, owner = held.entry(), function.owner()
        if entry is not None and owner is not None:
            owner.drop(entry)
        self.residents.remove(held.slot)
        self._held.pop(held.slot, None)
        function.held.pop(held.slot, None)
        held.live = False
        function.counts.hits += held.hits
        function.counts.avoided_seconds += held.hits * held.cost.seconds
        held.hits = 0
        if entry is not None:  # else it is gone with its function
            function.remember(self._past(held, cause, made_room_for))
        return entry

    def _past(self, held: EntryRecord, cause: str, made_room_for: str = "") -> GhostEntry:
        now = time.monotonic()
        return GhostEntry(held.slot, held.description, held.cost, cause, self._requests, now, made_room_for)

    def _flush_and_reap(self) -> list[object]:
        """Take note of hits, and of functions that Python has collected. With the lock.

        The caller frees what is returned without it.
        """
        self._settle()
        gone: list[object] = []
        while self._dead:
            function = self._functions.pop(self._dead.popleft())
            costs = function.costs()
            gone += [self._drop(held, "cleared") for held in list(function.held.values())]
            self._retired_costs.update(costs)
            while len(self._retired_costs) > HISTORY:
                self._retired_costs.popitem(last=False)
        return gone

    def _settle(self) -> None:
        """Tell the policy of the hits since it was last told, in their order. With the lock."""
        log, hit, recorder = self.log, self.residents.hit, self._recorder
        for _ in range(len(log)):
            try:
                held = log.popleft()
            except IndexError:  # a signal handler that asked for statistics was here meanwhile
                return
            if recorder is not None:  # here, and not in a method: a call for each hit is a tenth of a microsecond
                recorder.part.rows.append(held)
                held = held[HELD]
            self._requests += 1
            if held.live:
                held.hits += 1
                hit(held.slot)
            else:  # evicted between the call and now, or never kept
                held.function.counts.hits += 1
                held.function.counts.avoided_seconds += held.cost.seconds
        if recorder is not None:
            recorder.hand_over_if_full()
