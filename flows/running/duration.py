"""Durations for people."""


def duration_text(seconds: float) -> str:
    """Return seconds as text: ``43 s``, ``12 min``, ``2.5 h``."""
    if seconds < 200:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
