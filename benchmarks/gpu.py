"""The library on a GPU, with nothing but jax and numpy installed: speed, weight, eviction, warm starts, right results.

    PYTHONPATH=src python -m benchmarks.gpu [--parts hit_path weight growth warm_start results]
    PYTHONPATH=src python -m benchmarks.gpu --platform cpu      # the same parts, to see that they work

Every measurement is made in a process of its own, so that no other program is in its memory; the GPU should be nobody
else's meanwhile. An entry weighs on the host and on the device, where JAX's pool holds constants and the driver holds
code: all three are told. Exit code 1 if a result is wrong.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = ("hit_path", "weight", "growth", "warm_start", "results")
_CHILD = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_child"]


def main() -> int:
    """Measure, print and record; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--platform", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=60, help="of the hit path (60)")
    parser.add_argument("--entries", type=int, default=24, help="of a kind that are weighed (24)")
    parser.add_argument("--kinds", nargs="+", help="of programs that are weighed (all of benchmarks.memory)")
    parser.add_argument("--limit", default="24MiB", help="that growth is measured under (24MiB)")
    parser.add_argument("--starts", type=int, default=3, help="warm starts of either kind (3)")
    parser.add_argument("--programs", type=int, default=24, help="that a warm start loads (24)")
    parser.add_argument("--folder", type=Path, help="where the JSON goes (benchmarks/results)")
    options = parser.parse_args()
    problem = _prepare(options.platform)
    if problem is not None:
        print(f"gpu: {problem}", file=sys.stderr)
        return 2
    about = child("about")
    print(f"{about['device']}, driver {about['driver']}, {about['backend']}, JAX {about['jax']}\n")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "hit_path": lambda: hit_path(options.rounds),
        "weight": lambda: weight(options.entries, options.kinds),
        "growth": lambda: growth(options.limit),
        "warm_start": lambda: warm_start(options.starts, options.programs),
        "results": results,
    }
    measured = {name: parts[name]() for name in options.parts}
    right = measured.get("results", {}).get("right", True) and measured.get("warm_start", {}).get("right", True)
    print(f"\nwritten to {write(measured, about, options.folder)}")
    return 0 if right else 1


def _prepare(platform: str) -> str | None:
    """Set the environment of every child; return why it cannot be measured here, or None."""
    from benchmarks.device_memory import POOL

    if platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # GPU 0 is then the one that nvidia-smi calls so
    for name, value in POOL.items():
        os.environ.setdefault(name, value)
    found = child("about")["platform"]
    if found == platform:
        return None
    return f"JAX started {found} and no GPU; install jax[cuda12] or jax[cuda13], or write --platform cpu"


def child(*words: object) -> dict[str, Any]:
    """Do one measurement in a fresh process."""
    done = subprocess.run([*_CHILD, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    *said, told = done.stdout.splitlines()
    print("".join(f"{line}\n" for line in said), end="", flush=True)
    return json.loads(told)


def hit_path(rounds: int) -> dict[str, Any]:
    """Print and return what a hit costs against ``jax.jit``."""
    print("A hit")
    return child("hit_path", rounds)


def weight(entries: int, kinds: list[str] | None) -> dict[str, Any]:
    """Print and return what an entry weighs: modelled, on the host and on the device."""
    from benchmarks.memory import PROGRAMS, elsewhere

    print(f"\n{'KiB an entry':20} {'modelled':>9} {'host':>9} {'pool':>9} {'driver':>9} {'under jax.jit: host':>20}")
    measured = {}
    for name in kinds or PROGRAMS:
        ours, theirs = (elsewhere("--only", name, "--entries", entries, *peer) for peer in ([], ["--peer"]))
        measured[name] = {"jaxcache": ours, "jax.jit": theirs}
        print(
            f"{name:20} {ours['modelled'] / 1024:9.0f} {ours['grown'] / 1024:9.0f} {_kib(ours, 'grown_in_pool'):>9} "
            f"{_kib(ours, 'grown_in_driver'):>9} {theirs['grown'] / 1024:20.0f}",
            flush=True,
        )
    return measured


def growth(limit: str) -> dict[str, Any]:
    """Print and return what memory is taken after ten times more signatures than a limit admits."""
    from benchmarks.memory import elsewhere

    ours = elsewhere("--grow", limit)
    theirs = elsewhere("--grow", limit, "--signatures", ours["signatures"])
    print(
        f"\n{ours['signatures']:.0f} signatures under a limit of {limit}, which admits {ours['admitted']:.0f}\n"
        f"{'KiB grown':20} {'host':>9} {'pool':>9} {'driver':>9} {'host, each further':>20}"
    )
    for name, run in (("jaxcache", ours), ("jax.jit", theirs)):
        print(
            f"{name:20} {run['grown'] / 1024:9.0f} {_kib(run, 'grown_in_pool'):>9} {_kib(run, 'grown_in_driver'):>9} "
            f"{run['grown_each_further'] / 1024:20.1f}"
        )
    return {"jaxcache": ours, "jax.jit": theirs}


def _kib(run: dict[str, float], key: str) -> str:
    return f"{run[key] / 1024:.0f}" if key in run else "–"


def warm_start(starts: int, programs: int) -> dict[str, Any]:
    """Print and return what fresh processes take to have their programs, from our directory and from JAX's cache."""
    told: dict[str, list[dict[str, Any]]] = {"jaxcache": [], "jax": []}
    with tempfile.TemporaryDirectory() as scratch:
        cold = {kind: child("start", kind, f"{scratch}/{kind}", programs) for kind in told}
        for number in range(starts):
            for kind in list(told)[:: 1 if number % 2 else -1]:
                told[kind].append(child("start", kind, f"{scratch}/{kind}", programs))
    summary: dict[str, Any] = {
        kind: {
            "cold_seconds": cold[kind]["seconds"],
            "warm_seconds": sorted(run["seconds"] for run in runs),
            "compiled_when_warm": max(run["compiled"] for run in runs),
        }
        for kind, runs in told.items()
    }
    pairs = zip(told["jaxcache"], told["jax"], strict=True)
    summary["ratio"] = sorted(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs)
    sums = [run["sums"] for runs in told.values() for run in (*runs, *cold.values())]
    summary["right"] = all(_near(one, sums[0]) for one in sums)
    print(f"\n{programs} programs, seconds until all have run" + ("" if summary["right"] else "; RESULTS DIFFER"))
    for kind in told:
        warm = ", ".join(f"{seconds:.2f}" for seconds in summary[kind]["warm_seconds"])
        print(f"{kind:20} cold {cold[kind]['seconds']:.2f}, warm {warm}")
    print(f"{'jaxcache ÷ jax':20} " + ", ".join(f"{ratio:.2f}" for ratio in summary["ratio"]))
    return summary


def _near(these: list[float], those: list[float]) -> bool:
    return all(abs(one - other) <= 1e-3 * max(1.0, abs(other)) for one, other in zip(these, those, strict=True))


def results() -> dict[str, Any]:
    """Print and return whether results are right under eviction, from disk and with padding."""
    print("\nResults")
    return child("results")


def write(measured: dict[str, Any], about: dict[str, Any], folder: Path | None) -> Path:
    """Write the JSON; its name says on which device."""
    from benchmarks.record import RESULTS, record

    label = re.sub(r"[^A-Za-z0-9.]+", "-", about["device"]).strip("-").lower()
    more = {name: about[name] for name in ("driver", "backend", "memory_bytes")}
    return record("gpu", measured, label=label, folder=folder or RESULTS, **more)


if __name__ == "__main__":
    sys.exit(main())
