"""What is remembered of keys that are not held."""

from collections import OrderedDict
from typing import TypeVar

HISTORY = 4096  # keys; as many as JitCache remembers of a function

T = TypeVar("T")


class History(OrderedDict[int, T]):
    """Of the ``HISTORY`` keys noted last; the one noted longest ago is forgotten first."""

    def note(self, key: int, value: T) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > HISTORY:
            self.popitem(last=False)
