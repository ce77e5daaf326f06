"""The benchmark for GPUs, on CPU: all its parts, on a Python that has nothing but jax and numpy to import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# Python imports this before the program, in every process that the program starts.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

THERE = {"jax", "jaxlib", "jax_plugins", "numpy", "scipy", "ml_dtypes", "opt_einsum"}  # what jax itself requires
FOUND = THERE | {"jaxcache", "benchmarks"} | sys.stdlib_module_names

class OnlyJax:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        there = (top in FOUND or top.startswith("_sysconfig")) and not name.startswith("jaxcache.lab")
        return PathFinder.find_spec(name, path, target) if there else None

sys.meta_path = [OnlyJax if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run(tmp_path, *words, **environment):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(tmp_path), str(PROJECT / "src")])
    return subprocess.run(
        [sys.executable, *words], cwd=PROJECT, env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.in_turns
def test_the_gpu_benchmark_needs_nothing_but_jax_and_numpy_and_its_results_are_right(tmp_path):
    assert "No module named 'pydantic'" in run(tmp_path, "-c", "import pydantic").stderr
    words = ("--platform", "cpu", "--rounds", "2", "--entries", "1", "--kinds", "elementwise", "--limit", "1MiB",
             "--starts", "1", "--programs", "4", "--folder", str(tmp_path / "out"))  # fmt: skip
    done = run(tmp_path, "-m", "benchmarks.gpu", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "out").iterdir()
    assert path.name.endswith("_cpu.json")
    written = json.loads(path.read_text())
    assert {"device", "driver", "backend", "date", "jax"} <= set(written)
    measured = written["measured"]
    assert set(measured) == {"hit_path", "weight", "growth", "warm_start", "results"}
    assert set(measured["hit_path"]) == {"two_arrays", "fifty_leaves", "two_arrays_in_turn"}
    assert measured["weight"]["elementwise"]["jaxcache"]["modelled"] > 0
    assert measured["growth"]["jaxcache"]["signatures"] == 10 * measured["growth"]["jaxcache"]["admitted"]
    assert measured["warm_start"]["jaxcache"]["compiled_when_warm"] == 0
    assert measured["warm_start"]["right"] is True
    assert measured["results"]["right"] is True


def test_without_a_gpu_it_refuses_in_one_line(tmp_path):
    done = run(tmp_path, "-m", "benchmarks.gpu", "--folder", str(tmp_path / "out"), JAX_PLATFORMS="cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("gpu: JAX started cpu and no GPU; install jax[cuda12]")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
