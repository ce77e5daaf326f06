"""Cost tables: the bytes and compile seconds of each signature, kept so that decisions can be repeated.

Compile times of one program vary by a factor of two from run to run, enough to change what a cost-aware policy
evicts. A cache given the table of an earlier run decides as that run did.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .._primitives.atomic_files import write_file
from .._primitives.checks import check_instance

_FORMAT = 1


class Cost(NamedTuple):
    """Bytes and compile seconds of one signature, as first measured."""

    size_bytes: int
    seconds: float


def name_of_signature(text: str, identity: int) -> str:
    """Return the name of a signature in cost tables and recordings: the call for people, the identity for the rest."""
    return f"{text} #{identity & (2**64 - 1):016x}"


_NAME = re.compile(r"(.*) #([0-9a-f]{16})", re.DOTALL)


class CostTable(Mapping[str, Cost]):
    """Names of signatures, such as ``solve(float32[512]) #1f0c…``, each to its :class:`Cost`.

    A signature is found by what follows the ``#``, the same in every process; the call before it is for people. A row
    without a ``#``, as people write them, and as tables had them until version 0.1, is for each signature of that text
    which has no row of its own; and a text without one finds the row of its only signature.
    """

    def __init__(self, costs: Mapping[str, Cost] | None = None) -> None:
        """Take rows; TypeError for one that is no :class:`Cost`, ValueError for one that nothing can weigh or cost."""
        self._costs = dict(costs or {})
        self._by_identity: dict[str, str] = {}
        self._by_text: dict[str, list[str]] = {}
        for name in self._costs:
            if match := _NAME.fullmatch(name):
                self._by_identity[match[2]] = name
                self._by_text.setdefault(match[1], []).append(name)
        for signature, cost in self._costs.items():
            check_instance(cost, Cost, f"costs[{signature!r}]", "Cost(1_000_000, 0.5)")
            if cost.size_bytes <= 0 or not (math.isfinite(cost.seconds) and cost.seconds >= 0):
                raise ValueError(f"costs has an impossible row for {signature}: {cost}")

    def __getitem__(self, signature: str) -> Cost:
        match = _NAME.fullmatch(signature)
        if match:
            return self._costs[self._by_identity.get(match[2], match[1])]
        names = self._by_text.get(signature, [])
        return self._costs[names[0] if len(names) == 1 and signature not in self._costs else signature]

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs)

    def __len__(self) -> int:
        return len(self._costs)

    def merge(self, other: Mapping[str, Cost]) -> "CostTable":
        """Return a table with the rows of both; where both have one, this table's stands."""
        return CostTable({**{name: cost for name, cost in other.items() if not self._has_row(name)}, **self._costs})

    def _has_row(self, name: str) -> bool:
        match = _NAME.fullmatch(name)
        return name in self._costs or (match is not None and match[2] in self._by_identity)

    @property
    def digest(self) -> str:
        """The hash of the table's rows: equal tables decide alike."""
        return hashlib.sha256(repr(sorted(self._costs.items())).encode()).hexdigest()[:12]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON, sorted, so that equal tables are equal files.

        Replaces ``path`` in one step, and is on the disk before.
        """
        rows = {
            signature: {"size_bytes": cost.size_bytes, "seconds": cost.seconds}
            for signature, cost in sorted(self._costs.items())
        }
        write_file(path, json.dumps({"format": _FORMAT, "signatures": rows}, indent=1) + "\n", durable=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "CostTable":
        """Read a table that :meth:`save` wrote.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no cost table; the message names the file and the row.
        """
        try:
            rows = json.loads(Path(path).read_text())["signatures"]
            return cls({name: Cost(int(row["size_bytes"]), float(row["seconds"])) for name, row in rows.items()})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"costs must be a cost table, such as the costs.json of a sweep, but {os.fspath(path)} is not one"
            ) from error
