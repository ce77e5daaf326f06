"""Replayed seeds against seeds that were run: do the intervals of one seed's sweep cover what the others measure?

    python -m flows.sweep eviction=lru,size_based memory_limit=8MiB workload=iterative_solver seed=0,1,2,3,4,5,6,7
    python -m benchmarks.replayed_seeds outputs/<sweep>

Each seed of a finished sweep is taken for the only one that was run: of its recording alone the other seeds' requests
are put together and replayed. Held against the trials: misses and reference seconds of each other seed, and the ratio
of two policies, whose interval over the replayed seeds should have its part in common with that over the seeds run.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.record import record
from jaxcache.lab.analysis.other_seeds import OtherSeeds, find_other_seeds
from jaxcache.lab.analysis.paired_tests import Comparison, compare
from jaxcache.lab.analysis.sweep import Sweep, read_sweep
from jaxcache.lab.result import Statistics

_FEWEST_SEEDS = 6


class _Block(NamedTuple):
    """Trials of one program at one limit with one choice of buckets: statistics by policy and seed."""

    name: str
    limit_bytes: int
    run: Mapping[str, Mapping[int, Statistics]]
    others: Mapping[int, OtherSeeds]


def blocks_of(sweep: Sweep) -> list[_Block]:
    """Return the blocks of a sweep, with the seeds that each of its seeds alone lets replay."""
    run: dict[Any, dict[str, dict[int, Statistics]]] = defaultdict(lambda: defaultdict(dict))
    configs: dict[Any, dict[int, Any]] = defaultdict(dict)
    for result in sweep.results:
        setting, config = sweep.setting_of(result), result.config
        if result.statistics is not None and setting.memory_limit is not None:
            block = (sweep.programs[result.program_id], setting.buckets, setting.memory_limit)
            run[block][setting.eviction][config.seed] = result.statistics
            configs[block][config.seed] = result
    blocks: list[_Block] = []
    for block, by_policy in run.items():
        program, _, limit = block
        alone = {
            seed: find_other_seeds({seed: result.config}, {seed: sweep.recorded[result.program_id]})
            for seed, result in configs[block].items()
        }
        usable = {seed: other for seed, other in alone.items() if other is not None}
        blocks.append(_Block(program.label, limit, by_policy, usable))
    return blocks


def compare_block(block: _Block) -> list[dict[str, Any]]:
    """Return what was replayed and measured, for each pair of policies and each seed that is taken for the only one."""
    measured = {policy: _seconds(by_seed) for policy, by_seed in block.run.items()}
    rows: list[dict[str, Any]] = []
    for of_run in compare(measured):
        for seed, others in block.others.items():
            replayed = {
                policy: {
                    ("", each): recording.predict(policy, block.limit_bytes, each).compile_seconds
                    for each, recording in others.programs.items()
                }
                for policy in (of_run.first, of_run.second)
            }
            (of_replay,) = compare(replayed)
            rows.append({"program": block.name, "pair": f"{of_run.first} over {of_run.second}", "seed": seed,
                         "replayed": _interval(of_replay), "run": _interval(of_run),
                         "covers": _covers(of_replay, of_run)})  # fmt: skip
    return rows


def _covers(replayed: Comparison, run: Comparison) -> bool:
    """Return whether the intervals have a ratio in common: the seeds run, too, are a sample of all seeds."""
    low, high = replayed.ratio.low, replayed.ratio.high
    run_low, run_high = run.ratio.low, run.ratio.high
    assert low is not None
    assert high is not None
    assert run_low is not None
    assert run_high is not None
    return low <= run_high and run_low <= high


def _seconds(by_seed: Mapping[int, Statistics]) -> dict[tuple[str, int], float]:
    return {("", seed): statistics.cost_seconds for seed, statistics in by_seed.items()}


def _interval(pair: Comparison) -> list[float | None]:
    return [None if each is None else round(each, 3) for each in (pair.ratio.mean, pair.ratio.low, pair.ratio.high)]


def seeds_apart(block: _Block) -> tuple[list[bool], list[float]]:
    """Return whether each seed, replayed off another, has the misses of its trial, and its seconds over those run."""
    equal: list[bool] = []
    ratios: list[float] = []
    for policy, by_seed in block.run.items():
        for base, others in block.others.items():
            for seed, statistics in by_seed.items():
                if seed != base and seed in others.programs:
                    predicted = others.programs[seed].predict(policy, block.limit_bytes, seed)
                    equal.append(predicted.misses == statistics.misses)
                    ratios.append(predicted.compile_seconds / statistics.cost_seconds)
    return equal, ratios


def main() -> None:
    """Print and record both comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replayed_seeds", description=__doc__)
    parser.add_argument("sweep", type=Path, help="directory of a sweep of at least six seeds")
    blocks = blocks_of(read_sweep(parser.parse_args().sweep))
    few = [block.name for block in blocks if min(map(len, block.run.values())) < _FEWEST_SEEDS]
    if few or not blocks:
        parser.error(f"the sweep must have {_FEWEST_SEEDS} seeds or more of every setting, such as seed=0,1,2,3,4,5")
    rows = [row for block in blocks for row in compare_block(block)]
    for row in rows:
        ratio, low, high = row["replayed"]
        print(f"{row['program']}, {row['pair']}, seed {row['seed']} alone: {ratio} ({low}–{high}), run {row['run']}")
    apart = [seeds_apart(block) for block in blocks]
    equal, ratios = [each for some, _ in apart for each in some], [each for _, some in apart for each in some]
    measured = {
        "rows": rows, "covered": sum(row["covers"] for row in rows),
        "with_the_mean": sum(row["replayed"][1] <= row["run"][0] <= row["replayed"][2] for row in rows),
        "seeds_with_equal_misses": sum(equal), "seeds_replayed": len(equal),
        "seconds_replayed_over_run": [round(each, 3) for each in (min(ratios), median(ratios), max(ratios))],
    }  # fmt: skip
    print(f"{measured['covered']} of {len(rows)} intervals cover some of that over the seeds run, "
          f"{measured['with_the_mean']} their mean")  # fmt: skip
    print(
        f"{measured['seeds_with_equal_misses']} of {len(equal)} seeds replayed off another have the misses of their run"
    )
    low, middle, high = measured["seconds_replayed_over_run"]
    print(f"their reference seconds over those of the run: {middle} ({low} to {high})")
    print(f"written to benchmarks/results/{record('replayed_seeds', measured).name}")


if __name__ == "__main__":
    main()
