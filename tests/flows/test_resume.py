"""Sweeps that are cut off with SIGKILL, and go on."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from flows.plan import make_plan
from flows.resume import claim, mark_reported

from .conftest import command
from .test_sweep import COMPILING, decisions, newest, results, run_sweep, start_sweep, wait_for

WORDS = (*COMPILING, "eviction=lru,gdsf,random")


def sweeps(outputs) -> list[Path]:
    return sorted(path.parent for path in outputs.glob("*/sweep.json"))


def stamps(sweep: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sweep.glob("*/*/re*.json")}


@pytest.fixture(scope="module")
def killed(server, prefect_home, tmp_path_factory):
    """A sweep whose flow was killed when its first trial had a result."""
    outputs = tmp_path_factory.mktemp("killed")
    process = start_sweep(prefect_home, outputs, *WORDS)
    wait_for(process, outputs, "20*/trials/*/result.json")
    children = psutil.Process(process.pid).children(recursive=True)
    refused = run_sweep(prefect_home, outputs, *WORDS)
    process.kill()
    process.communicate(timeout=60)
    _, left = psutil.wait_procs(children, timeout=20)
    assert left == []
    return outputs, refused


def test_the_same_sweep_is_refused_while_it_is_under_way(killed):
    outputs, refused = killed
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"sweep: this very sweep is under way in {newest(outputs)}")


def test_a_killed_sweep_goes_on_with_the_same_command(killed, prefect_home):
    outputs, _ = killed
    sweep = newest(outputs)
    before, decided = stamps(sweep), decisions(sweep)
    assert 1 <= len(decided) < 3
    half = next(path.parent for path in sweep.glob("trials/*/config.yaml") if path.parent / "result.json" not in before)
    (half / "result.json").write_text('{"schema_version": 1, "trial_id"')
    done = run_sweep(prefect_home, outputs, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Going on in {sweep}: {len(decided)} of 3 trials are finished" in done.stderr
    assert "3 of 3 trials succeeded" in done.stdout
    assert sweeps(outputs) == [sweep]
    after = stamps(sweep)
    trials = {path: stamp for path, stamp in before.items() if path.name == "result.json"}
    assert {path: after[path] for path in trials} == trials
    assert len(results(sweep)) == 3
    assert decided.items() <= decisions(sweep).items()
    hashes = {one["costs_hash"] for one in results(sweep).values()}
    assert len(hashes) == 1

    again = run_sweep(prefect_home, outputs, *WORDS, f"sweep.resume={sweep}")
    assert again.returncode == 2
    assert "is finished; leave sweep.resume out" in again.stderr


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


def test_a_sweep_that_was_killed_before_its_report_goes_on(tmp_path):
    plan = make_plan(("workload=monte_carlo", "persistent=off", f"sweep.directory={tmp_path}"))
    first = claim(plan)
    end(first, "completed", reported=False)
    assert claim(plan) == first
    mark_reported(first)
    assert claim(plan) != first


def end(sweep, how, reported=True):
    told = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**told, "ended": how, "reported": reported}))


def test_ctrl_c_prints_the_command_that_resumes(server, prefect_home, tmp_path):
    process = start_sweep(prefect_home, tmp_path, *COMPILING, "eviction=lru", "seed=0,1")
    wait_for(process, tmp_path, "20*/trials/*/stderr.txt")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    sweep = newest(tmp_path)
    printed = output.strip().splitlines()[-2:]
    assert f"python -m flows.sweep sweep.resume={sweep}" in printed, output
    done = command(prefect_home, "sweep", f"sweep.resume={sweep}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials succeeded" in done.stdout
    assert sweeps(tmp_path) == [sweep]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [(None, "is not the directory of a sweep"),
     ({"ended": "completed"}, "is finished"),
     ({"ended": None}, "is of other trials")],
)  # fmt: skip
def test_a_directory_that_cannot_be_resumed_is_refused_in_one_line(server, prefect_home, tmp_path, manifest, message):
    if manifest is not None:
        plain = {"command": "x", "order": ["0"], "persistent": [], "started_at": "2026-01-01"}
        (tmp_path / "sweep.json").write_text(json.dumps({**plain, **manifest}))
    done = run_sweep(prefect_home, tmp_path, *WORDS, f"sweep.resume={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"sweep: sweep.resume={tmp_path} {message}")
