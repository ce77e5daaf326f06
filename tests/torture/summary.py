"""Add up what tortures of sweeps have recorded: ``python -m tests.torture.summary outputs/torture_sweep.json …``.

Writes ``benchmarks/results/torture_sweep_<date>_….json``. Seeds may have run side by side, each with a ``--record``.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.record import record

from .sweep import RECORD


def add_up(seeds: Iterable[tuple[int, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return by runner which seeds ran, of which code, what was done to them, and what was wrong."""
    by_runner: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for seed, one in sorted(seeds, key=lambda pair: pair[0]):
        by_runner.setdefault(one["runner"], []).append((seed, one))
    return {
        runner: {
            "seeds": [seed for seed, _ in ran],
            "code": sorted({one["code"] for _, one in ran}),
            "trials": sum(one["trials"] for _, one in ran),
            "done": dict(sorted(sum((Counter(one["done"]) for _, one in ran), Counter()).items())),
            "wrong": [f"seed {seed}: {line}" for seed, one in ran for line in one["wrong"]],
        }
        for runner, ran in by_runner.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.summary", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("records", type=Path, nargs="*", default=[RECORD], help="of python -m tests.torture.sweep")
    given = parser.parse_args()
    seeds = [(int(seed), one) for path in given.records for seed, one in json.loads(path.read_text()).items()]
    measured = add_up(seeds)
    print(json.dumps(measured, indent=1))
    print(record("torture_sweep", measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
