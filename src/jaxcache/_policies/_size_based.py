"""size_based: the largest goes first."""

from heapq import heappop, heappush


class SizeBased:
    """Evicts the largest entry; among equals the one that was added first.

    Keeps the number of entries, and so the hit rate, high where small programs are asked for as often as large
    ones (the SIZE policy of Williams et al., Removal Policies in Network Caches, SIGCOMM 1996). Large programs tend
    to be those that compile long, so look at compile seconds and not at the hit rate alone.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self._stamp: dict[int, int] = {}
        self._added = 0

    def add(self, key: int, size: int, cost: float) -> None:
        self._added += 1
        self._stamp[key] = self._added
        heappush(self._heap, (-size, self._added, key))

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        while self._heap:
            _, stamp, key = self._heap[0]
            if self._stamp.get(key) == stamp:
                return key
            heappop(self._heap)  # left behind by remove
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        del self._stamp[key]
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._stamp):
            self._heap = sorted(item for item in self._heap if self._stamp.get(item[2]) == item[1])

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
