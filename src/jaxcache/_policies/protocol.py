"""The protocol of eviction policies."""

from typing import Protocol


class Policy(Protocol):
    """Eviction policy: decides who goes. It holds no entries, only what it needs to order their keys.

    Keys are any hashable; the same key means the same entry, also after it was evicted and added again.
    ``size`` is in bytes and positive; ``cost`` is in compile seconds, as first measured for the key.
    No method looks at a clock, so that the same calls always give the same decisions.
    """

    def add(self, key: int, size: int, cost: float) -> None:
        """Take up a key that is not held."""
        ...

    def hit(self, key: int) -> None:
        """Note that a held key was asked for. O(1)."""
        ...

    def victim(self) -> int:
        """Return the held key that should go next, and keep it; the caller then calls ``remove``.

        Raises:
            LookupError: If nothing is held.
        """
        ...

    def remove(self, key: int) -> None:
        """Forget a held key, whether it was the victim or not."""
        ...

    def admit(self, key: int, size: int, cost: float) -> bool:
        """Say whether a key that is not held is worth making room for. Asked only when there is no room."""
        ...
