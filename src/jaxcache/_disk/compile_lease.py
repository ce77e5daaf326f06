"""Leases to compile: of all threads and processes that miss a key at once, one compiles, and the others wait for it.

The holder of a lease locks one byte of ``flights.lock``, chosen by the key, from the miss to the ``put``. The lock ends
with its process, so that the next one takes over. Where locks do not work, every process compiles.
"""

import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at

from .byte_locks import LocksUnsupported, RangeLocks, range_locks
from .files import EntryId

_FIRST_WAIT_SECONDS = 0.002
_LONGEST_WAIT_SECONDS = 0.05


class LeaseOutcome(Enum):
    """Outcome of a request for the lease of a key that is not stored."""

    LEADS = "this thread compiles, and others wait for it"
    ARRIVED = "another thread or process has put it meanwhile"
    TIMED_OUT = "another thread or process has been compiling it for too long"
    ALONE = "the file system has no locks: this thread compiles, and others may compile the same"


class _Held(threading.local):
    byte: int | None = None


class CompileLeases:
    """Compile leases of one directory. A thread holds one at most, and waits for others only while it holds none."""

    def __init__(self, path: Path, mode: int = 0o600, wait_seconds: float = 600.0) -> None:
        """Use the locks of ``path``; wait for others for ``wait_seconds`` at most."""
        self._path = path
        self._mode = mode
        self._wait_seconds = wait_seconds
        self._held = _Held()
        self._locks: RangeLocks | None = None
        self.fault: str | None = None

    def acquire(self, entry_id: EntryId, is_stored: Callable[[], bool], on_wait: Callable[[], None]) -> LeaseOutcome:
        """Acquire the lease of an entry, or wait for its holder.

        Args:
            entry_id: The entry.
            is_stored: Returns whether the entry is stored by now.
            on_wait: Called once if another thread or process holds the lease.
        """
        self.release()
        locks = self._ready()
        if locks is None:
            return LeaseOutcome.ALONE
        byte = int(entry_id.name[:15], 16) ^ int(entry_id.fingerprint.encode().hex()[-8:] or "0", 16)
        self._held.byte = byte  # before it is locked: an interrupt must not leave it to this process for ever
        until, pause, is_waiting = monotonic() + self._wait_seconds, _FIRST_WAIT_SECONDS, False
        while True:
            try:
                acquired = locks.is_mine(byte) or locks.try_acquire(byte)
            except LocksUnsupported as error:
                self._locks, self.fault = None, str(error)
                return LeaseOutcome.ALONE
            if acquired:
                self._held.byte = byte  # again: a signal handler may have released it meanwhile
                if is_stored():
                    self.release()
                    return LeaseOutcome.ARRIVED
                return LeaseOutcome.LEADS
            if monotonic() >= until:
                return LeaseOutcome.TIMED_OUT
            if not is_waiting:
                is_waiting = True
                on_wait()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT_SECONDS)
            if is_stored():
                return LeaseOutcome.ARRIVED

    def release(self) -> None:
        """Release the lease that this thread holds, if it holds one."""
        byte = self._held.byte
        if byte is not None and self._locks is not None:
            self._locks.release(byte)
        self._held.byte = None  # last: after an interrupt it is released again

    def forget(self) -> None:
        """Hold no lease, in a forked child."""
        self._held = _Held()

    def _ready(self) -> RangeLocks | None:
        if self._locks is None and self.fault is None:
            try:
                self._locks = range_locks(self._path, self._mode)
            except OSError as error:
                self.fault = f"no lock can be made ({error})"
        return self._locks
