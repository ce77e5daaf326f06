"""numba's compiler, with compiled code that outlives the process where there is a folder for it."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.extending import register_jitable

_SOURCES = ("_replay", "_policies")  # packages that compiled functions are made of


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that numba compiles at its first call, and that runs without Python's lock."""
    # numba names its files by the function, and looks for changes in the function's own file only, not in those of the
    # functions that it calls.
    function.__qualname__ = f"{function.__qualname__}.{_digest_of_sources()}"
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written: compiled in each process
        return njit(nogil=True, error_model="numpy")(function)


@cache
def _digest_of_sources() -> str:
    package = Path(__file__).parents[2]
    files = sorted(path for name in _SOURCES for path in (package / name).rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


# Makes a function a part of the compiled functions that call it, without an entry for C of its own; it stays a Python
# function. A number over zero is infinite, as in NumPy: checks for it took a third of a replay, and sizes are positive.
part: Callable[[Callable[..., Any]], Callable[..., Any]] = register_jitable(
    no_cfunc_wrapper=True, forceinline=True, error_model="numpy"
)
