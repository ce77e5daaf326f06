"""Whole program as an entry of a shared directory holds it: a line of JSON about it, and the pickled executable."""

import json
from dataclasses import dataclass

from .._jax.whole_programs import WholeProgram, load
from .._policies.bounded_set import Weight
from .executable import Executable


@dataclass(frozen=True, slots=True)
class StoredProgram:
    """Program of an entry.

    Attributes:
        lowered_hash: Hash of what was lowered, to compare with.
        weight: Bytes and memory mappings that holding it takes.
        constants_bytes: The constants' part of it.
        pickled: The executable with its trees, as bytes.
    """

    lowered_hash: str
    weight: Weight
    constants_bytes: int
    pickled: bytes

    def load(self, *, imports: bool = True) -> WholeProgram:
        """Return the executable.

        Args:
            imports: Whether modules may be imported for it that the process has not imported yet.

        Raises:
            Exception: If it cannot be loaded here.
        """
        return load(self.pickled, imports=imports)


def encode_program(lowered_hash: str, executable: Executable, pickled: bytes) -> bytes:
    """Return an entry's value for a program."""
    header = {
        "hash": lowered_hash,
        "size_bytes": executable.weight.size_bytes,
        "mappings": executable.weight.mappings,
        "constants_bytes": executable.constants_bytes,
    }
    return json.dumps(header).encode() + b"\n" + pickled


def decode_program(value: bytes) -> StoredProgram:
    """Return the program of an entry's value.

    Raises:
        Exception: If it is none.
    """
    header_json, _, pickled = value.partition(b"\n")
    header = json.loads(header_json)
    weight = Weight(header["size_bytes"], header["mappings"])
    return StoredProgram(header["hash"], weight, header["constants_bytes"], pickled)
