"""Checks of what callers give: one rule each for whole numbers, seconds, shares and other real numbers.

NumPy's numbers are taken as Python's are; truth values are no numbers. Each error names the argument, its value and
what was expected.
"""

import contextlib
import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

_Kind = TypeVar("_Kind")
_REAL = "iuf"  # the kinds of dtypes that are real numbers


def check_whole_number(value: object, name: str, least: int = 1, *, optional: bool = False) -> int:
    """Return ``value`` as an int.

    Args:
        value: What the caller gave.
        name: Of the argument, for the message.
        least: The smallest value that is allowed.
        optional: Whether the message says that None is allowed, too; see :func:`check_optional_whole_number`.

    Raises:
        ValueError: If it is no whole number, or less than ``least``.
    """
    number = as_whole_number(value)
    if number is None or number < least:
        or_none = ", or None" if optional else ""
        raise ValueError(f"{name} must be a whole number, {least} or more{or_none}, but is {value!r}")
    return number


def check_optional_whole_number(value: object, name: str, least: int = 1) -> int | None:
    """Return ``value`` as an int, or None if it is None.

    Raises:
        ValueError: If it is neither None nor a whole number of ``least`` or more.
    """
    return None if value is None else check_whole_number(value, name, least, optional=True)


def check_seed(value: object) -> int:
    """Return the argument ``seed`` as an int.

    Raises:
        ValueError: If it is no whole number.
    """
    number = as_whole_number(value)
    if number is None:
        raise ValueError(f"seed must be a whole number, such as 0, but is {value!r}")
    return number


def check_seconds(value: object, name: str) -> float:
    """Return ``value`` as finite seconds, 0 or more.

    Raises:
        ValueError: If it is anything else.
    """
    number = as_real_number(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"{name} must be seconds, 0 or more, but is {value!r}")
    return number


def check_share(value: object, name: str) -> float:
    """Return ``value`` as a share from 0 to 1; True is all and False is nothing.

    Raises:
        ValueError: If it is anything else.
    """
    number = float(value) if isinstance(value, bool) else as_real_number(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"{name} must be True, False or a share from 0 to 1, such as 0.01, but is {value!r}")
    return number


def check_positive(value: object, name: str, example: str) -> float:
    """Return ``value`` as a finite number above 0.

    Raises:
        ValueError: If it is anything else; the message gives ``example``.
    """
    number = as_real_number(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive, such as {example}, but is {value!r}")
    return number


def check_instance(value: object, kind: type[_Kind], name: str, example: str) -> _Kind:
    """Return ``value``, if it is of a class.

    Raises:
        TypeError: If it is anything else; the message gives ``example``.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, such as {example}, but is {value!r}")
    return value


def check_not_empty(text: str, name: str) -> None:
    """Refuse an empty text.

    Raises:
        ValueError: If it is empty.
    """
    if not text:
        raise ValueError(f"{name} must not be empty, but is {text!r}")


def check_ascending(lengths: Iterable[object], name: str = "buckets") -> tuple[int, ...]:
    """Return lengths to pad to as a tuple, if they are that.

    Raises:
        ValueError: If they are not whole numbers of 1 or more, each larger than the one before.
    """
    listed = tuple(lengths)
    numbers = tuple(number for length in listed if (number := as_whole_number(length)) is not None and number >= 1)
    if not listed or len(numbers) < len(listed) or any(a >= b for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"{name} must be ascending whole numbers, 1 or more, such as (64, 128, 256), but is {lengths}")
    return numbers


def as_whole_number(value: object) -> int | None:
    """Return ``value`` as an int if it is a whole number by type, NumPy's too; None otherwise."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def as_real_number(value: object) -> float | None:
    """Return ``value`` as a float if it is a real number by type, NumPy's too; None otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    array: Any = value
    if getattr(getattr(array, "dtype", None), "kind", "") in _REAL and getattr(array, "ndim", None) == 0:
        return float(array)
    return None


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], name: str, wanted: str) -> Iterator[None]:
    """Name the argument that a file was given as, and what it must be, where the file cannot be read.

    Raises:
        OSError: Of the kind that the system's is.
    """
    try:
        yield
    except OSError as error:
        raise type(error)(f"{name} must be {wanted}, but {path} cannot be read ({error.strerror})") from error
