"""none: what is in stays; when the limit is reached, nothing more comes in."""


class Never:
    """Never evicts. A new entry that does not fit is refused, so the limit holds all the same.

    Not a policy to choose, but one to compare with: it shows what the first comers alone are worth.
    """

    def __init__(self) -> None:
        self._held: dict[int, None] = {}

    def add(self, key: int, size: int, cost: float) -> None:
        self._held[key] = None

    def hit(self, key: int) -> None:
        pass

    def victim(self) -> int:
        """Return the oldest: asked only by a caller that must make room in spite of ``admit``."""
        for key in self._held:
            return key
        raise LookupError("nothing is held")

    def remove(self, key: int) -> None:
        del self._held[key]

    def admit(self, key: int, size: int, cost: float) -> bool:
        return False
