"""One process at a time on a GPU of this machine, whichever sweep started it.

Whoever has the turn holds a lock on a file named after the GPU, which the system drops with its holder.
"""

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..trial import Device

_POLL_SECONDS = 0.2


@contextmanager
def turn_on(device: Device, stop: threading.Event) -> Iterator[bool]:
    """Wait for the turn on a GPU, and hold it meanwhile; yield False if ``stop`` was set before it came.

    CPU cores are shared as the system shares them: a turn comes at once.
    """
    lock = _open(device) if device.platform == "gpu" else None
    if lock is None:
        yield not stop.is_set()
        return
    try:
        yield _wait(lock, stop)
    finally:
        os.close(lock)


def _open(device: Device) -> int | None:
    """Return an open file; None where none can be made, as in a system without a place for temporary files."""
    path = Path(tempfile.gettempdir(), f"jaxcache-gpu-{device.identity or device.index}.lock")
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):  # another user's may be opened, but not made again
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o444)
        except OSError:
            continue
    return None


def _wait(lock: int, stop: threading.Event) -> bool:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.wait(_POLL_SECONDS):
                return False
        else:
            return not stop.is_set()
