"""Sweeps started from the Prefect server."""

import json
import subprocess
import sys

import pytest

from .conftest import PROJECT, command, environment, newest
from .test_sweep import api, results

RUN = ("workload=monte_carlo", "workload.requests=6", "shapes.distinct=2", "shapes.largest=16", "persistent=off")


def prefect(home, server, *words):
    return subprocess.run(
        [sys.executable, "-m", "prefect", *words], cwd=PROJECT, env=environment(home, PREFECT_API_URL=server),
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip


@pytest.mark.in_turns
def test_a_work_pool_s_worker_runs_a_sweep_with_the_overrides_of_the_ui(prefect_home, server, tmp_path):
    done = command(prefect_home, "deploy", "--pool", "machines")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prefect worker start --pool machines" in done.stdout
    overrides = json.dumps([*RUN, f"sweep.directory={tmp_path}"])
    prefect(prefect_home, server, "deployment", "run", "sweep/sweep", "-p", f"overrides={overrides}")
    prefect(prefect_home, server, "worker", "start", "--pool", "machines", "--run-once")
    assert [one["status"] for one in results(newest(tmp_path)).values()] == ["completed"]
    runs = api(server, "/flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Completed"]}}}})
    assert " ".join(RUN) in {run["name"] for run in runs}


def test_a_pool_that_cannot_run_sweeps_is_refused(prefect_home, server):
    done = command(prefect_home, "deploy", "--pool", "a/b")
    assert done.returncode == 2
    assert done.stderr == "deploy: --pool must be a name without any of / % & > <, but is 'a/b'\n"
