"""What a sweep adds to its trials: wall time over (sum of the trials' own work ÷ workers).

    python -m benchmarks.sweep_overhead [--repeats 3] [--trials 10]

24 trials of about two seconds each. The wall time is that of the whole command, from the start of its Python to its
exit: imports, planning, processes, Prefect's records, the report. Told apart: the start of Prefect's server, which
later sweeps do not pay, and sweeps that measure each program's cost against sweeps that are given a cost table.

Before that, what a process of its own adds to one trial, from its start to its end, beside a fresh interpreter.
"""

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import quartiles, record

# A few programs, compiled again and again under every limit.
TRIALS = (
    "workload=gradient_optimization", "eviction=lru,random,size_based,gdsf", "shapes=uniform", "shapes.distinct=4",
    "memory_limit=2000KiB,2100KiB,2200KiB,2300KiB,2400KiB,2500KiB", "workload.requests=40", "persistent=fresh",
)  # fmt: skip


def sweep(directory: Path, *words: str) -> dict[str, Any]:
    """Run a sweep as a user does; return its wall time and what its trials took."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "flows.sweep", *TRIALS, *words, f"sweep.directory={directory}"],
        check=True, capture_output=True,
    )  # fmt: skip
    wall = time.perf_counter() - started
    (place,) = (path.parent for path in directory.glob("*/sweep.json"))
    results = [json.loads(path.read_text()) for path in place.glob("trials/*/result.json")]
    work = [result["timing"]["work_seconds"] for result in results]
    workers = len({result["device"] for result in results}) if "gpu" in results[0]["device"] else cpu_slots(results)
    return {"costs": place / "costs.json", "wall": wall, "work": sum(work), "trials": len(work), "workers": workers}


def process_seconds(rounds: int, scratch: Path) -> dict[str, list[float]]:
    """Return what a process adds to a short trial's own work: one of the fork server's, and a fresh interpreter."""
    from flows.planning.plan import make_plan
    from jaxcache.lab.environment import environment
    from jaxcache.lab.layout import RESULT
    from jaxcache.lab.result import TrialResult
    from jaxcache.lab.running import fork_server, launch
    from jaxcache.lab.running import process as child
    from jaxcache.lab.running.job import TrialJob

    def fork(order: TrialJob) -> None:
        launch.run_trial(order, 600.0, threading.Event())

    def spawn(order: TrialJob) -> None:
        process = multiprocessing.get_context("spawn").Process(target=child.main, args=(order,))
        process.start()
        process.join()
        shutil.rmtree(order.scratch, ignore_errors=True)

    plan = make_plan((*(word for word in TRIALS if not word.startswith("workload.requests")), "workload.requests=8"))
    planned, device, here = plan.trials[0], plan.devices[0], environment()
    ways: dict[str, Callable[[TrialJob], None]] = {"fork server": fork, "fresh interpreter": spawn}
    added: dict[str, list[float]] = {name: [] for name in ways}
    fork_server.start()
    for number in range(rounds + 1):
        for name, carry_out in ways.items():
            place = Path(tempfile.mkdtemp(dir=scratch))
            order = TrialJob("trial", planned.trial, device, place, here, {}, planned.trial_id, planned.program_id)
            started = time.perf_counter()
            carry_out(order)
            wall = time.perf_counter() - started
            result = TrialResult.model_validate_json((place / RESULT).read_bytes())
            assert result.timing is not None, result.reason
            if number:  # the first finds nothing in memory
                added[name].append(wall - result.timing.work_seconds)
    return added


def cpu_slots(results: list[dict[str, Any]]) -> int:
    """Read the number of slots off the share of the cores that each trial had."""
    held, _, all_cores = results[0]["device"].removeprefix("cpu on ").removesuffix(" cores").partition(" of ")
    return int(all_cores) // int(held)


def main() -> None:
    """Print and record the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep_overhead", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10, help="single ones, each way, for what a process adds (10)")
    options = parser.parse_args()
    repeats = options.repeats
    with tempfile.TemporaryDirectory() as scratch:
        added = {name: quartiles(seconds) for name, seconds in process_seconds(options.trials, Path(scratch)).items()}
    for name, seconds in added.items():
        spread = f"{seconds['low']:.2f}–{seconds['high']:.2f}"
        print(f"{name:17} adds {seconds['median']:.2f} s ({spread}) to a trial's work")
    was_running = subprocess.run([sys.executable, "-m", "flows.server", "status"], capture_output=True).returncode == 0
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "flows.server", "start"], check=True, capture_output=True)
    start_seconds = None if was_running else time.perf_counter() - started
    print("server:", "was running" if start_seconds is None else f"{start_seconds:.1f} s to start, not counted below")
    ratios: dict[str, list[float]] = {"measuring costs": [], "costs given": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(repeats):
            costs = None
            for name in ratios:
                home = Path(scratch) / f"{number} {name}".replace(" ", "_")
                home.mkdir()
                run = sweep(home, *([f"costs={costs}"] if costs else []))
                costs = run["costs"]
                ratios[name].append(run["wall"] / (run["work"] / run["workers"]))
                print(
                    f"{name:16} {run['wall']:.1f} s for {run['trials']} trials of {run['work'] / run['trials']:.2f} s "
                    f"on {run['workers']} workers: {ratios[name][-1]:.3f}"
                )
    summary = {name: quartiles(values) for name, values in ratios.items()}
    for name, ratio in summary.items():
        print(f"{name:16} wall ÷ (work ÷ workers) = {ratio['median']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})")
    measured = {"process_seconds": added, "ratio": summary, "server_start_seconds": start_seconds}
    path = record("sweep_overhead", measured)
    print(f"written to benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
