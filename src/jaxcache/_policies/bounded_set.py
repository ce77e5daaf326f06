"""Bounded set: who is held under a policy and the limits. Nothing here knows JAX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import Policy
from .lru_fifo_none import Lru


@dataclass(frozen=True, slots=True)
class Weight:
    """Resources that holding something takes.

    Attributes:
        size_bytes: Of memory.
        mappings: Entries in the process's table of memory mappings, which Linux bounds (``vm.max_map_count``).
    """

    size_bytes: int
    mappings: int = 0


class BoundedSet:
    """Applies an eviction policy under a limit in bytes and one in memory mappings.

    It knows slots, weights and costs, not what stands in the slots; whoever does drops what it is told to drop. The
    same requests give the same decisions, so that what is replayed is what ran.

    A policy that raises, or names a victim that is not held, is replaced by ``lru`` for good, and ``fault`` says so.
    """

    def __init__(
        self, new_policy: Callable[[], Policy], limit_bytes: int | None = None, mappings_limit: int | None = None
    ) -> None:
        """Make room for a limit; ``new_policy`` makes a policy that knows nothing yet."""
        self.limit_bytes = limit_bytes
        self.mappings_limit = mappings_limit
        self.live_bytes = 0
        self.live_mappings = 0
        self.peak_bytes = 0
        self.reserved_bytes = 0  # of the limit, for what is held elsewhere
        self.fault: str | None = None
        self._new_policy = new_policy
        self._policy = new_policy()
        self._weights: dict[int, Weight] = {}

    def __len__(self) -> int:
        return len(self._weights)

    def hit(self, slot: int) -> None:
        """Note a request for a resident. O(1)."""
        try:
            self._policy.hit(slot)
        except Exception as error:
            self._replace_policy("hit", error)

    def try_insert(self, slot: int, weight: Weight, cost: float) -> list[int] | None:
        """Take up a slot that is not held, if the limits and the policy allow.

        Returns:
            The slots that went to make room, in order; None if this one is not to be held.
        """
        if self._too_heavy(weight.size_bytes, weight.mappings):
            return None
        if not self._fits(weight) and not self._admit(slot, weight.size_bytes, cost):
            return None
        evicted: list[int] = []
        while not self._fits(weight):
            evicted.append(self._victim())
            self.remove(evicted[-1])
        self._weights[slot] = weight
        self.live_bytes += weight.size_bytes
        self.live_mappings += weight.mappings
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        try:
            self._policy.add(slot, weight.size_bytes, cost)
        except Exception as error:
            self._replace_policy("add", error)
        return evicted

    def reserve(self, size_bytes: int) -> list[int]:
        """Leave so many bytes of the limit to what is held elsewhere; return the slots that went for it, in order."""
        self.reserved_bytes = size_bytes
        evicted: list[int] = []
        while not self._fits(Weight(0)):
            evicted.append(self._victim())
            self.remove(evicted[-1])
        return evicted

    def remove(self, slot: int) -> None:
        """Forget a resident, if it is one."""
        weight = self._weights.pop(slot, None)
        if weight is None:
            return
        self.live_bytes -= weight.size_bytes
        self.live_mappings -= weight.mappings
        try:
            self._policy.remove(slot)
        except Exception as error:
            self._replace_policy("remove", error)

    def reset(self, residents: Mapping[int, tuple[Weight, float]]) -> None:
        """Hold these slots, of given weights and costs, with a policy that knows nothing else of them."""
        self._weights = {slot: weight for slot, (weight, _) in residents.items()}
        self.live_bytes = sum(weight.size_bytes for weight in self._weights.values())
        self.live_mappings = sum(weight.mappings for weight in self._weights.values())
        self._policy = self._new_policy()
        for slot, (weight, cost) in residents.items():
            self._policy.add(slot, weight.size_bytes, cost)

    def _too_heavy(self, size_bytes: int, mappings: int) -> bool:
        too_large = self.limit_bytes is not None and size_bytes > self.limit_bytes
        return too_large or (self.mappings_limit is not None and mappings > self.mappings_limit)

    def _fits(self, weight: Weight) -> bool:
        if not self._weights:  # what is held elsewhere keeps nothing out that has no company
            return True
        size_bytes = self.live_bytes + weight.size_bytes + self.reserved_bytes
        return not self._too_heavy(size_bytes, self.live_mappings + weight.mappings)

    def _admit(self, slot: int, size_bytes: int, cost: float) -> bool:
        try:
            return bool(self._policy.admit(slot, size_bytes, cost))
        except Exception as error:
            self._replace_policy("admit", error)
            return True

    def _victim(self) -> int:
        try:
            victim = self._policy.victim()
            if victim in self._weights:
                return victim
            raise LookupError(f"it named {victim!r}, which is not held")
        except Exception as error:
            self._replace_policy("victim", error)
            return self._policy.victim()

    def _replace_policy(self, method: str, error: Exception) -> None:
        if self.fault is None:
            self.fault = (
                f"the eviction policy {type(self._policy).__name__} failed in {method} "
                f"({type(error).__name__}: {error}); from here on lru decides"
            )
        self._new_policy = Lru
        self._policy = Lru()
        for slot, weight in self._weights.items():
            self._policy.add(slot, weight.size_bytes, 0.0)
