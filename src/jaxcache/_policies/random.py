"""random: a seeded draw decides."""

from .structures import RandomKeySet


class Random:
    """Evicts a key drawn uniformly from those held.

    The same seed and the same calls give the same draws. Its worth is as a floor: a policy that does not beat it
    has learnt nothing from the requests.
    """

    def __init__(self, seed: int = 0) -> None:
        self._held = RandomKeySet(seed)
        self._next: int | None = None

    def add(self, key: int, size: int, cost: float) -> None:
        self._held.add(key)

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        if self._next is None:  # drawn once, so that asking twice does not change what follows
            [self._next] = self._held.draw(1)
        return self._next

    def remove(self, key: int) -> None:
        self._held.remove(key)
        if self._next == key:
            self._next = None

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
