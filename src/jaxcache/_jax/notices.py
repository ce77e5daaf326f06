"""Warnings that never fail the program that they are about."""

import contextlib
import functools
import importlib.util
import logging
import os
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

from .own_files import OWN_FILES

_LOG = logging.getLogger("jaxcache")


def _folders_of(package: str) -> list[str]:
    """Return where a package is, without importing it: who only looks at a directory does not wait for JAX."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # it was imported in a way of its own, and does not tell
        return []
    return [os.path.join(folder, "") for folder in (spec and spec.submodule_search_locations) or ()]


_BETWEEN = (  # files whose frames lie between the user's line and a warning of ours
    *OWN_FILES,
    *_folders_of("jax"),
    str(Path(futures.__file__).parent) + os.sep,
    str(contextlib.__file__),
    str(threading.__file__),
)
_INSTALLED = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


class _CalledFrom(threading.local):
    """Line of the user's that this thread works for, whose frames are on the stack of another."""

    line: tuple[str, int] = ("", 0)


_called_from = _CalledFrom()


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the user's line; log the message instead where a filter has made an error of the warning.

    A program under ``warnings.simplefilter("error")`` asks for its own mistakes to be raised. A call that has its right
    result must not end in an exception because of how it was served.
    """
    try:
        warnings.warn(message, category, stacklevel=_user()[1])
    except Exception:  # the warning itself, or a fault of the program's own showwarning
        with contextlib.suppress(Exception):  # of the program's own log handlers
            _LOG.warning("%s", message)


def file_of_user() -> str:
    """Return the file of the innermost line that is neither ours nor JAX's."""
    return _user()[0]


def source_line_of_user() -> tuple[str, int]:
    """Return file and line of the innermost code that is not installed, or else of what is neither ours nor JAX's.

    The file is empty if this thread runs no such code, and works for none.
    """
    frame = sys._getframe(1)
    installed: tuple[str, int] | None = None
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_between(file):
            if not _is_installed(file, tuple([folder for folder in sys.path if isinstance(folder, str)])):
                return file, frame.f_lineno
            installed = installed or (file, frame.f_lineno)
        frame = frame.f_back
    return installed or _called_from.line


@contextmanager
def called_from(line: tuple[str, int]) -> Iterator[None]:
    """Have this thread, which runs no code of the user's, work for a line of another thread."""
    before, _called_from.line = _called_from.line, line
    try:
        yield
    finally:
        _called_from.line = before


@functools.lru_cache(maxsize=4096)
def _is_between(file: str) -> bool:
    """Say whether a file is ours, JAX's, or of what Python runs between the user's line and those."""
    return file.startswith((*_BETWEEN, "<frozen "))


@functools.lru_cache(maxsize=4096)
def _is_installed(file: str, folders: tuple[str, ...]) -> bool:
    """Say whether a file is Python's own, or of an installed package, wherever among ``folders`` it was installed."""
    return file.startswith(_INSTALLED) or any(
        file.startswith(os.path.join(folder, "")) and _holds_distributions(folder) for folder in folders if folder
    )


@functools.lru_cache(maxsize=256)
def _holds_distributions(folder: str) -> bool:
    """Say whether packages were installed into a folder, as ``pip install --target`` and ``--user`` do."""
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:  # an archive, or nothing
        return False


def _user() -> tuple[str, int]:
    """Return the user's file, and the stack level of the line as ``warnings.warn`` called by our caller counts it."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, depth = frame.f_back, depth + 1
    return frame.f_code.co_filename, depth
