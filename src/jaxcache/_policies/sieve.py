"""sieve: a hand that spares what was asked for since it last came by."""

from typing import Self


class _Node:
    __slots__ = ("key", "newer", "older", "visited")

    def __init__(self, key: int) -> None:
        self.key = key
        self.newer: Self = self
        self.older: Self = self
        self.visited = False


class Sieve:
    """A queue in the order of adding, and a hand that walks it from the oldest to the newest and round again.

    A hit marks the key as visited and moves nothing. To find a victim the hand walks on: a visited key loses its
    mark and stays where it is, the first that is not visited goes. New keys come in at the newest end, so what is
    asked for once goes soon. Each step clears a mark that a hit has set, so ``victim`` is O(1) amortised.

    Choose it over lru where many shapes are asked for once; it is as blind to sizes and costs.

    Source: Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi, SIEVE is Simpler than LRU: an Efficient Turn-Key
    Eviction Algorithm for Web Caches, NSDI 2024. For entries of different sizes the caller asks until there is room.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}
        self._end = _Node(-1)  # joins the newest to the oldest; no entry
        self._hand = self._end

    def add(self, key: int, size: int, cost: float) -> None:
        self._nodes[key] = node = _Node(key)
        node.older, node.newer = self._end.older, self._end
        node.older.newer = node.newer.older = node

    def hit(self, key: int) -> None:
        self._nodes[key].visited = True

    def victim(self) -> int:
        if not self._nodes:
            raise LookupError("nothing is held")
        while self._hand is self._end or self._hand.visited:
            self._hand.visited = False
            self._hand = self._hand.newer
        return self._hand.key

    def remove(self, key: int) -> None:
        node = self._nodes.pop(key)
        node.older.newer, node.newer.older = node.newer, node.older
        if self._hand is node:
            self._hand = node.newer

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
