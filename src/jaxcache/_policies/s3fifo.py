"""s3fifo: a small queue for newcomers, a main queue for what was asked for again, ghosts of what went too early."""

from collections import OrderedDict

MOST_FREQUENT = 3  # hits that are counted, at most


def small_is_due(small_bytes: int, held_bytes: int) -> bool:
    """Return whether the small queue holds a tenth of all bytes or more, so that a victim is looked for there."""
    return 10 * small_bytes >= held_bytes


def ghosts_exceed(ghosts: int, entries: int) -> bool:
    """Return whether there are more ghosts than nine tenths of the entries."""
    return 10 * ghosts > 9 * entries


class S3Fifo:
    """Three first-in-first-out queues.

    ``small`` takes newcomers and is to hold a tenth of the bytes, ``main`` the rest; ``ghost`` remembers keys that
    went from ``small``, at most nine tenths as many as there are entries. A hit raises ``frequency``, at most to 3.
    To find a victim:

    - If ``small`` holds a tenth of all bytes held, or more: its oldest key moves to ``main`` with frequency 0 if
      ``frequency > 1``, else it goes, and its ghost stays.
    - Otherwise the oldest key of ``main``: it comes back in at the end with ``frequency - 1`` if ``frequency > 0``,
      else it goes.

    A newcomer with a ghost joins ``main``. Each step uses up a hit, so ``victim`` is O(1) amortised. Choose it over
    lru where most shapes are asked for once; it is as blind to sizes and costs.

    Source: J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, FIFO queues are all you need for cache eviction, SOSP
    2023. There the queues are shares of the limit; a policy is not told the limit, so here they are shares of what
    is held, which is the limit less what is too small a gap to use.
    """

    def __init__(self) -> None:
        self._small: OrderedDict[int, int] = OrderedDict()  # bytes of each key, oldest first
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._frequency: dict[int, int] = {}
        self._small_bytes = 0
        self._held_bytes = 0
        self._next: int | None = None

    def add(self, key: int, size: int, cost: float) -> None:
        self._frequency[key] = 0
        self._held_bytes += size
        if key in self._ghost:
            del self._ghost[key]
            self._main[key] = size
        else:
            self._small[key] = size
            self._small_bytes += size
        while ghosts_exceed(len(self._ghost), len(self._frequency)):
            self._ghost.popitem(last=False)

    def hit(self, key: int) -> None:
        self._frequency[key] = min(self._frequency[key] + 1, MOST_FREQUENT)
        if key == self._next:
            self._next = None

    def victim(self) -> int:
        if self._next is None:  # kept, since looking again would weigh the queues again
            if small_is_due(self._small_bytes, self._held_bytes):
                self._next = self._victim_of_small()
            if self._next is None:
                self._next = self._victim_of_main()
        return self._next

    def _victim_of_small(self) -> int | None:
        while self._small:
            key = next(iter(self._small))
            if self._frequency[key] <= 1:
                return key
            self._main[key] = self._small.pop(key)
            self._small_bytes -= self._main[key]
            self._frequency[key] = 0
        return None

    def _victim_of_main(self) -> int:
        while self._main:
            key = next(iter(self._main))
            if self._frequency[key] == 0:
                return key
            self._frequency[key] -= 1
            self._main.move_to_end(key)
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        del self._frequency[key]
        if key in self._small:
            self._small_bytes -= self._small[key]
            if key == self._next:
                self._ghost[key] = None
        self._held_bytes -= self._small.pop(key, 0) + self._main.pop(key, 0)
        if key == self._next:
            self._next = None

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True
