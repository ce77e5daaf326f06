"""The Prefect flow: references -> trials -> report, each trial a task and a process of its own."""

import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from jaxcache import Cost, CostTable, format_size
from jaxcache.lab.analysis.sweep import MANIFEST
from jaxcache.lab.environment import Environment
from jaxcache.lab.report.warm_up import prepare_report
from jaxcache.lab.running import launch as run
from jaxcache.lab.trial import Reference, TrialResult, write_json

from ..planning.plan import CONFIG_NAME, Plan, PlannedTrial, UsageError, check_directories, make_plan
from ..prefect_server import watchdog as keeper
from ..workers.protocol import Workers, open_workers
from . import artifacts, crashed_runs, resume
from .progress import Progress
from .signals import stop_on_signals

CONFIG = "config.yaml"
_INTERRUPTED = "interrupted: its process was ended"
_LONGEST_NAME = 120


class Session:
    """A sweep under way: what its tasks share. Tasks run in threads of one process."""

    def __init__(self, plan: Plan, directory: Path, progress: Progress, workers: Workers) -> None:
        self.plan, self.directory, self.progress, self.workers = plan, directory, progress, workers
        self.stop = threading.Event()
        self.references: dict[str, Reference] = {}
        self.costs = _saved_costs(directory).merge(plan.costs)
        self.known = _known(plan, directory, workers.environment)
        self._costs_lock = threading.Lock()
        self.task_runs: dict[str, UUID] = {}  # by trial, in the order in which they were submitted

    def order(self, kind: str, planned: PlannedTrial, place: Path) -> run.TrialJob:
        """Return what a process is to be told; which device it gets, its worker decides."""
        trial = planned.trial
        reference = self.references.get(planned.program_id)
        costs = self.costs
        return run.TrialJob(
            kind=kind,
            trial=trial,
            device=self.workers.device,
            directory=place,
            environment=self.workers.environment,
            costs=dict(costs),
            trial_id=planned.trial_id,
            program_id=planned.program_id,
            costs_hash=costs.digest,
            reference_checksum=None if reference is None else reference.checksum,
        )

    def add_reference(self, reference: Reference) -> None:
        """Take up what a reference measured, and save the sweep's cost table. What stands in it stays."""
        with self._costs_lock:
            self.references[reference.program_id] = reference
            self.costs = self.costs.merge({name: Cost(*row) for name, row in reference.costs.items()})
            self.costs.save(self.directory / run.COSTS)


def _saved_costs(directory: Path) -> CostTable:
    """Return the table of a run that was cut off: its trials decided by it. References know their rows as well."""
    try:
        return CostTable.load(directory / run.COSTS)
    except (OSError, ValueError):
        return CostTable()


def _known(plan: Plan, directory: Path, here: Environment) -> dict[str, TrialResult]:
    """Return the results that are there already, by trial."""
    found = (run.known_result(directory / run.TRIALS / one.trial_id, one.trial_id, here) for one in plan.trials)
    return {result.trial_id: result for result in found if result is not None}


@task(cache_policy=NO_CACHE, persist_result=False)
def measure_reference(session: Session, planned: PlannedTrial) -> State[Any]:
    """Compile every signature of a program once, in full, and run it under jax.jit itself."""
    place = session.directory / run.REFERENCES / planned.program_id
    place.mkdir(parents=True, exist_ok=True)
    order = session.order("reference", planned, place)
    try:
        reference = (
            run.known_reference(order, session.directory / run.REFERENCES)
            or run.known_reference(order, session.plan.references)
            or session.workers.reference(order, session.stop)
        )
    except run.Interrupted:
        return Cancelled(message=_INTERRUPTED)
    except run.Failed as error:
        return Failed(message=str(error))
    session.add_reference(reference)
    session.progress.reference_done()
    get_run_logger().info(
        "%d signatures, %s, %.2f s to compile each once", reference.distinct, format_size(reference.unbounded_bytes),
        reference.unbounded_cost_seconds,
    )  # fmt: skip
    return Completed(message=f"{reference.distinct} signatures")


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(session: Session, planned: PlannedTrial, obstacle: str | None) -> State[Any]:
    """Run one trial in a process of its own; an obstacle is why it cannot be run."""
    known = session.known.get(planned.trial_id)
    if known is not None:
        session.progress.trial_known(known)
        return _judge(known)
    place = session.directory / run.TRIALS / planned.trial_id
    place.mkdir(parents=True, exist_ok=True)
    saved = {
        **planned.config,
        "costs": str(session.directory / run.COSTS),  # run again, it decides as it did now
        "sweep": {**planned.config["sweep"], "resume": None},
    }
    (place / CONFIG).write_text(yaml.safe_dump(saved, sort_keys=False))
    if session.stop.is_set():
        return Cancelled(message="interrupted before it started")
    order = session.order("trial", planned, place)
    try:
        if obstacle is not None:
            result = run.failed_result(order, obstacle, attempted=False)
        else:
            result = session.workers.trial(
                order, session.stop, partial(session.progress.trial_started, planned.name, place)
            )
    except run.Interrupted:
        session.progress.trial_interrupted(planned.name)
        return Cancelled(message=_INTERRUPTED)
    session.progress.trial_done(planned.name, result)
    return _judge(result)


def _judge(result: TrialResult) -> State[Any]:
    logger = get_run_logger()
    stats = result.statistics
    if stats is not None:
        logger.info(
            "%s: %.1f %% hits, %d misses (%d from disk), %d evictions, %.2f reference compile seconds",
            result.label, 100 * stats.hit_rate, stats.misses, stats.disk_hits, stats.evictions, stats.cost_seconds,
        )  # fmt: skip
    if result.status == "completed":
        return Completed(message=f"{stats.hit_rate:.1%} hits" if stats else None)
    logger.error("%s\n%s", result.reason, result.stderr_tail)
    return Failed(message=result.reason)


@task(cache_policy=NO_CACHE, persist_result=False)
def report(directory: Path, task_runs: dict[str, UUID]) -> str:
    """Make the report from the result files, also from those of an unfinished sweep."""
    from jaxcache.lab.report.rows import headline
    from jaxcache.lab.report.write import write_report

    sweep = write_report(directory)
    artifacts.publish_results(sweep, task_runs)
    return headline(sweep)


def _run_name() -> str:
    """Name a run after what it varies, and its directory; one that a deployment starts has none yet."""
    given = flow_run.parameters
    told = " ".join(word for word in given.get("overrides") or () if not word.startswith("sweep.")) or "sweep"
    short = told if len(told) <= _LONGEST_NAME else f"{told[:_LONGEST_NAME]}…"
    return f"{short} · {Path(given['directory']).name}" if given.get("directory") else short


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
        overrides: What the command line takes, such as ``["eviction=lru,gdsf", "seed=0,1"]``.
        directory: Where the sweep's files go, as :func:`flows.running.resume.claim` gave it; left empty, it is chosen
            here.
        config_name: The primary config.
        config_dir: Where to look for it first.
        quiet: Print no progress.
        trials: Run them; False for the reference runs alone, without a report.
    """
    plan = make_plan(tuple(overrides), config_name, config_dir)
    check_directories(plan)
    place = Path(directory) if directory else resume.claim(plan)
    resume.hold(place)
    began = time.monotonic()
    before = resume.read_manifest(place)
    if before is None:
        raise UsageError(f"directory={place} is not the directory of a sweep; leave it empty, and one is made")
    if before.run_url is not None:
        crashed_runs.close(before.run_url)  # before it is forgotten
    manifest = before.model_copy(update={"run_url": flow_run.ui_url, "ended": None, "reported": False})
    write_json(place / MANIFEST, manifest)
    with (
        Progress(len(plan.trials) if trials else 0, quiet=quiet) as progress,
        open_workers(plan, progress.say) as workers,
    ):
        progress.announce(manifest.run_url)
        artifacts.tag_run(planned.trial for planned in plan.trials)
        session = Session(plan, place, progress, workers)
        if before.run_url is not None:
            progress.resuming(place, len(session.known))
        preparing = threading.Thread(target=prepare_report)
        if trials:
            preparing.start()

        def abandon() -> None:
            progress.abandon(resume.command(place))
            if manifest.run_url is not None:
                crashed_runs.close_from_elsewhere(manifest.run_url)

        with stop_on_signals(session.stop, progress.stopping, abandon):
            with artifacts.publishing(progress):
                states = _execute(session, trials)
            ended = _how_it_ended(session, states, trials)
            told = {
                "ended": ended,
                "wall_seconds": time.monotonic() - began + (before.wall_seconds or 0),
                "order": tuple(dict.fromkeys([*session.task_runs, *manifest.order])),
            }
            write_json(place / MANIFEST, manifest.model_copy(update=told))
            progress.finish()  # what comes next may end the process
            keeper.finish(place)
            if trials:
                preparing.join()
                said = report(place, session.task_runs)
            else:
                said = " · ".join(dict.fromkeys(state.message or state.name or "" for state in states))
            resume.mark_reported(place)
    if ended is None:
        faults = [state.message or str(state.type) for state in states if not state.is_completed()]
        return Failed(message=f"{said}; some could not be run: {faults[0]}")
    return {"interrupted": Cancelled, "completed": Completed, "failed": Failed}[ended](message=said)


def _how_it_ended(session: Session, states: list[State[Any]], trials_too: bool) -> str | None:
    """Return what the manifest is to say; None, as of a sweep that was killed, if trials have no result.

    Of these the sweep itself is to blame, or a full disk: it is not finished, and can go on.
    """
    if session.stop.is_set():
        return "interrupted"
    if all(state.is_completed() for state in states):
        return "completed"
    results = (session.directory / run.TRIALS / one.trial_id / run.RESULT for one in session.plan.trials)
    return "failed" if not trials_too or all(path.exists() for path in results) else None


def _execute(session: Session, trials_too: bool) -> list[State[Any]]:
    """Run the references, and each program's trials, if they are asked for, as soon as its reference is there."""
    waiting: dict[str, list[PlannedTrial]] = defaultdict(list)
    for planned in session.plan.trials:
        waiting[planned.program_id].append(planned)
    with ThreadPoolTaskRunner(max_workers=session.workers.count) as runner:
        references: dict[PrefectFuture[Any], str] = {}
        for program, trials in waiting.items():
            config = trials[0].trial
            name = f"reference {config.program_name}"
            measuring = measure_reference.with_options(task_run_name=name)
            references[runner.submit(measuring, {"session": session, "planned": trials[0]})] = program
        futures: list[PrefectFuture[Any]] = []
        for done in as_completed(list(references)):
            done.wait()  # its state is the last one only after this
            if not trials_too:
                continue
            obstacle = None if done.state.is_completed() else f"its reference run failed: {done.state.message}"
            for planned in waiting[references[done]]:
                trying = run_trial.with_options(task_run_name=planned.name)
                parameters = {"session": session, "planned": planned, "obstacle": obstacle}
                futures.append(future := runner.submit(trying, parameters))
                session.task_runs[planned.trial_id] = future.task_run_id
        for future in futures:
            future.wait()
    return [future.state for future in (futures if trials_too else references)]
