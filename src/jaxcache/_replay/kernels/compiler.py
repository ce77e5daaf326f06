"""How a kernel is compiled: without Python's lock, and kept on disk where there is a place for it."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that numba compiles at its first call."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written: compiled in each process
        return njit(nogil=True)(function)
