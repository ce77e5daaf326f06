"""Prefect tasks of a sweep: a reference, a trial, the report."""

from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from jaxcache import format_size
from jaxcache.lab.analysis.first_look import first_look
from jaxcache.lab.counted import counted
from jaxcache.lab.layout import REFERENCES, TRIALS
from jaxcache.lab.result import TrialResult
from jaxcache.lab.running import launch
from jaxcache.lab.running.earlier_results import known_reference

from ..planning.plan import PlannedTrial
from . import artifacts
from .session import Session

_INTERRUPTED = "interrupted: its process was ended"


@task(cache_policy=NO_CACHE, persist_result=False)
def measure_reference(session: Session, planned: PlannedTrial) -> State[Any]:
    """Compile every signature of a program once, in full, and run it under jax.jit itself."""
    directory = session.directory / REFERENCES / planned.program_id
    directory.mkdir(parents=True, exist_ok=True)
    job, name = session.job("reference", planned, directory), f"reference {planned.trial.program_name}"
    session.progress.reference_started(name, directory)
    try:
        reference = (
            known_reference(job, session.directory / REFERENCES)
            or known_reference(job, session.plan.references)
            or session.workers.reference(job, session.stop)
        )
    except launch.Interrupted:
        return Cancelled(message=_INTERRUPTED)
    except launch.Failed as error:
        return Failed(message=str(error))
    finally:
        session.progress.reference_ended(name)
    session.add_reference(reference)
    look = first_look(session.directory, planned.program_id, session.plan.trials_of(planned.program_id), session.costs)
    session.progress.reference_done(name, reference, look)
    get_run_logger().info(
        "%s, %s, %.2f s to compile each once", counted(reference.distinct, "signature"),
        format_size(reference.unbounded_bytes), reference.unbounded_cost_seconds,
    )  # fmt: skip
    return Completed(message=counted(reference.distinct, "signature"))


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(session: Session, planned: PlannedTrial, obstacle: str | None) -> State[Any]:
    """Run one trial in its own process; an obstacle is the reason why it cannot be run."""
    earlier = session.known.get(planned.trial_id)
    if earlier is not None:
        return _state_of(earlier)
    directory = session.directory / TRIALS / planned.trial_id
    directory.mkdir(parents=True, exist_ok=True)
    session.save_config(planned, directory)
    if session.stop.is_set():
        return Cancelled(message="interrupted before it started")
    job = session.job("trial", planned, directory)
    try:
        if obstacle is not None:
            result = launch.failed_result(job, obstacle, attempted=False)
        else:
            started = partial(session.progress.trial_started, planned.name, directory)
            result = session.workers.trial(job, session.stop, started)
    except launch.Interrupted:
        session.progress.trial_interrupted(planned.name)
        return Cancelled(message=_INTERRUPTED)
    session.progress.trial_done(planned.name, result)
    return _state_of(result)


def _state_of(result: TrialResult) -> State[Any]:
    """Log a result and return its state."""
    logger = get_run_logger()
    stats = result.statistics
    if stats is not None:
        logger.info(
            "%s: %.1f %% hits, %s (%d from disk), %s, %.2f reference compile seconds",
            result.label, 100 * stats.hit_rate, counted(stats.misses, "miss", "misses"), stats.disk_hits,
            counted(stats.evictions, "eviction"), stats.cost_seconds,
        )  # fmt: skip
    if result.status == "completed":
        return Completed(message=f"{stats.hit_rate:.1%} hits" if stats else None)
    logger.error("%s\n%s", result.reason, result.stderr_tail)
    return Failed(message=result.reason)


@task(cache_policy=NO_CACHE, persist_result=False)
def report(directory: Path, task_runs: dict[str, UUID]) -> str:
    """Write the report from the result files, also from those of an unfinished sweep; return its headline."""
    from jaxcache.lab.report.rows import headline
    from jaxcache.lab.report.write import write_report

    findings = write_report(directory)
    artifacts.publish_results(findings, task_runs)
    return headline(findings.sweep)
