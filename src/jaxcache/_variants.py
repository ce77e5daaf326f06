"""What the cache keeps of each function: the variants held, those that went, and what was counted.

Executables, and keys with the caller's static values in them, are in the ``Programs`` of a function, so that who drops
the function frees them. ``Variants`` are the cache's side: slots, weights, descriptions. They reach the other side
weakly.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from . import _jax
from ._costs import Cost
from ._describe import Description, differences, distance
from ._misses import Miss, listed
from ._residents import Weight
from ._signature import Key
from ._sources import Origin, Recreation
from ._statistics import Counts

HISTORY = 4096  # signatures without an executable that are remembered for each function
HISTORY_LEAVES = 100_000  # arrays in them altogether, which is what their size depends on
_COMPARED = 32  # of those held, and of those that went, when the most similar is looked for


class Held:
    """A resident of the cache, or one that was."""

    __slots__ = ("cost", "description", "entry", "function", "hits", "identity", "live", "slot", "weight")

    def __init__(self, function: "Variants", slot: int, description: Description, cost: Cost) -> None:
        self.function = function
        self.slot = slot  # the number that the policy knows it by, the same after an eviction
        self.description = description
        self.cost = cost
        self.weight = Weight(cost.size_bytes)
        self.identity = 0  # in a recording
        self.live = False
        self.hits = 0
        self.entry: Callable[[], Entry | None] = lambda: None


class Entry:
    """An executable, in the keeping of its :class:`Programs`."""

    __slots__ = ("__weakref__", "call", "follower", "held", "key", "next_guess", "shortcut", "shortcuts_left")

    def __init__(self, held: Held, key: Key, call: Callable[..., Any]) -> None:
        self.held = held
        self.key = key
        self.call = call
        self.shortcut: Callable[..., Any] | None = None
        self.shortcuts_left = 4  # it is made anew for calls of another kind so often, no more
        self.follower: Entry | None = None  # what was called after it the last time
        self.next_guess = NO_GUESS  # the follower with its shortcut, if it was that twice in a row
        held.entry = weakref.ref(self)


Guess = tuple[Callable[..., Any], Entry | None]
NO_GUESS: Guess = (_jax.never, None)


class Programs:
    """The executables of one function, compiled with the same options: what its callers share.

    Attributes:
        variants: The cache's side.
        entries: What is held, by key.
        latest: What served the last call.
        guess: What very likely serves the next, tried before the call is looked up: programs are called in loops, for
            one shape again and again, or for several in turn.
    """

    __slots__ = ("__weakref__", "entries", "guess", "latest", "variants")

    def __init__(self, variants: "Variants") -> None:
        self.variants = variants
        self.entries: dict[Key, Entry] = {}
        self.latest: Entry | None = None
        self.guess = NO_GUESS
        variants.owner = weakref.ref(self)

    def __del__(self) -> None:
        for entry in self.entries.values():  # they refer to each other, and are to go at once
            entry.follower, entry.next_guess = None, NO_GUESS

    def note(self, entry: Entry) -> None:
        """Note what served a call that was looked up, and guess what follows. With the cache's lock."""
        before = self.latest
        self.latest = entry if entry.held.live else None  # what is not held must not be kept by a guess
        self.guess = entry.next_guess
        if before is None or self.latest is None:
            return
        shortcut = entry.shortcut if before.follower is entry else None
        before.next_guess = NO_GUESS if shortcut is None else (shortcut, entry)
        before.follower = entry
        if before is entry:
            self.guess = entry.next_guess

    def let_go(self, entry: Entry) -> None:
        """Drop an entry that was evicted or cleared. With the cache's lock.

        A call of another thread that is under way may still use it, once.
        """
        self.entries.pop(entry.key, None)
        entry.next_guess, entry.follower = NO_GUESS, None
        for other in self.entries.values():
            if other.follower is entry:
                other.next_guess, other.follower = NO_GUESS, None
        if self.latest is entry:
            self.latest = None
        if self.guess[1] is entry:
            self.guess = NO_GUESS


class Families:
    """Finds the programs of a function that was wrapped before, as ``jax.jit`` does, without keeping it alive.

    A function is looked up by what it is, not by what it is equal to.
    """

    def __init__(self) -> None:
        self._families: dict[int, tuple[weakref.ref[Any], dict[Hashable, Programs]]] = {}

    def find(self, fun: Callable[..., Any], options: Hashable) -> Programs | None:
        """Return the programs of ``fun`` under these options, if it was wrapped so before."""
        family = self._families.get(id(fun))
        return family[1].get(options) if family is not None and family[0]() is fun else None

    def add(self, fun: Callable[..., Any], options: Hashable, programs: Programs) -> None:
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


class Flight:
    """A compile under way, which equal misses of other threads wait for."""

    __slots__ = ("done", "entry", "miss", "thread")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.thread = threading.get_ident()
        self.entry: Entry | None = None  # what it brought
        self.miss: Miss | None = None  # why it was needed


@dataclass(slots=True)
class Past:
    """A signature that was seen and is not held: why, at which request, at what time, and for whom it went."""

    slot: int
    description: Description
    cost: Cost
    cause: str
    request: int
    seconds: float
    interned: Key  # held, so that the key's hash stays what it is
    made_room_for: str = ""


@dataclass(slots=True)
class Variants:
    """One cached function's."""

    name: str
    origin: Origin | None
    counts: Counts
    function: Callable[[], Any] = field(default=lambda: None)  # weak
    owner: Callable[[], Programs | None] = field(default=lambda: None)  # weak
    held: dict[int, Held] = field(default_factory=dict)  # by slot
    # By the key's hash and its text: no static value is kept, and hash(-1) == hash(-2).
    past: OrderedDict[tuple[int, str], Past] = field(default_factory=OrderedDict)
    past_leaves: int = 0
    flights: dict[Key, Flight] = field(default_factory=dict)
    misses: int = 0
    warmed: int = 0
    compiling: int = 0
    compile_seconds: float = 0.0
    number: int = 0  # of the function, never given twice

    @property
    def programs(self) -> int:
        """Programs made or in the making."""
        return self.misses + self.warmed + self.compiling

    @property
    def place(self) -> str:
        """Where its source stands, such as `` (solve.py:12)``."""
        return self.origin.place if self.origin else ""

    def find_past(self, key: Key, description: Description) -> Past | None:
        """Return what is remembered of a signature that is not held."""
        return self.past.get((hash(key), description.text))

    def remember(self, key: Key, past: Past) -> None:
        """Remember a signature that is not held; the oldest is forgotten beyond a bound."""
        self.forget_past(key, past.description)
        self.past[hash(key), past.description.text] = past
        self.past_leaves += len(past.description.leaves)
        while len(self.past) > HISTORY or (self.past_leaves > HISTORY_LEAVES and len(self.past) > 1):
            _, gone = self.past.popitem(last=False)
            self.past_leaves -= len(gone.description.leaves)

    def forget_past(self, key: Key, description: Description) -> None:
        """Forget a signature that is held from now on."""
        past = self.past.pop((hash(key), description.text), None)
        if past is not None:
            self.past_leaves -= len(past.description.leaves)

    def most_similar(self, description: Description) -> Description | None:
        """Return the known signature that differs in the fewest ways; the latest among equals."""
        known = [one.description for one in [*self.held.values()][: -_COMPARED - 1 : -1]]
        known += [one.description for one in [*self.past.values()][: -_COMPARED - 1 : -1]]
        return min(known, key=lambda one: distance(one, description), default=None)


def explain_repeat(past: Past, request: int, seconds: float) -> Miss:
    """Say why a signature that was compiled before is not held, at a request and a time."""
    requests = request - past.request
    ago = f"{requests} request{'s'[: requests != 1]} and {seconds - past.seconds:.1f} s ago"
    reason = {
        "evicted": f"evicted {ago} to make room for {past.made_room_for}",
        "not_kept": f"compiled {ago}, but not kept: refused by the policy, or heavier than the limit",
        "cleared": f"cleared by the program {ago}",
    }[past.cause]
    return Miss(past.description.text, past.cause, reason)


def explain_new(variants: Variants, description: Description, recreation: Recreation | None, own_key: bool) -> Miss:
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
