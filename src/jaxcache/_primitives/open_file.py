"""Files that an interrupt does not leak and a forked child does not keep."""

import contextlib
import errno
import functools
import io
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at
from typing import Any

_MOST_DEAD = 64
_LONGEST_WAIT_SECONDS = 0.5  # of a fork, for threads that open files on a slow file system
_changing: dict[object, int] = {}  # which threads are opening or closing a file
_open: set["weakref.ref[io.FileIO]"] = set()  # no WeakSet: its callbacks swallow interrupts


class _File(io.FileIO):
    """File that writes all it is given, and whose closing forks wait for: Python forgets it before the system does."""

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size_bytes = left.nbytes
        while left:
            left = left[super().write(left) :]
        return size_bytes

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


def open_uninterrupted(
    path: Path | str, mode: str, kind: type[io.FileIO] = io.FileIO, opener: Callable[[str, int], int] | None = None
) -> io.FileIO:
    """Open a regular file; it is closed with the last reference to it.

    Python raises ``KeyboardInterrupt`` between any two calls, and a number that ``os.open`` has just returned is lost
    then, and open for ever. So one call, which runs in C to its end, opens the file and makes the object that owns it.

    Args:
        path: Of the file, which must be no link.
        mode: ``rb``, ``xb`` for a new one, or ``a+b``.
        kind: Of the object.
        opener: As for ``open``; one that runs in C to its end too.

    Raises:
        OSError: If it cannot be opened; with ``ELOOP`` if it is a link.
    """
    file = kind(path, mode, opener=opener)
    try:
        stat_result = os.lstat(path)
    except OSError:
        file.close()
        raise
    if not stat.S_ISREG(stat_result.st_mode) or not os.path.samestat(stat_result, os.fstat(file.fileno())):
        file.close()
        raise OSError(errno.ELOOP, "not a regular file, or replaced meanwhile", str(path))
    return file


def open_file(path: Path | str, mode: str, permissions: int | None = None) -> io.FileIO:
    """Open a file as :func:`open_uninterrupted` does; a child that is forked meanwhile closes it.

    So locks on it end with its writer.

    Args:
        path: Of the file, which must be no link.
        mode: As for :func:`open_uninterrupted`.
        permissions: Of a new file, less the umask; None is 0666, as for ``open``.

    Raises:
        OSError: If it cannot be opened, or this is a child that was forked as it was.
    """
    process = os.getpid()
    opener = None if permissions is None else functools.partial(os.open, mode=permissions)
    with _change():
        file = open_uninterrupted(path, mode, _File, opener)
        _register(file)
    if os.getpid() != process:  # forked before it was in the list: the parent reads or writes at the same position
        file.close()
        raise OSError(errno.ECANCELED, "this process was forked as the file was opened", str(path))
    return file


def _register(file: io.FileIO) -> None:
    if len(_open) > _MOST_DEAD:
        for reference in list(_open):  # not all at once: other threads add theirs meanwhile
            if reference() is None:
                _open.discard(reference)
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
    for reference in list(_open):
        if (file := reference()) is not None:
            file.close()


os.register_at_fork(before=_wait_for_changes, after_in_child=_close_in_child)
