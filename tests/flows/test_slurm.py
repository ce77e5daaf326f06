"""Sweeps that are submitted to SLURM: a real one, with one node of two cores, on this machine."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows.planning.errors import UsageError
from flows.planning.plan import make_plan
from flows.planning.runners import SlurmRunner
from flows.workers.slurm.claims import Claim, Claims
from flows.workers.slurm.commands import JobState
from flows.workers.slurm.submission import check_fits
from tests._support.slurm import NoSlurmError, running_slurm

from .conftest import PROGRAMS, PROJECT, SMALL, command, environment, newest, run_sweep
from .test_sweep import COMPILING, decisions, flow_run_of, results, task_runs_of

SLURM = ("runner=slurm", "runner.jobs=2", "runner.cpus_per_task=1")


@pytest.fixture(scope="module")
def slurm():
    """A SLURM that runs; a directory of pytest's own has too long a path for munge's socket."""
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(running_slurm(home))
            except NoSlurmError as error:
                pytest.skip(f"no SLURM here: {error}")
            yield cluster
    finally:
        shutil.rmtree(home, ignore_errors=True)


def submit(slurm, home, outputs, *words):
    """Submit a sweep; return its directory."""
    words = (*words, *SLURM, f"sweep.directory={outputs}")
    done = command(home, "sweep", *words, **slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return newest(outputs)


def follow(slurm, home, action, sweep, *words):
    return command(home, "sweep", action, str(sweep), *words, **slurm.environment)


def wait_for(is_so, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := is_so():
            return answer
        time.sleep(0.05)
    raise TimeoutError


def claims_of(sweep, kind="trial"):
    """Return the claims on trials that were made so far, by the name of their file."""
    return {path.name: json.loads(path.read_text()) for path in (sweep / "slurm/claims").glob(f"{kind}-*")}


def trial_processes(sweep):
    """Return the processes of jobs that run a trial of a sweep: they have a session of their own."""
    found = []
    for worker in workers(sweep):
        with contextlib.suppress(psutil.Error):
            found += [each for each in worker.children(recursive=True) if os.getsid(each.pid) == each.pid]
    return found


def workers(sweep):
    """Return the processes of jobs that claim trials."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "flows.workers.slurm.worker" in words and str(sweep) in words:
            found.append(process)
    return found


def test_a_sweep_decides_as_the_local_runner_does_and_prefect_has_its_record(first_sweep, slurm, server, prefect_home, tmp_path):
    _, _, local = first_sweep
    words = (*PROGRAMS, *SMALL, f"costs={local / 'costs.json'}", f"persistent.directory={tmp_path / 'cache'}")
    sweep = submit(slurm, prefect_home, tmp_path, *words)
    done = follow(slurm, prefect_home, "attach", sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "4 of 4 trials succeeded" in done.stdout
    assert decisions(sweep) == decisions(local)
    ours, theirs = results(local), results(sweep)
    assert {name: each["checksum"] for name, each in ours.items()} == {n: each["checksum"] for n, each in theirs.items()}
    assert (sweep / "report.html").exists()
    flow_run = flow_run_of(server, sweep)
    assert flow_run["state"]["type"] == "COMPLETED"
    tasks = task_runs_of(server, flow_run, lambda found: sum(t["state_type"] == "COMPLETED" for t in found) == 7)
    assert {task["name"] for task in tasks if task["name"].startswith("workload=")} == {
        f"workload={w} eviction={e}" for w in ("monte_carlo", "iterative_solver") for e in ("lru", "gdsf")
    }
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    wait_for(lambda: not slurm.jobs())
    assert json.loads((sweep / "sweep.json").read_text())["ended"] == "completed"
    assert not [*sweep.rglob("scratch")]
    again = follow(slurm, prefect_home, "attach", sweep, "--quiet")
    assert again.returncode == 0
    assert again.stdout.startswith("4 of 4 trials succeeded in ")
