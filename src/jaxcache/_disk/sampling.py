"""EvenSample: choice of a share of events, spread evenly over them."""

import math
import threading


class EvenSample:
    """Chooser of a share of events. The first is among the chosen, unless the share is 0."""

    def __init__(self, share: float) -> None:
        """Choose ``share`` of the events, from 0 to 1."""
        self._share = share
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()  # a signal handler may ask while this thread holds it
        self._events = 0

    def takes_next(self) -> bool:
        """Return whether the next event is chosen."""
        with self._lock:
            self._events += 1
            return math.ceil(self._events * self._share) > math.ceil((self._events - 1) * self._share)
