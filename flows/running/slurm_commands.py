"""Commands for a sweep of SLURM's: submit it and leave; attach to it, look at it once, cancel it."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..planning.errors import UsageError
from ..planning.invocation import command_of
from ..workers.slurm.commands import check_commands
from .signals import leave_on_interrupt

if TYPE_CHECKING:
    from ..planning.plan import Plan
    from ..workers.slurm.commands import JobState
    from ..workers.slurm.files import SlurmFiles, Submission

_POLL_SECONDS = 0.5
_CANCEL_SECONDS = 60.0  # SLURM gives jobs half a minute to end
_LEFT = "Interrupted; nothing was changed."
_WORDS = {
    "attach": "watch a sweep that was submitted with runner=slurm until it ends; Ctrl-C leaves it running",
    "status": "say how far a sweep that was submitted with runner=slurm is",
    "cancel": "cancel the jobs of a sweep that was submitted with runner=slurm; finished trials are kept",
}


def main(words: list[str]) -> int:
    """Attach to a sweep, look at it, or cancel it; return the exit code."""
    action, *rest = words
    parser = argparse.ArgumentParser(prog=f"{command_of('sweep')} {action}", description=f"{_WORDS[action]}.")
    parser.add_argument("directory", type=Path, help="of the sweep, such as outputs/2026-01-31_12-00-00-000000")
    if action == "attach":
        parser.add_argument("--quiet", action="store_true", help="only the last lines, and what went wrong")
    options = parser.parse_args(rest)
    try:
        if action == "attach":
            return _attach(options.directory, options.quiet)
        with leave_on_interrupt(_LEFT):
            return (_status if action == "status" else _cancel)(options.directory)
    except UsageError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(_LEFT, file=sys.stderr)
        return 130


def submit_sweep(overrides: tuple[str, ...], config_name: str, config_dir: str | None, quiet: bool) -> int:
    """Plan a sweep, write its directory, submit its jobs, and say how to go on; return the exit code.

    Raises:
        UsageError: If anything about the command is wrong, or sbatch refuses it. Nothing is left then.
    """
    check_commands()

    from jaxcache.lab.counted import counted

    from ..planning.plan import check_directories, make_plan
    from ..workers.slurm.submission import check_fits

    plan = make_plan(overrides, config_name, config_dir)
    check_fits(plan)
    check_directories(plan)
    directory, submission = _submit(plan)
    if not quiet:
        jobs = ", ".join(f"{job} {name}" for name, job in submission.rounds[0].jobs.items())
        print(f"Submitted {counted(len(plan.trials), 'trial')} to SLURM, as jobs {jobs}.")
    for text, action in (("Watch it:", "attach"), ("Look once:", "status"), ("Stop it:", "cancel")):
        print(f"{text:<10} {_command(action, directory)}")
    return 0


def _submit(plan: "Plan") -> "tuple[Path, Submission]":
    """Claim a directory for a plan and submit its jobs; remove the directory if that fails and it is new."""
    import shutil

    from jaxcache.lab.files import write_json
    from jaxcache.lab.layout import MANIFEST, SLURM

    from ..workers.slurm.submission import submit
    from . import resume

    is_new = resume.resumed_directory(plan) is None
    directory = resume.claim(plan)
    manifest = resume.read_manifest(directory)
    assert manifest is not None  # it was written by claim, or read by it
    write_json(directory / MANIFEST, manifest.model_copy(update={"ended": None, "reported": False}))
    try:
        submission = submit(plan, directory, manifest.wall_seconds or 0.0)
    except BaseException:
        shutil.rmtree(directory if is_new else directory / SLURM, ignore_errors=True)
        raise
    return directory, submission


def _command(action: str, directory: Path) -> str:
    from ..workers.slurm.submission import attach_command

    return attach_command(directory, action)


def _attach(directory: Path, quiet: bool) -> int:
    with leave_on_interrupt(_LEFT):
        check_commands()

        from ..prefect_server.connect import find_server
        from ..workers.slurm.files import SlurmFiles
        from . import resume

        files = SlurmFiles(directory)
        plan, _ = files.load_plan()
        manifest = resume.read_manifest(directory)
        if manifest is None or files.submission() is None:
            raise UsageError(
                f"{directory} has no jobs of SLURM; to run what is left of it: {resume.command(directory)}"
            )
        resume.hold(directory)
        if manifest.ended is not None and manifest.reported and manifest.run_url is not None:
            from .outcome import print_outcome

            return print_outcome(directory, None, quiet)
        if problem := find_server(plan.server.idle_hours):
            raise UsageError(problem)

        from .attached import attached_sweep
        from .outcome import run_watched

    def run_flow() -> Any:
        return attached_sweep(str(directory), quiet=quiet, return_state=True)

    return run_watched(run_flow, directory, None, quiet)


def _status(directory: Path) -> int:
    """Print counts of trials and the jobs; return 0, or 1 if trials failed, or are left without a job."""
    check_commands()

    from ..workers.slurm.files import SlurmFiles
    from ..workers.slurm.submission import jobs_under_way

    files = SlurmFiles(directory)
    plan, _ = files.load_plan()
    jobs = jobs_under_way(directory)
    counts = _counts(files, plan, bool(jobs))
    print("\n".join(_status_lines(files, plan, counts, jobs)))
    return 1 if counts["failed"] or (counts["waiting"] and not jobs) else 0


def _counts(files: "SlurmFiles", plan: "Plan", has_jobs: bool) -> Counter[str]:
    """Return how many trials are done, have failed, run and wait."""
    from jaxcache.lab.environment import environment

    from ..workers.slurm.claims import Claims, trial_key
    from ..workers.slurm.files import finished_result

    node, claims = files.node(), Claims(files.claims)
    here = environment() if node is None else node.environment
    newest = claims.newest()
    counts: Counter[str] = Counter(done=0, failed=0, running=0, waiting=0)
    for planned in plan.trials:
        result = finished_result(files.sweep_directory, planned.trial_id, here)
        key = trial_key(planned.trial_id)
        claim = claims.read(key, newest[key]) if key in newest and has_jobs else None
        if result is not None:
            counts["done" if result.status == "completed" else "failed"] += 1
        else:
            counts["running" if claim is not None and claim.state == "held" else "waiting"] += 1
    return counts


def _status_lines(files: "SlurmFiles", plan: "Plan", counts: Counter[str], jobs: "list[JobState]") -> Iterator[str]:
    from jaxcache.lab.layout import PAGE, REFERENCE, REFERENCES

    from . import resume

    directory = files.sweep_directory
    references = len([*(directory / REFERENCES).glob(f"*/{REFERENCE}")])
    words = " · ".join(f"{count} {name}" for name, count in counts.items())
    yield f"{directory}: {words}; {references} of {plan.programs} references"
    for job in jobs:
        why = f" ({job.reason})" if job.state == "PENDING" else ""
        release = f"; to let it start: {job.release_command}" if job.is_held else ""
        yield f"  {job.job} {_role(files, job.job)} {job.state}{why}{release}"
    if refusal := files.refusal():
        yield f"  a job did nothing: {refusal}"
    manifest = resume.read_manifest(directory)
    if jobs:
        yield f"Watch it: {_command('attach', directory)}"
    elif counts["waiting"]:
        yield f"No job is left; to go on: {resume.command(directory)}"
    elif manifest is not None and manifest.reported and manifest.ended is not None:
        yield f"Report: {directory / PAGE}"
    else:
        yield f"All trials are done; for the report: {_command('attach', directory)}"


def _role(files: "SlurmFiles", job: str) -> str:
    """Return what a job is for."""
    submission = files.submission()
    rounds = submission.rounds if submission else ()
    roles = {number: name for each in rounds for name, number in each.jobs.items()}
    return roles.get(job.partition("_")[0], "job")


def _cancel(directory: Path) -> int:
    """Cancel the jobs of a sweep, also those that one of them submits meanwhile; return the exit code."""
    check_commands()

    from ..workers.slurm import commands
    from ..workers.slurm.files import SlurmFiles
    from ..workers.slurm.submission import jobs_under_way, names_of
    from . import resume

    files = SlurmFiles(directory)
    files.load_plan()  # which refuses a directory that is none of SLURM's
    submission, jobs = files.submission(), jobs_under_way(directory)
    if not jobs:
        print(f"No job of {directory} is left.")
        return 0
    deadline = time.monotonic() + _CANCEL_SECONDS
    while (left := jobs_under_way(directory)) and time.monotonic() < deadline:
        try:
            commands.cancel(sorted({job.job.partition("_")[0] for job in left}))
        except commands.SlurmError as error:
            raise UsageError(f"scancel refused ({error})") from error
        time.sleep(_POLL_SECONDS)
    if not left and submission is not None:
        files.save_submission(submission.model_copy(update={"is_over": True}))
    print(f"Cancelled {names_of(jobs)}; finished trials are kept. To go on: {resume.command(directory)}")
    if left:
        print(f"sweep: {names_of(left)} did not end yet", file=sys.stderr)
    return 1 if left else 0
