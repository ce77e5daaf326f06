"""gdsf: frequency times cost by size, with ageing."""

from heapq import heapify, heappop, heappush, heapreplace


class Gdsf:
    """Greedy-Dual-Size-Frequency with compile seconds as the cost.

    The entry with the lowest priority goes, where ::

        priority = clock + frequency * cost / size

    is set when the key is added (frequency 1) and at each hit (frequency + 1), and ``clock`` rises to the
    priority of what was evicted, so that entries no longer asked for are overtaken. Equal priorities go in the order
    in which they were set.

    Source: L. Cherkasova, Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy, HP Labs
    HPL-98-69R1, 1998.

    Hits do not touch the heap: a priority only rises, so the heap's stale order is a lower bound, put right when it
    matters, at eviction. ``victim`` is O(log n) amortised over hits.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._sets = 0
        self._frequency: dict[int, int] = {}
        self._value: dict[int, float] = {}  # cost / size
        self._priority: dict[int, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, int]] = []

    def _set_priority(self, key: int) -> tuple[float, int]:
        self._sets += 1
        priority = (self._clock + self._frequency[key] * self._value[key], self._sets)
        self._priority[key] = priority
        return priority

    def add(self, key: int, size: int, cost: float) -> None:
        self._frequency[key] = 1
        self._value[key] = cost / size
        heappush(self._heap, (*self._set_priority(key), key))

    def hit(self, key: int) -> None:
        self._frequency[key] += 1
        self._set_priority(key)

    def victim(self) -> int:
        while self._heap:
            *stale, key = self._heap[0]
            priority = self._priority.get(key)
            if priority is None:
                heappop(self._heap)  # left behind by remove
            elif priority == tuple(stale):
                return key
            else:
                heapreplace(self._heap, (*priority, key))
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        if self._heap and self.victim() == key:
            self._clock = self._priority[key][0]
            heappop(self._heap)
        del self._frequency[key], self._value[key], self._priority[key]
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._priority):
            self._heap = [(*priority, key) for key, priority in self._priority.items()]
            heapify(self._heap)

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
