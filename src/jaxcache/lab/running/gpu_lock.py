"""Lock that admits one process at a time to a GPU of this machine, across sweeps.

It is a lock on a file named after the GPU, which the system releases when its holder ends.
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
def gpu_lock(device: Device, stop: threading.Event) -> Iterator[bool]:
    """Wait for a GPU's lock and hold it; yield False if ``stop`` was set before it was acquired.

    CPU cores have no lock, since the system shares them: the context is entered at once.
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
    """Return an open lock file; None where none can be created, as in a system without a temporary directory."""
    path = Path(tempfile.gettempdir(), f"jaxcache-gpu-{device.identity or device.index}.lock")
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):  # another user's file may be opened, not created
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
