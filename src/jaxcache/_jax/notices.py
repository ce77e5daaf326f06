"""Warnings that never fail the program that they are about."""

import contextlib
import logging
import os
import sys
import sysconfig
import threading
import warnings
from concurrent import futures
from pathlib import Path

import jax

from .frames import OWN_FILES

_LOG = logging.getLogger("jaxcache")
_BETWEEN = (  # files whose frames lie between the user's line and a warning of ours
    *OWN_FILES,
    str(Path(jax.__file__).parent) + os.sep,
    str(Path(futures.__file__).parent) + os.sep,
    str(contextlib.__file__),
    str(threading.__file__),
)
_INSTALLED = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


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
    """Return file and line of the innermost code that is not installed, or else of what is neither ours nor JAX's."""
    frame = sys._getframe(1)
    installed: tuple[str, int] | None = None
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*_BETWEEN, "<frozen ")):
            if not file.startswith(_INSTALLED):
                return file, frame.f_lineno
            installed = installed or (file, frame.f_lineno)
        frame = frame.f_back
    return installed or ("", 0)


def _user() -> tuple[str, int]:
    """Return the user's file, and the stack level of the line as ``warnings.warn`` called by our caller counts it."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, depth = frame.f_back, depth + 1
    return frame.f_code.co_filename, depth
