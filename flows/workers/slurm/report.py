"""``python -m flows.workers.slurm.report DIRECTORY``: last job of a round, once the others have ended.

If trials are left, since jobs died or their walltime ended, it submits another round; else it makes the report.
Prefect's record is kept here if a server was named that answers, else by whoever attaches.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import MANIFEST, REFERENCES, TRIALS, scratch
from jaxcache.lab.report.write import write_report
from jaxcache.lab.result import TrialResult

from ...planning.errors import UsageError
from ...planning.plan import Plan
from ...running import resume
from .claims import Claims
from .commands import SlurmError
from .files import SlurmFiles, Submission, finished_result
from .submission import submit_round

_HELD_SECONDS = 60.0  # who attaches makes the report too, and may be at it
_POLL_SECONDS = 0.5


def main(words: list[str] | None = None) -> int:
    """Go on with what is left, or make the report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.workers.slurm.report")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(words).directory
    files = SlurmFiles(directory)
    plan, _ = files.load_plan()
    submission = _own_submission(files)
    results = _results(files, plan)
    if len(results) < len(plan.trials) and _is_worth_another_round(files, submission):
        try:
            submit_round(plan, files, submission)
        except SlurmError as error:  # such as a cluster whose nodes may not submit
            print(f"{len(plan.trials) - len(results)} trials are left, but no job for them: {error}", file=sys.stderr)
        else:
            return 0
    files.save_submission(submission.model_copy(update={"is_over": True}))
    _report(files, plan, submission)
    return 0


def _own_submission(files: SlurmFiles) -> Submission:
    """Return the jobs that were submitted; this one may start before that is written."""
    own = os.environ["SLURM_JOB_ID"]
    deadline = time.monotonic() + _HELD_SECONDS
    while time.monotonic() < deadline:
        submission = files.submission()
        if submission is not None and own in submission.jobs:
            return submission
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"{files.directory} does not name this job, {own}: it was submitted by something that was killed")


def _results(files: SlurmFiles, plan: Plan) -> list[TrialResult]:
    node = files.node()
    if node is None:
        return []
    found = [finished_result(files.sweep_directory, each.trial_id, node.environment) for each in plan.trials]
    return [result for result in found if result is not None]


def _is_worth_another_round(files: SlurmFiles, submission: Submission) -> bool:
    """Return whether the last round has begun anything: how often a trial is begun is bounded.

    Jobs that died before they began anything get a second round, unless one has said that it cannot work.
    """
    counts = [*(each.claims for each in submission.rounds), Claims(files.claims).count()]
    if counts[-1] > counts[-2]:
        return True
    return files.refusal() is None and (len(counts) == 2 or counts[-2] > counts[-3])


def _report(files: SlurmFiles, plan: Plan, submission: Submission) -> None:
    """Make the report, unless whoever attaches has made it meanwhile."""
    directory = files.sweep_directory
    is_free = _hold(directory)
    manifest = resume.read_manifest(directory)
    if manifest is None or (manifest.reported and manifest.ended is not None):
        return
    for trial in [path for folder in (TRIALS, REFERENCES) for path in (directory / folder).glob("*")]:
        shutil.rmtree(scratch(trial), ignore_errors=True)  # of jobs that died
    _end(files, plan, submission, manifest)
    write_report(directory)
    resume.mark_reported(directory)
    if is_free and _server_answers():
        _keep_record(directory)


def _end(files: SlurmFiles, plan: Plan, submission: Submission, manifest: Manifest) -> None:
    """Write how the trials ended to the manifest."""
    results = _results(files, plan)
    has_failed = any(result.status == "failed" for result in results)
    is_whole = len(results) == len(plan.trials)
    update: dict[str, Any] = {
        "ended": "interrupted" if not is_whole else "failed" if has_failed else "completed",
        "wall_seconds": time.time() - submission.submitted_at + submission.wall_seconds_before,
    }
    write_json(files.sweep_directory / MANIFEST, manifest.model_copy(update=update))


def _hold(directory: Path) -> bool:
    """Lock the sweep's directory; return False if whoever is attached keeps it for long."""
    deadline = time.monotonic() + _HELD_SECONDS
    while True:
        try:
            resume.hold(directory)
        except UsageError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _server_answers() -> bool:
    """Return whether ``PREFECT_API_URL`` names a server that can be reached from this node."""
    from ...prefect_server.connect import check_address

    try:
        check_address()
    except UsageError:
        return False
    return bool(os.environ.get("PREFECT_API_URL"))


def _keep_record(directory: Path) -> None:
    """Let Prefect have the sweep as a run with its trials."""
    from ...running.attached import attached_sweep

    attached_sweep(str(directory), return_state=True)


if __name__ == "__main__":
    sys.exit(main())
