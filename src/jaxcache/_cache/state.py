"""CacheState: entries, functions and counts of one cache. Nothing here compiles or refers to the caller's functions."""

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
from .recorder import Recorder, RequestLog
from .sources import SourceRegistry, origin_of, weakly
from .stats import CacheStats, CountsByName

_RECENT_MISSES = 64


class CacheState:
    """Thread-safe state of a ``JitCache``.

    Attributes:
        lock: Guards all of it. Nobody compiles or frees executables while holding it.
        log: Hits, appended without the lock, and passed to the policy in their order before it decides anything.
        residents: The limits and the policy.
        identifier: Gives signatures their identities.
    """

    def __init__(self, residents: BoundedSet, cost_table: CostTable, recorder: Recorder | None = None) -> None:
        """Begin empty.

        Args:
            residents: The limits and the policy.
            cost_table: Weights and costs of signatures; others weigh and cost what is measured.
            recorder: Writes down all requests, if given.
        """
        self.lock = threading.RLock()  # a finaliser or a signal handler may call while this thread holds it
        self.log: deque[Any] = deque() if recorder is None else RequestLog(recorder.here)
        self._recorder = recorder
        self.residents = residents
        self._cost_table = cost_table
        self._dirty = False  # the set of entries is being changed, or was when an interrupt came
        self._held: dict[int, EntryRecord] = {}  # by slot
        self._functions: dict[int, FunctionRecord] = {}
        self._registry: FunctionRegistry[FunctionEntries] = FunctionRegistry()
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
            dropped = self._flush_and_reap()
            records = list(self._held.values())  # at once: a signal handler may change it
            by_function = self._counts.snapshot(
                (record.function.counts, record.cost.size_bytes, record.hits, record.cost.seconds) for record in records
            )
            each = by_function.values()
            causes: Counter[str] = Counter()
            for function in each:
                causes.update(function.misses_by_cause)
            stats = CacheStats(
                hits=sum(function.hits for function in each),
                misses=sum(function.misses for function in each),
                misses_by_cause={cause: causes[cause] for cause in MISS_CAUSES if cause in causes},
                recent_misses=tuple(self._recent_misses),
                warmed=sum(function.warmed for function in each),
                disk_hits=self._disk_hits,
                compiled=self._compiled,
                evictions=sum(function.evictions for function in each),
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
                compile_seconds=sum(function.compile_seconds for function in each),
                cost_seconds=self._cost_seconds,
                repeated_cost_seconds=self._repeated_cost_seconds,
                compile_seconds_avoided=sum(function.compile_seconds_avoided for function in each),
                by_function=by_function,
                run_seconds=time.monotonic() - self._started,
            )
        del dropped  # executables, and values their functions captured, are freed without the lock
        return stats

    def costs(self) -> CostTable:
        """Return the weight and the cost of each signature."""
        with self.lock:
            rows = dict(self._retired_costs)
            for function in self._functions.values():
                rows.update(function.costs())
            return CostTable(rows)

    def look_up(
        self, entries: FunctionEntries, key: Key, description: Description, own_key: bool
    ) -> tuple[int | None, Miss | None]:
        """Return how many hits an entry has had, or why there is none."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            dropped = self._flush_and_reap()
            entry = entries.by_key.get(key)
            hits = None if entry is None else entry.record.hits
            miss = self.diagnose(entries.function, description, own_key) if entry is None else None
        del dropped
        return hits, miss

    def clear(self, only: FunctionRecord | None) -> None:
        """Free all entries, or those of one function."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            dropped: list[object] = [self._flush_and_reap()]
            for record in list(self._held.values()):
                if only is None or record.function is only:
                    dropped.append(self._drop(record, "cleared"))
            functions = [function for function in self._functions.values() if only is None or function is only]
            owners = [function.owner() for function in functions]
        dropped += [owner.prepared.clear() for owner in owners if owner is not None]  # whose lock another may have
        del dropped  # executables are freed here, without the lock

    def reserve(self, size_bytes: int) -> None:
        """Leave so many bytes of the limit to programs that JAX itself holds."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            dropped: list[object] = [self._flush_and_reap()]
            for slot in self.residents.reserve(size_bytes):
                if (record := self._held.get(slot)) is not None:
                    record.function.counts.evictions += 1
                    dropped.append(self._drop(record, "evicted", "programs that JAX itself holds"))
        del dropped  # executables are freed here, without the lock

    def drop_unpinned(self) -> None:
        """Drop entries whose executables JAX has just forgotten: those that run from no memory of their own."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            dropped: list[object] = [self._flush_and_reap()]
            for record in list(self._held.values()):
                if (entry := record.entry()) is not None and not is_pinned(entry.call):
                    dropped.append(self._drop(record, "cleared"))
        del dropped  # executables are freed here, without the lock

    def is_held_here(self) -> bool:
        """Return whether this thread has a lock that a compile needs: a signal handler has interrupted it then."""
        return self._in_change() or self.identifier.is_held_here()

    def _in_change(self) -> bool:
        """Return whether this thread has the lock already: in a finaliser or a signal handler within a change."""
        return self.lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]

    @contextmanager
    def _change(self, inside: bool) -> Iterator[None]:
        """Change the set of entries, or read it as a whole, with the lock, within another change or not.

        An interrupt, Ctrl-C above all, may leave a change half done: the next change first repairs the state. The
        lock is acquired outside, by ``with`` itself, so that it is released however often the way out is interrupted:
        this generator lives as long as the traceback of such an interrupt.
        """
        if self._dirty and not inside:
            self._repair()
        before, self._dirty = inside and self._dirty, True  # a thread may have the lock without a change
        yield
        self._dirty = before

    def _repair(self) -> None:
        """Make the records equal to the entries that functions have; the policy begins anew."""
        entries = [
            entry
            for function in self._functions.values()
            for owner in filter(None, [function.owner()])
            for entry in owner.by_key.values()
        ]
        for entry in entries:
            entry.in_table = True
        records = [entry.record for entry in entries]
        self._held = {record.slot: record for record in records}
        for function in self._functions.values():
            function.held = {slot: record for slot, record in self._held.items() if record.function is function}
        for record in self._held.values():
            record.live = True
        self.residents.reset({slot: (record.weight, record.cost.seconds) for slot, record in self._held.items()})

    def entries_of(self, fun: Callable[..., Any], name: str, options: Hashable | None) -> FunctionEntries:
        """Return the entries of a function called ``name``, shared with an earlier wrapper with the same options.

        ``options`` is None if they are equal to no others.
        """
        with self.lock:
            shared = None if options is None else self._registry.find(fun, options)
            if shared is not None:
                return shared
            origin = origin_of(fun)
            counts = self._counts.of(self._sources.counted_as(origin, name))
            entries = FunctionEntries(FunctionRecord(name, origin, counts, weakly(fun)))
            self._numbers += 1
            entries.function.number = self._numbers
            self._functions[self._numbers] = entries.function
            if options is not None:
                self._registry.add(fun, options, entries)
            # A finaliser may run anywhere, also while this thread holds the lock, so it only appends to a queue.
            weakref.finalize(entries, self._dead.append, self._numbers).atexit = False
        return entries

    def count_bypass(self, function: FunctionRecord) -> None:
        """Count a call that went to ``jax.jit``."""
        with self.lock:
            self._bypassed += 1
            function.counts.bypassed += 1

    def count_bypassed_program(self, function: FunctionRecord, called: str, seconds: float) -> None:
        """Count a program that was compiled for such a call, written ``called``."""
        with self.lock:
            function.counts.count_bypassed(called, seconds)

    def count_padding(self, own_elements: int, padded_elements: int) -> None:
        """Count a call of a bucketed function."""
        with self.lock:
            self._own_elements += own_elements
            self._padded_elements += padded_elements

    def compiled_and_under_way(
        self, pending: PendingCompile, only: FunctionRecord | None = None
    ) -> tuple[int, list[PendingCompile]]:
        """Return how many programs were compiled, of all functions or of one, and the compiles that began before."""
        with self.lock:
            functions = [only] if only is not None else list(self._functions.values())
            compiled = self._compiled + self._disk_hits if only is None else only.compiled
            earlier = [
                other
                for function in functions
                for other in function.pending.values()
                if other.number < pending.number and other.under_way()
            ]
        return compiled, earlier

    def flush_hits(self) -> None:
        """Pass the hits in the log to the policy."""
        inside = self._in_change()
        with self.lock, self._change(inside):
            self._flush()

    def diagnose(self, function: FunctionRecord, description: Description, own_key: bool) -> Miss:
        """Say why a call finds no entry. With the lock."""
        ghost = function.ghosts.get(description.identity)
        if ghost is not None:
            return explain_repeat(ghost, self._requests + 1, time.monotonic())
        return explain_new(function, description, self._sources.recreated(function), own_key)

    def keep(
        self,
        entries: FunctionEntries,
        key: Key,
        description: Description,
        executable: Executable,
        *,
        own_key: bool,
        requested: bool,
    ) -> tuple[Entry, Miss | None]:
        """Count a program that was compiled, and hold it if the limits and the policy allow.

        Args:
            entries: Of the function.
            key: Of the call.
            description: Of the call.
            executable: The program.
            own_key: Whether ``key`` is the caller's.
            requested: Whether a call missed; False if the program was compiled ahead.

        Returns:
            Its entry, held or not, and why the call missed.
        """
        function = entries.function
        inside = self._in_change()
        with self.lock, self._change(inside):
            dropped: list[object] = [self._flush_and_reap()]
            miss = self.diagnose(function, description, own_key) if requested else None
            record = self._record_of(function, description, executable)
            entry = Entry(record, key, executable.call, executable.ask_for)
            function.forget_ghost(description)
            self._count(function, record.cost, executable, miss)
            self._sources.add_function(function)
            self._sources.add_call(function, description)
            if self._recorder is not None:
                self._recorder.add_compile(record, executable, requested)
            evicted = self.residents.try_insert(record.slot, record.weight, record.cost.seconds)
            if evicted is None:
                self._rejected += 1
                function.remember(self._ghost(record, "not_kept"))
            else:
                dropped += [self._evict(slot, description) for slot in evicted]
                record.live = True
                function.held[record.slot] = self._held[record.slot] = record
                entries.keep(entry)
        del dropped  # executables are freed here, without the lock
        return entry, miss

    def _record_of(self, function: FunctionRecord, description: Description, executable: Executable) -> EntryRecord:
        """Return a record with the slot and the cost that the signature had before, or with new ones."""
        ghost = function.ghosts.get(description.identity)
        if ghost is None:
            self._slots += 1
            slot, cost = self._slots, self._cost_of(function, description, executable)
        else:
            slot, cost = ghost.slot, ghost.cost
        record = EntryRecord(function, slot, description, cost)
        record.weight = Weight(cost.size_bytes, executable.weight.mappings)
        return record

    def _cost_of(self, function: FunctionRecord, description: Description, executable: Executable) -> Cost:
        cost = self._cost_table.get(name_of_signature(description.text, function.identity_of(description)))
        if cost is None or cost.size_bytes < executable.constants_bytes:  # of other constants, or of a bare text
            return Cost(executable.weight.size_bytes, executable.cost_seconds)
        return cost

    def _count(self, function: FunctionRecord, cost: Cost, executable: Executable, miss: Miss | None) -> None:
        """Count a program that was compiled, for a call that missed or ahead of a call."""
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
        """Drop an entry that the policy has evicted; None if it was dropped meanwhile."""
        record = self._held.get(slot)
        if record is None:
            return None
        record.function.counts.evictions += 1
        return self._drop(record, "evicted", newcomer.text)

    def _drop(self, record: EntryRecord, cause: str, made_room_for: str = "") -> Entry | None:
        """Drop an entry; the caller frees the returned object without the lock."""
        function = record.function
        if cause == "cleared" and self._recorder is not None:
            self._recorder.add_clear(record)
        entry, owner = record.entry(), function.owner()
        if entry is not None and owner is not None:
            owner.drop(entry)
        self.residents.remove(record.slot)
        self._held.pop(record.slot, None)
        function.held.pop(record.slot, None)
        record.live = False
        function.counts.hits += record.hits
        function.counts.avoided_seconds += record.hits * record.cost.seconds
        record.hits = 0
        if entry is not None:  # else it was freed with its function
            function.remember(self._ghost(record, cause, made_room_for))
        return entry

    def _ghost(self, record: EntryRecord, cause: str, made_room_for: str = "") -> GhostEntry:
        now = time.monotonic()
        return GhostEntry(record.slot, record.description, record.cost, cause, self._requests, now, made_room_for)

    def _flush_and_reap(self) -> list[object]:
        """Pass hits to the policy, and drop entries of functions that Python has collected. With the lock.

        The caller frees the returned objects without it.
        """
        self._flush()
        dropped: list[object] = []
        while self._dead:
            function = self._functions.pop(self._dead.popleft())
            costs = function.costs()
            dropped += [self._drop(record, "cleared") for record in list(function.held.values())]
            self._retired_costs.update(costs)
            while len(self._retired_costs) > HISTORY:
                self._retired_costs.popitem(last=False)
        return dropped

    def _flush(self) -> None:
        """Pass the hits in the log to the policy, in their order. With the lock."""
        log, hit, recorder = self.log, self.residents.hit, self._recorder
        for _ in range(len(log)):
            try:
                record = log.popleft()
            except IndexError:  # a signal handler that asked for statistics was here meanwhile
                return
            if recorder is not None:  # here, and not in a method: a call for each hit is a tenth of a microsecond
                recorder.part.rows.append(record)
                record = record.record
            self._requests += 1
            if record.live:
                record.hits += 1
                hit(record.slot)
            else:  # evicted between the call and now, or never kept
                record.function.counts.hits += 1
                record.function.counts.avoided_seconds += record.cost.seconds
        if recorder is not None:
            recorder.hand_over_if_full()
