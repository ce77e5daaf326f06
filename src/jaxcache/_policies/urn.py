"""Keys to draw from."""

import random


class RandomKeySet:
    """Keys, any of which is drawn with the same probability. ``add`` and ``remove`` are O(1), ``draw`` O(count).

    The same seed and the same calls give the same draws.
    """

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self._keys: list[int] = []
        self._place: dict[int, int] = {}

    def add(self, key: int) -> None:
        self._place[key] = len(self._keys)
        self._keys.append(key)

    def remove(self, key: int) -> None:
        place, last = self._place.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._place[last] = place

    def draw(self, count: int) -> list[int]:
        """Return ``count`` different keys, or all if there are no more; LookupError if there is none."""
        if not self._keys:
            raise LookupError("nothing is held")
        if count >= len(self._keys):
            return self._keys.copy()
        return self._generator.sample(self._keys, count)
