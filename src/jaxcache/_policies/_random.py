"""random: a seeded draw decides."""

import random


class Random:
    """Evicts a key drawn uniformly from those held.

    The same seed and the same calls give the same draws. Its worth is as a floor: a policy that does not beat it
    has learnt nothing from the requests.
    """

    def __init__(self, seed: int = 0) -> None:
        self._draw = random.Random(seed)
        self._keys: list[int] = []
        self._place: dict[int, int] = {}
        self._next: int | None = None

    def add(self, key: int, size: int, cost: float) -> None:
        self._place[key] = len(self._keys)
        self._keys.append(key)

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        if not self._keys:
            raise LookupError("nothing is held")
        if self._next is None:  # drawn once, so that asking twice does not change what follows
            self._next = self._keys[self._draw.randrange(len(self._keys))]
        return self._next

    def remove(self, key: int) -> None:
        place, last = self._place.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._place[last] = place
        if self._next == key:
            self._next = None

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
