"""Whole sweeps, as a user runs them: real processes, a real Prefect server, real files."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from flows.sweep import main
from jaxcache import POLICIES
from tests._support.browser import chromium

from .conftest import PROGRAMS, PROJECT, SMALL, command, environment, newest, persistent, run_sweep

# Trials of a few seconds: every miss compiles, so that there is time to end them. Others last three times as long.
_MISSING = ("workload=monte_carlo", "persistent=off", "shapes.distinct=3", "shapes.largest=24", "memory_limit=8MiB")
COMPILING, LASTING = (*_MISSING, "workload.requests=6"), (*_MISSING, "workload.requests=18")

OPTIONS = ", ".join(sorted(POLICIES))


def results(sweep: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sweep.glob("trials/*/result.json")]
    return {one["label"]: one for one in found}


def decisions(sweep: Path) -> dict[str, tuple]:
    return {
        label: tuple(one["statistics"][name] for name in ("hits", "misses", "evictions"))
        for label, one in results(sweep).items()
    }


def api(server, path, body=None):
    request = urllib.request.Request(
        f"{server}{path}", data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def flow_run_of(server, sweep: Path) -> dict:
    run_id = json.loads((sweep / "sweep.json").read_text())["run_url"].rsplit("/", 1)[-1]
    return api(server, f"/flow_runs/{run_id}")


def artifacts_of(server, flow_run) -> list[dict]:
    return api(server, "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}})


def task_runs_of(server, flow_run, wanted):
    """The records trail the run by a moment."""
    deadline = time.monotonic() + 30
    while True:
        found = api(server, "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run["id"]]}}})
        if wanted(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.3)


def test_a_sweep_runs_every_trial_and_reports(first_sweep):
    done, _, sweep = first_sweep
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "4 of 4 trials succeeded" in done.stdout
    assert str(sweep / "report.html") in done.stdout
    assert len(results(sweep)) == 4
    for one in results(sweep).values():
        stats = one["statistics"]
        assert one["status"] == "completed"
        assert one["checksum"] == one["reference_checksum"]
        assert stats["hits"] + stats["misses"] > 0
        assert stats["misses"] == stats["disk_hits"]  # of what its reference has left in the shared directory
        assert stats["compiled"] == 0
        assert stats["live_bytes"] <= stats["peak_bytes"] <= one["config"]["memory_limit"]
        assert one["config"]["eviction"]["name"] in ("lru", "gdsf")
        assert one["environment"]["lock_hash"]
        assert one["environment"]["packages"]["jax"]
    text = (sweep / "report.md").read_text()
    assert "| monte_carlo | zipf | float32 | shared | none | 8 MiB | gdsf | 1 |" in text
    assert "persistent cache: shared" in text
    assert json.loads((sweep / "costs.json").read_text())["signatures"]


def test_the_flow_its_trials_and_its_artifacts_are_in_prefect(first_sweep, server):
    _, _, sweep = first_sweep
    flow_run = flow_run_of(server, sweep)
    assert flow_run["state"]["type"] == "COMPLETED"
    assert flow_run["state"]["message"] == "4 of 4 trials succeeded"
    assert set(flow_run["tags"]) == {"gdsf", "iterative_solver", "lru", "monte_carlo"}
    tasks = task_runs_of(server, flow_run, lambda found: sum(t["state_type"] == "COMPLETED" for t in found) == 7)
    assert {task["name"] for task in tasks if task["name"].startswith("workload=")} == {
        f"workload={w} eviction={e}" for w in ("monte_carlo", "iterative_solver") for e in ("lru", "gdsf")
    }
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    by_key = {artifact["key"]: artifact for artifact in artifacts_of(server, flow_run)}
    assert set(by_key) == {"map", "progress", "report", "settings", "suggestions", "trials"}
    assert by_key["progress"]["data"] == 100
    for task in tasks:
        if task["name"].startswith("workload="):
            assert f"/task-run/{task['id']})" in by_key["trials"]["data"]
    assert len(json.loads(by_key["settings"]["data"])) == 4
    assert by_key["map"]["data"].count("data:image/png;base64,") == 1
    assert by_key["map"]["data"].startswith("**Take ")
    assert "4 of 4 measured trials equal their prediction." in by_key["map"]["data"]


@pytest.mark.in_turns
def test_the_ui_shows_the_run_its_trials_and_its_artifacts(first_sweep, server, tmp_path):
    _, _, sweep = first_sweep
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.set_default_timeout(60_000)
        page.goto(json.loads((sweep / "sweep.json").read_text())["run_url"])

        def see(tab, *texts):
            page.locator(".p-tab:visible, [role=tab]:visible").filter(has_text=tab).first.click()
            for text in texts:
                page.get_by_text(text, exact=True).locator("visible=true").first.wait_for()

        page.get_by_text(flow_run_of(server, sweep)["name"]).locator("visible=true").first.wait_for()
        see("Artifacts", "map", "progress", "report", "settings", "suggestions", "trials")
        trials = [f"workload={w} eviction={e}" for w in ("monte_carlo", "iterative_solver") for e in ("lru", "gdsf")]
        see("Task Runs", "Completed", *trials)
        look(page, tmp_path / "run.png")
        (plot,) = (one for one in artifacts_of(server, flow_run_of(server, sweep)) if one["key"] == "map")
        page.goto(f"{server.removesuffix('/api')}/artifacts/artifact/{plot['id']}")
        page.wait_for_function("[...document.images].some(one => one.src.startsWith('data:') && one.naturalWidth > 99)")
        look(page, tmp_path / "plot.png")


@pytest.mark.in_turns
def test_a_second_sweep_decides_alike_and_finds_programs_on_disk(first_sweep, prefect_home):
    _, outputs, sweep = first_sweep
    done = run_sweep(prefect_home, outputs, *PROGRAMS, f"costs={sweep / 'costs.json'}", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    again = newest(outputs)
    assert again != sweep
    assert decisions(again) == decisions(sweep)
    for one in results(again).values():
        assert one["statistics"]["compiled"] == 0
        assert one["statistics"]["disk_hits"] == one["statistics"]["misses"]
    seconds = [{label: one["statistics"]["cost_seconds"] for label, one in results(s).items()} for s in (sweep, again)]
    assert seconds[0] == pytest.approx(seconds[1])  # wherever a miss was served from, it costs the same


def test_the_saved_config_of_a_trial_runs_that_trial_again(first_sweep, prefect_home):
    _, outputs, sweep = first_sweep
    label, one = next((label, one) for label, one in results(sweep).items() if label.startswith("gdsf"))
    place = sweep / "trials" / one["trial_id"]
    assert yaml.safe_load((place / "config.yaml").read_text())["costs"] == str(sweep / "costs.json")
    done = command(prefect_home, "sweep", "--config-dir", str(place), "--config-name", "config")
    assert done.returncode == 0, done.stdout + done.stderr
    again = newest(outputs)
    assert decisions(again) == {label: decisions(sweep)[label]}
    assert results(again)[label]["trial_id"] == one["trial_id"]


def test_the_report_can_be_made_again_without_running_anything(first_sweep, prefect_home):
    _, _, sweep = first_sweep
    text = (sweep / "report.md").read_text()
    (sweep / "report.md").unlink()
    done = command(prefect_home, "report", str(sweep))
    assert done.returncode == 0, done.stderr
    assert (sweep / "report.md").read_text() == text


def look(page, path: Path) -> None:
    """Take a screenshot, and check that it shows something: many colours, none of them everywhere."""
    page.screenshot(path=path)
    with page.context.browser.new_page() as other:
        other.goto(path.as_uri())
        colours, share = other.evaluate(PIXELS)
    assert colours > 100
    assert share < 0.95


PIXELS = """() => {
    const image = document.images[0]
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight)
    const context = canvas.getContext('2d')
    context.drawImage(image, 0, 0)
    const counts = new Map()
    const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)
    for (const one of pixels) counts.set(one, (counts.get(one) ?? 0) + 1)
    return [counts.size, Math.max(...counts.values()) / pixels.length]
}"""


def start_sweep(home, outputs, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "flows.sweep", *words, f"sweep.directory={outputs}", *persistent(words, outputs)],
        cwd=PROJECT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(process, outputs, pattern) -> Path:
    """Wait until a file is there."""
    deadline = time.monotonic() + 300
    while not (found := list(outputs.glob(pattern))):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"there is no {pattern}:\n{process.communicate()[0]}")
        time.sleep(0.05)
    return found[0]


def trial_processes(process) -> list[psutil.Process]:
    """Trials have a session of their own."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.is_running() and os.getsid(child.pid) == child.pid]


@pytest.fixture(scope="module")
def with_a_failed_trial(server, prefect_home, tmp_path_factory):
    """A sweep of two trials, of which one was killed, and what it printed."""
    outputs = tmp_path_factory.mktemp("failed")
    process = start_sweep(
        prefect_home, outputs, *COMPILING, "eviction=lru,gdsf", "runner.workers=1", "runner.retries=0"
    )
    wait_for(process, outputs, "20*/trials/*/stderr.txt")
    (victim,) = trial_processes(process)
    victim.kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    return newest(outputs), output


@pytest.mark.in_turns
def test_a_killed_trial_is_told_and_the_others_are_reported(with_a_failed_trial, server):
    sweep, output = with_a_failed_trial
    statuses = {one["status"]: one for one in results(sweep).values()}
    assert set(statuses) == {"completed", "failed"}
    assert statuses["failed"]["reason"].startswith("the process was killed by SIGKILL")
    assert "failed  eviction=" in output
    text = (sweep / "report.md").read_text()
    assert "1 of 2 trials succeeded, 1 failed." in text
    assert "## Failed trials" in text
    flow_run = flow_run_of(server, sweep)
    assert flow_run["state"]["type"] == "FAILED"
    tasks = task_runs_of(server, flow_run, lambda found: any(task["state_type"] == "FAILED" for task in found))
    (failed,) = [task for task in tasks if task["state_type"] == "FAILED"]
    assert failed["state"]["message"].startswith("the process was killed by SIGKILL")


@pytest.mark.in_turns
def test_failed_trials_are_run_again_by_the_command_that_is_printed_and_the_others_are_kept(
    with_a_failed_trial, prefect_home
):
    sweep, output = with_a_failed_trial
    (line,) = [line for line in output.splitlines() if line.startswith("To run the failed trials again: ")]
    words = line.partition("flows.sweep ")[2].split()
    assert words == [f"sweep.resume={sweep}", "sweep.retry_failed=true"]
    contents = {path: path.read_bytes() for path in sweep.glob("trials/*/result.json")}
    kept = {path: content for path, content in contents.items() if json.loads(content)["status"] == "completed"}
    done = command(prefect_home, "sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials succeeded" in done.stdout
    assert len(kept) == 1
    saved = [yaml.safe_load(path.read_text())["sweep"] for path in sweep.glob("trials/*/config.yaml")]
    assert [(each["resume"], each["retry_failed"]) for each in saved] == [(None, False)] * 2  # each runs by itself
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert [path for path in sweep.parent.iterdir() if path.name.startswith("20")] == [sweep]


@pytest.mark.in_turns
def test_a_program_whose_reference_is_wrong_fails_its_trials_and_no_others(server, prefect_home, tmp_path):
    """No float32 solver reaches the second tolerance."""
    done = run_sweep(prefect_home, tmp_path, "workload=iterative_solver", "workload.tolerance=1e-5,1e-12", *SMALL)
    assert done.returncode == 1, done.stdout + done.stderr
    files = newest(tmp_path).glob("trials/*/result.json")
    by_tolerance = {one["config"]["workload"]["tolerance"]: one for one in map(json.loads, map(Path.read_text, files))}
    assert by_tolerance[1e-5]["status"] == "completed"
    assert "its reference run failed" in by_tolerance[1e-12]["reason"]
    assert "wrong answer" in by_tolerance[1e-12]["reason"]


def test_bad_input_ends_with_2_in_one_line_and_starts_nothing(tmp_path):
    done = command(tmp_path / "home", "sweep", "eviction=lruu")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"sweep: eviction must be one of {OPTIONS}, but is 'lruu'; did you mean lru?\n"
    assert not (tmp_path / "home").exists()


def test_outside_the_virtual_environment_a_line_says_how_to_enter_it():
    without = [sys.executable, "-S", "-m", "flows.sweep", "eviction=lru"]  # -S: without site-packages
    done = subprocess.run(without, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == f"sweep: {sys.executable} has no hydra; run make setup, and use .venv/bin/python\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--eviction", "lru"), "there is no option --eviction, see --help; settings are written without dashes, as "
      "eviction=lru"),
     (("memory_limit=-5",), "memory_limit must be positive, such as 64MiB, but is -5"),
     (("sweep.directory=/proc/nowhere",), "sweep.directory=/proc/nowhere cannot be made"),
     (("sweep.directory=/proc",), "sweep.directory=/proc cannot be written to"),
     (("sweep.directory=pyproject.toml",), "sweep.directory=pyproject.toml cannot be made (File exists)"),
     (("persistent.directory=/proc/nowhere",), "persistent.directory=/proc/nowhere cannot be made")],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(words, message, capsys):
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"sweep: {message}")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "nowhere"])
def test_a_server_that_does_not_answer_is_named_and_nothing_is_made(tmp_path, address):
    words = ("eviction=lru", f"sweep.directory={tmp_path / 'outputs'}")
    done = command(tmp_path / "home", "sweep", *words, PREFECT_API_URL=address)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sweep: PREFECT_API_URL={address} does not answer; start that server, or unset it")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.in_turns
def test_a_sweep_that_asked_for_a_gpu_and_got_a_cpu_has_failed(server, prefect_home, tmp_path):
    """The driver's program says that there is a GPU; JAX finds none."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA X (UUID: GPU-1)'\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    words = (*SMALL, "workload=monte_carlo", "runner.device=gpu", f"persistent.directory={tmp_path / 'cache'}")
    words = (*words, f"sweep.directory={tmp_path / 'outputs'}")
    done = command(prefect_home, "sweep", *words, PATH=path)
    assert done.returncode == 1, done.stdout + done.stderr
    (one,) = results(newest(tmp_path / "outputs")).values()
    assert one["status"] == "failed"
    assert one["reason"].endswith("asked for GPU 0, but JAX started cpu: is a CUDA jaxlib installed?")
    refused = command(prefect_home, "sweep", *words, "runner.gpus=[0,1]", PATH=path)
    assert refused.returncode == 2
    assert "runner.gpus=[0, 1] names GPU 1, but there is only GPU 0" in refused.stderr


def test_help_says_what_can_be_swept_and_hydra_flags_work(tmp_path):
    told = command(tmp_path, "sweep", "--help").stdout
    for word in (
        f"eviction: {OPTIONS}",
        "memory_limit: 32MiB",
        "experiment",
        "Exit code",
    ):
        assert word in told
    composed = yaml.safe_load(command(tmp_path, "sweep", "--cfg", "job", "eviction=gdsf").stdout)
    assert composed["eviction"] == {"name": "gdsf"}
    assert "hydra" not in composed


def test_the_server_outlives_sweeps_and_is_reused(first_sweep, server, prefect_home, tmp_path):
    """That it can be stopped is checked where the tests stop it."""
    assert command(tmp_path / "home", "server", "status").returncode == 1
    status = command(prefect_home, "server", "status")
    assert status.returncode == 0
    assert status.stdout.split()[-1] == server.removesuffix("/api")
    assert command(prefect_home, "server", "start").stdout == f"Prefect UI: {server.removesuffix('/api')}\n"
