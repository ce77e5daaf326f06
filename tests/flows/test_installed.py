"""The pipeline as users install it: from the wheel, in a directory of theirs, with configs of their own."""

import os
import subprocess
import sys

import pytest

from jaxcache.lab.analysis.sweep import read_sweep

from .conftest import PROJECT, environment, newest

WHERE = "from flows.planning.locations import CONF; from flows.prefect_server.process import HOME; print(CONF, HOME)"
MINE = """
name: gradient_optimization
requests: 12
features: 8
rows: 256
rows_per_length: 4
learning_rate: 0.02
tolerance: 1e-3
"""
FEW = """
name: zipf
smallest: 8
largest: 24
distinct: 4
exponent: 1.1
"""


def run(*words, cwd=PROJECT, **variables):
    return subprocess.run([sys.executable, *map(str, words)], cwd=cwd, env={**os.environ, **variables}, text=True,
                          capture_output=True, timeout=240, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is installed in; PYTHONPATH puts it before the checkout."""
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    done = run("-m", "hatchling", "build", "-t", "wheel", "-d", built)
    assert done.returncode == 0, done.stderr
    done = run("-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile",
               "--target", target, *built.glob("*.whl"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def test_what_is_installed_uses_its_own_configs_and_the_users_state_directory(installed, tmp_path):
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {
        "bin", "flows", "jaxcache", "jaxcache_command.py", "pytest_jaxcache.py",
    }  # fmt: skip
    variables = {"PYTHONPATH": str(installed), "XDG_STATE_HOME": str(tmp_path), "PREFECT_HOME": ""}
    done = run("-c", WHERE, cwd=tmp_path, **variables)
    assert done.stdout.split() == [str(installed / "flows/conf"), str(tmp_path / "jaxcache/prefect")], done.stderr


@pytest.mark.in_turns
def test_a_sweep_of_ones_own_configs_runs_and_reports_where_the_user_is(installed, server, prefect_home, tmp_path):
    for name, text in {"workload/mine.yaml": MINE, "shapes/zipf.yaml": FEW}.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text(text)
    variables = environment(prefect_home, PREFECT_API_URL=server, PYTHONPATH=str(installed))
    done = run(installed / "bin" / "jaxcache", "sweep", "workload=mine", "eviction=lru", cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"conf", "outputs"}
    directory = newest(tmp_path / "outputs")
    sweep = read_sweep(directory)
    (result,) = sweep.results
    assert (result.config.workload.requests, result.config.shapes.distinct) == (12, 4)
    assert sweep.manifest.command == "jaxcache sweep workload=mine eviction=lru"
    assert f"Report: {directory.relative_to(tmp_path) / 'report.html'}" in done.stdout
    assert "jaxcache sweep --config-dir" in (directory / "report.md").read_text()
