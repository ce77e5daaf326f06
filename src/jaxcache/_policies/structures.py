"""Structures that policies are built from: a heap of rising priorities, keys to draw from, a bounded history."""

import random
from collections import OrderedDict
from collections.abc import Generator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TypeVar

HISTORY = 4096  # keys; as many as JitCache remembers of a function
CANDIDATES = 64  # keys drawn and compared, where not all can be

T = TypeVar("T")


class History(OrderedDict[int, T]):
    """Values of at most ``HISTORY`` keys; the key that was noted longest ago is forgotten first."""

    def note(self, key: int, value: T) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > HISTORY:
            self.popitem(last=False)


class RandomKeySet:
    """Set of keys, any of which is drawn with the same probability.

    ``add`` and ``remove`` are O(1), ``draw`` O(count). The same seed and the same calls give the same draws.
    """

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self._keys: list[int] = []
        self._index: dict[int, int] = {}

    def add(self, key: int) -> None:
        self._index[key] = len(self._keys)
        self._keys.append(key)

    def remove(self, key: int) -> None:
        index, last = self._index.pop(key), self._keys.pop()
        if last != key:
            self._keys[index] = last
            self._index[last] = index

    def draw(self, count: int) -> list[int]:
        """Return ``count`` different keys, or all if there are no more; LookupError if there is none."""
        if not self._keys:
            raise LookupError("nothing is held")
        if count >= len(self._keys):
            return self._keys.copy()
        return self._generator.sample(self._keys, count)


class LazyHeap:
    """Keys in the order of their priorities, equal ones in the order in which they were set.

    A held key's priority may only rise. ``rise`` does not touch the heap, so it is O(1): what the heap holds is a
    lower bound, put right when it reaches the top. Each rise is put right at most once, so ``lowest`` is O(log n)
    amortised.
    """

    def __init__(self) -> None:
        self._sets = 0
        self._priority: dict[int, tuple[float, int]] = {}
        self._added: dict[int, int] = {}  # which set was the key's first
        self._heap: list[tuple[float, int, int]] = []

    def __getitem__(self, key: int) -> float:
        return self._priority[key][0]

    def add(self, key: int, priority: float) -> None:
        self._sets += 1
        self._added[key] = self._sets
        self._priority[key] = (priority, self._sets)
        heappush(self._heap, (priority, self._sets, key))

    def rise(self, key: int, priority: float) -> None:
        self._sets += 1
        self._priority[key] = (priority, self._sets)

    def lowest(self) -> int:
        """Return the key with the lowest priority; LookupError if there is none."""
        while self._heap:
            bound, number, key = self._heap[0]
            priority = self._priority.get(key)
            if priority is None or number < self._added[key]:
                heappop(self._heap)  # left behind by remove
            elif priority == (bound, number):
                return key
            else:
                heapreplace(self._heap, (*priority, key))
        raise LookupError("nothing is held")

    def ascending(self) -> Generator[int, None, None]:
        """Yield the keys, lowest first, O(log n) each; close it before anything else is changed."""
        popped = []
        try:
            while len(popped) < len(self._priority):
                yield self.lowest()
                popped.append(heappop(self._heap))
        finally:
            for item in popped:
                heappush(self._heap, item)

    def remove(self, key: int) -> None:
        del self._priority[key], self._added[key]
        if self._heap[0][2] == key:
            heappop(self._heap)
        elif len(self._heap) > 64 and len(self._heap) > 4 * len(self._priority):
            self._heap = [(*priority, key) for key, priority in self._priority.items()]
            heapify(self._heap)
