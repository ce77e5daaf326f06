"""lru, fifo and none: policies that keep keys in one order."""

from collections import OrderedDict


class Fifo:
    """First in, first out.

    The order is that in which keys were added; hits change nothing. A floor to compare with, and right only where
    programs are asked for in one stretch and then never again.
    """

    def __init__(self) -> None:
        self._order: OrderedDict[int, None] = OrderedDict()  # a dict would scan over what was deleted at its front

    def add(self, key: int, size: int, cost: float) -> None:
        self._order[key] = None

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        for key in self._order:
            return key
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        del self._order[key]

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True


class Lru(Fifo):
    """Least recently used.

    The order is that of the last request, whether hit or add. Blind to sizes and costs: right where what was asked
    for lately is asked for again soon, wrong where one scan over many shapes flushes what is used all the time.
    """

    def hit(self, key: int) -> None:
        self._order.move_to_end(key)


class Never(Fifo):
    """Policy that never evicts: a new entry that does not fit is refused, so the limit holds all the same.

    Not a policy to choose, but one to compare with: it shows what the first comers alone are worth. A caller that
    must make room in spite of ``admit`` is given the oldest.
    """

    def admit(self, key: int, size: int, cost: float) -> bool:
        return False
