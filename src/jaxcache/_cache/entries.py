"""Records of each function in the cache: entries that are held, ghosts of entries that are not, and counts.

Executables, and keys with the caller's static values in them, are in the ``FunctionEntries`` of a function, so that
dropping the function frees them. A ``FunctionRecord`` is the cache's side: slots, weights, descriptions. It reaches
the other side weakly.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .._calls.description import Description, differences, distance
from .._calls.identity import combine
from .._calls.misses import Miss, listed
from .._calls.signature import Key
from .._jax.compile_events import Cause
from .._jax.fast_dispatch import NO_TABLE, Ask, Table, with_fast_path
from .._policies.bounded_set import Weight
from .._replay.costs import Cost, name_of_signature
from .prepared import Prepared
from .sources import Origin, Recreation
from .stats import Counts

HISTORY = 4096  # signatures without an executable that are remembered for each function
HISTORY_PARTS = 100_000  # arrays, nodes and static values in them altogether, which is what their size depends on
OfFunction = TypeVar("OfFunction")
_COMPARED = 32  # entries, and as many ghosts, when the most similar signature is looked for


class EntryRecord:
    """Record of an entry that is held, or was."""

    __slots__ = ("cost", "description", "entry", "function", "hits", "live", "slot", "weight")

    def __init__(self, function: "FunctionRecord", slot: int, description: Description, cost: Cost) -> None:
        self.function = function
        self.slot = slot  # the policy's number for it, the same again after an eviction
        self.description = description
        self.cost = cost
        self.weight = Weight(cost.size_bytes)
        self.live = False
        self.hits = 0
        self.entry: Callable[[], Entry | None] = lambda: None

    @property
    def identity(self) -> int:
        """Number that no other signature has, in cost tables and recordings."""
        return self.function.identity_of(self.description)


class Entry:
    """An executable, held by its :class:`FunctionEntries`."""

    __slots__ = ("__weakref__", "call", "in_table", "jitted", "key", "record", "retired")

    def __init__(self, record: EntryRecord, key: Key, call: Callable[..., Any], ask_for: Ask | None = None) -> None:
        self.record = record
        self.key = key
        self.jitted = call  # behaves as ``jax.jit`` does, also for tracers
        self.call = with_fast_path(call, ask_for)  # tells which of JAX's fast paths it took
        self.in_table = False  # whether it may be added to the function's table
        self.retired = NO_TABLE  # the table that it was in, to be freed with it
        record.entry = weakref.ref(self)

    def serve(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the executable, without the table."""
        return self.call(*args, **kwargs).popitem()[1]


class FunctionEntries:
    """The executables of one function, compiled with the same options; its wrappers share them.

    Attributes:
        function: The cache's side.
        by_key: The entries that are held.
        table: Dispatch table, which serves a call without its key; labels are the entries' ``EntryRecord``.
        prepared: Signatures that were traced, and have no entry.
    """

    __slots__ = ("__weakref__", "by_key", "function", "prepared", "table")

    def __init__(self, function: "FunctionRecord") -> None:
        self.function = function
        self.by_key: dict[Key, Entry] = {}
        self.table = NO_TABLE
        self.prepared = Prepared()
        function.owner = weakref.ref(self)

    def serve(
        self, entry: Entry, jitted: Any, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call an entry, and have the table serve such calls from now on. Without the cache's lock.

        ``drop`` removes the entry before the table, so that no dropped entry gets into a table in use.
        """
        table = self.table
        if table is NO_TABLE:
            table = self.table = Table(jitted, fun)
        if not entry.in_table:
            return entry.serve(args, kwargs)
        return table.serve(entry.record, entry.call, args, kwargs)

    def keep(self, entry: Entry) -> None:
        """Hold an entry. With the cache's lock."""
        entry.in_table = True
        self.by_key[entry.key] = entry

    def drop(self, entry: Entry) -> None:
        """Drop an entry that was evicted or cleared. With the cache's lock.

        A call of another thread that is under way may still use it, once. The table is freed with the entry, by its
        last holder, which has no lock.
        """
        entry.in_table = False
        entry.retired, self.table = self.table, NO_TABLE
        self.by_key.pop(entry.key, None)


class FunctionRegistry(Generic[OfFunction]):
    """Weak map from functions to their entries, which a function that is wrapped again shares, as in ``jax.jit``.

    A function is looked up by identity, not by equality.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[weakref.ref[Any], dict[Hashable, OfFunction]]] = {}

    def find(self, fun: Callable[..., Any], options: Hashable) -> OfFunction | None:
        """Return the entries of ``fun`` under these options, if it was wrapped so before."""
        row = self._by_id.get(id(fun))
        return row[1].get(options) if row is not None and row[0]() is fun else None

    def add(self, fun: Callable[..., Any], options: Hashable, entries: OfFunction) -> None:
        """Remember the entries of ``fun`` for as long as it lives."""
        identity, weak_self = id(fun), weakref.ref(self)

        def forget(reference: Any) -> None:
            registry = weak_self()
            if registry is not None and registry._by_id.get(identity, (None,))[0] is reference:
                del registry._by_id[identity]

        row = self._by_id.get(identity)
        if row is None or row[0]() is not fun:
            try:
                row = (weakref.ref(fun, forget), {})
            except TypeError:  # such as an object with slots, which jax.jit refuses when it is called
                return
            self._by_id[identity] = row
        row[1][options] = entries


class PendingCompile:
    """A compile under way, for which equal misses of other threads wait.

    Attributes:
        busy: Held by the thread that compiles, in a ``with`` of the lock itself: no interrupt, nor a second one in
            the clean-up of the first, leaves that without a release.
        queued: The rest of the compile, once it is handed to a pool.
        number: Its number in the order in which all compiles of the cache began.
        entry: The entry that it brought.
        miss: Why it was needed.
    """

    __slots__ = ("busy", "entry", "miss", "number", "queued")

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.queued: Future[Any] | None = None
        self.number = 0
        self.entry: Entry | None = None
        self.miss: Miss | None = None

    def under_way(self) -> bool:
        """Return whether the compile may still bring an entry, and ends by itself."""
        return self.busy.locked() or (self.queued is not None and not self.queued.done())

    def wait(self) -> None:
        """Return when the compile is no longer under way."""
        with self.busy:
            pass
        if self.queued is not None:
            futures.wait([self.queued])


@dataclass(slots=True)
class GhostEntry:
    """Record of a signature that has no entry any more: why, since which request and time, and for which newcomer."""

    slot: int
    description: Description
    cost: Cost
    cause: str
    request: int
    seconds: float
    made_room_for: str = ""


@dataclass(slots=True)
class FunctionRecord:
    """The cache's record of one function."""

    name: str
    origin: Origin | None
    counts: Counts
    fun: Callable[[], Any] = field(default=lambda: None)  # weak
    owner: Callable[[], FunctionEntries | None] = field(default=lambda: None)  # weak
    held: dict[int, EntryRecord] = field(default_factory=dict)  # by slot
    ghosts: OrderedDict[bytes, GhostEntry] = field(default_factory=OrderedDict)  # by the call's identity
    ghost_parts: int = 0
    pending: dict[Key, PendingCompile] = field(default_factory=dict)
    misses: int = 0
    warmed: int = 0
    compile_seconds: float = 0.0
    number: int = 0  # of the function, never used twice
    identity: bytes = b""  # of the function with its options, the same in other processes where it can be

    @property
    def compiled(self) -> int:
        """Programs that were compiled or loaded."""
        return self.misses + self.warmed

    @property
    def source_location(self) -> str:
        """File and line of its source, such as `` (solve.py:12)``."""
        return self.origin.source_location if self.origin else ""

    def cause(self, miss: Miss) -> Cause:
        """Return why one of its programs is about to be compiled, for observers of compiles."""
        return Cause(self.name, self.source_location.strip(" ()"), miss.call, miss.cause, miss.reason, miss.way_out)

    def identity_of(self, description: Description) -> int:
        """Return the number that no other signature has; 64 bits with a sign."""
        return int.from_bytes(combine("signature", [self.identity, description.identity])[:8], "little", signed=True)

    def costs(self) -> dict[str, Cost]:
        """Return weights and costs of its signatures, held or remembered."""
        return {
            name_of_signature(record.description.text, self.identity_of(record.description)): record.cost
            for record in [*self.ghosts.values(), *self.held.values()]
        }

    def remember(self, ghost: GhostEntry) -> None:
        """Remember a signature that is not held; beyond a bound the oldest is forgotten."""
        self.forget_ghost(ghost.description)
        self.ghosts[ghost.description.identity] = ghost
        self.ghost_parts += ghost.description.parts
        while len(self.ghosts) > HISTORY or (self.ghost_parts > HISTORY_PARTS and len(self.ghosts) > 1):
            _, oldest = self.ghosts.popitem(last=False)
            self.ghost_parts -= oldest.description.parts

    def forget_ghost(self, description: Description) -> None:
        """Forget the ghost of a signature that is held from now on."""
        ghost = self.ghosts.pop(description.identity, None)
        if ghost is not None:
            self.ghost_parts -= ghost.description.parts

    def most_similar(self, description: Description) -> Description | None:
        """Return the known signature that differs in the fewest ways; the latest among equals."""
        descriptions = [record.description for record in [*self.held.values()][: -_COMPARED - 1 : -1]]
        descriptions += [ghost.description for ghost in [*self.ghosts.values()][: -_COMPARED - 1 : -1]]
        return min(descriptions, key=lambda other: distance(other, description), default=None)


def explain_repeat(ghost: GhostEntry, request: int, seconds: float) -> Miss:
    """Say why a signature that was compiled before is not held, at a request and a time."""
    requests = request - ghost.request
    ago = f"{requests} request{'s'[: requests != 1]} and {seconds - ghost.seconds:.1f} s ago"
    same_text = ghost.made_room_for == ghost.description.text  # which leaves out some, such as static metadata
    newcomer = f"another {ghost.made_room_for}" if same_text else ghost.made_room_for
    reason = {
        "evicted": f"evicted {ago} to make room for {newcomer}",
        "not_kept": f"compiled {ago}, but not kept: refused by the policy, or heavier than the limit",
        "cleared": f"cleared by the program {ago}",
    }[ghost.cause]
    return Miss(ghost.description.text, ghost.cause, reason)


def explain_new(
    function: FunctionRecord, description: Description, recreation: Recreation | None, own_key: bool
) -> Miss:
    """Say why a signature that was never compiled is new."""
    similar = function.most_similar(description)
    if similar is None and recreation is not None:
        called_so = description.identity in recreation.called
        before = "called so before" if called_so else "called with other arguments before"
        reason = f"the function was created again{function.source_location}: the same source, {before}"
        if captured := recreation.captured:
            reason += f"; what it captures differs: {listed(captured)}"
        library = function.origin.library if function.origin else ""
        return Miss(
            description.text,
            "function_recreated",
            reason,
            captured=captured,
            library=library,
            called_so=called_so,
        )
    if similar is None:
        return Miss(description.text, "first_call", "first call of the function")
    changes = differences(similar, description)
    words = "; ".join(map(str, changes[:4])) + (
        f"; and {len(changes) - 4} more differences" if len(changes) > 4 else ""
    )
    if own_key:
        return Miss(description.text, "own_key", f"new value of key=; {words}" if words else "new value of key=")
    if not changes and similar.text != description.text:
        otherwise = "the arguments are given otherwise, by keyword, by position or not at all"
        return Miss(description.text, "tree_structure", f"{otherwise}: was {similar.text}, is {description.text}")
    if not changes:
        return Miss(description.text, "other", f"differs from {similar.text} in what cannot be shown", ())
    return Miss(description.text, changes[0].kind, words, tuple(changes))
