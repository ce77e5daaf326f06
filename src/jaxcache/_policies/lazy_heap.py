"""Keys by priority, for priorities that only rise."""

from collections.abc import Generator
from heapq import heapify, heappop, heappush, heapreplace


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
        taken = []
        try:
            while len(taken) < len(self._priority):
                yield self.lowest()
                taken.append(heappop(self._heap))
        finally:
            for item in taken:
                heappush(self._heap, item)

    def remove(self, key: int) -> None:
        del self._priority[key], self._added[key]
        if self._heap[0][2] == key:
            heappop(self._heap)
        elif len(self._heap) > 64 and len(self._heap) > 4 * len(self._priority):
            self._heap = [(*priority, key) for key, priority in self._priority.items()]
            heapify(self._heap)
