"""Submission of a sweep's jobs: references, the array that runs trials, and a last one that goes on or reports."""

import shlex
import sys
import time
from pathlib import Path

from jaxcache.lab.layout import REFERENCE, REFERENCES, SLURM
from jaxcache.lab.running.job import allowed_seconds

from ...planning.errors import UsageError
from ...planning.invocation import command_of
from ...planning.locations import CHECKOUT
from ...planning.plan import Plan
from ...planning.runners import SlurmRunner
from . import commands
from .claims import Claims
from .commands import JobState, SlurmError
from .files import Round, SlurmFiles, Submission

_WORKER, _REPORT = "flows.workers.slurm.worker", "flows.workers.slurm.report"
_SLACK_SECONDS = 120  # SLURM signals up to a minute early, and a worker takes some time to start
_SCRIPT = """\
#!/bin/bash
# Written by jaxcache; {what}.
{setup}
exec {command}
"""


def check_fits(plan: Plan) -> None:
    """Check that each trial may take its time within the walltime: else it would be put back for ever.

    Raises:
        UsageError: If one may not.
    """
    runner = slurm_runner(plan)
    if runner.time_seconds is None:
        return
    longest = max(
        allowed_seconds(planned.trial, kind, runner.timeout_seconds)
        for planned in plan.trials
        for kind in ("trial", "reference")
    )
    fitting = runner.time_seconds - runner.signal_seconds - _SLACK_SECONDS
    if longest <= fitting:
        return
    least = -(-(longest + runner.signal_seconds + _SLACK_SECONDS) // 60)
    lower = f" or runner.timeout_seconds={fitting}" if fitting > 0 and longest == runner.timeout_seconds else ""
    raise UsageError(
        f"runner.time={runner.time_seconds // 60}m is too short for a trial, which may take {longest:g} s; "
        f"write runner.time={least:.0f}m{lower}"
    )


def slurm_runner(plan: Plan) -> SlurmRunner:
    """Return the runner of a plan that is for SLURM."""
    assert isinstance(plan.runner, SlurmRunner)
    return plan.runner


def submit(plan: Plan, directory: Path, wall_seconds_before: float = 0.0) -> Submission:
    """Submit the jobs of a sweep in its directory, which nothing else works in.

    Args:
        plan: Plan of the sweep.
        directory: Directory of the sweep.
        wall_seconds_before: What an earlier run of the sweep took.

    Raises:
        UsageError: If sbatch refuses one; none is left then.
    """
    files = SlurmFiles(directory)
    files.begin(plan)
    _write_scripts(plan, files)
    submission = Submission(submitted_at=time.time(), wall_seconds_before=wall_seconds_before)
    try:
        return submit_round(plan, files, submission)
    except SlurmError as error:
        raise UsageError(f"runner=slurm: sbatch refused the sweep ({error})") from error


def submit_round(plan: Plan, files: SlurmFiles, submission: Submission) -> Submission:
    """Submit a round of jobs, each noted in the sweep's directory at once, so that none is lost sight of.

    Raises:
        SlurmError: If sbatch refuses one; those before are cancelled.
    """
    jobs: dict[str, str] = {}
    claims = Claims(files.claims).count()
    noted = submission
    try:
        for name, tasks in _tasks(plan, files).items():
            before = list(jobs.values())[-1:]
            options = [*_options(plan, files, name), *tasks, *(f"--dependency=afterany:{job}" for job in before)]
            jobs[name] = commands.submit(files.directory / f"{name}.sh", options)
            noted = submission.model_copy(
                update={"rounds": (*submission.rounds, Round(jobs=dict(jobs), claims=claims))}
            )
            files.save_submission(noted)
    except SlurmError:
        commands.cancel(jobs.values())
        files.save_submission(submission)
        raise
    return noted


def _tasks(plan: Plan, files: SlurmFiles) -> dict[str, list[str]]:
    """Return the jobs of a round in their order, each with the option for the tasks of its array, if it is one."""
    runner, programs = slurm_runner(plan), {planned.program_id for planned in plan.trials}
    missing = sum(not _has_reference(plan, files.sweep_directory, program_id) for program_id in programs)
    most = f"%{runner.max_running}" if runner.max_running else ""
    references = {"references": [f"--array=0-{min(missing, runner.jobs) - 1}{most}"]} if missing else {}
    return {**references, "trials": [f"--array=0-{min(len(plan.trials), runner.jobs) - 1}{most}"], "report": []}


def jobs_under_way(directory: Path) -> list[JobState]:
    """Return the jobs of a sweep that have not ended; none if it was not submitted.

    Raises:
        UsageError: If SLURM does not say.
    """
    submission = SlurmFiles(directory).submission()
    if submission is None:
        return []
    try:
        return commands.active_jobs(submission.jobs)
    except SlurmError as error:
        raise UsageError(
            f"{directory} was submitted to SLURM, which does not say whether its jobs run ({error}); run this where "
            f"squeue answers or, if they have ended, remove {directory / SLURM}"
        ) from error


def check_not_under_way(directory: Path) -> None:
    """Check that no jobs work in a sweep's directory.

    Raises:
        UsageError: If some do.
    """
    submission = SlurmFiles(directory).submission()
    if submission is not None and submission.is_over:  # its last job may be at the report, and locks the directory
        return
    if jobs := jobs_under_way(directory):
        raise UsageError(
            f"this very sweep is under way in {directory}, as {names_of(jobs)} of SLURM; watch it with: "
            f"{attach_command(directory)}"
        )


def names_of(jobs: list[JobState]) -> str:
    """Return the ids of jobs, for people."""
    return f"job{'s' if len(jobs) > 1 else ''} {', '.join(job.job for job in jobs)}"


def attach_command(directory: Path, word: str = "attach") -> str:
    """Return the command that attaches to a sweep, or ``status`` or ``cancel`` in its place."""
    return f"{command_of('sweep')} {word} {shlex.quote(str(directory))}"


def _has_reference(plan: Plan, directory: Path, program_id: str) -> bool:
    """Return whether the reference of a program need not be run, or so it looks from here."""
    places = [path for path in (directory / REFERENCES, plan.references) if path is not None]
    return any((path / program_id / REFERENCE).exists() for path in places)


def _options(plan: Plan, files: SlurmFiles, name: str) -> list[str]:
    """Return the options of sbatch for a job; the report needs no GPU."""
    runner = slurm_runner(plan)
    of_the_cluster = {"partition": runner.partition, "account": runner.account, "qos": runner.qos}
    task = "_%A_%a" if name != "report" else "_%j"
    options = [f"--{option}={value}" for option, value in of_the_cluster.items() if value is not None]
    options += [
        f"--job-name=jaxcache-{name}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={runner.cpus_per_task}",
        f"--chdir={Path.cwd()}", "--requeue", "--open-mode=append",
        f"--output={files.directory.absolute() / name}{task}.log",
    ]  # fmt: skip
    if runner.mem_bytes is not None:
        options.append(f"--mem={-(-runner.mem_bytes // 2**20)}M")
    if runner.time_seconds is not None:
        options.append(f"--time={runner.time_seconds // 60}")
    if name != "report":
        options.append(f"--signal=B:USR1@{runner.signal_seconds}")
        if runner.gpus_per_node:
            options.append(f"--gpus-per-node={runner.gpus_per_node}")
    return [*options, *runner.sbatch_arguments]


def _write_scripts(plan: Plan, files: SlurmFiles) -> None:
    runner = slurm_runner(plan)
    python, directory = str(runner.python or sys.executable), str(files.sweep_directory.absolute())
    setup = [*runner.setup, *([] if CHECKOUT is None else [_path_of(CHECKOUT)])]
    for name, what, words in (
        ("references", "runs the references of a sweep", (_WORKER, directory, "--references")),
        ("trials", "runs trials of a sweep until none is left", (_WORKER, directory)),
        ("report", "goes on with what is left of a sweep, or makes its report", (_REPORT, directory)),
    ):
        command = shlex.join([python, "-m", *words])
        text = _SCRIPT.format(what=what, setup="\n".join(setup), command=command)
        (files.directory / f"{name}.sh").write_text(text)


def _path_of(checkout: Path) -> str:
    """Return a shell line by which a checkout is found from every working directory."""
    return f"export PYTHONPATH={shlex.quote(str(checkout))}${{PYTHONPATH:+:$PYTHONPATH}}"
