"""Sizes: people type ``64MiB`` and read ``64 MiB``; code passes ints in bytes."""

import re

from .checks import as_whole_number

_UNITS = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "kib": 1024,
    "m": 1000**2, "mb": 1000**2, "mib": 1024**2,
    "g": 1000**3, "gb": 1000**3, "gib": 1024**3,
    "t": 1000**4, "tb": 1000**4, "tib": 1024**4,
}  # fmt: skip
_LEAST_OF_NEXT = 1023.95  # of a unit: with one decimal it would be written as 1024.0
_SIZE = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(value: int | float | str, name: str = "size") -> int:
    """Return ``value`` in bytes.

    Args:
        value: A whole number of bytes, or text such as ``"64MiB"``, ``"1.5 GB"`` or ``"4096"``.
            ``KiB``, ``MiB`` … are powers of 1024; ``KB``, ``MB`` … are powers of 1000.
        name: What the error message calls the argument.

    Raises:
        ValueError: If the text is not a size, or the size is not positive.
        TypeError: If ``value`` is neither a number nor text.
    """
    if not isinstance(value, str):
        value = _whole_bytes(value, name)
    match = _SIZE.fullmatch(str(value))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{name} must be a size such as 64MiB (units: B, KB, KiB, MB, MiB, GB, GiB), but is {value!r}")
    if "." in match[1] and unit == 1 and not float(match[1]).is_integer():
        raise ValueError(f"{name} must be a whole number of bytes, or text with a unit such as 64MiB, but is {value!r}")
    size = int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if size <= 0:
        raise ValueError(f"{name} must be positive, such as 64MiB, but is {value}")
    return size


def _whole_bytes(value: object, name: str) -> int:
    """Return a whole number of bytes, also one that is written as a float such as 64e6."""
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise ValueError(f"{name} must be a whole number of bytes, or text with a unit such as 64MiB, but is {value!r}")
    size = as_whole_number(value)
    if size is None:
        raise TypeError(f"{name} must be a size in bytes or text such as '64MiB', but is {value!r}")
    return size


def format_size(size_bytes: int | float) -> str:
    """Return ``size_bytes`` for people: ``512 B``, ``1.5 MiB``, ``64 MiB``."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(size) >= _LEAST_OF_NEXT and len(units) > 1:
        size /= 1024
        del units[0]
    unit = units[0]
    return f"{size:.0f} {unit}" if unit == "B" or size == int(size) else f"{size:.1f} {unit}"
