"""What each signature weighs and costs, kept so that decisions can be repeated.

Compile times of one program vary by a factor of two from run to run, enough to change what a cost-aware policy
evicts. A cache given the table of an earlier run decides as that run did.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_FORMAT = 1


class Cost(NamedTuple):
    """Bytes and compile seconds of one signature, as first measured."""

    size_bytes: int
    seconds: float


class CostTable(Mapping[str, Cost]):
    """Signature, as described by the statistics, to its :class:`Cost`."""

    def __init__(self, costs: Mapping[str, Cost] | None = None) -> None:
        """Take rows; ValueError for one that nothing can weigh or cost."""
        self._costs = dict(costs or {})
        for signature, cost in self._costs.items():
            if cost.size_bytes <= 0 or not (math.isfinite(cost.seconds) and cost.seconds >= 0):
                raise ValueError(f"costs has an impossible row for {signature}: {cost}")

    def __getitem__(self, signature: str) -> Cost:
        return self._costs[signature]

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs)

    def __len__(self) -> int:
        return len(self._costs)

    def merge(self, other: Mapping[str, Cost]) -> "CostTable":
        """Return a table with the rows of both; where both have one, this table's stands."""
        return CostTable({**other, **self._costs})

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
        target = Path(path)
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        with staged.open("w") as file:
            file.write(json.dumps({"format": _FORMAT, "signatures": rows}, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)

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
