"""Bytes of plain values: equal for equal constants of one type, whatever the process, and for no others."""

import struct
from collections.abc import Iterable

_NAMED = {type(None): b"None", type(...): b"Ellipsis", type(NotImplemented): b"NotImplemented"}


def joined(kind: bytes, parts: Iterable[bytes]) -> bytes:
    """Return the bytes of a value of these parts, which no other parts have."""
    return kind + b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def plain(value: object) -> bytes | None:
    """Return the bytes of a number, text or constant, or of tuples and frozen sets of them; None for others.

    ``1``, ``1.0`` and ``True`` differ, as they do in a program; so do ``0.0`` and ``-0.0``.
    """
    kind = type(value)
    if kind in _NAMED:
        return _NAMED[kind]
    if kind is bool:
        return b"bool 1" if value else b"bool 0"
    if kind is int:
        return b"int %x" % value  # pyright: ignore[reportOperatorIssue]
    if kind is float:
        return b"float" + struct.pack(">d", value)
    if kind is complex:
        return b"complex" + struct.pack(">dd", value.real, value.imag)  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, str) and kind is str:
        return b"str" + value.encode(errors="surrogatepass")
    if isinstance(value, bytes) and kind is bytes:
        return b"bytes" + value
    if isinstance(value, tuple) and kind is tuple:
        return _all(b"tuple", value)
    if isinstance(value, frozenset) and kind is frozenset:
        return _all(b"frozenset", value, in_order=False)
    if isinstance(value, slice):
        return _all(b"slice", (value.start, value.stop, value.step))
    if isinstance(value, range):
        return _all(b"range", (value.start, value.stop, value.step))
    return None


def _all(kind: bytes, values: Iterable[object], *, in_order: bool = True) -> bytes | None:
    parts = []
    for value in values:
        part = plain(value)
        if part is None:
            return None
        parts.append(part)
    return joined(kind, parts if in_order else sorted(parts))
