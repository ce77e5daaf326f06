"""Output of a user's program: a file that it writes or what it prints, compared with that of the reference."""

import base64
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import format_size
from ..workloads import Answer, Program

_MOST_BYTES = 16 * 1024**2  # of an output that is kept whole, to be compared number by number
MEASURE = "difference from the reference's output"


def digest_of(output: bytes) -> str:
    """Return an output's checksum."""
    return hashlib.sha256(output).hexdigest()[:16]


def kept(program: Program, output: bytes) -> str:
    """Return an output as a reference keeps it: whole if numbers are compared, empty if the checksum is enough.

    Raises:
        ValueError: If it is too large to be kept.
    """
    if not program.check.tolerance:
        return ""
    if len(output) > _MOST_BYTES:
        raise ValueError(
            f"program.check.file={program.check.file} holds {format_size(len(output))}; at most "
            f"{format_size(_MOST_BYTES)} can be compared with a tolerance; write less, or leave the tolerance out"
        )
    return base64.b64encode(zlib.compress(output)).decode()


def restored(output: str) -> bytes:
    """Return an output that :func:`kept` has returned."""
    return zlib.decompress(base64.b64decode(output))


def compare(program: Program, output: bytes, reference: bytes) -> Answer:
    """Return how far an output is from the reference's: infinitely far where they differ in more than numbers."""
    tolerance = program.check.tolerance
    if output == reference:
        return Answer(measure=MEASURE, error=0.0, tolerance=tolerance)
    error = math.inf
    if tolerance and program.check.file is not None:
        try:
            read = _read_json if program.check.file.suffix == ".json" else _read_arrays
            error = _distance(read(output), read(reference))
        except (ValueError, TypeError, KeyError, OSError):  # one of them cannot be read
            error = math.inf
    return Answer(measure=MEASURE, error=error, tolerance=tolerance)


def _read_json(content: bytes) -> dict[str, Any]:
    return dict(_leaves(json.loads(content), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each value of a JSON document with its path; of an object and a list also that they are there."""
    if isinstance(value, dict):
        yield path, f"object of {len(value)}"
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, f"list of {len(value)}"
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}[{index}]")
    else:
        yield path, value


def _read_arrays(content: bytes) -> dict[str, Any]:
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    return {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}


def _distance(values: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the largest difference between numbers of the same name; infinity if anything else differs."""
    if values.keys() != wanted.keys():
        return math.inf
    return max((_difference(values[name], wanted[name]) for name in wanted), default=0.0)


def _difference(value: Any, wanted: Any) -> float:
    mine, other = np.asarray(value), np.asarray(wanted)
    if mine.shape != other.shape or not (_is_number(mine) and _is_number(other)):
        return (
            0.0 if mine.shape == other.shape and mine.dtype == other.dtype and bool(np.all(mine == other)) else math.inf
        )
    if mine.size == 0:
        return 0.0
    kind = np.complex128 if "c" in mine.dtype.kind + other.dtype.kind else np.float64
    left, right = mine.astype(kind), other.astype(kind)
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(equal, 0.0, np.abs(left - right) / np.maximum(1.0, np.abs(right)))
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "iufc"
