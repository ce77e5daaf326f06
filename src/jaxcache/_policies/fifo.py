"""fifo: the oldest goes first."""

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
