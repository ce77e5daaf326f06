"""Times as people type them: 30d, 12h, 90m."""

import re

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(text: str, option: str) -> float:
    """Return the seconds of a time such as ``30d``.

    Raises:
        ValueError: If it is none; names the option.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise ValueError(f"{option} must be a time such as 30d, 12h or 90m, but is {text!r}")
    return float(match[1]) * SECONDS[match[2]]
