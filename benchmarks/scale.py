"""What a sweep costs beside its trials, for 100 and for 1,000 of them.

    python -m benchmarks.scale [--trials 100 1000] [--repeats 3]

The trials do no work: their processes start, hold a device, and leave a result. All else is a sweep's own: planning,
Prefect's flow, tasks and server, processes, files, the report. Sizes take turns, so that both see the same machine.
Prints overhead a trial, planning seconds, the memory of the flow's process, and what Prefect says of every trial.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.record import quartiles, record
from jaxcache._primitives.atomic_files import write_file
from jaxcache.lab.layout import RESULT, TRIALS
from jaxcache.lab.running.job import TrialJob

MIB = 1024**2
EVICTIONS = "lru,fifo,random,gdsf,lfu,sieve,s3fifo,size_based,lnc_ra,adaptive"


def words(trials: int) -> list[str]:
    """Return a command of that many trials, all of one program."""
    limits = ",".join(f"{8 + number}MiB" for number in range(trials // 10))
    return [f"eviction={EVICTIONS}", f"memory_limit={limits}", "workload=monte_carlo", "workload.requests=1",
            "shapes.distinct=1", "persistent=off"]  # fmt: skip


# In the flow's process, which runs `--flow`.


def no_work(order: TrialJob) -> None:
    """Run in a trial's process: leave a result as if the trial had been run."""
    from jaxcache.lab.running import process as child

    if order.kind == "reference":
        return child.main(order)
    done = json.loads(Path(os.environ["SCALE_RESULT"]).read_text())
    done |= {"trial_id": order.trial_id, "label": order.trial.label, "config": order.trial.model_dump(mode="json")}
    done |= {"costs_hash": order.costs_hash, "environment": order.environment.model_dump(mode="json")}
    write_file(order.directory / RESULT, json.dumps(done), durable=False)
    return None


def flow(command: list[str], told: Path) -> int:
    """Run a sweep whose trials do no work, and tell what was measured meanwhile."""
    from benchmarks import scale  # by its name: trials' processes look for it there
    from flows import sweep
    from flows.planning import plan
    from jaxcache.lab.running import process as child

    child.main = scale.no_work
    samples: list[tuple[float, int]] = []
    stop = threading.Event()
    threading.Thread(target=_sample, args=(samples, stop), daemon=True).start()
    planning = time.perf_counter()
    plan.make_plan(tuple(command))  # it is remembered: the sweep does not plan again
    planning = time.perf_counter() - planning
    code = sweep.main(["--quiet", *command])
    stop.set()
    told.write_text(json.dumps({"planning": planning, "samples": samples}))
    return code


def _sample(samples: list[tuple[float, int]], stop: threading.Event) -> None:
    process = psutil.Process()
    while not stop.wait(0.25):
        samples.append((time.time(), process.memory_info().rss))


# In the benchmark's process.


def measure(trials: int, scratch: Path, planted: Path | None) -> dict[str, Any]:
    """Run one sweep; return what it took."""
    outputs, told = scratch / "outputs", scratch / "told.json"
    outputs.mkdir(parents=True)
    command = [*words(trials), f"sweep.directory={outputs}"]
    start = [sys.executable, "-m", "flows.sweep", "--quiet"] if planted is None else [
        sys.executable, "-m", "benchmarks.scale", "--flow", str(told)
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        [*start, *command],
        env={**os.environ, "SCALE_RESULT": str(planted)},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - began
    (place,) = outputs.glob("20*")
    results = list(place.glob(f"{TRIALS}/*/{RESULT}"))
    if done.returncode or len(results) != trials:
        failed = [one for one in map(json.loads, map(Path.read_text, results)) if one["status"] == "failed"]
        raise SystemExit(f"{done.stdout}{done.stderr}\n{[(one['reason'], one['stderr_tail']) for one in failed]}")
    if planted is None:
        return {"result": results[0]}
    manifest = json.loads((place / "sweep.json").read_text())
    measured = json.loads(told.read_text())
    done_at = sorted(path.stat().st_mtime for path in results)
    memory = {share: _held(measured["samples"], done_at[int(share * (trials - 1))]) for share in (0.2, 1.0)}
    states, trailing = prefect_states(manifest["run_url"], trials + 2)
    return {
        "trials": trials,
        "wall_seconds": wall,
        "flow_seconds": manifest["wall_seconds"],
        "report_seconds": _report_seconds(place),
        "planning_seconds": measured["planning"],
        "seconds_a_trial": (done_at[-1] - done_at[0]) / (trials - 1),
        "memory_mib": [held / MIB for held in memory.values()],
        "peak_mib": max(rss for _, rss in measured["samples"]) / MIB,
        "states": dict(states),
        "states_trailing_seconds": trailing,
    }


def _held(samples: list[tuple[float, int]], when: float) -> int:
    return min(samples, key=lambda sample: abs(sample[0] - when))[1]


def _report_seconds(place: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "flows.report", str(place)], capture_output=True, check=True)
    return time.perf_counter() - began


def prefect_states(run_url: str, expected: int) -> tuple[Counter[str], float]:
    """Ask Prefect for the state of every task of a run, until none is missing; also return how long that took."""
    address, began = urllib.parse.urlsplit(run_url), time.perf_counter()
    while True:
        states = Counter(_states(f"http://{address.netloc}/api", address.path.rpartition("/")[2]))
        if states["COMPLETED"] == expected or time.perf_counter() - began > 120:
            return states, time.perf_counter() - began
        time.sleep(1)


def _states(api: str, run_id: str) -> Iterator[str]:
    offset, page = 0, [{}]
    while page:
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "offset": offset, "limit": 200, "sort": "ID_DESC"}
        asked = urllib.request.Request(
            f"{api}/task_runs/filter", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            page = json.load(answer)
        yield from (task["state_type"] for task in page)
        offset += len(page)


def main() -> int:
    """Print and record what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000], help="sizes, in tens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--flow", type=Path, help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.flow is not None:
        return flow(rest, given.flow)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "flows.server", "start"], check=True, capture_output=True)
        planted = measure(10, Path(scratch) / "planted", None)["result"]
        for number in range(given.repeats):
            for trials in given.trials:
                runs.append(measure(trials, Path(scratch) / f"{number}-{trials}", planted))
                _tell(runs[-1])
    small, large = min(given.trials), max(given.trials)
    ratio = quartiles([b / a for a, b in zip(_each(runs, small), _each(runs, large), strict=True)])
    print(
        f"overhead a trial: {1000 * median(_each(runs, large)):.0f} ms of {large}, "
        f"{1000 * median(_each(runs, small)):.0f} ms of {small}: {ratio['median']:.2f} "
        f"({ratio['low']:.2f}–{ratio['high']:.2f})"
    )
    path = record("scale", {"runs": runs, "ratio": ratio})
    print(f"written to benchmarks/results/{path.name}")
    return 0


def _tell(one: dict[str, Any]) -> None:
    print(
        f"{one['trials']:5} trials: {one['wall_seconds']:6.1f} s, {1000 * one['seconds_a_trial']:.0f} ms a trial, "
        f"planning {one['planning_seconds']:.1f} s, report {one['report_seconds']:.1f} s, the flow's memory "
        f"{one['memory_mib'][0]:.0f} MiB after a fifth of the trials, {one['memory_mib'][1]:.0f} after all, "
        f"{one['peak_mib']:.0f} at most, states {one['states']} after {one['states_trailing_seconds']:.0f} s"
    )


def _each(runs: list[dict[str, Any]], trials: int) -> list[float]:
    """Return the seconds a trial, from the first result to the last: what a sweep pays once is left out."""
    return [one["seconds_a_trial"] for one in runs if one["trials"] == trials]


if __name__ == "__main__":
    sys.exit(main())
