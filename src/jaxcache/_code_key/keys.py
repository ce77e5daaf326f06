"""Keys of whole programs in a shared directory: from the code of a function, and from one call of it."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from .._calls.signature import Key
from .._jax import configuration
from .digest import CannotBeKeyed, digest_of
from .origins import origin_of_module

VERSION = 2  # of what a key stands for and an entry holds: raised with every change of either
_NAME = "jaxcache-program"
_ALWAYS = frozenset({"jax"})  # the package that traces


class ProgramKey(NamedTuple):
    """Key of one program of a function.

    Attributes:
        code: Stands for the function with all that it reaches, under its options.
        call: Stands for the arguments, the configuration and the devices.
        stamp: Changes with every change of the user's files that were reached.
        stable: Like ``code``, and the same before and after objects compute what they keep, such as cached properties.
    """

    code: str
    call: str
    stamp: str
    stable: str

    @property
    def entry(self) -> str:
        """Key of the entry that holds the program."""
        return f"{prefix_of(self.code)}{self.call}"

    @property
    def verified(self) -> str:
        """Key of the entry that says that the program was traced again for these very files, and was the same."""
        return f"{prefix_of(self.code)}{self.call}-verified-{self.stamp}"


def prefix_of(code: str) -> str:
    """Return what the keys of all entries of a function's code begin with."""
    return f"{_NAME}-{code}-"


def refused_key(code: str) -> str:
    """Return the key of the entry that says that programs of this code differed, so that it is always traced."""
    return f"{_NAME}-refused-{code}"


_last_surroundings: tuple[object, bytes] = (None, b"")


def _surroundings() -> bytes:
    """Return a digest of JAX's configuration and devices, which seldom change from call to call."""
    global _last_surroundings
    surroundings = (tuple(configuration.settings()), tuple(configuration.devices()))
    last, digest = _last_surroundings
    if surroundings != last:
        digest = digest_of([("surroundings", surroundings)]).value
        _last_surroundings = (surroundings, digest)
    return digest


def program_key(fun: Callable[..., Any], name: str, options: Mapping[str, Any], key: Key) -> ProgramKey:
    """Return the key of the program that a function gives for a call.

    Args:
        fun: The function.
        name: What messages call it.
        options: Those of ``jax.jit``.
        key: Of the call in the memory tier; its first part stands for JAX's configuration, which is read here.

    Raises:
        CannotBeKeyed: With the name of what has no stable content, and why.
    """
    supervision = configuration.supervision()
    if supervision is not None:
        raise CannotBeKeyed(name, f"{supervision} is set, under which JAX traces each program itself")
    if jax.process_count() > 1:
        raise CannotBeKeyed(name, "the program runs over several processes")
    call = digest_of(
        [
            ("arguments", key[1:]),
            ("surroundings", _surroundings()),
        ]
    )
    versions = (VERSION, sys.version, np.__version__, str(origin_of_module("jax")))
    parts = [("versions", versions), (name, fun), ("options", dict(sorted(options.items())))]
    code = digest_of(parts, call.packages | _ALWAYS)
    return ProgramKey(code.value.hex(), call.value.hex(), f"{code.stamp}{call.stamp}", code.stable.hex())
