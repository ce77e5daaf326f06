"""gdsf_admit: gdsf that refuses what is worth less than what would have to go."""

from contextlib import closing

from .gdsf import Gdsf, gdsf_priority
from .structures import History

COMPARED = 64  # victims that a newcomer is compared with, at most: what bounds the work of ``admit``


class GdsfAdmit(Gdsf):
    """Greedy-Dual-Size-Frequency with admission.

    Evicts as :class:`Gdsf` does. A newcomer is admitted if its ::

        priority = clock + frequency * cost / size

    is at least that of each of the victims, which are taken from the lowest up until they cover ``size``: all that
    would go if there were no free byte. Its ``frequency`` counts this request, the refused ones before it, and those
    of its last stay, as far as its :class:`History` goes; once in, it starts with 1 as in gdsf, so that what was
    popular long ago is not held for that.

    Choose it over gdsf where large or cheap programs that are asked for once push out what is used.
    ``admit`` is O(v log n) for v victims, of which the first 64 are compared.
    """

    def __init__(self) -> None:
        super().__init__()
        self._past: History[int] = History()  # frequency of keys not held

    def add(self, key: int, size: int, cost: float) -> None:
        self._past.pop(key, None)
        super().add(key, size, cost)

    def remove(self, key: int) -> None:
        self._past.note(key, self._entries[key].frequency)
        super().remove(key)

    def admit(self, key: int, size: int, cost: float) -> bool:
        frequency = self._past.get(key, 0) + 1
        if gdsf_priority(self._clock, frequency, size, cost) >= self._highest_victim_priority(size):
            return True
        self._past.note(key, frequency)
        return False

    def _highest_victim_priority(self, size: int) -> float:
        highest, covered = self._clock, 0
        with closing(self._priority.ascending()) as victims:
            for _, victim in zip(range(COMPARED), victims, strict=False):
                highest = self._priority[victim]
                covered += self._entries[victim].size
                if covered >= size:
                    break
        return highest
