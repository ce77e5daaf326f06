"""size_based: the largest goes first."""

from .structures import LazyHeap


def smallness(size: int) -> float:
    """Return the priority of size_based; numba compiles it too, and the shared directory calls it."""
    return -float(size)


class SizeBased:
    """Evicts the largest entry; among equals the one that was added first.

    Keeps the number of entries, and so the hit rate, high where small programs are asked for as often as large
    ones (the SIZE policy of Williams et al., Removal Policies in Network Caches, SIGCOMM 1996). Large programs tend
    to be those that compile long, so look at compile seconds and not at the hit rate alone.
    """

    def __init__(self) -> None:
        self._smallness = LazyHeap()

    def add(self, key: int, size: int, cost: float) -> None:
        self._smallness.add(key, smallness(size))

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        return self._smallness.lowest()

    def remove(self, key: int) -> None:
        self._smallness.remove(key)

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
