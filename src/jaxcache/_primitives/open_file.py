"""Files that an interrupt does not leak and a forked child does not keep."""

import contextlib
import errno
import io
import os
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at

_MOST_DEAD = 64
_LONGEST_WAIT_SECONDS = 0.5  # of a fork, for threads that open files on a slow file system
_changing: dict[object, int] = {}  # which threads are opening or closing a file
_open: set["weakref.ref[io.FileIO]"] = set()  # no WeakSet: its callbacks swallow interrupts


class _File(io.FileIO):
    """File whose closing forks wait for: Python forgets the number before the system does."""

    def close(self) -> None:
        with _change():
            super().close()


@contextlib.contextmanager
def _change() -> Iterator[None]:
    token = object()
    try:
        _changing[token] = threading.get_ident()
        yield
    finally:
        _changing.pop(token, None)


def open_uninterrupted(path: Path | str, mode: str, kind: type[io.FileIO] = io.FileIO) -> io.FileIO:
    """Open a regular file; it is closed with the last reference to it.

    Python raises ``KeyboardInterrupt`` between any two calls, and a number that ``os.open`` has just returned is lost
    then, and open for ever. So one call, which runs in C to its end, opens the file and makes the object that owns it.

    Args:
        path: Of the file, which must be no link.
        mode: ``rb``, ``xb`` for a new one, or ``a+b``.
        kind: Of the object.

    Raises:
        OSError: If it cannot be opened; with ``ELOOP`` if it is a link.
    """
    file = kind(path, mode)
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
    with _change():
        file = open_uninterrupted(path, mode, _File)
        _register(file)
    if os.getpid() != process:  # forked before it was in the list: the parent reads or writes at the same position
        file.close()
        raise OSError(errno.ECANCELED, "this process was forked as the file was opened", str(path))
    return file


def _register(file: io.FileIO) -> None:
    if len(_open) > _MOST_DEAD:
        for known in list(_open):  # one by one: other threads add theirs meanwhile
            if known() is None:
                _open.discard(known)
    _open.add(weakref.ref(file))


def _wait_for_changes() -> None:
    """Wait, before a fork, for files of other threads that are open and not in the list, or no longer."""
    until = monotonic() + _LONGEST_WAIT_SECONDS
    if threading.get_ident() in _changing.values():  # a signal handler's fork: open_file itself looks for that
        return
    while _changing and monotonic() < until:  # no call between the last look and the fork: it could let others run
        time.sleep(0.0005)


def _close_in_child() -> None:
    _changing.clear()
    for known in list(_open):
        if (file := known()) is not None:
            file.close()


os.register_at_fork(before=_wait_for_changes, after_in_child=_close_in_child)
