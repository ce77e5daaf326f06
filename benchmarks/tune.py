"""``flows.tune`` against executing its grid for real: wall time, predicted against run, and how good the choice is.

Both do the same program, policies and limits, one after the other, with one cost table. Prints ratios, and writes
them to benchmarks/results/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import record
from jaxcache import replay
from jaxcache._from_file import read_settings
from jaxcache.lab.aggregate import MANIFEST
from jaxcache.lab.requests import load_requests
from jaxcache.lab.run import COSTS

POLICIES = "lru,lfu,fifo,size_based,s3fifo,gdsf,gdsf_admit,lnc_ra"


def run(module: str, *words: str) -> float:
    """Run a command of the flows to its end; return its seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"flows.{module}", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def read(directory: Path) -> list[dict[str, Any]]:
    """Return the results of a sweep."""
    return [json.loads(path.read_text()) for path in directory.glob("trials/*/result.json")]


def measure(root: Path, program: list[str], policies: str, limits: str) -> dict[str, Any]:
    """Tune, then execute the grid; return the figures."""
    present = [f"memory_limit={limits.split(',')[0]}", f"sweep.directory={root}/tuned"]
    asked = [f"tune.policies={policies}", f"tune.limits={limits}", "tune.buckets=none", "tune.verify=1"]
    tune_seconds = run("tune", *program, *present, *asked)
    (tuned,) = (root / "tuned").glob("tune_*")
    recorded = tuned / "recorded"
    grid_words = [f"eviction={policies}", f"memory_limit={limits}", f"costs={recorded}/{COSTS}"]
    grid_seconds = run("sweep", *program, f"sweep.directory={root}/grid", *grid_words)
    (grid,) = (path.parent for path in (root / "grid").glob(f"*/{MANIFEST}"))
    results = read(grid)
    trace = load_requests(recorded, results[0]["program_id"])
    found = [(one["config"]["eviction"]["name"], one["config"]["memory_limit"], one["statistics"]) for one in results]
    setting = read_settings(tuned / "best.yaml")
    (chosen,) = read(tuned / f"verified_none_{setting['eviction']}_{setting['limit']}")
    rivals = [stats["cost_seconds"] for _, limit, stats in found if limit == setting["limit"]]
    spent = [one["statistics"]["compile_seconds"] for one in results]
    recording_seconds = json.loads((recorded / MANIFEST).read_text())["wall_seconds"]
    return {
        "program": program,
        "policies": policies,
        "limits": limits,
        "trials": len(results),
        "tune_seconds": round(tune_seconds, 1),
        "recording_seconds": round(recording_seconds, 1),
        "grid_seconds": round(grid_seconds, 1),
        "grid_over_tune": round(grid_seconds / tune_seconds, 2),
        "grid_over_recording": round(grid_seconds / recording_seconds, 2),
        "mispredicted_trials": sum(
            replay(trace, name, limit).misses != stats["misses"] for name, limit, stats in found
        ),
        # The grid decides by the recorded costs; what its compiles really took is another matter.
        "measured_over_predicted_seconds": round(sum(spent) / sum(stats["cost_seconds"] for *_, stats in found), 3),
        "chosen_over_best_at_its_limit": round(chosen["statistics"]["cost_seconds"] / min(rivals), 4),
    }


def main() -> None:
    """Print and record the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--workload", default="gradient_optimization")
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--limits", default="4MiB,8MiB,12MiB,16MiB,24MiB,32MiB")
    options = parser.parse_args()
    program = [f"workload={options.workload}", f"workload.requests={options.requests}", "persistent=off"]
    with tempfile.TemporaryDirectory() as place:
        measured = measure(Path(place), program, options.policies, options.limits)
    for name, value in measured.items():
        print(f"{name.replace('_', ' '):32} {value}")
    print(f"\nwritten to benchmarks/results/{record('tune', measured).name}")


if __name__ == "__main__":
    main()
