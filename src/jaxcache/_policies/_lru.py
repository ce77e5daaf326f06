"""lru: the least recently used goes first."""

from collections import OrderedDict


class Lru:
    """Least recently used.

    The order is that of the last request, whether hit or add. Blind to sizes and costs: right where what was asked
    for lately is asked for again soon, wrong where one scan over many shapes flushes what is used all the time.
    """

    def __init__(self) -> None:
        self._order: OrderedDict[int, None] = OrderedDict()

    def add(self, key: int, size: int, cost: float) -> None:
        self._order[key] = None

    def hit(self, key: int) -> None:
        self._order.move_to_end(key)

    def victim(self) -> int:
        for key in self._order:
            return key
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        del self._order[key]

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
