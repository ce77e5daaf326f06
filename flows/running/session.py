"""Session of a sweep that runs: the state that its tasks share."""

import threading
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import yaml

from jaxcache import Cost, CostTable
from jaxcache.lab.environment import Environment
from jaxcache.lab.files import write_file
from jaxcache.lab.layout import COSTS, TRIAL_CONFIG, TRIALS
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.running.earlier_results import known_result
from jaxcache.lab.running.job import TrialJob

from ..planning.plan import Plan, PlannedTrial
from ..workers.protocol import Workers
from .progress import Progress


class Session:
    """State of a sweep that its tasks share. Tasks run in threads of one process."""

    def __init__(self, plan: Plan, directory: Path, progress: Progress, workers: Workers) -> None:
        self.plan, self.directory, self.progress, self.workers = plan, directory, progress, workers
        self.stop = threading.Event()
        self.references: dict[str, Reference] = {}
        self.costs = saved_costs(directory).merge(plan.costs)
        self.known = _known_results(plan, directory, workers.environment)
        self._costs_lock = threading.Lock()
        self.task_runs: dict[str, UUID] = {}  # by trial, in the order in which they were submitted

    def job(self, kind: str, planned: PlannedTrial, directory: Path) -> TrialJob:
        """Return the job of a trial's process; its worker sets the device."""
        reference = self.references.get(planned.program_id)
        costs = self.costs
        return TrialJob(
            kind=kind,
            trial=planned.trial,
            device=self.workers.device,
            directory=directory,
            environment=self.workers.environment,
            costs=dict(costs),
            trial_id=planned.trial_id,
            program_id=planned.program_id,
            costs_hash=costs.digest,
            reference_checksum=None if reference is None else reference.checksum,
            reference_output="" if reference is None or reference.program is None else reference.program.output,
            reference_requests=None if reference is None else reference.requests,
        )

    def add_reference(self, reference: Reference) -> None:
        """Add a reference and its costs, and save the sweep's cost table, in which earlier rows are kept."""
        self.add_references([reference])

    def add_references(self, references: Iterable[Reference]) -> None:
        """Add references, of which the costs of the first stand, and save the sweep's cost table."""
        with self._costs_lock:
            for reference in references:
                self.references[reference.program_id] = reference
                self.costs = self.costs.merge({name: Cost(*row) for name, row in reference.costs.items()})
            self.save_costs()

    def save_costs(self) -> None:
        """Save the sweep's cost table to its directory."""
        self.costs.save(self.directory / COSTS)

    def save_config(self, planned: PlannedTrial, directory: Path) -> None:
        """Write a trial's config, with the sweep's cost table, so that it can be run again with equal decisions."""
        config = {
            **planned.config,
            "costs": str(self.directory / COSTS),
            "sweep": {**planned.config["sweep"], "resume": None, "retry_failed": False},
        }
        write_file(directory / TRIAL_CONFIG, yaml.safe_dump(config, sort_keys=False), durable=False)


def saved_costs(directory: Path) -> CostTable:
    """Return the cost table of an interrupted run, by which its trials decided; empty if it cannot be read.

    The rows are in the references too.
    """
    try:
        return CostTable.load(directory / COSTS)
    except (OSError, ValueError):
        return CostTable()


def _known_results(plan: Plan, directory: Path, here: Environment) -> dict[str, TrialResult]:
    """Return the results of an interrupted run, by trial."""
    results = (known_result(directory / TRIALS / trial.trial_id, trial.trial_id, here) for trial in plan.trials)
    return {result.trial_id: result for result in results if result is not None}
