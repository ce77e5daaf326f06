"""Records of what the cache keeps of each function: entries held, entries that went, and counts.

Executables, and keys with the caller's static values in them, are in the ``FunctionEntries`` of a function, so that
who drops the function frees them. A ``FunctionRecord`` is the cache's side: slots, weights, descriptions. It reaches
the other side weakly.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .._calls.description import Description, differences, distance
from .._calls.identity import combine
from .._calls.misses import Miss, listed
from .._calls.signature import Key
from .._jax.compile_events import Cause
from .._jax.fast_dispatch import NO_TABLE, Table, with_fast_path
from .._policies.bounded_set import Weight
from .._replay.costs import Cost, name_of_signature
from .prepared import Prepared
from .sources import Origin, Recreation
from .stats import Counts

HISTORY = 4096  # signatures without an executable that are remembered for each function
HISTORY_PARTS = 100_000  # arrays, nodes and static values in them altogether, which is what their size depends on
_COMPARED = 32  # of those held, and of those that went, when the most similar is looked for


class EntryRecord:
    """A resident of the cache, or one that was."""

    __slots__ = ("cost", "description", "entry", "function", "hits", "live", "slot", "weight")

    def __init__(self, function: "FunctionRecord", slot: int, description: Description, cost: Cost) -> None:
        self.function = function
        self.slot = slot  # the number that the policy knows it by, the same after an eviction
        self.description = description
        self.cost = cost
        self.weight = Weight(cost.size_bytes)
        self.live = False
        self.hits = 0
        self.entry: Callable[[], Entry | None] = lambda: None

    @property
    def identity(self) -> int:
        """What tells the signature from all others, in cost tables and recordings."""
        return self.function.identity_of(self.description)


class Entry:
    """An executable, in the keeping of its :class:`FunctionEntries`."""

    __slots__ = ("__weakref__", "call", "held", "in_table", "jitted", "key", "retired")

    def __init__(self, held: EntryRecord, key: Key, call: Callable[..., Any]) -> None:
        self.held = held
        self.key = key
        self.jitted = call  # behaves as ``jax.jit`` does, also for tracers
        self.call = with_fast_path(call)  # tells which of JAX's fast paths it took
        self.in_table = False  # whether the function's table may learn of it
        self.retired = NO_TABLE  # the table that it was in, to be freed with it
        held.entry = weakref.ref(self)

    def serve(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it, without the table."""
        return self.call(*args, **kwargs).popitem()[1]


class FunctionEntries:
    """The executables of one function, compiled with the same options: what its callers share.

    Attributes:
        variants: The cache's side.
        entries: What is held, by key.
        table: Tells what serves a call without a look at its key; labels are the entries' ``EntryRecord``.
        prepared: What was traced, and has no entry.
    """

    __slots__ = ("__weakref__", "entries", "prepared", "table", "variants")

    def __init__(self, variants: "FunctionRecord") -> None:
        self.variants = variants
        self.entries: dict[Key, Entry] = {}
        self.table = NO_TABLE
        self.prepared = Prepared()
        variants.owner = weakref.ref(self)

    def serve(
        self, entry: Entry, jitted: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call an entry, and have the table answer such calls from now on. Without the cache's lock.

        ``drop`` takes the entry out before the table, so that none that went is taught to a table in use.
        """
        table = self.table
        if table is NO_TABLE:
            table = self.table = Table(jitted, function)
        if not entry.in_table:
            return entry.serve(args, kwargs)
        return table.serve(entry.held, entry.call, args, kwargs)

    def keep(self, entry: Entry) -> None:
        """Hold an entry. With the cache's lock."""
        entry.in_table = True
        self.entries[entry.key] = entry

    def drop(self, entry: Entry) -> None:
        """Drop an entry that was evicted or cleared. With the cache's lock.

        A call of another thread that is under way may still use it, once. What is freed goes with the entry, whose
        last holder has no lock.
        """
        entry.in_table = False
        entry.retired, self.table = self.table, NO_TABLE
        self.entries.pop(entry.key, None)


class FunctionRegistry:
    """Finds the programs of a function that was wrapped before, as ``jax.jit`` does, without keeping it alive.

    A function is looked up by what it is, not by what it is equal to.
    """

    def __init__(self) -> None:
        self._families: dict[int, tuple[weakref.ref[Any], dict[Hashable, FunctionEntries]]] = {}

    def find(self, fun: Callable[..., Any], options: Hashable) -> FunctionEntries | None:
        """Return the programs of ``fun`` under these options, if it was wrapped so before."""
        family = self._families.get(id(fun))
        return family[1].get(options) if family is not None and family[0]() is fun else None

    def add(self, fun: Callable[..., Any], options: Hashable, programs: FunctionEntries) -> None:
        """Remember the programs of ``fun`` for as long as it lives."""
        identity, me = id(fun), weakref.ref(self)

        def forget(gone: Any) -> None:
            families = me()
            if families is not None and families._families.get(identity, (None,))[0] is gone:
                del families._families[identity]

        family = self._families.get(identity)
        if family is None or family[0]() is not fun:
            try:
                family = (weakref.ref(fun, forget), {})
            except TypeError:  # such as an object with slots, which jax.jit refuses when it is called
                return
            self._families[identity] = family
        family[1][options] = programs


class PendingCompile:
    """A compile under way, which equal misses of other threads wait for.

    Attributes:
        busy: Held by who compiles, in a ``with`` of the lock itself: no interrupt, nor a second one in the clean-up
            of the first, leaves that without letting it go.
        queued: What a pool still has to do for it, once it is handed over.
        number: Its place among all that took off.
        entry: What it brought.
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
        """Whether it may still bring something, and ends by itself."""
        return self.busy.locked() or (self.queued is not None and not self.queued.done())

    def wait(self) -> None:
        """Return when it is no longer under way."""
        with self.busy:
            pass
        if self.queued is not None:
            futures.wait([self.queued])


@dataclass(slots=True)
class GhostEntry:
    """A signature that was seen and is not held: why, at which request, at what time, and for whom it went."""

    slot: int
    description: Description
    cost: Cost
    cause: str
    request: int
    seconds: float
    made_room_for: str = ""


@dataclass(slots=True)
class FunctionRecord:
    """One cached function's."""

    name: str
    origin: Origin | None
    counts: Counts
    function: Callable[[], Any] = field(default=lambda: None)  # weak
    owner: Callable[[], FunctionEntries | None] = field(default=lambda: None)  # weak
    held: dict[int, EntryRecord] = field(default_factory=dict)  # by slot
    past: OrderedDict[bytes, GhostEntry] = field(default_factory=OrderedDict)  # by the call's identity
    past_parts: int = 0
    flights: dict[Key, PendingCompile] = field(default_factory=dict)
    misses: int = 0
    warmed: int = 0
    compile_seconds: float = 0.0
    number: int = 0  # of the function, never given twice
    identity: bytes = b""  # of the function with its options, the same in other processes where it can be

    @property
    def made(self) -> int:
        """Programs made."""
        return self.misses + self.warmed

    @property
    def place(self) -> str:
        """Where its source stands, such as `` (solve.py:12)``."""
        return self.origin.place if self.origin else ""

    def cause(self, miss: Miss) -> Cause:
        """Return why one of its programs is about to be compiled, for whoever observes that."""
        return Cause(self.name, self.place.strip(" ()"), miss.call, miss.cause, miss.reason, miss.way_out)

    def identity_of(self, description: Description) -> int:
        """Return what tells a signature of this function from all others; 64 bits with a sign."""
        return int.from_bytes(combine("signature", [self.identity, description.identity])[:8], "little", signed=True)

    def costs(self) -> dict[str, Cost]:
        """Return what its signatures weigh and cost, held or remembered."""
        return {
            name_of_signature(known.description.text, self.identity_of(known.description)): known.cost
            for known in [*self.past.values(), *self.held.values()]
        }

    def remember(self, past: GhostEntry) -> None:
        """Remember a signature that is not held; the oldest is forgotten beyond a bound."""
        self.forget_past(past.description)
        self.past[past.description.identity] = past
        self.past_parts += past.description.parts
        while len(self.past) > HISTORY or (self.past_parts > HISTORY_PARTS and len(self.past) > 1):
            _, gone = self.past.popitem(last=False)
            self.past_parts -= gone.description.parts

    def forget_past(self, description: Description) -> None:
        """Forget a signature that is held from now on."""
        past = self.past.pop(description.identity, None)
        if past is not None:
            self.past_parts -= past.description.parts

    def most_similar(self, description: Description) -> Description | None:
        """Return the known signature that differs in the fewest ways; the latest among equals."""
        known = [one.description for one in [*self.held.values()][: -_COMPARED - 1 : -1]]
        known += [one.description for one in [*self.past.values()][: -_COMPARED - 1 : -1]]
        return min(known, key=lambda one: distance(one, description), default=None)


def explain_repeat(past: GhostEntry, request: int, seconds: float) -> Miss:
    """Say why a signature that was compiled before is not held, at a request and a time."""
    requests = request - past.request
    ago = f"{requests} request{'s'[: requests != 1]} and {seconds - past.seconds:.1f} s ago"
    alike = past.made_room_for == past.description.text  # but for what the text leaves out, such as static metadata
    newcomer = f"another {past.made_room_for}" if alike else past.made_room_for
    reason = {
        "evicted": f"evicted {ago} to make room for {newcomer}",
        "not_kept": f"compiled {ago}, but not kept: refused by the policy, or heavier than the limit",
        "cleared": f"cleared by the program {ago}",
    }[past.cause]
    return Miss(past.description.text, past.cause, reason)


def explain_new(
    variants: FunctionRecord, description: Description, recreation: Recreation | None, own_key: bool
) -> Miss:
    """Say why a signature that was never compiled is new."""
    similar = variants.most_similar(description)
    if similar is None and recreation is not None:
        before = "called so before" if recreation.called_so else "called with other arguments before"
        reason = f"the function was created again{variants.place}: the same source, {before}"
        if captured := recreation.captured:
            reason += f"; what it captures differs: {listed(captured)}"
        library = variants.origin.library if variants.origin else ""
        return Miss(
            description.text,
            "function_recreated",
            reason,
            captured=captured,
            library=library,
            called_so=recreation.called_so,
        )
    if similar is None:
        return Miss(description.text, "first_call", "first call of the function")
    found = differences(similar, description)
    words = "; ".join(map(str, found[:4])) + (f"; and {len(found) - 4} more differences" if len(found) > 4 else "")
    if own_key:
        return Miss(description.text, "own_key", f"new value of key=; {words}" if words else "new value of key=")
    if not found:
        return Miss(description.text, "other", f"differs from {similar.text} in what cannot be shown", ())
    return Miss(description.text, found[0].kind, words, tuple(found))
