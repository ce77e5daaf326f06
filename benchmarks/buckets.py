"""What buckets cost: powers of two, linear steps, AlphaFold 3's defaults and the optimal set.

    python -m benchmarks.buckets [--lengths FILE]

Chosen on one half of the lengths, judged on the other: padding and compiles together, over those of the optimal set.
A call costs its length, a compile as much as 20 calls of the mean length. FILE is a CSV with a column ContextTokens,
such as the public Azure LLM trace; without it, three synthetic distributions. Needs only jax and numpy.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import record
from jaxcache import (
    ALPHAFOLD3_BUCKETS,
    choose_buckets,
    judge_buckets,
    linear_buckets,
    power_of_two_buckets,
)

Lengths = NDArray[np.int64]
CALLS_A_COMPILE = 20


def synthetic(count: int) -> dict[str, Lengths]:
    """Return streams of lengths of three shapes: skewed, even, and two peaks."""
    draw = np.random.default_rng(0)
    peaks = np.where(draw.random(count) < 0.7, draw.normal(300, 40, count), draw.normal(2500, 300, count))
    drawn = {"lognormal": draw.lognormal(6, 0.8, count), "uniform": draw.uniform(1, 4000, count), "two peaks": peaks}
    return {name: np.clip(one, 1, 5120).astype(np.int64) for name, one in drawn.items()}


def read(path: Path) -> Lengths:
    """Return the column ContextTokens of a CSV, zeros left out."""
    with path.open() as rows:
        lengths = np.array([int(row["ContextTokens"]) for row in csv.DictReader(rows)])
    return lengths[lengths > 0]


def compare(name: str, lengths: Lengths) -> dict[str, Any]:
    """Print a line a set of buckets."""
    known, judged = np.array_split(np.random.default_rng(1).permutation(lengths), 2)
    compile_cost = CALLS_A_COMPILE * float(known.mean())
    optimal = choose_buckets(known, compile_cost=compile_cost)
    sets = {
        "optimal": optimal.buckets,
        "powers of two": power_of_two_buckets(known),
        f"linear, {len(optimal.buckets)} steps": linear_buckets(known, len(optimal.buckets)),
        "AlphaFold 3": ALPHAFOLD3_BUCKETS,
    }
    costs = {title: judge_buckets(buckets, judged, compile_cost=compile_cost) for title, buckets in sets.items()}
    print(f"\n{name}: {len(lengths)} lengths from {lengths.min()} to {lengths.max()}")
    print(f"{'':22} {'buckets':>8} {'padding':>8} {'cost / optimal':>15}")
    for title, cost in costs.items():
        print(f"{title:22} {len(cost.buckets):8} {cost.padding:8.1%} {cost.cost / costs['optimal'].cost:15.3f}")
    return {
        title: {
            "buckets": len(cost.buckets),
            "padding": cost.padding,
            "over_optimal": cost.cost / costs["optimal"].cost,
        }
        for title, cost in costs.items()
    }


def main() -> None:
    """Print and record the costs, and how long choosing takes for a million lengths."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.buckets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=Path, help="a CSV with a column ContextTokens")
    given = parser.parse_args().lengths
    streams = {given.stem: read(given)} if given else synthetic(20_000)
    measured: dict[str, Any] = {name: compare(name, lengths) for name, lengths in streams.items()}
    million = synthetic(1_000_000)["lognormal"]
    started = time.perf_counter()
    choose_buckets(million, compile_cost=1e5)
    measured["seconds_for_a_million"] = time.perf_counter() - started
    print(f"\nchoosing for a million lengths: {measured['seconds_for_a_million']:.2f} s")
    print(f"written to benchmarks/results/{record('buckets', measured).name}")


if __name__ == "__main__":
    main()
