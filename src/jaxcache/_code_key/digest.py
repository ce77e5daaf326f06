"""Digest of a function: one for its code and all that it reaches."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import containers as _containers  # registers what it reads
from . import jax_values as _jax_values
from . import objects as _objects  # after the others: it reads any object
from .patches import planted
from .requirements import requirements
from .walk import CannotBeKeyed, Walk

__all__ = ["CannotBeKeyed", "Digest", "digest_of"]
_READERS = (_containers, _jax_values, _objects)


class Digest(NamedTuple):
    """Digest of values.

    Attributes:
        value: Equal for values that a program would be traced alike from.
        stable: The same without what objects have computed from their attributes, and keep.
        stamp: Changes with every change of the user's files that were reached, also of a comment.
        packages: Top-level names of the installed packages that were reached.
    """

    value: bytes
    stable: bytes
    stamp: str
    packages: frozenset[str]


def digest_of(values: Iterable[tuple[str, Any]], packages: frozenset[str] | None = None) -> Digest:
    """Return the digest of named values: functions with all that they reach, options, signatures.

    Args:
        values: The values.
        packages: Installed packages that count too, beside those that are reached, with what they need, and with the
            functions of the user's in them; None where only what is reached counts.

    Raises:
        CannotBeKeyed: With the name of what has none, and why.
    """
    walk, name = Walk(""), ""
    try:
        for name, value in values:
            walk._path = [name]
            walk.put(name)
            walk.value(value)
        if packages is not None:
            for name, value in planted(packages | walk.packages):
                walk._path = [name]
                walk.put("planted", name)
                walk.value(value)
            walk.put("requirements", *requirements(packages | walk.packages))
    except CannotBeKeyed:
        raise
    except RecursionError as error:
        raise CannotBeKeyed(name, "it reaches too deep") from error
    except Exception as error:  # of the caller's own attributes and methods
        raise CannotBeKeyed(name, f"reading it failed ({type(error).__name__}: {error})") from error
    return Digest(walk.digest(), walk.stable(), _stamp(walk.files), frozenset(walk.packages))


def _stamp(files: Iterable[str]) -> str:
    """Return a text for the state of files: the names without folders, sizes and times of change."""
    digest = hashlib.blake2b(digest_size=8)
    states = []
    for file in files:
        with contextlib.suppress(OSError):
            stat = os.stat(file)
            states.append(f"{os.path.basename(file)} {stat.st_size} {stat.st_mtime_ns}")
    for state in sorted(states):
        digest.update(state.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
