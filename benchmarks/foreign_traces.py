"""Cost over bound on traces that the project does not contain, also of what tuning recommends.

    python -m benchmarks.foreign_traces TRACE.csv recorded/trace.parquet … [--log shared/data/azure_….csv]

A CSV file has the columns that ``Trace.from_csv`` takes: key, size, cost, and time if there is one. ``--log`` adds the
half of a serving log that ``adaptive`` was not designed on. Each trace is replayed at limits of 5, 10, 20, 30 and 50 %
of the bytes of all its programs, and at least those of its largest. ``recommended`` is the best policy by replaying
the very requests, as ``flows.tune`` does; ``next half`` the policy recommended by the first half of the requests, over
the second half's own bound: what a recommendation is worth for requests to come. ``schedule`` knows the future, and
shows how near the bound is. Ratios of a setting without misses on both sides are 1.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.adaptive_traces import FunctionEntries, served
from benchmarks.record import record
from jaxcache import POLICIES as known
from jaxcache import Trace, optimum
from jaxcache import replay as replay_one
from jaxcache.lab.tuning.search import Recording, search

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
POLICIES = ("lru", "gdsf", "adaptive")
CANDIDATES = [name for name in known if name != "none"]  # as flows.tune does
COLUMNS = (*POLICIES, "recommended", "next half", "schedule")
Row = dict[str, float | str]


def part(trace: Trace, start: int, end: int) -> Trace:
    """Return the requests of some rows; signatures weigh and cost the same."""
    columns = {name: column[start:end] for name, column in trace.columns.items()}
    return replace(trace, signatures=trace.signatures[start:end], events=trace.events[start:end], columns=columns)


def recommended(trace: Trace, limit_bytes: int) -> str:
    """Return the policy that tuning recommends for a trace at a limit."""
    return search([Recording("none", trace, 0.0)], CANDIDATES, memory_limit=limit_bytes).best.replayed.policy


def over_bound(trace: Trace, limit_bytes: int, policy: str) -> float:
    """Return a policy's compile seconds over the bound."""
    spent = replay_one(trace, policy, limit_bytes).compile_seconds
    return _ratio(spent, optimum(trace, limit_bytes).lower_bound_seconds)


def _ratio(seconds: float, bound_seconds: float) -> float:
    return 1.0 if seconds == bound_seconds else seconds / max(bound_seconds, 1e-12)


def rows_of(trace: Trace) -> list[Row]:
    """Return a row a limit."""
    largest, middle = int(trace.size_bytes.max()), len(trace) // 2
    limits = sorted({max(largest, int(share * trace.working_set_bytes)) for share in SHARES})
    first, second = part(trace, 0, middle), part(trace, middle, len(trace))
    rows: list[Row] = []
    for limit in limits:
        best, bound = recommended(trace, limit), optimum(trace, limit)
        row: Row = {"limit": limit, "policy": best}
        row |= {name: over_bound(trace, limit, name) for name in POLICIES}
        row["recommended"] = over_bound(trace, limit, best)
        row["next half"] = over_bound(second, limit, recommended(first, limit))
        row["schedule"] = _ratio(bound.feasible_seconds, bound.lower_bound_seconds)
        rows.append({name: round(one, 4) if isinstance(one, float) else one for name, one in row.items()})
    return rows


def summary(tables: Sequence[list[Row]]) -> dict[str, dict[str, float]]:
    """Return geometric mean and worst over all rows, by column."""
    rows = [row for table in tables for row in table]
    told: dict[str, dict[str, float]] = {}
    for column in COLUMNS:
        ratios = np.array([float(row[column]) for row in rows])
        told[column] = {"mean": round(float(np.exp(np.log(ratios).mean())), 3), "worst": round(float(ratios.max()), 3)}
    return told


def of_programs(programs: FunctionEntries) -> Trace:
    """Return the trace of a part of a log."""
    keys, sizes, seconds = programs.keys, programs.size_bytes, programs.compile_seconds
    return Trace.from_arrays(keys=keys, size_bytes=sizes[keys], compile_seconds=seconds[keys])


def name_of(path: Path) -> str:
    """Return what tells a trace from others: the program that a sweep's reference recorded, else the file's place."""
    try:
        told = json.loads((path.parent / "reference.json").read_text())
        return f"{told['workload']} {told['shapes']} seed {told['seed']}, {told['requests']} requests"
    except (OSError, ValueError, KeyError):
        return "/".join(path.parts[-2:])


def main() -> None:
    """Print a table a trace, and record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="*", type=Path)
    parser.add_argument("--log", type=Path, help="a CSV file with lengths in its second and third columns")
    given = parser.parse_args()
    traces = {name_of(path): Trace.load(path) for path in given.traces}
    halves = served(given.log)["held-out"] if given.log else {}
    traces |= {f"log, {name}": of_programs(make()) for name, make in halves.items()}
    if not traces:
        parser.error("name a trace, such as trace.csv, or --log")
    tables = {name: table_of(name, trace) for name, trace in traces.items()}
    told = summary(list(tables.values()))
    print()
    for line in ("mean", "worst"):
        print(f"{line:>10}" + "".join(f"{told[column][line]:13.3f}" for column in COLUMNS))
    print(f"\nwritten to benchmarks/results/{record('foreign_traces', {**tables, 'summary': told}).name}")


def table_of(name: str, trace: Trace) -> list[Row]:
    """Print a trace's table and return it."""
    print(f"\n{name}: {trace.requests} requests for {len(trace.labels)} programs", flush=True)
    print(f"{'MiB':>10}" + "".join(f"{column:>13}" for column in COLUMNS) + "  policy")
    rows = rows_of(trace)
    for row in rows:
        ratios = "".join(f"{float(row[column]):13.3f}" for column in COLUMNS)
        print(f"{float(row['limit']) / 2**20:10.1f}{ratios}  {row['policy']}", flush=True)
    return rows


if __name__ == "__main__":
    main()
