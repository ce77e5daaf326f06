"""Files that an interrupt does not leak and a forked child does not keep."""

import errno
import io
import os
import stat
import weakref
from pathlib import Path

_MOST_DEAD = 64
_open: list["weakref.ref[io.FileIO]"] = []  # no WeakSet: its callbacks swallow interrupts


def open_uninterrupted(path: Path | str, mode: str) -> io.FileIO:
    """Open a regular file; it is closed with the last reference to it.

    Python raises ``KeyboardInterrupt`` between any two calls, and a number that ``os.open`` has just returned is lost
    then, and open for ever. So one call, which runs in C to its end, opens the file and makes the object that owns it.

    Args:
        path: Of the file, which must be no link.
        mode: ``rb``, ``xb`` for a new one, or ``a+b``.

    Raises:
        OSError: If it cannot be opened; with ``ELOOP`` if it is a link.
    """
    file = io.FileIO(path, mode)
    told = os.lstat(path)
    if not stat.S_ISREG(told.st_mode) or not os.path.samestat(told, os.fstat(file.fileno())):
        file.close()
        raise OSError(errno.ELOOP, "not a regular file, or replaced meanwhile", str(path))
    return file


def open_file(path: Path | str, mode: str) -> io.FileIO:
    """Open a file likewise; a child that is forked meanwhile closes it, so that locks on it end with its writer.

    Raises:
        OSError: If it cannot be opened, or this is a child that was forked as it was.
    """
    process = os.getpid()
    file = open_uninterrupted(path, mode)
    if len(_open) > _MOST_DEAD:
        _open[:] = [known for known in _open if known() is not None]
    _open.append(weakref.ref(file))
    if os.getpid() != process:  # forked before it was in the list: the parent reads or writes at the same position
        file.close()
        raise OSError(errno.ECANCELED, "this process was forked as the file was opened", str(path))
    return file


def _close_in_child() -> None:
    for known in _open:
        if (file := known()) is not None:
            file.close()


os.register_at_fork(after_in_child=_close_in_child)
