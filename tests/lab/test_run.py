"""Real processes: what they leave, and what is left when they are killed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from jaxcache import Cost, Trace, optimum, replay
from jaxcache.lab.environment import environment
from jaxcache.lab.layout import PROFILER_TRACE, REQUESTS, RESULT, STDERR, scratch
from jaxcache.lab.result import TrialResult
from jaxcache.lab.running import fork_server as trials_fork_server
from jaxcache.lab.running import launch
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.running.progress_file import read_progress
from jaxcache.lab.trial import Device

from .._support.trials import small_trial

CPU = Device(platform="cpu", index=0, cores=(min(os.sched_getaffinity(0)),))
LONG = {"name": "monte_carlo", "requests": 100_000, "paths": 256, "steps": 8, "volatility": 0.2}


@pytest.fixture(autouse=True, scope="module")
def fork_server():
    trials_fork_server.start()


def order(tmp_path, trial=None, kind="trial", **changes):
    trial = trial or small_trial()
    return TrialJob(
        kind, trial, changes.pop("device", CPU), tmp_path, environment(), changes.pop("costs", {}), trial.id,
        trial.program_id, **changes,
    )  # fmt: skip


def workers():
    return [process for process in psutil.Process().children(recursive=True) if _is_trial(process)]


def _is_trial(process):
    try:
        return os.getsid(process.pid) == process.pid  # trials have a session of their own
    except ProcessLookupError:
        return False


def when_started(tmp_path, act):
    """Call ``act`` with the trial's process once it works."""

    def watch():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (tmp_path / STDERR).exists() and workers():
                time.sleep(0.3)
                act(workers()[0])
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_trial_gives_a_result_and_the_file_of_it(tmp_path):
    reference = launch.run_reference(order(tmp_path, kind="reference"), 120, threading.Event())
    assert reference.distinct == len(reference.costs) > 3
    assert reference.unbounded_cost_seconds < reference.uncached_cost_seconds
    costs = {name: Cost(*row) for name, row in reference.costs.items()}
    told = order(tmp_path, costs=costs, costs_hash="abc", reference_checksum=reference.checksum)
    result = launch.run_trial(told, 120, threading.Event())
    assert (result.status, result.reason) == ("completed", None)
    assert result == TrialResult.model_validate_json((tmp_path / RESULT).read_bytes())
    assert result.checksum == reference.checksum
    assert result.device.startswith("cpu on 1 of")
    stats = result.statistics
    assert stats.misses == stats.compiled + stats.disk_hits
    assert stats.cost_seconds >= reference.unbounded_cost_seconds * 0.999
    assert result.memory.peak_rss_bytes > result.memory.start_rss_bytes > 10_000_000
    assert 0 < result.timing.p50_seconds <= result.timing.p99_seconds
    course = result.course
    assert sum(course.lengths.values()) == course.requests[-1] == 8
    assert max(course.live_bytes) <= stats.peak_bytes
    assert course.live_bytes[-1] == stats.live_bytes
    assert sum(one.requests for one in course.latency.values()) == 8
    assert set(course.latency) <= {"compiled", "held"}
    assert course.loading_seconds == 0  # nothing is on disk
    assert sum(one.misses for one in stats.by_function.values()) == stats.misses
    again = launch.run_trial(told, 120, threading.Event()).statistics
    assert (again.hits, again.misses, again.evictions) == (stats.hits, stats.misses, stats.evictions)


def test_a_reference_leaves_a_trace_that_foretells_its_trials(tmp_path):
    reference = launch.run_reference(order(tmp_path, kind="reference"), 120, threading.Event())
    costs = {name: Cost(*row) for name, row in reference.costs.items()}
    trace = Trace.load(tmp_path / REQUESTS)
    for policy in ("lru", "gdsf"):
        trial = small_trial(eviction={"name": policy}, memory_limit="8MiB")
        stats = launch.run_trial(order(tmp_path, trial, costs=costs), 120, threading.Event()).statistics
        foretold = replay(trace, policy, "8MiB")
        assert (stats.hits, stats.misses, stats.evictions) == (foretold.hits, foretold.misses, foretold.evictions)
        assert stats.cost_seconds == pytest.approx(foretold.compile_seconds)
        assert stats.cost_seconds >= optimum(trace, "8MiB").lower_bound_seconds


def test_what_was_loaded_from_disk_is_told_from_what_was_compiled(tmp_path):
    trial = small_trial(persistent={"mode": "shared", "directory": str(tmp_path / "shared")})
    (tmp_path / "shared").mkdir()
    first, second = (launch.run_trial(order(tmp_path, trial), 120, threading.Event()) for _ in range(2))
    assert "compiled" in first.course.latency
    assert second.statistics.compiled == 0
    assert set(second.course.latency) <= {"loaded", "held"}
    assert 0 < second.course.loading_seconds < second.statistics.compile_seconds


def test_a_long_trial_is_sampled_in_at_most_two_hundred_places(tmp_path):
    trial = small_trial({**LONG, "requests": 901}, memory_limit=None)
    course = launch.run_trial(order(tmp_path, trial), 120, threading.Event()).course
    assert len(course.requests) == len(course.live_bytes) <= 200
    assert course.requests[-1] == 901


def test_profiling_leaves_a_trace_for_perfetto_and_a_table_of_functions(tmp_path):
    result = launch.run_trial(order(tmp_path, small_trial("monte_carlo", profiling=True)), 120, threading.Event())
    assert (result.status, result.reason) == ("completed", None)
    functions = {one.name: one for one in result.profile}
    assert set(functions) == {"_payoffs", "_book"}
    assert sum(one.calls for one in result.profile) == result.statistics.hits + result.statistics.misses
    assert sum(one.misses for one in result.profile) == result.statistics.misses
    spent = sum(one.compile_seconds for one in result.profile)
    assert spent == pytest.approx(result.statistics.compile_seconds)
    assert all(one.run_seconds > 0 for one in result.profile)
    with gzip.open(tmp_path / PROFILER_TRACE) as file:
        events = json.load(file)["traceEvents"]
    assert {"_payoffs", "_book"} <= {event.get("name") for event in events}
    assert not (tmp_path / "scratch").exists()


def test_a_changed_output_fails_the_trial(tmp_path):
    result = launch.run_trial(order(tmp_path, reference_checksum="0" * 16), 120, threading.Event())
    assert result.status == "failed"
    assert "the cache changed a result" in result.reason
    assert result.statistics is not None


def test_a_killed_process_is_a_failed_trial_that_says_so(tmp_path):
    thread = when_started(tmp_path, lambda process: process.send_signal(signal.SIGKILL))
    result = launch.run_trial(order(tmp_path, small_trial(workload=LONG)), 120, threading.Event())
    thread.join()
    assert result.status == "failed"
    assert result.reason == "the process was killed by SIGKILL, as the system does when memory runs out"
    assert result == TrialResult.model_validate_json((tmp_path / RESULT).read_bytes())


def test_a_killed_process_is_started_again_and_its_second_run_counts(tmp_path):
    thread = when_started(tmp_path, lambda process: process.send_signal(signal.SIGKILL))
    result = launch.run_trial(order(tmp_path), 120, threading.Event(), launch.ProcessLimits(retries=1))
    thread.join()
    assert (result.status, result.reason) == ("completed", None)


def test_a_killed_fork_server_is_started_again_and_the_process_that_lost_it_ends(tmp_path):
    alone = []

    def kill(process):
        (server,) = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
        alone.append(process)
        server.kill()

    killer = when_started(tmp_path, kill)
    result = launch.run_trial(order(tmp_path), 120, threading.Event(), launch.ProcessLimits(retries=1))
    killer.join()
    assert (result.status, result.reason) == ("completed", None)
    assert psutil.wait_procs(alone, timeout=20)[1] == []


def killed_after_its_work(told):
    from jaxcache.lab.running import process as child

    child.main(told)
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_was_finished_when_its_process_was_killed_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxcache.lab.running.process.main", killed_after_its_work)
    result = launch.run_trial(order(tmp_path), 120, threading.Event())
    assert (result.status, result.reason) == ("completed", None)


def test_a_process_over_its_memory_limit_is_ended_and_not_started_again(tmp_path):
    bounds = launch.ProcessLimits(memory_bytes=1 << 20, retries=5)
    result = launch.run_trial(order(tmp_path, small_trial(workload=LONG)), 120, threading.Event(), bounds)
    assert result.status == "failed"
    assert "over runner.memory_limit=1 MiB; raise it" in result.reason
    assert workers() == []


def test_a_crash_keeps_the_end_of_stderr(tmp_path):
    # A GPU that is not there: JAX itself gives up, in the child.
    result = launch.run_trial(order(tmp_path, device=Device(platform="gpu", index=0)), 120, threading.Event())
    assert result.status == "failed"
    assert "GPU 0" in result.reason
    assert "Traceback" in result.stderr_tail


def test_a_trial_that_takes_too_long_is_ended(tmp_path):
    result = launch.run_trial(order(tmp_path, small_trial(workload=LONG)), 1.0, threading.Event())
    assert result.status == "failed"
    assert result.reason == "took more than 1 s; raise runner.timeout_seconds or shorten the trial"
    assert workers() == []


def test_a_stop_ends_the_process_and_leaves_no_result(tmp_path):
    stop = threading.Event()
    thread = when_started(tmp_path, lambda process: stop.set())
    with pytest.raises(launch.Interrupted):
        launch.run_trial(order(tmp_path, small_trial(workload=LONG)), 120, stop)
    thread.join()
    assert workers() == []
    assert not (tmp_path / RESULT).exists()
    with pytest.raises(launch.Interrupted):
        launch.run_trial(order(tmp_path), 120, stop)


EARLY = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started to ignore it
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
from jaxcache.lab.running.process import leave_the_terminal
os.kill(os.getpid(), signal.SIGINT)
leave_the_terminal()
print("left", flush=True)
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_ctrl_c_from_before_a_process_left_the_terminal_is_its_callers_alone():
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", EARLY], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "left\n", ran.stderr
    assert ran.returncode == -signal.SIGINT, "one that came after it left is meant"


def test_a_trial_tells_how_far_it_is_while_it_runs(tmp_path):
    stop, seen = threading.Event(), []

    def watch(_process):
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            told = read_progress(scratch(tmp_path))
            if told is not None and (not seen or told != seen[-1]):
                seen.append(told)
            time.sleep(0.05)
        stop.set()

    watching = when_started(tmp_path, watch)
    with pytest.raises(launch.Interrupted):
        launch.run_trial(order(tmp_path, small_trial(LONG)), 120, stop)
    watching.join()
    assert 0 < seen[0].served < seen[1].served < seen[1].requests == LONG["requests"]
    assert 0 <= seen[1].hit_rate <= 1
    assert read_progress(scratch(tmp_path)) is None
