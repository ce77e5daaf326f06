"""lru: the least recently used goes first."""

from .fifo import Fifo


class Lru(Fifo):
    """Least recently used.

    The order is that of the last request, whether hit or add. Blind to sizes and costs: right where what was asked
    for lately is asked for again soon, wrong where one scan over many shapes flushes what is used all the time.
    """

    def hit(self, key: int) -> None:
        self._order.move_to_end(key)
