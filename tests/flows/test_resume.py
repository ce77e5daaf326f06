"""Sweeps that are cut off, and go on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from flows.planning.errors import UsageError
from flows.planning.plan import make_plan
from flows.running.resume import abandoned_runs, claim, mark_reported, saved_words
from flows.sweep import main
from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import MANIFEST, RESULT, SWEEP_LOCK
from jaxcache.lab.running.earlier_results import known_result
from tests._support.results import failed, result

from .conftest import PROJECT, command, environment, newest, persistent, run_sweep
from .test_sweep import COMPILING, api, decisions, flow_run_of, results, start_sweep, task_runs_of, wait_for

WORDS = (*COMPILING, "eviction=lru,gdsf,random")


def sweeps(outputs) -> list[Path]:
    return sorted(path.parent for path in outputs.glob("*/sweep.json"))


def stamps(sweep: Path, name: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sweep.glob(f"*/*/{name}")}


def contents(sweep: Path, name: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sweep.glob(f"*/*/{name}")}


def signal_all(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # a trial may have ended meanwhile
            process.send_signal(number)


@pytest.fixture(scope="module")
def killed(server, prefect_home, tmp_path_factory):
    """A sweep whose flow was killed when its first trial had a result."""
    outputs = tmp_path_factory.mktemp("killed")
    process = start_sweep(prefect_home, outputs, *WORDS)
    wait_for(process, outputs, "20*/trials/*/result.json")
    children = psutil.Process(process.pid).children(recursive=True)
    under_way = newest(outputs)
    try:
        signal_all(children, signal.SIGSTOP)  # or they might end while it is asked for
        with pytest.raises(UsageError, match=f"this very sweep is under way in {under_way}"):
            claim(make_plan((*WORDS, f"sweep.directory={outputs}", *persistent(WORDS, outputs))))
    finally:
        process.kill()
        signal_all(children, signal.SIGCONT)
        process.communicate(timeout=60)
    _, left = psutil.wait_procs(children, timeout=20)
    assert left == []
    return under_way


def test_a_killed_sweep_goes_on_with_the_same_command(killed, server, prefect_home):
    """That it was refused while it was under way, and that its processes died with it, is checked where it is made."""
    sweep, decided, was_killed = killed, decisions(killed), flow_run_of(server, killed)
    assert was_killed["state"]["type"] == "RUNNING"
    before, references = stamps(sweep, "result.json"), contents(sweep, "reference.json")
    assert 1 <= len(decided) < 3
    half = next(path.parent for path in sweep.glob("trials/*/config.yaml") if path.parent / "result.json" not in before)
    (half / "result.json").write_text('{"schema_version": 1, "trial_id"')
    done = run_sweep(prefect_home, sweep.parent, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Going on in {sweep}: {len(decided)} of 3 trials finished" in done.stderr
    assert "3 of 3 trials succeeded" in done.stdout
    assert sweeps(sweep.parent) == [sweep]
    assert before.items() <= stamps(sweep, "result.json").items()
    assert contents(sweep, "reference.json") == references
    assert len(results(sweep)) == 3
    assert decided.items() <= decisions(sweep).items()
    hashes = {one["costs_hash"] for one in results(sweep).values()}
    assert len(hashes) == 1
    assert api(server, f"/flow_runs/{was_killed['id']}")["state"]["type"] == "CRASHED"
    assert {"RUNNING", "PENDING"}.isdisjoint(task["state_type"] for task in task_runs_of(server, was_killed, bool))
    with pytest.raises(UsageError, match="is finished; leave sweep"):
        claim(make_plan((*WORDS, f"sweep.directory={sweep.parent}", f"sweep.resume={sweep}")))


def test_a_finished_sweep_starts_anew_and_an_unfinished_one_goes_on(tmp_path):
    plan = make_plan(("eviction=lru,gdsf", "persistent=off", f"sweep.directory={tmp_path}"))
    first = claim(plan)
    assert claim(plan) == first
    end(first, "interrupted")
    assert claim(plan) == first
    end(first, "failed")
    second = claim(plan)
    assert second != first
    other = make_plan(("eviction=lru", "persistent=off", f"sweep.directory={tmp_path}"))
    assert claim(other) not in (first, second)


def test_going_on_removes_what_finished_trials_could_not_and_keeps_their_results(tmp_path):
    plan = make_plan(("workload=monte_carlo", "persistent=off", f"sweep.directory={tmp_path}"))
    sweep = claim(plan)
    trial = sweep / "trials" / plan.trials[0].trial_id
    (trial / "scratch").mkdir(parents=True)
    (trial / "scratch" / "advance.json").touch()
    (trial / "result.json").write_text("{}")
    assert claim(plan) == sweep
    assert [path.name for path in trial.iterdir()] == ["result.json"]


def test_a_sweep_that_was_killed_before_its_report_goes_on(tmp_path):
    plan = make_plan(("workload=monte_carlo", "persistent=off", f"sweep.directory={tmp_path}"))
    first = claim(plan)
    end(first, "completed", reported=False)
    assert claim(plan) == first
    mark_reported(first)
    assert claim(plan) != first


def test_a_finished_sweep_with_a_damaged_result_can_be_gone_on_with_by_name_alone(tmp_path):
    words = ("workload=monte_carlo", "persistent=off", f"sweep.directory={tmp_path}")
    plan = make_plan(words)
    sweep = claim(plan)
    end(sweep, "completed")
    (one,) = plan.trials
    place = sweep / "trials" / one.trial_id
    place.mkdir(parents=True)
    write_json(place / RESULT, failed().model_copy(update={"trial_id": one.trial_id}))
    again = make_plan((*words, f"sweep.resume={sweep}"))
    with pytest.raises(UsageError, match="is finished"):
        claim(again)
    (place / RESULT).write_text("{")
    assert claim(again) == sweep
    assert claim(plan) != sweep


def test_failed_results_alone_are_dropped_for_another_run_and_only_where_there_are_any(tmp_path):
    words = ("eviction=lru,gdsf", "workload=monte_carlo", "persistent=off", f"sweep.directory={tmp_path}")
    sweep = claim(make_plan(words))
    good, bad = (sweep / "trials" / planned.trial_id for planned in make_plan(words).trials)
    for place, outcome in ((good, result()), (bad, result())):
        place.mkdir(parents=True)
        write_json(place / RESULT, outcome.model_copy(update={"trial_id": place.name}))
    end(sweep, "failed")
    again = make_plan((*words, f"sweep.resume={sweep}", "sweep.retry_failed=true"))
    with pytest.raises(UsageError, match=f"sweep.retry_failed=true: no trial of {sweep} failed"):
        claim(again)
    write_json(bad / RESULT, failed().model_copy(update={"trial_id": bad.name}))
    with pytest.raises(UsageError, match=r"add sweep\.retry_failed=true to run its failed trials again"):
        claim(make_plan((*words, f"sweep.resume={sweep}")))
    assert claim(again) == sweep
    assert (good / RESULT).exists()
    assert not (bad / RESULT).exists()
    manifest = json.loads((sweep / "sweep.json").read_text())
    assert (manifest["ended"], manifest["reported"]) == (None, False)


def end(sweep, how, reported=True):
    told = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**told, "ended": how, "reported": reported}))


@pytest.fixture(scope="module")
def interrupted(server, prefect_home, tmp_path_factory):
    """A sweep that a Ctrl-C reached when its first trial had a result, and what it printed."""
    outputs = tmp_path_factory.mktemp("interrupted")
    process = start_sweep(prefect_home, outputs, *COMPILING, "eviction=lru,gdsf,random,fifo")
    wait_for(process, outputs, "20*/trials/*/result.json")
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    _, left = psutil.wait_procs(children, timeout=10)
    assert left == []
    return newest(outputs), output


@pytest.mark.in_turns
def test_ctrl_c_sets_the_states_and_keeps_results(interrupted, server):
    sweep, output = interrupted
    assert "Results so far are kept" in output
    assert "Interrupted; the results of" in output
    assert "Traceback" not in output
    done = len(results(sweep))
    assert 1 <= done < 4
    assert f"{done} of 4 trials succeeded, {4 - done} did not run" in (sweep / "report.md").read_text()
    flow_run = flow_run_of(server, sweep)
    assert flow_run["state"]["type"] == "CANCELLED"
    final = {"COMPLETED", "CANCELLED"}
    tasks = task_runs_of(server, flow_run, lambda found: all(task["state_type"] in final for task in found))
    assert {task["state_type"] for task in tasks} == final


@pytest.mark.in_turns
def test_a_second_ctrl_c_leaves_at_once_and_no_run_that_runs_for_ever(server, prefect_home, tmp_path):
    process = start_sweep(prefect_home, tmp_path, *COMPILING, "eviction=lru,gdsf,random,fifo,lfu")
    wait_for(process, tmp_path, "20*/trials/*/result.json")
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Left at once" in output
    run, deadline = flow_run_of(server, newest(tmp_path)), time.monotonic() + 60
    while run["state"]["type"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
        run = flow_run_of(server, newest(tmp_path))
    assert (run["state"]["type"], "second interrupt" in run["state"]["message"]) == ("CRASHED", True)
    tasks = task_runs_of(server, run, lambda found: all(task["state_type"] != "RUNNING" for task in found))
    assert not {task["state_type"] for task in tasks} & {"RUNNING", "PENDING"}


def test_a_run_that_is_closed_from_elsewhere_takes_along_the_run_that_it_is_a_part_of(server, prefect_home):
    """As the sweeps of a tuning are: a second interrupt ends the process of both."""
    flow = api(server, "/flows/", {"name": "tune"})["id"]
    running = {"flow_id": flow, "state": {"type": "RUNNING"}}
    whole = api(server, "/flow_runs/", running)["id"]
    task = api(server, "/task_runs/", {
        "flow_run_id": whole, "task_key": "sweep", "dynamic_key": "0", "state": {"type": "RUNNING"}})  # fmt: skip
    part = api(server, "/flow_runs/", {**running, "parent_task_run_id": task["id"]})["id"]
    subprocess.run(
        [sys.executable, "-m", "flows.running.crashed_runs", f"http://x/runs/flow-run/{part}"], cwd=PROJECT,
        env=environment(prefect_home, PREFECT_API_URL=server), check=True, timeout=60,
    )  # fmt: skip
    assert [api(server, f"/flow_runs/{run}")["state"]["type"] for run in (whole, part)] == ["CRASHED"] * 2
    assert api(server, f"/task_runs/{task['id']}")["state"]["type"] == "CRASHED"


def test_the_run_of_a_killed_sweep_is_found_by_the_next_one_and_that_of_one_under_way_is_not(tmp_path):
    """Each sweep closes the runs that this finds, or they would say running until somebody resumes the sweep."""
    ends = {"killed": None, "under way": None, "interrupted": "interrupted", "completed": "completed", "mine": None}
    for name, ended in ends.items():
        (tmp_path / name).mkdir()
        manifest = Manifest(command="c", order=(), persistent=(), started_at="s", run_url=f"run/{name}", ended=ended)
        write_json(tmp_path / name / MANIFEST, manifest)
    with FileLock(tmp_path / "under way" / SWEEP_LOCK):
        assert abandoned_runs(tmp_path / "mine") == ["run/killed"]
    assert set(abandoned_runs(tmp_path / "mine")) == {"run/killed", "run/under way"}


@pytest.mark.in_turns
def test_ctrl_c_prints_the_command_that_resumes(interrupted, prefect_home):
    sweep, output = interrupted
    assert output.strip().splitlines()[-1] == f"python -m flows.sweep sweep.resume={sweep}"
    before, references = stamps(sweep, "result.json"), contents(sweep, "reference.json")
    done = command(prefect_home, "sweep", f"sweep.resume={sweep}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 trials succeeded" in done.stdout
    assert sweeps(sweep.parent) == [sweep]
    assert before.items() <= stamps(sweep, "result.json").items()
    assert contents(sweep, "reference.json") == references


@pytest.mark.parametrize(
    ("manifest", "message"),
    [(None, "is not the directory of a sweep"),
     ({"ended": "completed"}, "is finished"),
     ({"ended": None}, "is of other trials")],
)  # fmt: skip
def test_a_directory_that_cannot_be_resumed_is_refused_in_one_line(tmp_path, manifest, message, capsys):
    if manifest is not None:
        plain = {"command": "x", "order": ["0"], "persistent": [], "started_at": "2026-01-01"}
        (tmp_path / "sweep.json").write_text(json.dumps({**plain, **manifest}))
    assert main([*WORDS, f"sweep.directory={tmp_path}", f"sweep.resume={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sweep: sweep.resume={tmp_path} {message}")


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"words": ("eviction=fifo",), "order": ["0"]}, "is of other trials than this command; give it alone"),
     ({"order": ["0"]}, "cannot go on: its program, configs or sources have changed since"),
     ({"costs_hash": "0"}, "cannot go on: its cost table has changed since")],
)  # fmt: skip
@pytest.mark.parametrize("retry", [[], ["sweep.retry_failed=true"]])
def test_a_sweep_that_another_one_would_resume_says_what_has_changed(tmp_path, changes, why, retry, capsys):
    manifest_of(tmp_path / "one", **changes)
    assert main([*WORDS, f"sweep.directory={tmp_path}", f"sweep.resume={tmp_path / 'one'}", *retry]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sweep: sweep.resume={tmp_path / 'one'} {why}")


def manifest_of(directory, **changes):
    plan = make_plan((*WORDS, f"sweep.directory={directory.parent}"))
    directory.mkdir(parents=True)
    begun = {"command": "x", "order": [one.trial_id for one in plan.trials], "persistent": [], "words": plan.command,
             "started_at": "2026-01-01", "costs_hash": plan.costs.digest}  # fmt: skip
    (directory / "sweep.json").write_text(json.dumps({**begun, **changes}))
    return plan


def test_what_is_given_beside_the_directory_takes_the_place_of_what_was_said(tmp_path):
    manifest_of(tmp_path / "one", words=["eviction=lru", "runner.workers=2", "+", "eviction=gdsf", "seed=1"])
    given = [f"sweep.resume={tmp_path / 'one'}", "runner.workers=1"]
    assert saved_words(given) == ["eviction=lru", *given, "+", "eviction=gdsf", "seed=1", *given]


def test_an_unfinished_sweep_of_other_sources_is_told_of(tmp_path, capsys):
    plan = manifest_of(tmp_path / "20-one", order=["of other sources"])
    assert claim(plan) != tmp_path / "20-one"
    assert f"{tmp_path / '20-one'} is an unfinished sweep of this command, but the sources" in capsys.readouterr().err


def test_trials_that_were_never_attempted_are_run_when_the_sweep_goes_on(tmp_path):
    result = failed("its reference run failed: took more than 1 s")
    for attempted in (True, False):
        write_json(tmp_path / RESULT, result.model_copy(update={"attempted": attempted}))
        known = known_result(tmp_path, result.trial_id, result.environment)
        assert (known is not None) == attempted


@pytest.mark.parametrize("library", ["_pydantic_core", "_multiarray_umath"])
def test_ctrl_c_while_modules_are_imported_is_one_line(prefect_home, tmp_path, library):
    process = start_sweep(prefect_home, tmp_path, *WORDS)
    loaded = Path(f"/proc/{process.pid}/maps")
    while library not in loaded.read_text():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "Interrupted; results that are there are kept.\n")
