"""Hooks between a shared directory and JAX, of which the directory knows nothing else."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JaxHooks:
    """Hooks by which JAX, where it uses a DiskCache, tells it what it cannot know.

    Attributes:
        same: Returns whether two values hold the same program; the second is what this thread has just compiled.
        key_parts: Returns the parts of a key just requested, by name; the second argument says whether it was a hit.
        is_distributed: Returns whether one program runs over several processes, which must not wait for each other.
        puts_only_what_is_lost: Whether a value that ``get`` has returned is put again only if it could not be loaded.
        closed: Called when the DiskCache closes.
    """

    same: Callable[[bytes, bytes], bool] = operator.eq
    key_parts: Callable[[str, bool], Mapping[str, object]] = lambda _, __: {}
    is_distributed: Callable[[], bool] = bool
    puts_only_what_is_lost: bool = False
    closed: Callable[[], None] = lambda: None
