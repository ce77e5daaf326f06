"""TierAnswers: what the stores below a directory have answered this process, kept with its run for ``doctor``."""

import threading
from collections import defaultdict
from collections.abc import Callable

HIT, MISS, FAULT, LEFT_ALONE = "hits", "misses", "faults", "left_alone"
FIRST_FAULT, LAST_FAULT = "first_fault", "last_fault"
Count = Callable[[str, str], None]


def uncounted(store: str, outcome: str) -> None:
    """Count nothing: a store was looked into, and no program was asked for."""


class TierAnswers:
    """Answers of each layer and object store, by the store's name."""

    def __init__(self) -> None:
        """Know of no store."""
        self._lock = threading.RLock()
        self._counts: dict[str, dict[str, int]] = {}
        self._faults: dict[str, dict[str, str]] = {}

    def forget(self) -> None:
        """Begin anew in a forked child, with the same stores; another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._counts = {store: defaultdict(int) for store in self._counts}
        self._faults = {}

    def expect(self, store: str) -> None:
        """Name a store that may be asked."""
        with self._lock:
            self._counts.setdefault(store, defaultdict(int))

    def count(self, store: str, outcome: str) -> None:
        """Count an answer: one of ``HIT``, ``MISS``, ``FAULT``, and ``LEFT_ALONE`` for a request that was not put."""
        with self._lock:
            self.expect(store)
            self._counts[store][outcome] += 1

    def failed(self, store: str, fault: str) -> None:
        """Count a fault, and keep it as the store's last, or first."""
        with self._lock:
            self.count(store, FAULT)
            first_fault = self._faults.get(store, {}).get(FIRST_FAULT, fault)
            self._faults[store] = {FIRST_FAULT: first_fault, LAST_FAULT: fault}

    def recorded(self) -> dict[str, dict[str, int | str]]:
        """Return the counts of each store, and its first and last fault if there was any, as JSON has them."""
        with self._lock:
            return {store: {**counts, **self._faults.get(store, {})} for store, counts in self._counts.items()}
