"""Sweeps that are submitted to SLURM: a real one, with one node of two cores, on this machine."""

import contextlib
import json
import os
import re
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
from flows.sweep import main
from flows.workers.slurm.claims import Claim, Claims, reference_key
from flows.workers.slurm.commands import JobState
from flows.workers.slurm.files import SlurmFiles
from flows.workers.slurm.submission import check_fits
from tests._support.slurm import NoSlurmError, running_slurm

from .conftest import PROGRAMS, PROJECT, SMALL, command, environment, newest
from .test_sweep import COMPILING, LASTING, decisions, flow_run_of, results, task_runs_of

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


def submit(slurm, home, outputs, *words, **more):
    """Submit a sweep; return its directory."""
    words = (*words, *SLURM, f"sweep.directory={outputs}")
    done = command(home, "sweep", *words, **slurm.environment, **more)
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
        time.sleep(0.2)
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


def test_a_sweep_decides_as_the_local_runner_does_and_prefect_has_its_record(
    first_sweep, slurm, server, prefect_home, tmp_path
):
    _, _, local = first_sweep
    words = (*PROGRAMS, *SMALL, f"costs={local / 'costs.json'}", f"persistent.directory={tmp_path / 'cache'}")
    sweep = submit(slurm, prefect_home, tmp_path, *words)
    done = follow(slurm, prefect_home, "attach", sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "4 of 4 trials succeeded" in done.stdout
    assert decisions(sweep) == decisions(local)
    ours, theirs = results(local), results(sweep)
    assert {name: each["checksum"] for name, each in ours.items()} == {
        n: each["checksum"] for n, each in theirs.items()
    }
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


@pytest.mark.in_turns
def test_put_back_and_killed_trials_are_finished_by_other_jobs_and_once(slurm, server, prefect_home, tmp_path):
    words = (*LASTING, "eviction=lru,gdsf")  # or they might end before SLURM has put one back
    sweep = submit(slurm, prefect_home, tmp_path, *words, PREFECT_API_URL=server)
    wait_for(lambda: len(trial_processes(sweep)) == 2 and len(claims_of(sweep)) == 2)

    running, (name, claim) = trial_processes(sweep), min(claims_of(sweep).items(), key=lambda item: item[1]["job"])
    slurm.run("scancel", "--signal=USR1", "--batch", claim["job"])  # as SLURM does before the walltime
    wait_for(lambda: claims_of(sweep)[name]["state"] == "released")
    wait_for(lambda: len([each for each in running if each.is_running()]) == 1)
    wait_for(lambda: slurm.jobs()[claim["job"]] == "PENDING")
    slurm.run("scontrol", "update", f"JobId={claim['job']}", "StartTime=now")  # else SLURM lets it wait two minutes

    victim = wait_for(lambda: [each for each in workers(sweep) if each.status() != psutil.STATUS_ZOMBIE])[0]
    victim.kill()  # as where memory runs out; nobody puts its trial back
    wait_for(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
    seen = {}
    while slurm.jobs():
        for path in sweep.glob("trials/*/result.json"):
            written = path.stat().st_mtime_ns, path.stat().st_ino
            assert seen.setdefault(path, written) == written
        time.sleep(0.2)
    status = follow(slurm, prefect_home, "status", sweep)
    assert status.returncode == 0, status.stdout + status.stderr
    assert "2 done · 0 failed · 0 running · 0 waiting; 1 of 1 references" in status.stdout
    assert len(claims_of(sweep)) == 4  # two trials, one put back, one that died
    begun_again = [name for name in claims_of(sweep) if not name.endswith(".0")]
    assert len(begun_again) == 2
    assert flow_run_of(server, sweep)["state"]["type"] == "COMPLETED"  # kept by the last job, which reaches the server
    assert all(each["status"] == "completed" for each in results(sweep).values())
    assert json.loads((sweep / "sweep.json").read_text())["ended"] == "completed"
    assert (sweep / "report.html").exists()
    assert not [*sweep.rglob("scratch")]


def control(slurm, action, job):
    words, variables = ["scontrol", action, job], {**os.environ, **slurm.environment}
    subprocess.run(words, env=variables, check=True, capture_output=True, timeout=60)


@pytest.mark.in_turns
def test_who_attaches_may_leave_and_a_cancelled_sweep_goes_on_with_what_is_left(slurm, prefect_home, tmp_path):
    words = (*COMPILING, "eviction=lru,gdsf,fifo,sieve")
    sweep = submit(slurm, prefect_home, tmp_path, *words)
    trials = json.loads((sweep / "slurm" / "jobs.json").read_text())["rounds"][0]["jobs"]["trials"]
    control(slurm, "hold", trials)  # until somebody watches: they might all have ended before
    refused = command(prefect_home, "sweep", *words, f"sweep.directory={tmp_path}", **slurm.environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"sweep: this very sweep is under way in {sweep}, as jobs ")
    assert refused.stderr.endswith(f"of SLURM; watch it with: python -m flows.sweep attach {sweep}\n")

    attached = subprocess.Popen(
        [sys.executable, "-m", "flows.sweep", "attach", str(sweep)], cwd=PROJECT,
        env=environment(prefect_home, **slurm.environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    held = re.compile(rf"Job {trials}_\S+ is held \(JobHeld\w+\); to let it start: scontrol release {trials}\n")
    assert next(line for line in attached.stderr if held.fullmatch(line))
    assert f"); to let it start: scontrol release {trials}\n" in follow(slurm, prefect_home, "status", sweep).stdout
    control(slurm, "release", trials)
    wait_for(lambda: list(sweep.glob("trials/*/result.json")))
    control(slurm, "suspend", trials)  # on a busy machine all might have ended before the first is shown
    assert next(line for line in attached.stderr if re.match(r"\[\d/4\] done|Going on in .*: \d of 4 trials", line))
    attached.send_signal(signal.SIGINT)
    out, error = attached.communicate(timeout=60)
    assert attached.returncode == 130, out + error
    assert f"Leaving; the jobs go on. To watch them again: python -m flows.sweep attach {sweep}" in error
    assert "Traceback" not in out + error
    assert "SUSPENDED" in slurm.jobs().values()
    status = follow(slurm, prefect_home, "status", sweep)
    assert status.returncode == 0
    assert "trials SUSPENDED" in status.stdout
    assert "report PENDING (Dependency)" in status.stdout

    cancelled = follow(slurm, prefect_home, "cancel", sweep)
    assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
    assert cancelled.stdout.startswith("Cancelled jobs ")
    assert cancelled.stdout.endswith(f"To go on: python -m flows.sweep sweep.resume={sweep}\n")
    assert not slurm.jobs()
    kept = {path: path.read_bytes() for path in sweep.glob("trials/*/result.json")}
    assert kept
    stopped = follow(slurm, prefect_home, "status", sweep)
    assert stopped.returncode == 1
    assert f"No job is left; to go on: python -m flows.sweep sweep.resume={sweep}" in stopped.stdout

    words = (f"sweep.resume={sweep}", "runner=local", f"sweep.directory={tmp_path}")
    done = command(prefect_home, "sweep", *words)  # which need not ask SLURM
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 trials succeeded" in done.stdout
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.in_turns
def test_trials_whose_reference_fails_have_failed_with_its_reason(slurm, prefect_home, tmp_path):
    sweep = submit(slurm, prefect_home, tmp_path, *COMPILING, "eviction=lru,gdsf", "runner.timeout_seconds=0.1")
    wait_for(lambda: not slurm.jobs())
    status = follow(slurm, prefect_home, "status", sweep)
    assert status.returncode == 1
    assert "0 done · 2 failed · 0 running · 0 waiting; 0 of 1 references" in status.stdout
    reason = "its reference run failed: took more than 0.1 s; raise runner.timeout_seconds or shorten the trial"
    assert {each["reason"] for each in results(sweep).values()} == {reason}
    assert len(claims_of(sweep)) == 2
    assert json.loads((sweep / "sweep.json").read_text())["ended"] == "failed"


@pytest.mark.in_turns
def test_a_job_that_slurm_has_started_twice_goes_on_with_what_its_first_run_held(slurm, prefect_home, tmp_path):
    later = 'runner.sbatch_arguments=["--begin=now+5"]'
    sweep = submit(slurm, prefect_home, tmp_path, *COMPILING, later)
    files = SlurmFiles(sweep)
    trials, program = files.submission().rounds[0].jobs["trials"], files.load_plan()[0].trials[0].program_id
    left = Claim(job=f"{trials}_0", restarts=0, worker="vm cpu", run="lost with its controller")
    assert Claims(files.claims).acquire(reference_key(program), 0, left)
    wait_for(lambda: not slurm.jobs())
    status = follow(slurm, prefect_home, "status", sweep)
    assert "1 done · 0 failed · 0 running · 0 waiting; 1 of 1 references" in status.stdout


def test_what_sbatch_refuses_is_one_line_in_its_own_words_and_leaves_nothing(slurm, prefect_home, tmp_path):
    words = (*SLURM, *COMPILING, f"sweep.directory={tmp_path}")
    done = command(prefect_home, "sweep", *words, "runner.partition=nope", **slurm.environment)
    assert done.returncode == 2
    assert done.stderr == (
        "sweep: runner=slurm: sbatch refused the sweep (invalid partition specified: nope; "
        "Batch job submission failed: Invalid partition name specified)\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [".claims.lock"]
    assert not slurm.jobs()


@pytest.mark.in_turns
def test_jobs_with_other_sources_than_the_sweep_do_nothing_and_say_so(slurm, prefect_home, tmp_path):
    later = 'runner.sbatch_arguments=["--begin=now+5"]'
    sweep = submit(slurm, prefect_home, tmp_path, *COMPILING, later)
    plan = sweep / "slurm/plan.json"
    plan.write_text(plan.read_text().replace('"sources":"', '"sources":"other'))
    wait_for(lambda: not slurm.jobs())
    status = follow(slurm, prefect_home, "status", sweep)
    assert status.returncode == 1
    assert "0 done · 0 failed · 0 running · 1 waiting; 0 of 1 references" in status.stdout
    assert "has other sources than the sweep; were they edited since it was submitted?" in status.stdout
    assert f"No job is left; to go on: python -m flows.sweep sweep.resume={sweep}" in status.stdout
    assert len(json.loads((sweep / "slurm/jobs.json").read_text())["rounds"]) == 1


def test_without_slurms_commands_nothing_starts(prefect_home, tmp_path):
    words = ("runner=slurm", f"sweep.directory={tmp_path / 'outputs'}")
    done = command(prefect_home, "sweep", *words, PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        "sweep: runner=slurm needs sbatch, which is not on the PATH; run this where SLURM's commands are installed, or "
        "write runner=local\n"
    )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("action", ["attach", "status", "cancel"])
@pytest.mark.usefixtures("slurm")
def test_a_directory_without_a_submitted_sweep_is_refused(action, tmp_path, capsys):
    assert main([action, str(tmp_path)]) == 2
    refusal = f"sweep: {tmp_path} is not the directory of a sweep that was submitted with runner=slurm\n"
    assert capsys.readouterr().err == refusal


def runner_of(*words):
    return make_plan(("workload=monte_carlo", *words)).runner


WALLTIMES = {  # the last six are the formats of sbatch's manual
    "2h": 7200, "90m": 5400, "1.5d": 129600, "30": 1800, "90:30": 5460, "02:00:00": 7200, "1-12": 129600,
    "1-12:30": 131400, "1-12:30:00": 131400,
}  # fmt: skip


@pytest.mark.parametrize("text", WALLTIMES)
def test_a_walltime_is_read_as_sbatch_reads_it_or_with_a_unit(text):
    runner = runner_of("runner=slurm", f"runner.time={text}")
    assert isinstance(runner, SlurmRunner)
    assert runner.time_seconds == WALLTIMES[text]


BAD = [
    ("runner.time=10s", "runner.time must be the walltime of a job, at least a minute, such as 2h, .* but is '10s'"),
    ("runner.time=soon", "runner.time must be the walltime of a job, .* but is 'soon'"),
    ("runner.mem=lots", "runner.mem must be a size such as 64MiB .* but is 'lots'"),
    ("runner.partition='a b'", "runner.partition must be a name that sbatch takes, such as gpu, but is 'a b'"),
    ("runner.jobs=0", "runner.jobs must be greater than 0, but is 0"),
    ("runner.max_running=0", "runner.max_running must be greater than 0, but is 0"),
    ("runner.signal_seconds=1", "runner.signal_seconds must be greater than or equal to 10, but is 1"),
    ("runner.gpus_per_node=-1", "runner.gpus_per_node must be greater than or equal to 0, but is -1"),
    ('runner.sbatch_arguments=["gres"]', "runner.sbatch_arguments must be options with their values, .* has 'gres'"),
    ('runner.sbatch_arguments=["--array=1"]', "runner.sbatch_arguments must not have --array: write runner.jobs= ins"),
    (
        'runner.sbatch_arguments=["--wrap=ls"]',
        "runner.sbatch_arguments must not have --wrap: the sweep gives it itself",
    ),
    ("runner.python=bin/python", "runner.python must be the whole path of an interpreter on the nodes, but is bin/py"),
    ("runner.device=gpu", "runner.device is gpu, but no GPU is asked for; write runner.gpus_per_node=1"),
    ("runner.device=cpu runner.gpus_per_node=1", "runner.gpus_per_node=1 asks for GPUs, but runner.device is cpu"),
    ("runner.workers=2", "there is no setting runner.workers"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_a_wrong_setting_is_one_line_that_names_it_and_what_to_write(line, message):
    words = [line] if "'a b'" in line else line.split()
    with pytest.raises(UsageError, match=message) as error:
        make_plan(("runner=slurm", *words))
    assert "\n" not in str(error.value)


def test_a_trial_that_may_take_longer_than_its_job_is_refused_with_what_fits():
    words = ("runner=slurm", "runner.time=10m")
    with pytest.raises(UsageError) as error:
        check_fits(make_plan(words))
    assert str(error.value) == (
        "runner.time=10m is too short for a trial, which may take 1800 s; write runner.time=33m or "
        "runner.timeout_seconds=420"
    )
    check_fits(make_plan((*words, "runner.timeout_seconds=420")))
    check_fits(make_plan(("runner=slurm", "runner.time=33m")))


def test_of_jobs_that_claim_one_trial_at_once_one_gets_it(tmp_path):
    claims, barrier, won = Claims(tmp_path), threading.Barrier(8), []

    def claim(number):
        barrier.wait()
        if claims.acquire("trial-a", 0, Claim(job=str(number), restarts=0, worker="")):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert claims.read("trial-a", 0) == Claim(job=str(won[0]), restarts=0, worker="")
    assert [path.name for path in tmp_path.iterdir()] == ["trial-a.0"]


@pytest.mark.parametrize(
    ("state", "is_abandoned"),
    [
        (None, True),
        (JobState("7_1", "RUNNING", 0, ""), True),  # another task of the array
        (JobState("7_0", "RUNNING", 1, ""), False),
        (JobState("7_0", "COMPLETING", 1, ""), False),
        (JobState("7_0", "PENDING", 2, "BeginTime"), True),
    ],
)
def test_a_claim_is_abandoned_once_its_job_has_ended_or_was_queued_again(state, is_abandoned):
    claim = Claim(job="7_0", restarts=1, worker="node")
    assert claim.is_abandoned([] if state is None else [state]) == is_abandoned
