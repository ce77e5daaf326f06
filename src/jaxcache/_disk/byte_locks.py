"""Locks on single bytes of a file, between processes and threads, which end with their holder.

POSIX record locks belong to a process, and are lost when it closes any descriptor of the file. So a process opens each
file once, and never closes it; between its threads a table decides.
"""

import contextlib
import errno
import fcntl
import io
import os
import stat
import threading
from pathlib import Path

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
_guard = threading.RLock()  # these locks are of a kind that a signal handler may take again
_open: dict[tuple[int, int], "RangeLocks"] = {}
_opened: list["_LockFile"] = []  # for ever


class LocksUnsupported(OSError):
    """The file system has no locks."""


class _LockFile(io.FileIO):
    """File that stays open until the process ends, without a warning that it does."""

    def close(self) -> None:
        """Do nothing: closing any descriptor of the file would end the locks of this process on it."""


class RangeLocks:
    """Locks of one file; made by :func:`range_locks`."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._mutex = threading.RLock()
        self._held: dict[int, int] = {}  # the thread that holds each byte

    def forget(self) -> None:
        """Hold no lock, in a forked child."""
        self._mutex = threading.RLock()
        self._held = {}  # a child inherits no record locks

    def try_acquire(self, byte: int) -> bool:
        """Take the lock of a byte for this thread if it is free. An interrupt may leave it locked: release it anyway.

        Raises:
            LocksUnsupported: If the file system has none.
        """
        with self._mutex:
            if byte in self._held:
                return False
            self._held[byte] = threading.get_ident()
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError as error:
                del self._held[byte]
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return False
                raise LocksUnsupported(error.errno, f"the file system has no locks ({error})") from error
            return True

    def is_mine(self, byte: int) -> bool:
        """Return whether this thread holds the lock of a byte."""
        return self._held.get(byte) == threading.get_ident()

    def release(self, byte: int) -> None:
        """Release a lock, if this thread holds it."""
        with self._mutex:
            if self.is_mine(byte):  # after an interrupt between the two lines it is, and can be given back again
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
                self._held.pop(byte, None)  # a signal handler may have been faster


def range_locks(path: Path, mode: int = 0o600) -> RangeLocks:
    """Return the locks of a file, which is made if there is none.

    Raises:
        OSError: If it cannot be opened for writing.
    """
    existing = _existing(path)
    if existing is not None:  # without the guard: a signal handler may have interrupted the thread that has it
        return existing
    with _guard:
        if (existing := _existing(path)) is not None:
            return existing
        file = _open_once(path)
        stat_result = os.fstat(file.fileno())
        if stat.S_IMODE(stat_result.st_mode) != mode:
            with contextlib.suppress(PermissionError):  # another user's file keeps its mode
                os.fchmod(file.fileno(), mode)
        return _open.setdefault((stat_result.st_dev, stat_result.st_ino), RangeLocks(file))  # a handler may be faster


def _open_once(path: Path) -> _LockFile:
    """Open a file, unless an interrupt came right after it was opened before.

    Raises:
        OSError: If it cannot be opened; with ``ELOOP`` if it is a link.
    """
    if (file := _opened_file(path)) is None:
        _opened.extend(
            map(_LockFile, (path,), ("a+b",))
        )  # one call, which runs in C to its end: no interrupt splits it
        file = _opened_file(path)
    if file is None:
        raise OSError(errno.ELOOP, "not a regular file, or replaced meanwhile", str(path))
    return file


def _opened_file(path: Path) -> _LockFile | None:
    try:
        stat_result = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(stat_result.st_mode):
        return None
    return next((file for file in _opened if os.path.samestat(stat_result, os.fstat(file.fileno()))), None)


def _existing(path: Path) -> RangeLocks | None:
    """Return the locks of a file that this process has open.

    Raises:
        OSError: If the file is a link.
    """
    try:
        stat_result = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(stat_result.st_mode):
        raise OSError(errno.ELOOP, "the lock must not be a symbolic link", str(path))
    return _open.get((stat_result.st_dev, stat_result.st_ino))


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()
    for locks in _open.values():
        locks.forget()


os.register_at_fork(after_in_child=_after_fork)
