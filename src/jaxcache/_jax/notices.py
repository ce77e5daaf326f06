"""Warnings that never fail the program that they are about."""

import contextlib
import logging
import os
import sys
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


def _user() -> tuple[str, int]:
    """Return the user's file, and the stack level of the line as ``warnings.warn`` called by our caller counts it."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, depth = frame.f_back, depth + 1
    return frame.f_code.co_filename, depth
