"""Prefect flow of whoever attaches to a sweep that was submitted to SLURM: its trials are run by jobs, not from here.

It can be left and attached to again at any time, also after the jobs have ended.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled

from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import MANIFEST

from ..workers.slurm.files import SlurmFiles, Submission
from ..workers.slurm.submission import attach_command
from ..workers.slurm.watching import SlurmWorkers
from . import artifacts, crashed_runs, resume
from .flow import begin_run, end_run, execute, final_state, how_it_ended, preparing_report
from .outcome import LEFT
from .progress import Progress
from .session import Session
from .signals import stop_on_signals
from .tasks import report


def _run_name() -> str:
    return f"slurm · {Path(flow_run.parameters['directory']).name}"


class _AttachedSession(Session):
    """Session of a sweep whose jobs keep the cost table."""

    def save_costs(self) -> None:
        """Leave the table alone: the jobs write it, in an order of their own."""


@flow(name="slurm sweep", flow_run_name=_run_name, persist_result=False)
def attached_sweep(directory: str, quiet: bool = True) -> State[Any]:
    """Watch the jobs of a sweep until they have ended, then report.

    Args:
        directory: Directory of the sweep.
        quiet: Whether to print no progress.
    """
    sweep_directory = Path(directory)
    resume.hold(sweep_directory)
    files = SlurmFiles(sweep_directory)
    plan, _ = files.load_plan()
    submission = files.submission() or Submission(submitted_at=time.time())
    before, manifest = begin_run(sweep_directory)
    with Progress(len(plan.trials), plan.programs, quiet=quiet) as progress:
        workers = SlurmWorkers(plan, sweep_directory, progress.say)
        session = _AttachedSession(plan, sweep_directory, progress, workers)
        with _leaving_on_signals(session, manifest), preparing_report(needed=True) as prepared:
            progress.announce(manifest.run_url)
            artifacts.tag_run(planned.trial for planned in plan.trials)
            if session.known:
                progress.resuming(sweep_directory, session.known.values())
            with artifacts.publishing(progress):
                states = execute(session, with_trials=True)
            if session.stop.is_set():
                if before.ended is not None:  # the report is there: only Prefect's record is not
                    write_json(sweep_directory / MANIFEST, before)
                return Cancelled(message=LEFT)
            if workers.is_over and any(state.is_cancelled() for state in states):
                session.stop.set()  # as by an interrupt: the sweep can be resumed
            ended = how_it_ended(session, states, with_trials=True)
            end_run(session, manifest, ended, _wall_seconds(before, submission))
            prepared.join()
            message = report(sweep_directory, session.task_runs)
            resume.mark_reported(sweep_directory)
    return final_state(ended, message, states)


def _wall_seconds(before: Manifest, submission: Submission) -> float:
    """Return what the sweep took: as the last job has written it, or until now."""
    if before.ended is not None and before.wall_seconds is not None:
        return before.wall_seconds
    return time.time() - submission.submitted_at + submission.wall_seconds_before


@contextmanager
def _leaving_on_signals(session: Session, manifest: Manifest) -> Iterator[None]:
    """Stop watching on SIGINT and SIGTERM within the context; a second signal ends the process at once."""
    again = attach_command(session.directory)

    def announce() -> None:
        session.progress.say(f"Leaving; the jobs go on. To watch them again: {again}")

    def abandon() -> None:
        session.progress.abandon(again)
        if manifest.run_url is not None:
            crashed_runs.close_from_elsewhere(manifest.run_url)

    with stop_on_signals(session.stop, announce, abandon):
        yield
