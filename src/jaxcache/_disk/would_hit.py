"""WouldHit: what a call would find in a directory and the tiers below it, without a compile."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from .._jax.fingerprint import Fingerprint
from .files import EntryId, entry_id_of
from .tier import FoundEntry, Tier
from .tier_answers import uncounted

Finder = Callable[[EntryId, str], FoundEntry | None]


@dataclass(frozen=True, kw_only=True)
class WouldHit:
    """Place of a call's program, as :meth:`DiskCache.would_hit` finds it. True if it is anywhere.

    Attributes:
        key: JAX's own key of the program; empty if JAX would not ask for it.
        fingerprint: What the build and machine are made of that entries are for.
        tier: ``directory``, ``layer`` or ``remote``; None if it would be compiled.
        compile_seconds: What compiling it took; 0 if it is nowhere.
        origin: JAX and kind of machine that it was compiled with.
    """

    key: str
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    tier: str | None = None
    compile_seconds: float = 0.0
    origin: str = ""

    def __bool__(self) -> bool:
        return self.tier is not None


def find_tier(key: str, fingerprint: Fingerprint, directory: Finder, tiers: Iterable[Tier]) -> WouldHit:
    """Return which of the directory and its tiers is the first that has the entry of a key."""
    entry_id = entry_id_of(fingerprint.id, key)
    finders = {"directory": directory} | {tier.name: partial(tier.find, count=uncounted) for tier in tiers}
    for tier, find in finders.items() if key else ():
        if (found := find(entry_id, key)) is not None:
            seconds, origin = found.meta.compile_seconds, found.meta.origin
            return WouldHit(key=key, fingerprint=fingerprint.parts, tier=tier, compile_seconds=seconds, origin=origin)
    return WouldHit(key=key, fingerprint=fingerprint.parts)
