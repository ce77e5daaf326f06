"""What `pytest --jaxcache` spares a suite of 60 tests that compile 40 programs, and what its workers hold.

    python -m benchmarks.pytest_plugin [--rounds 5] [--memory 128MiB]

The suite's programs are gradients of networks, a module's own functions, each of which a test or two call. A first run
fills a new directory, a second one loads from it: the ratio is of the wall time of all of pytest, its start included,
beside that of a run without the plugin. With two workers (where pytest-xdist is installed) and a new directory, each
program should be compiled once: the goal is 1.0. Memory is what a run under `--jaxcache-memory` grows by at most after
its first test, for a suite of ever new shapes. Goals: 0.5, 1.0, and the limit + 20 %. Linux only.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import quartiles, record
from jaxcache import format_size, parse_size

SUITE = """
import jax, jax.numpy as jnp, numpy as np, pytest

def loss(params, x):
    for weights in params:
        x = jnp.tanh(x @ weights)
    return jnp.mean(x ** 2)

def program(number):
    depth = number % 5 + 3
    params = [np.full((16, 16), 0.1 + number, np.float32)] * depth
    return jax.jit(lambda x: jax.value_and_grad(loss)(params, jnp.cumsum(jnp.sin(x) + number, 0))[0])

PROGRAMS = [program(number) for number in range(40)]

@pytest.mark.parametrize("number", range(60))
def test_program(number):
    assert np.isfinite(PROGRAMS[number % 40](np.ones((4, 16), np.float32)))
"""
SHAPES = """
import jax, jax.numpy as jnp, numpy as np, pytest
from pathlib import Path

f = jax.jit(lambda x: jnp.sum(jnp.tanh(jnp.cumsum(x) * x) ** 2))

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

@pytest.fixture(scope="session")
def grown():
    f(np.ones(1, np.float32))
    began = memory("VmRSS")
    yield
    print(f"grown {memory('VmHWM') - began}")

@pytest.mark.parametrize("number", range(2, 802))
def test_shape(grown, number):
    assert np.isfinite(f(np.ones(number, np.float32)))
"""
_COUNTS = re.compile(r"jaxcache: (\d+) programs compiled, (\d+) loaded")


def run(folder: Path, *options: str) -> tuple[float, str]:
    """Run the suite in a folder; return the wall seconds and what pytest printed."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_jaxcache", "-p", "no:cacheprovider", *options]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, done.stdout


def counts(output: str) -> tuple[int, int]:
    """Return how many programs a run compiled, and how many it loaded."""
    matched = _COUNTS.search(output)
    assert matched is not None, output
    return int(matched[1]), int(matched[2])


def repeated(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure first and second runs, and those without the plugin, interleaved."""
    seconds: dict[str, list[float]] = {"plain": [], "first": [], "second": []}
    programs: dict[str, tuple[int, int]] = {}
    for number in range(rounds):
        seconds["plain"].append(run(folder)[0])
        for name in ("first", "second"):
            taken, output = run(folder, "--jaxcache", f"shared{number}")
            seconds[name].append(taken)
            programs[name] = counts(output)
    ratios = [mine / its for mine, its in zip(seconds["second"], seconds["first"], strict=True)]
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {"second_over_first": quartiles(ratios), "seconds": medians, "compiled_and_loaded": programs}


def main() -> None:
    """Print and record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pytest_plugin", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="128MiB", help="the limit of what a worker holds (128MiB)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "test_suite.py").write_text(SUITE)
        measured: dict[str, Any] = repeated(folder, options.rounds)
        print(json.dumps(measured, indent=1))
        if importlib.util.find_spec("xdist"):
            compiled, loaded = counts(run(folder, "-p", "xdist.plugin", "-n", "2", "--jaxcache", "workers")[1])
            measured["two_workers"] = {"compiled": compiled, "loaded": loaded, "compiles_a_program": compiled / 40}
            print(f"two workers compiled {compiled} of 40 programs, and loaded {loaded}")
        (folder / "test_suite.py").write_text(SHAPES)
        grown = {}
        for name, limited in (("jaxcache", ["--jaxcache-memory", options.memory]), ("jax.jit", [])):
            matched = re.search(r"grown (\d+)", run(folder, "-s", *limited)[1])
            assert matched is not None
            grown[name] = int(matched[1])
        limit = parse_size(options.memory)
        measured["memory"] = {"limit": limit, "grown": grown, "over_limit": round(grown["jaxcache"] / limit, 3)}
        print(f"800 shapes grew a worker by {format_size(grown['jaxcache'])} under {options.memory}, "
              f"by {format_size(grown['jax.jit'])} without")  # fmt: skip
    print(f"written to benchmarks/results/{record('pytest_plugin', measured).name}")


if __name__ == "__main__":
    main()
