"""Prefect flow of a sweep: references -> trials -> report, each trial a task with its own process."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import MANIFEST, RESULT, TRIALS
from jaxcache.lab.report.warm_up import prepare_report

from ..planning.composition import CONFIG_NAME
from ..planning.errors import UsageError
from ..planning.plan import PlannedTrial, check_directories, make_plan
from ..prefect_server import watchdog
from ..workers.protocol import open_workers
from . import artifacts, crashed_runs, resume
from .progress import Progress
from .session import Session
from .signals import stop_on_signals
from .tasks import measure_reference, report, run_trial

_LONGEST_NAME = 120


def _run_name() -> str:
    """Return a run's name: its overrides and its directory, which a run that a deployment starts does not have yet."""
    parameters = flow_run.parameters
    words = " ".join(word for word in parameters.get("overrides") or () if not word.startswith("sweep.")) or "sweep"
    short = words if len(words) <= _LONGEST_NAME else f"{words[:_LONGEST_NAME]}…"
    return f"{short} · {Path(parameters['directory']).name}" if parameters.get("directory") else short


@flow(name="sweep", flow_run_name=_run_name, persist_result=False)
def sweep(
    overrides: list[str],
    directory: str | None = None,
    config_name: str = CONFIG_NAME,
    config_dir: str | None = None,
    quiet: bool = True,
    trials: bool = True,
) -> State[Any]:
    """Run every combination of the overrides as one trial, then report.

    Args:
        overrides: Overrides as on the command line, such as ``["eviction=lru,gdsf", "seed=0,1"]``.
        directory: Directory of the sweep, from :func:`flows.running.resume.claim`; left empty, it is chosen here.
        config_name: Name of the primary config.
        config_dir: Directory in which the primary config is looked for first.
        quiet: Whether to print no progress.
        trials: Whether to run the trials; False for the reference runs alone, without a report.
    """
    plan = make_plan(tuple(overrides), config_name, config_dir)
    check_directories(plan)
    sweep_directory = Path(directory) if directory else resume.claim(plan)
    resume.hold(sweep_directory)
    began = time.monotonic()
    before, manifest = begin_run(sweep_directory)
    with (
        Progress(len(plan.trials) if trials else 0, plan.programs, quiet=quiet) as progress,
        open_workers(plan, progress.say) as workers,
    ):
        progress.announce(manifest.run_url)
        artifacts.tag_run(planned.trial for planned in plan.trials)
        session = Session(plan, sweep_directory, progress, workers)
        if before.run_url is not None:
            progress.resuming(sweep_directory, session.known.values())
        with _stopping_on_signals(session, manifest), preparing_report(needed=trials) as prepared:
            with artifacts.publishing(progress):
                states = execute(session, trials)
            ended = how_it_ended(session, states, trials)
            end_run(session, manifest, ended, time.monotonic() - began + (before.wall_seconds or 0))
            if trials:
                prepared.join()
                message = report(sweep_directory, session.task_runs)
            else:
                message = " · ".join(dict.fromkeys(state.message or state.name or "" for state in states))
            resume.mark_reported(sweep_directory)
    return final_state(ended, message, states)


def final_state(ended: str | None, message: str, states: list[State[Any]]) -> State[Any]:
    """Return the state of a sweep's flow run by how the trials ended."""
    if ended is None:
        faults = [state.message or str(state.type) for state in states if not state.is_completed()]
        return Failed(message=f"{message}; some could not be run: {faults[0]}")
    return {"interrupted": Cancelled, "completed": Completed, "failed": Failed}[ended](message=message)


def begin_run(directory: Path) -> tuple[Manifest, Manifest]:
    """Return the manifest as an earlier run left it, and that of this run, which is written."""
    before = resume.read_manifest(directory)
    if before is None:
        raise UsageError(f"directory={directory} is not the directory of a sweep; leave it empty, and one is made")
    if before.run_url is not None:
        crashed_runs.close(before.run_url)  # before the manifest is overwritten, which alone names that run
    for run_url in resume.abandoned_runs(directory):
        crashed_runs.close(run_url, crashed_runs.KILLED)
    manifest = before.model_copy(update={"run_url": flow_run.ui_url, "ended": None, "reported": False})
    write_json(directory / MANIFEST, manifest)
    return before, manifest


@contextmanager
def _stopping_on_signals(session: Session, manifest: Manifest) -> Iterator[None]:
    """Stop the session on SIGINT and SIGTERM within the context; a second signal ends the process at once."""

    def abandon() -> None:
        session.progress.abandon(resume.command(session.directory))
        if manifest.run_url is not None:
            crashed_runs.close_from_elsewhere(manifest.run_url)

    with stop_on_signals(session.stop, session.progress.stopping, abandon):
        yield


@contextmanager
def preparing_report(needed: bool) -> Iterator[threading.Thread]:
    """Yield a thread that imports the report's libraries while trials run, started if the report is needed."""
    thread = threading.Thread(target=prepare_report)
    if needed:
        thread.start()
    yield thread


def end_run(session: Session, manifest: Manifest, ended: str | None, wall_seconds: float) -> None:
    """Write how the trials ended to the manifest. Without a Prefect server, the watchdog ends the process here."""
    update = {
        "ended": ended,
        "wall_seconds": wall_seconds,
        "order": tuple(dict.fromkeys([*session.task_runs, *manifest.order])),
    }
    write_json(session.directory / MANIFEST, manifest.model_copy(update=update))
    session.progress.finish()  # before the watchdog, which may end the process
    watchdog.finish(session.directory)


def how_it_ended(session: Session, states: list[State[Any]], with_trials: bool) -> str | None:
    """Return how a sweep ended, for its manifest; None, as for a sweep that was killed, if trials have no result.

    Then the sweep itself failed, or the disk was full: it is not finished, and can be resumed.
    """
    if session.stop.is_set():
        return "interrupted"
    if all(state.is_completed() for state in states):
        return "completed"
    results = (session.directory / TRIALS / planned.trial_id / RESULT for planned in session.plan.trials)
    return "failed" if not with_trials or all(path.exists() for path in results) else None


def execute(session: Session, with_trials: bool) -> list[State[Any]]:
    """Run the references, and each program's trials, unless they are not wanted, as soon as its reference is done."""
    waiting: dict[str, list[PlannedTrial]] = defaultdict(list)
    for planned in session.plan.trials:
        waiting[planned.program_id].append(planned)
    with ThreadPoolTaskRunner(max_workers=session.workers.count) as runner:
        references: dict[PrefectFuture[Any], str] = {}
        for program, trials in waiting.items():
            name = f"reference {trials[0].trial.program_name}"
            measuring = measure_reference.with_options(task_run_name=name)
            references[runner.submit(measuring, {"session": session, "planned": trials[0]})] = program
        futures: list[PrefectFuture[Any]] = []
        for done in as_completed(list(references)):
            done.wait()  # only after this is its state the last one
            if with_trials:
                obstacle = None if done.state.is_completed() else f"its reference run failed: {done.state.message}"
                futures += [_submit(runner, session, planned, obstacle) for planned in waiting[references[done]]]
        for future in futures:
            future.wait()
    return [future.state for future in (futures if with_trials else references)]


def _submit(
    runner: ThreadPoolTaskRunner[Any], session: Session, planned: PlannedTrial, obstacle: str | None
) -> PrefectFuture[Any]:
    named = run_trial.with_options(task_run_name=planned.name)
    future = runner.submit(named, {"session": session, "planned": planned, "obstacle": obstacle})
    session.task_runs[planned.trial_id] = future.task_run_id
    return future
