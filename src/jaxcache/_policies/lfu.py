"""lfu: the least frequently used goes first."""

from .structures import LazyHeap


class Lfu:
    """Least frequently used since it was added; among equals the least recently used.

    ``frequency`` is 1 when a key is added, rises by 1 at each hit, and is forgotten when the key goes. Right where
    the same programs stay popular all the time; wrong where the program moves on, since what was popular once stays.
    """

    def __init__(self) -> None:
        self._frequency = LazyHeap()

    def add(self, key: int, size: int, cost: float) -> None:
        self._frequency.add(key, 1)

    def hit(self, key: int) -> None:
        self._frequency.rise(key, self._frequency[key] + 1)

    def victim(self) -> int:
        return self._frequency.lowest()

    def remove(self, key: int) -> None:
        self._frequency.remove(key)

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
