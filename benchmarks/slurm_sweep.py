"""What SLURM adds to a sweep: wall time of submitting and attaching over that of the same sweep with ``runner=local``.

    python -m benchmarks.slurm_sweep [--repeats 3] [--trials 100]

A SLURM of one node of two cores is started in a directory of its own, as its tests do; it needs root and Debian's
slurm-wlm. The same trials of some two seconds run in turn on the two cores without it and by it, two at a time, with
one cost table. The wall time is that of the commands, from the start of the first Python to the end of the last: of the
sweep; or of submitting, and of attaching until the report is there. Both keep Prefect's record, on a server that runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import quartiles, record
from tests._support.slurm import Cluster, running_slurm

TRIALS = (
    "workload=gradient_optimization", "eviction=lru,random,size_based,gdsf", "shapes=uniform", "shapes.distinct=4",
    "workload.requests=12", "persistent=fresh",
)  # fmt: skip
SLURM = ("runner=slurm", "runner.jobs=2", "runner.cpus_per_task=1")
LOCAL = ("runner=local", "runner.workers=2")
DECISIONS = ("hits", "misses", "evictions")


def sweep(cluster: Cluster, *words: str) -> float:
    """Run a command of the sweep as a user does; return its wall time in seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "flows.sweep", *words], env={**os.environ, **cluster.environment}, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def decisions(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return what each trial of a sweep decided."""
    results = {path.parent.name: json.loads(path.read_text()) for path in directory.glob("trials/*/result.json")}
    return {trial: tuple(result["statistics"][name] for name in DECISIONS) for trial, result in results.items()}


def run_once(cluster: Cluster, outputs: Path, words: tuple[str, ...], runner: tuple[str, ...]) -> tuple[float, Path]:
    """Run the sweep one way; return its wall time in seconds and its directory."""
    seconds = sweep(cluster, *words, *runner, f"sweep.directory={outputs}")
    (directory,) = (path.parent for path in outputs.glob("*/sweep.json"))
    if runner is SLURM:
        seconds += sweep(cluster, "attach", str(directory))
    return seconds, directory


def main() -> None:
    """Print and record the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm_sweep", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100, help="of each sweep, in fours (100)")
    options = parser.parse_args()
    limits = ",".join(f"{2000 + 20 * number}KiB" for number in range(max(1, options.trials // 4)))
    subprocess.run([sys.executable, "-m", "flows.server", "start"], check=True, capture_output=True)
    rows: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="slurm-") as home:
        (cluster_home := Path(home, "c")).mkdir()
        with running_slurm(cluster_home) as cluster:
            _, first = run_once(cluster, Path(home, "first"), (*TRIALS, "memory_limit=2000KiB"), LOCAL)
            words = (*TRIALS, f"memory_limit={limits}", f"costs={first / 'costs.json'}")
            for number in range(options.repeats):
                local, directory = run_once(cluster, Path(home, f"local{number}"), words, LOCAL)
                slurm, other = run_once(cluster, Path(home, f"slurm{number}"), words, SLURM)
                if decisions(directory) != decisions(other):
                    sys.exit("SLURM's trials decided otherwise")
                rows.append((local, slurm))
                print(f"{local:.1f} s locally, {slurm:.1f} s by SLURM: {slurm / local:.3f}", flush=True)
    ratio = quartiles([slurm / local for local, slurm in rows])
    print(f"SLURM ÷ local = {ratio['median']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})")
    path = record("slurm_sweep", {"ratio": ratio, "trials": options.trials, "local_and_slurm_seconds": rows})
    print(f"written to benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
