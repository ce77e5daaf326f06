"""The wall time of one sweep against what else runs trials in fresh processes: the same trials, the same slots.

    python -m benchmarks.sweep_peers [--rounds 3] [--limits 6] [--launcher DIRECTORY]

- ``flows.sweep``, the whole command, with its record in Prefect and its report; the server's start is left out.
- Hydra's joblib launcher, whose every trial starts a fresh process. It is not in the lock file: ``pip install
  --no-deps --target DIRECTORY hydra-joblib-launcher joblib``. Without it, Hydra is left out.
- ``concurrent.futures``: a ``ProcessPoolExecutor`` with ``max_tasks_per_child=1``, handed configs that are composed.

The peers write the same result files, and neither report nor record. All are given the cost table of a sweep before, so
that none needs a reference, and their hits, misses and evictions must be equal. Each round runs all of them, in turn
first, second and third.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.record import quartiles, record
from benchmarks.sweep_overhead import TRIALS

OURS = "flows.sweep"


@dataclass(frozen=True)
class Study:
    """What all run.

    Attributes:
        words: Overrides.
        costs: The table.
        configs: The trials' composed configs.
        cores: Of each slot.
        launcher: Where Hydra's joblib launcher is; None if it need not be looked for.
    """

    words: tuple[str, ...]
    costs: Path
    configs: list[dict[str, Any]]
    cores: list[list[int]]
    launcher: str | None


def run_ours(study: Study, home: Path) -> None:
    """Run the sweep as a user does."""
    _call("flows.sweep", *study.words, f"costs={study.costs}", f"sweep.directory={home}")


def run_hydra(study: Study, home: Path) -> None:
    """Run it through Hydra's joblib launcher."""
    paths = [study.launcher or "", os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PEER_HOME": str(home),
        "PEER_CORES": json.dumps(study.cores),
    }
    launcher = ("-m", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={len(study.cores)}", "hydra.output_subdir=null")
    where = (f"hydra.sweep.dir={home / 'hydra'}", f"costs={study.costs}")
    _call("benchmarks.peer_hydra", *launcher, *where, *study.words, **environment)


def run_futures(study: Study, home: Path) -> None:
    """Run it in a loop of concurrent.futures."""
    orders = [
        {"config": config, "costs": str(study.costs), "home": str(home), "cores": study.cores}
        for config in study.configs
    ]
    (home / "orders.json").write_text(json.dumps(orders))
    _call("benchmarks.peer_futures", str(home / "orders.json"))


PEERS: dict[str, Callable[[Study, Path], None]] = {
    OURS: run_ours,
    "Hydra's joblib launcher": run_hydra,
    "concurrent.futures": run_futures,
}


def _call(module: str, *words: str, **environment: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", module, *words]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def results(home: Path) -> dict[str, dict[str, Any]]:
    """Return what the trials left, by id."""
    found = [json.loads(path.read_text()) for path in home.glob("**/trials/*/result.json")]
    return {one["trial_id"]: one for one in found}


def decisions(home: Path) -> dict[str, tuple[int, ...]]:
    """Return hits, misses and evictions by trial."""
    names = ("hits", "misses", "evictions")
    return {trial: tuple(one["statistics"][name] for name in names) for trial, one in results(home).items()}


def prepare(words: tuple[str, ...], scratch: Path, launcher: str | None) -> Study:
    """Run the sweep once, for its cost table, its configs and its slots; everybody's files are then in memory too."""
    home = scratch / "first"
    _call("flows.sweep", *words, f"sweep.directory={home}")
    (place,) = (path for path in home.iterdir() if path.is_dir())
    configs = [yaml.safe_load(path.read_text()) for path in sorted(place.glob("trials/*/config.yaml"))]
    from jaxcache.lab.running.device import find_devices

    cores = [list(device.cores) for device in find_devices("cpu")]
    return Study(words, place / "costs.json", configs, cores, launcher)


def measure(study: Study, name: str, home: Path) -> tuple[float, float]:
    """Return the wall seconds of one contender, and its trials' own work in seconds."""
    home.mkdir()
    started = time.perf_counter()
    PEERS[name](study, home)
    wall = time.perf_counter() - started
    return wall, sum(one["timing"]["work_seconds"] for one in results(home).values())


def has_launcher(directory: str | None) -> bool:
    """Whether Hydra's joblib launcher can be imported."""
    paths = os.pathsep.join(filter(None, [directory, os.environ.get("PYTHONPATH", "")]))
    looked = [sys.executable, "-c", "import hydra_plugins.hydra_joblib_launcher"]
    return subprocess.run(looked, env={**os.environ, "PYTHONPATH": paths}, capture_output=True).returncode == 0


def main() -> None:
    """Print and record the ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limits", type=int, default=6, help="of six; there are four trials for each (6)")
    parser.add_argument("--launcher", help="where Hydra's joblib launcher is installed, if not beside Hydra")
    options = parser.parse_args()
    names = [name for name in PEERS if name != "Hydra's joblib launcher" or has_launcher(options.launcher)]
    if len(names) < len(PEERS):
        print("Hydra's joblib launcher is not there: left out; see --help")
    subprocess.run([sys.executable, "-m", "flows.server", "start"], check=True, capture_output=True)
    words = tuple(_fewer(word, options.limits) for word in TRIALS)
    walls: dict[str, list[float]] = {name: [] for name in names}
    added: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        study = prepare(words, Path(scratch), options.launcher)
        print(f"{len(study.configs)} trials on {len(study.cores)} workers")
        for number in range(options.rounds):
            seen: dict[str, dict[str, tuple[int, ...]]] = {}
            for turn in range(len(names)):
                name = names[(number + turn) % len(names)]
                home = Path(scratch) / f"{number}-{turn}"
                wall, work = measure(study, name, home)
                walls[name].append(wall)
                added[name].append(wall / (work / len(study.cores)))
                seen[name] = decisions(home)
                print(
                    f"{name:24} {wall:6.1f} s, over its trials' own work ÷ workers: {added[name][-1]:.3f}", flush=True
                )
                shutil.rmtree(home)
            assert all(len(one) == len(study.configs) for one in seen.values()), "a trial is missing"
            assert all(one == seen[OURS] for one in seen.values()), "the trials decided differently"
    measured: dict[str, Any] = {"trials": len(study.configs), "workers": len(study.cores), "wall_seconds": walls}
    measured["load_average"] = os.getloadavg()  # over the workers: others were busy too
    measured["over_work"] = {name: quartiles(values) for name, values in added.items()}
    for name in names[1:]:
        ratio = quartiles([ours / theirs for ours, theirs in zip(walls[OURS], walls[name], strict=True)])
        measured[f"{OURS} ÷ {name}"] = ratio
        print(f"{OURS} ÷ {name:24} = {ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})")
    print(f"written to benchmarks/results/{record('sweep_peers', measured).name}")


def _fewer(word: str, limits: int) -> str:
    name, _, values = word.partition("=")
    return f"{name}={','.join(values.split(',')[:limits])}" if name == "memory_limit" else word


if __name__ == "__main__":
    main()
