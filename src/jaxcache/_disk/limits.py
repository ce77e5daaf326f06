"""Limits of a shared directory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a directory in bytes and entries; None is no limit."""

    limit_bytes: int | None
    max_entries: int | None

    def exceeded(self, entries: int, size_bytes: int) -> bool:
        """Return whether so many entries of so many bytes are too much."""
        too_large = self.limit_bytes is not None and size_bytes > self.limit_bytes
        return too_large or (self.max_entries is not None and entries > self.max_entries)
