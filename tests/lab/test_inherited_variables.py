"""A user's JAXCACHE_* variables are for the user's programs: trials are measured without them."""

import os
import subprocess
import sys

import pytest

TRIALS = """
import json, os, sys, threading
from pathlib import Path
from jaxcache.lab.running import launch
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.environment import environment
from jaxcache.lab.trial import Device
from tests._support.trials import WORKLOADS, small_trial
workload = {**WORKLOADS["gradient_optimization"], "requests": 2}  # which compiles least
root = Path(sys.argv[1])
os.environ.update(json.loads(sys.argv[2]))
cores = (min(os.sched_getaffinity(0)),)
def order(kind, name, persistent):
    trial, directory = small_trial(workload, persistent=persistent), root / name
    directory.mkdir()
    device = Device(platform="cpu", index=0, cores=cores)
    return TrialJob(kind, trial, device, directory, environment(), {}, trial.id, trial.program_id)
def status(name, persistent):
    result = launch.run_trial(order("trial", name, persistent), 120, threading.Event())
    return result.status, result.reason
"""
OFF_AND_FRESH = """
launch.run_reference(order("reference", "reference", {"mode": "off"}), 120, threading.Event())
print(status("off", {"mode": "off"}), status("fresh", {"mode": "fresh"}))
"""
SHARED = """
shared = {"mode": "shared", "directory": str(root / "group")}
launch.run_reference(order("reference", "reference", shared), 120, threading.Event())
result = launch.run_trial(order("trial", "shared", shared), 120, threading.Event())
print(result.status, result.reason, result.statistics.compiled)
"""
STARTED_AHEAD = """
import multiprocessing, os, sys
from jaxcache.lab.running import fork_server
os.environ["JAXCACHE_DIR"] = sys.argv[1]
fork_server.start()
process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
process.start()
process.join()
"""


def ran(program, *args, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAXCACHE_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], env={**kept, **variables}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("key", ['"JAXCACHE_KEY": "short"', '"JAXCACHE_KEY_FILE": "/no/such/key"'])
def test_no_trial_without_a_directory_of_its_own_takes_one_or_a_key_from_the_users_variables(tmp_path, key):
    users = tmp_path / "users"
    variables = f'{{"JAXCACHE_DIR": "{users}", "JAXCACHE_LIMIT": "1MiB", {key}}}'
    printed, _ = ran(TRIALS + OFF_AND_FRESH, tmp_path, variables)
    assert printed == "('completed', None) ('completed', None)\n"
    assert not users.exists()


def test_a_directory_that_a_group_shares_takes_the_key_that_the_user_has_set(tmp_path):
    group = tmp_path / "group" / "lru-no-limit"
    group.mkdir(parents=True)
    group.chmod(0o770)
    printed, _ = ran(TRIALS + SHARED, tmp_path, f'{{"JAXCACHE_KEY": "{"5e" * 16}"}}')
    assert printed == "completed None 0\n"  # the trial trusts what its reference has left there
    assert list(group.glob("entries/*/*/*.entry"))


def test_a_fork_server_that_is_started_ahead_uses_no_directory_of_the_users(tmp_path):
    ran(STARTED_AHEAD, tmp_path / "users")
    assert not (tmp_path / "users").exists()
