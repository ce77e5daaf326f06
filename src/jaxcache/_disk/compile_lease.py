"""One compile for many: of those who miss a key at once, one compiles, and the others wait for its entry.

Who compiles holds the lock of one byte of ``flights.lock``, chosen by the key, from the miss to the ``put``. The lock
dies with its process, so that the next one takes over. Where locks do not work, everybody compiles.
"""

import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at

from .byte_locks import LocksUnsupported, RangeLocks, range_locks
from .files import Place

_FIRST_WAIT_SECONDS = 0.002
_LONGEST_WAIT_SECONDS = 0.05


class LeaseOutcome(Enum):
    """What became of a request for a key that is not there."""

    LEADS = "this thread compiles, and others wait for it"
    ARRIVED = "somebody else has put it meanwhile"
    TIMED_OUT = "somebody else has been compiling it for too long"
    ALONE = "there are no locks here: this thread compiles, whoever else does"


class _Held(threading.local):
    byte: int | None = None


class Flights:
    """The flights of one directory. A thread leads one at most, and waits for others only while it leads none."""

    def __init__(self, path: Path, mode: int = 0o600, wait_seconds: float = 600.0) -> None:
        """Use the locks of ``path``; wait for others for ``wait_seconds`` at most."""
        self._path = path
        self._mode = mode
        self._wait_seconds = wait_seconds
        self._held = _Held()
        self._locks: RangeLocks | None = None
        self.fault: str | None = None

    def board(self, place: Place, arrived: Callable[[], bool], began_waiting: Callable[[], None]) -> LeaseOutcome:
        """Take the lead for an entry, or wait for who has it.

        Args:
            place: Of the entry.
            arrived: Whether the entry is there.
            began_waiting: Called once if there is somebody to wait for.
        """
        self.land()
        locks = self._ready()
        if locks is None:
            return LeaseOutcome.ALONE
        byte = int(place.name[:15], 16) ^ int(place.fingerprint.encode().hex()[-8:] or "0", 16)
        self._held.byte = byte  # before it is: an interrupt must not leave it to this process for ever
        until, pause, waited = monotonic() + self._wait_seconds, _FIRST_WAIT_SECONDS, False
        while True:
            try:
                leads = locks.is_mine(byte) or locks.try_acquire(byte)
            except LocksUnsupported as error:
                self._locks, self.fault = None, str(error)
                return LeaseOutcome.ALONE
            if leads:
                self._held.byte = byte  # again: a signal handler may have landed meanwhile
                if arrived():
                    self.land()
                    return LeaseOutcome.ARRIVED
                return LeaseOutcome.LEADS
            if monotonic() >= until:
                return LeaseOutcome.TIMED_OUT
            if not waited:
                waited = True
                began_waiting()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT_SECONDS)
            if arrived():
                return LeaseOutcome.ARRIVED

    def land(self) -> None:
        """Let others have the flight that this thread leads, if it leads one."""
        byte = self._held.byte
        if byte is not None and self._locks is not None:
            self._locks.release(byte)
        self._held.byte = None  # last: after an interrupt it is given back again

    def forget(self) -> None:
        """In a forked child: it leads nothing."""
        self._held = _Held()

    def _ready(self) -> RangeLocks | None:
        if self._locks is None and self.fault is None:
            try:
                self._locks = range_locks(self._path, self._mode)
            except OSError as error:
                self.fault = f"no lock can be made ({error})"
        return self._locks
