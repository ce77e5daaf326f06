"""``flows.tune`` against executing its grid for real: wall time, predicted against run, and how good the choice is.

For each workload, both do the same program, policies and limits, one after the other, with one cost table. Prints
ratios, and writes them to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import record
from jaxcache import ReplayResult, Trace, replay
from jaxcache._cache.settings_file import read_settings
from jaxcache.lab.analysis.bounds import load_requests
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.layout import COSTS, MANIFEST, REFERENCE, REFERENCES
from jaxcache.lab.result import Reference, Statistics, Timing, TrialResult

WORKLOADS = "gradient_optimization,iterative_solver,monte_carlo"
POLICIES = "lru,lfu,fifo,size_based,s3fifo,gdsf,gdsf_admit,lnc_ra"


@dataclass(frozen=True)
class Checked:
    """A setting, as predicted and as run."""

    predicted: ReplayResult
    run: Statistics
    timing: Timing

    @property
    def misses_off(self) -> float:
        """How far the misses are from the prediction, as a share."""
        return abs(self.run.misses - self.predicted.misses) / self.predicted.misses

    @property
    def seconds_ratio(self) -> float:
        """Compile seconds that the run took, over those predicted."""
        return self.run.compile_seconds / self.predicted.compile_seconds

    def processor_ratio(self, reference: Reference) -> float:
        """Return processor seconds that the run took, over those predicted: what others do at the time counts less.

        A recording's processor seconds are taken to be spent on its programs as its seconds are.
        """
        share = reference.processor_seconds / (reference.unbounded_cost_seconds + reference.run_seconds)
        return self.timing.processor_seconds / (share * (self.predicted.compile_seconds + reference.run_seconds))


def run(module: str, *words: str) -> float:
    """Run a command of the flows to its end; return its seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"flows.{module}", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def wall_seconds(sweep: Path) -> float:
    """Return how long a sweep took."""
    return json.loads((sweep / MANIFEST).read_text())["wall_seconds"]


def load_reference(recorded: Path, program_id: str) -> Reference:
    """Return what the recording measured."""
    return Reference.model_validate_json((recorded / REFERENCES / program_id / REFERENCE).read_bytes())


def check(trace: Trace, results: Sequence[TrialResult]) -> list[Checked]:
    """Lay runs beside their predictions."""
    return [
        Checked(replay(trace, one.config.eviction.name, one.config.memory_limit), one.statistics, one.timing)
        for one in results
        if one.statistics is not None and one.timing is not None
    ]


def compare(checked: Sequence[Checked], reference: Reference) -> dict[str, Any]:
    """Return how near the predictions were."""
    predicted, run = (sum(seconds) for seconds in zip(
        *((one.predicted.compile_seconds, one.run.compile_seconds) for one in checked), strict=True))  # fmt: skip
    ratios = sorted(one.seconds_ratio for one in checked)
    busy = sorted(one.processor_ratio(reference) for one in checked)
    return {
        "settings": len(checked),
        "misses_off_most": round(max(one.misses_off for one in checked), 4),
        "run_over_predicted_seconds": round(run / predicted, 3),
        "of_single_settings": [round(ratios[0], 3), round(ratios[-1], 3)],
        "run_over_predicted_processor_seconds": round(statistics.median(busy), 3),
        "processor_of_single_settings": [round(busy[0], 3), round(busy[-1], 3)],
    }


def measure(root: Path, program: list[str], policies: str, limits: str) -> dict[str, Any]:
    """Tune, then execute the grid; return the figures."""
    load = [os.getloadavg()[0]]
    present = [f"present.memory_limit={limits.split(',')[0]}", f"sweep.directory={root}/tuned"]
    asked = [f"tune.policies={policies}", f"tune.limits={limits}", "tune.buckets=none", "tune.verify=1"]
    tune_seconds = run("tune", *program, *present, *asked)
    load.append(os.getloadavg()[0])
    (tuned,) = (root / "tuned").glob("tune_*")
    recorded, verified = tuned / "recorded", tuned / "verified"
    grid_words = [f"eviction={policies}", f"memory_limit={limits}", f"costs={recorded}/{COSTS}"]
    grid_seconds = run("sweep", *program, f"sweep.directory={root}/grid", *grid_words)
    load.append(os.getloadavg()[0])
    (grid,) = (path.parent for path in (root / "grid").glob(f"*/{MANIFEST}"))
    ran, again = read_sweep(grid).results, read_sweep(verified).results
    trace, reference = load_requests(recorded, ran[0].program_id), load_reference(recorded, ran[0].program_id)
    setting = read_settings(tuned / "best.yaml")
    whole, few = check(trace, ran), check(trace, again)
    (chosen,) = [one for one in few if (one.predicted.policy, one.predicted.limit_bytes)
                 == (setting["eviction"], setting["limit"])]  # fmt: skip
    rivals = [one.run.cost_seconds for one in whole if one.predicted.limit_bytes == setting["limit"]]
    unverified_seconds = tune_seconds - wall_seconds(verified)
    return {
        "program": program,
        "chosen": f"{setting['eviction']} {setting['limit']}",
        "tune_seconds": round(tune_seconds, 1),
        "recording_seconds": round(wall_seconds(recorded), 1),
        "grid_seconds": round(grid_seconds, 1),
        "grid_over_tune": round(grid_seconds / tune_seconds, 2),
        "grid_over_tune_before_verification": round(grid_seconds / unverified_seconds, 2),
        "verified": compare(few, reference),
        "grid": compare(whole, reference),
        "chosen_over_best_at_its_limit": round(chosen.run.cost_seconds / min(rivals), 4),
        "load_before_between_after": [round(one, 1) for one in load],
    }


def main() -> None:
    """Print and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--workloads", default=WORKLOADS)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--limits", default="4MiB,8MiB,12MiB,16MiB,24MiB,32MiB")
    parser.add_argument("--name", default="tune", help="of the file in benchmarks/results/")
    options = parser.parse_args()
    run("server", "start")  # it stays up from one command to the next
    measured: dict[str, Any] = {"policies": options.policies, "limits": options.limits}
    for workload in options.workloads.split(","):
        program = [f"workload={workload}", f"workload.requests={options.requests}", "persistent=off"]
        with tempfile.TemporaryDirectory() as place:
            measured[workload] = measure(Path(place), program, options.policies, options.limits)
        print(f"\n{workload}")
        for name, value in measured[workload].items():
            print(f"  {name.replace('_', ' '):36} {value}", flush=True)
        print(f"  written to benchmarks/results/{record(options.name, measured).name}", flush=True)


if __name__ == "__main__":
    main()
