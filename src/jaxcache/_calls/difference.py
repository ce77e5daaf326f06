"""Difference between two calls, and the kinds that there are."""

from dataclasses import dataclass

# How two calls can differ, in the order in which one is named as the cause: a difference explains those after it.
KINDS = (
    "static_metadata", "tree_structure", "static_value", "config_context", "device_or_sharding", "new_dtype",
    "weak_type", "new_shape",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Difference between two calls.

    Attributes:
        kind: One of ``KINDS``.
        place: The argument, leaf or setting.
        before: Its value or kind in the earlier call.
        after: The same in the later call.
    """

    kind: str
    place: str
    before: str
    after: str

    def __str__(self) -> str:
        where = f" {self.place}:" if self.place else ""
        return f"{self.kind.replace('_', ' ')}:{where} was {self.before}, is {self.after}"
