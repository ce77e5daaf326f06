"""A program of a stranger as a workload, in real processes: what it counts itself is what its trials say."""

import json
import os
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from jaxcache import Cost, Trace, replay
from jaxcache.lab.environment import environment
from jaxcache.lab.layout import REQUESTS, STDERR, STDOUT
from jaxcache.lab.running import fork_server, launch
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.running.program_output import compare
from jaxcache.lab.running.progress_file import TrialProgress, read_progress
from jaxcache.lab.trial import Device, Trial

from .._support.stranger import LENGTHS, write_program

CPU = Device(platform="cpu", index=0, cores=(min(os.sched_getaffinity(0)),))
LIMIT = "600KiB"  # of two programs


@pytest.fixture(autouse=True, scope="module")
def server():
    fork_server.start()


def trial_of(script, limit=LIMIT, persistent=None, **program):
    workload = {"name": "program", "script": script, "directory": script.parent, "python": sys.executable, **program}
    return Trial.model_validate({
        "workload": workload, "shapes": {"name": "own"}, "eviction": {"name": "lru"}, "memory_limit": limit,
        "persistent": persistent or {"mode": "off"}, "seed": 0,
    })  # fmt: skip


def job_of(directory, trial, kind="trial", reference=None):
    directory.mkdir(exist_ok=True)
    known = {} if reference is None else {
        "costs": {name: Cost(*row) for name, row in reference.costs.items()},
        "reference_checksum": reference.checksum, "reference_output": reference.program.output,
    }  # fmt: skip
    return TrialJob(
        kind, trial, CPU, directory, environment(), known.pop("costs", {}), trial.id, trial.program_id, **known
    )


def refer(directory, trial):
    """Return the reference of a trial's program."""
    return launch.run_reference(job_of(directory, trial, "reference"), 120, threading.Event())


def run(directory, trial, reference=None, stop=None):
    return launch.run_trial(job_of(directory, trial, reference=reference), 120, stop or threading.Event())


@pytest.fixture(scope="module")
def referred(tmp_path_factory):
    """The reference of a program, in a directory of it, and the directory of the program, whose output is out.json."""
    directory = tmp_path_factory.mktemp("program")
    (directory / "reference").mkdir()
    trial = checked(write_program(directory), repeat=2)
    return refer(directory / "reference", trial), directory


def checked(script, limit=LIMIT, persistent=None, **program):
    out = script.parent / "out.json"
    settings = {"args": f"--epochs 2 --out '{out}'", "check": {"file": out, "tolerance": 1e-3}}
    variables = {"STRANGE": "yes", **program.pop("environment", {})}
    return trial_of(script, limit, persistent, environment=variables, **{**settings, **program})


def compiles_of(directory):
    """Return how many programs the last run has compiled, as it counted itself."""
    return int((directory / "out.json.compiles").read_text())


def test_a_reference_counts_what_the_program_counts_itself(referred):
    reference, directory = referred
    own = compiles_of(directory)  # the last of its runs is that under jax.jit alone
    assert own == reference.program.plain.programs == reference.program.recorded.programs == reference.distinct
    assert reference.distinct == 2 * len(set(LENGTHS))
    assert reference.requests == 2 * 2 * len(LENGTHS)
    assert reference.program.repeats is True
    assert reference.program.plain.peak_rss_bytes > 50_000_000
    assert 0 < reference.program.plain.compile_seconds < reference.program.plain.wall_seconds
    assert json.loads((directory / "out.json").read_text())["variable"] == "yes"


def test_a_trial_of_a_program_counts_what_the_replay_of_its_recording_does(referred, tmp_path):
    reference, directory = referred
    foretold = replay(Trace.load(directory / "reference" / REQUESTS), "lru", LIMIT)
    before = json.loads((directory / "out.json").read_text())
    trial = checked(directory / "train.py", environment={"STRANGE_ERROR": "1e-5"})  # less than is allowed
    result = run(tmp_path / "trial", trial, reference)
    assert (result.status, result.reason) == ("completed", None)
    stats = result.statistics
    assert 0 < foretold.evictions == stats.evictions
    assert (stats.hits, stats.misses) == (foretold.hits, foretold.misses)
    assert stats.cost_seconds == pytest.approx(foretold.compile_seconds)
    assert compiles_of(directory) == stats.compiled == result.program.programs > reference.distinct
    assert json.loads((directory / "out.json").read_text())["sums"] == pytest.approx(before["sums"], abs=1e-4)
    assert json.loads((tmp_path / "trial" / STDOUT).read_text()) != before["sums"]
    assert 0 < result.answer.error < 1e-3
    assert result.timing.serve_seconds > stats.compile_seconds > 0
    assert 0 < result.timing.p50_seconds <= result.timing.p99_seconds
    assert sum(each.requests for each in result.course.latency.values()) == stats.hits + stats.misses
    assert result.memory.peak_rss_bytes >= result.memory.start_rss_bytes > 10_000_000
    assert not (tmp_path / "trial" / "scratch").exists()


def test_a_warm_run_fills_the_directory_and_a_wrong_output_fails_the_trial(referred, tmp_path):
    reference, directory = referred
    trial = checked(
        directory / "train.py", "64MiB", {"mode": "fresh"}, warm_runs=1, environment={"STRANGE_ERROR": "0.1"}
    )
    result = run(tmp_path / "trial", trial, reference)
    assert result.status == "failed"
    assert result.reason.startswith("wrong result: difference from the reference's output is 0.")
    assert (result.statistics.disk_hits, result.statistics.compiled) == (reference.distinct, 0)
    assert result.course.loading_seconds > 0


def test_a_program_whose_requests_differ_from_run_to_run_is_told_from_others(tmp_path):
    reference = refer(tmp_path, trial_of(write_program(tmp_path), args="--shuffled", repeat=2))
    assert reference.program.repeats is False
    assert re.search("in one run and .* in another", reference.program.repeat_note)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("raise", r"the program \(recorded run\) exited with code 1: ValueError: no such data"),
        ("ask", "exited with code 1: EOFError: .*; its stdin is empty"),
        ("reshape", r"exited with code 1: TypeError: cannot reshape array of shape \(3,\)"),
        ("no jit", "the program never calls jax.jit"),
    ],
)
def test_a_program_that_is_of_no_use_says_why(tmp_path, act, reason):
    with pytest.raises(launch.Failed, match=reason):
        refer(tmp_path, trial_of(write_program(tmp_path), args=f"--act '{act}'"))
    assert "Traceback" in (tmp_path / STDERR).read_text() or act == "no jit"


KILLED_ONCE = """
import os, pathlib, signal
import jax, jax.numpy as jnp
jax.jit(jnp.sin)(1.0)
if not pathlib.Path("seen").exists():
    pathlib.Path("seen").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_program_that_a_signal_has_ended_is_run_again(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED_ONCE)
    job = job_of(tmp_path / "trial", trial_of(script))
    failed = launch.run_trial(job, 120, threading.Event())
    assert failed.reason == "the program (trial run) was killed by SIGKILL"
    (tmp_path / "seen").unlink()
    limits = launch.ProcessLimits(retries=1)
    assert launch.run_trial(job, 120, threading.Event(), limits).status == "completed"


def test_a_command_decides_by_its_exit_code_and_leaves_what_the_program_has_printed(tmp_path):
    script = write_program(tmp_path)
    command = "python -c 'print(5); raise SystemExit(3)'"
    with pytest.raises(launch.Failed, match=r"program\.check\.command exited with code 3"):
        refer(tmp_path, trial_of(script, check={"command": command}))
    assert len(json.loads((tmp_path / STDOUT).read_text())) == len(LENGTHS)


def started_child(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


def has_ended(child):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_program_that_hangs_is_ended_with_what_it_has_started(tmp_path):
    script, pid = write_program(tmp_path), tmp_path / "pid"
    trial = trial_of(script, args=f"--act hang --out '{pid}'", timeout=6)
    result = run(tmp_path / "trial", trial)
    assert "took more than 6 s; raise program.timeout" in result.reason
    assert has_ended(started_child(pid))


def test_a_stop_ends_a_program_with_what_it_has_started(tmp_path):
    script, pid, stop = write_program(tmp_path), tmp_path / "pid", threading.Event()
    watcher = threading.Thread(target=lambda: (started_child(pid), stop.set()))
    watcher.start()
    with pytest.raises(launch.Interrupted):
        run(tmp_path / "trial", trial_of(script, args=f"--act hang --out '{pid}'"), stop=stop)
    watcher.join()
    assert has_ended(started_child(pid))


WAITING = """
import sys, time
from pathlib import Path

import jax
import numpy as np

double = jax.jit(lambda x: 2 * x)
for length in (1, 2, 1):
    double(np.ones(length, np.float32))
while not Path(sys.argv[1]).exists():
    time.sleep(0.05)
"""


def test_requests_and_hits_of_a_program_are_known_while_it_runs(tmp_path):
    script, go, seen = tmp_path / "waiting.py", tmp_path / "go", []
    script.write_text(WAITING)
    job = replace(job_of(tmp_path / "trial", trial_of(script, "8MiB", args=str(go))), reference_requests=4)

    def watch():
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            progress = read_progress(job.scratch)
            seen.extend([progress] if progress is not None and progress.served == 3 else [])
            time.sleep(0.05)
        go.touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = launch.run_trial(job, 120, threading.Event())
    watcher.join()
    assert result.status == "completed"
    assert seen == [TrialProgress(served=3, requests=4, hit_rate=1 / 3)]


CALLABLE = """
import numpy as np


def run(cache):
    double = cache.jit(lambda x: x * 2)
    print([float(double(np.ones(n, np.float32)).sum()) for n in (1, 2, 1)])
"""


def test_a_function_is_called_with_the_cache(tmp_path):
    (tmp_path / "bench.py").write_text(CALLABLE)
    workload = {"name": "callable", "target": "bench:run", "check": {"stdout": True}}
    trial = Trial.model_validate({
        **trial_of(tmp_path / "bench.py").model_dump(),
        "workload": {**workload, "directory": tmp_path, "python": sys.executable},
    })  # fmt: skip
    reference = refer(Path(os.path.relpath(tmp_path / "reference")), trial)  # as outputs/ is relative
    assert (reference.requests, reference.distinct) == (3, 2)
    assert (tmp_path / "reference" / STDOUT).read_text() == "[2.0, 4.0, 2.0]\n"


def output(program, mine, other):
    answer = compare(program.program, mine, other)
    return answer.right, answer.error


def test_numbers_in_json_may_differ_by_the_tolerance_and_nothing_else_may(tmp_path):
    program = trial_of(tmp_path / "a.py", check={"file": tmp_path / "a.json", "tolerance": 0.01})
    wanted = b'{"a": [1.0, 200.0], "b": "text", "c": null}'
    assert output(program, b'{"c": null, "a": [1.005, 201], "b": "text"}', wanted) == (True, pytest.approx(0.005))
    for other in (b'{"a": [1.0, 210.0], "b": "text", "c": null}', b'{"a": [1.0], "b": "text", "c": null}',
                  b'{"a": [1.0, 200.0], "b": "test", "c": null}', b'{"a": [NaN, 200.0], "b": "text", "c": null}',
                  b'{"a": [1.0, 200.0], "b": "text", "c": 0}', b"[", b'[1.0, 200.0, "text", null]'):  # fmt: skip
        assert not output(program, other, wanted)[0], other


def test_arrays_may_differ_by_the_tolerance_and_not_in_shape(tmp_path):
    program = trial_of(tmp_path / "a.py", check={"file": tmp_path / "a.npz", "tolerance": 0.01})

    def stored(**arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        return (tmp_path / "x.npz").read_bytes()

    wanted = stored(w=np.array([1.0, np.nan]), n=np.array(3))
    assert output(program, stored(w=np.array([1.001, np.nan]), n=np.array(3)), wanted) == (True, pytest.approx(0.001))
    for other in ({"w": np.array([1.0, 1.0]), "n": np.array(3)}, {"w": np.array([1.0]), "n": np.array(3)},
                  {"w": np.array([1.0, np.nan])}, {"w": np.array(["a", "b"]), "n": np.array(3)}):  # fmt: skip
        assert not output(program, stored(**other), wanted)[0], other
