"""Files that are written in one step: a reader finds the former content or the new content, never a part of either.

The content is written to a temporary file in the same directory, which then takes the name of the file. The writer
holds a lock on it: what a killed writer left behind, the next writer of the same file removes.
"""

import contextlib
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from .open_file import open_file

_PRIVATE = 0o600
_MOST_TRIES = 100
_LONGEST_NAME = 50  # characters of the file's name in that of its temporary file, which may have 255 bytes


def write_file(path: str | os.PathLike[str], content: bytes | str, *, durable: bool, mode: int | None = None) -> None:
    """Write a file in one step; text as UTF-8.

    Args:
        path: Of the file, in a directory that exists. A symbolic link is replaced, not followed.
        content: All of the file.
        durable: Whether the content is on the disk before it gets its name, so that a power cut loses neither content.
        mode: Permissions of the file, whatever the umask; None keeps those of the former file.

    Raises:
        OSError: If it cannot be written; the former content stays then.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, durable=durable, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool, mode: int | None = None) -> Iterator[io.FileIO]:
    """Hand out a temporary file, which replaces ``path`` in one step at the end of the block unless that raises.

    Args:
        path: As for :func:`write_file`.
        durable: As for :func:`write_file`.
        mode: As for :func:`write_file`.

    Raises:
        OSError: If it cannot be written; the former content stays then.
    """
    target, process = Path(path), os.getpid()
    remove_left_behind(target)
    mode = _mode_of(target) if mode is None else mode
    with temporary_file(lambda: target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.tmp"), mode) as file:
        yield file
        if os.getpid() != process:  # a child that was forked in the block: its parent goes on
            return
        if durable:
            os.fsync(file.fileno())
        os.replace(file.name, target)


@contextlib.contextmanager
def temporary_file(new_path: Callable[[], Path | str], mode: int | None) -> Iterator[io.FileIO]:
    """Make a new file as :func:`new_locked_file` does, removed at the end of the block unless it was renamed."""
    process = os.getpid()
    file = new_locked_file(new_path, mode)
    try:
        with file:
            yield file
    finally:
        if os.getpid() == process:  # else this is a child, forked in the middle
            Path(file.name).unlink(missing_ok=True)


def new_locked_file(new_path: Callable[[], Path | str], mode: int | None) -> io.FileIO:
    """Make a new file, locked while it is open: so others tell it from one whose writer has died.

    One that another process has taken for left behind, in the moment before it was locked, is made again.

    Args:
        new_path: Returns a path of which there is no file, another one each time.
        mode: Permissions, whatever the umask; None leaves them to the umask.

    Raises:
        OSError: If it cannot be made.
    """
    tries = 0
    while True:
        path, tries = new_path(), tries + 1
        try:
            file = open_file(path, "xb", None if mode is None else _PRIVATE)
        except FileNotFoundError:  # removed as left behind while it was made; or files cannot be made, as in /proc
            if tries == _MOST_TRIES or not os.path.isdir(os.path.dirname(path)):
                raise
            continue
        try:
            if not _lock(file, path):
                file.close()
                continue
            if mode is not None:
                os.fchmod(file.fileno(), mode)
        except BaseException:
            file.close()
            Path(path).unlink(missing_ok=True)
            raise
        return file


def remove_if_left_behind(path: str | os.PathLike[str], before: Callable[[io.FileIO], None] = lambda _: None) -> bool:
    """Remove a temporary file whose writer has died; return False if it lives.

    Args:
        path: Of the file.
        before: Called with the file before it goes.

    Raises:
        OSError: If that cannot be found out, or the file cannot be removed.
    """
    with open_file(os.fspath(path), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        before(file)
        os.unlink(path)  # under the lock: a writer that has just made the file finds it removed, and makes another
    return True


def remove_left_behind(path: Path) -> None:
    """Remove the temporary files that killed writers of ``path`` left behind, as far as that is possible."""
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_prefix(path)) and entry.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    remove_if_left_behind(entry.path)


def _lock(file: io.FileIO, path: Path | str) -> bool:
    """Lock a new file; return False if it was removed as left behind, or is about to be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nothing is removed as left behind
        return True
    return os.path.lexists(path)


def _prefix(path: Path) -> str:
    return f".{path.name[:_LONGEST_NAME]}."


def _mode_of(path: Path) -> int | None:
    try:
        stat_result = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(stat_result.st_mode) if stat.S_ISREG(stat_result.st_mode) else None
