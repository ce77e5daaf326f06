"""gdsf: frequency times cost by size, with ageing."""

from dataclasses import dataclass

from .structures import LazyHeap


def gdsf_priority(clock: float, frequency: int, size: int, cost: float) -> float:
    """Return the priority of Greedy-Dual-Size-Frequency; numba compiles it too, and the shared directory calls it."""
    return clock + frequency * cost / size


@dataclass(slots=True)
class _Entry:
    """Size, cost and frequency of a held key."""

    size: int
    cost: float
    frequency: int = 1


class Gdsf:
    """Greedy-Dual-Size-Frequency with compile seconds as the cost.

    The entry with the lowest priority goes, where ::

        priority = clock + frequency * cost / size

    is set when the key is added (frequency 1) and at each hit (frequency + 1), and ``clock`` rises to the
    priority of what was evicted, so that entries no longer asked for are overtaken. Equal priorities go in the order
    in which they were set.

    Source: L. Cherkasova, Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy, HP Labs
    HPL-98-69R1, 1998.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._entries: dict[int, _Entry] = {}
        self._priority = LazyHeap()

    def add(self, key: int, size: int, cost: float) -> None:
        self._entries[key] = _Entry(size, cost)
        self._priority.add(key, gdsf_priority(self._clock, 1, size, cost))

    def hit(self, key: int) -> None:
        entry = self._entries[key]
        entry.frequency = frequency = entry.frequency + 1
        self._priority.rise(key, gdsf_priority(self._clock, frequency, entry.size, entry.cost))

    def victim(self) -> int:
        return self._priority.lowest()

    def remove(self, key: int) -> None:
        if self._priority.lowest() == key:
            self._clock = self._priority[key]
        self._priority.remove(key)
        del self._entries[key]

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
