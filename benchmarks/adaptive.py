"""Compile seconds over a certified lower bound: adaptive and its peers, on traces of its design and on others.

    python -m benchmarks.adaptive [--log shared/data/azure_llm_conversation_2023.csv] [--families held-out unseen]

Each trace is replayed at limits of 5, 10 and 30 % of the bytes of all its programs; a row gives the geometric mean of
the three. ``feasible`` is a schedule that knows the future. Last come microseconds a hit and an eviction, in one run.
"""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.adaptive_traces import DESIGN, HELD_OUT, UNSEEN, Family, served
from benchmarks.record import record
from jaxcache._policies import make_policy
from jaxcache._replay.bound import optimum
from jaxcache._replay.replay import replay
from jaxcache._replay.trace import Trace

SHARES = (0.05, 0.1, 0.3)
NAMES = ("lru", "s3fifo", "gdsf", "gdsf_admit", "lnc_ra", "adaptive")
COLUMNS = (*NAMES, "feasible")
ENTRIES = (100, 1_000, 10_000)


def over_bound(family: Family) -> dict[str, list[dict[str, float]]]:
    """Return, of each trace, compile seconds over the bound by policy, one a limit."""
    table = {}
    for name, make in family.items():
        programs = make()
        trace = Trace.from_arrays(
            keys=programs.keys,
            size_bytes=programs.size_bytes[programs.keys],
            compile_seconds=programs.compile_seconds[programs.keys],
        )
        table[name] = [_row(trace, int(share * trace.working_set_bytes)) for share in SHARES]
        print(f"{name:34}" + "".join(f"{_mean([row[column] for row in table[name]]):11.2f}" for column in COLUMNS))
    return table


def _row(trace: Trace, limit_bytes: int) -> dict[str, float]:
    best = optimum(trace, limit_bytes)
    seconds = {name: replay(trace, name, limit_bytes).compile_seconds for name in NAMES}
    seconds["feasible"] = best.feasible_seconds
    return {name: round(spent / best.lower_bound_seconds, 4) for name, spent in seconds.items()}


def _mean(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def summary(table: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return by policy: geometric mean, worst, and the worst of its seconds over those of lru and of the best peer."""
    rows = [row for limits in table.values() for row in limits]
    return {
        column: {
            "geometric mean": round(_mean([row[column] for row in rows]), 3),
            "worst": round(max(row[column] for row in rows), 3),
            "worst over lru": round(max(row[column] / row["lru"] for row in rows), 3),
            "worst over the best peer": round(
                max(row[column] / min(row[one] for one in NAMES[:-1]) for row in rows), 3
            ),
        }
        for column in COLUMNS
    }


def _best_peer(row: dict[str, float]) -> float:
    return min(row[name] for name in NAMES if name != "adaptive")


def microseconds(name: str, entries: int, calls: int = 2_000) -> dict[str, float]:
    """Return the median microseconds of a hit, and of a miss that asks, evicts and adds, of five turns each."""
    policy, draw = make_policy(name), random.Random(0)
    for key in range(entries):
        policy.add(key, 1 + key % 97, 1.0 + key % 31)
    held = set(range(entries))
    hits, misses = [], []
    for turn in range(5):
        asked = draw.choices(sorted(held), k=calls)
        start = time.perf_counter()
        for key in asked:
            policy.hit(key)
        hits.append((time.perf_counter() - start) / calls)
        start = time.perf_counter()
        for key in range(entries + turn * calls, entries + (turn + 1) * calls):
            policy.admit(key, 1 + key % 97, 1.0 + key % 31)
            victim = policy.victim()
            policy.remove(victim)
            held.remove(victim)
            policy.add(key, 1 + key % 97, 1.0 + key % 31)
            held.add(key)
        misses.append((time.perf_counter() - start) / calls)
    return {"hit": round(1e6 * float(np.median(hits)), 2), "miss": round(1e6 * float(np.median(misses)), 1)}


def main() -> None:
    """Print the tables and write them down."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--log", type=Path, help="a CSV file with lengths in its second and third columns")
    arguments.add_argument("--families", nargs="+", choices=["design", "held-out", "unseen"])
    given = arguments.parse_args()
    families: dict[str, Family] = {"design": DESIGN, "held-out": HELD_OUT, "unseen": UNSEEN}
    added = served(given.log) if given.log else {}
    measured = {}
    for name in given.families or families:
        print(f"\n{name:34}" + "".join(f"{column:>11}" for column in COLUMNS))
        table = over_bound({**families[name], **added.get(name, {})})
        measured[name] = {"over bound": table, "summary": summary(table)}
        for line in measured[name]["summary"]["adaptive"]:
            values = [measured[name]["summary"][column][line] for column in COLUMNS]
            print(f"{line:34}" + "".join(f"{value:11.3f}" for value in values))
    print(f"\n{'microseconds a hit / a miss':34}" + "".join(f"{entries:>17,}" for entries in ENTRIES))
    measured["microseconds"] = {name: {str(count): microseconds(name, count) for count in ENTRIES} for name in NAMES}
    for name, counts in measured["microseconds"].items():
        print(f"{name:34}" + "".join(f"{one['hit']:9.2f} /{one['miss']:6.1f}" for one in counts.values()))
    print(record("adaptive", measured))


if __name__ == "__main__":
    main()
