"""none: what is in stays; when the limit is reached, nothing more comes in."""

from .fifo import Fifo


class Never(Fifo):
    """Never evicts. A new entry that does not fit is refused, so the limit holds all the same.

    Not a policy to choose, but one to compare with: it shows what the first comers alone are worth. A caller that
    must make room in spite of ``admit`` is given the oldest.
    """

    def admit(self, key: int, size: int, cost: float) -> bool:
        return False
