"""Checks of the arguments of a DiskCache."""

import math


def checked_count(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a whole number, 1 or more, or None, but is {value!r}")
    return value


def checked_seconds(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be seconds, 0 or more, but is {value!r}")
    return float(value)


def checked_share(verify: bool | float) -> float:
    if not isinstance(verify, int | float) or not 0 <= verify <= 1:
        raise ValueError(f"verify must be True, False or a share from 0 to 1, such as 0.01, but is {verify!r}")
    return float(verify)


def checked_key(key: str) -> None:
    if not key:
        raise ValueError("key must not be empty, but is ''")
