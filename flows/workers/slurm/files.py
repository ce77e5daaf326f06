"""Files by which the jobs of a sweep, and who submitted it or attaches to it, know of each other.

slurm/plan.json  costs_given.json            the planned trials, so that jobs compose no configs
slurm/jobs.json                              the jobs that were submitted
slurm/node.json                              device and environment that all jobs must have, from the first that worked
slurm/claims/                                which job works on which trial; see :mod:`flows.workers.slurm.claims`
slurm/refusals/                              why jobs did not work
slurm/*.sh  slurm/*.log                      their scripts and output
"""

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jaxcache import CostTable
from jaxcache.lab.environment import Environment
from jaxcache.lab.files import write_file, write_json
from jaxcache.lab.layout import RESULT, SLURM, TRIALS
from jaxcache.lab.result import TrialResult
from jaxcache.lab.running.earlier_results import usable_result
from jaxcache.lab.trial import Device

from ...planning.errors import UsageError
from ...planning.plan import Plan, PlannedTrial
from ...planning.runners import SlurmRunner
from ...planning.settings import ServerKeys, SweepSettings
from ..sources import sources

_PLAN, _JOBS, _NODE, _COSTS_GIVEN = "plan.json", "jobs.json", "node.json", "costs_given.json"
_CLAIMS, _REFUSALS = "claims", "refusals"


class SavedPlan(BaseModel):
    """Plan of a sweep as its jobs read it; its cost table is a file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...]
    trials: tuple[PlannedTrial, ...]
    runner: SlurmRunner
    sweep: SweepSettings
    server: ServerKeys
    references: Path | None
    sources: str


class Round(BaseModel):
    """Jobs that were submitted together.

    Attributes:
        jobs: Ids by what the jobs are for: ``references`` if some are missing, ``trials`` for the array whose tasks run
            them, ``report`` for the job that submits the next round or makes the report.
        claims: Number of claims when it was submitted: a round that has added none has done nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: dict[str, str]
    claims: int


class Submission(BaseModel):
    """Jobs of a sweep: rounds, each of which goes on with what the one before has left.

    Attributes:
        submitted_at: Seconds since the epoch.
        wall_seconds_before: What an earlier run of the sweep took.
        is_over: Whether there will be no further round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    submitted_at: float
    wall_seconds_before: float = 0.0
    rounds: tuple[Round, ...] = ()
    is_over: bool = False

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of all jobs."""
        return tuple(job for each in self.rounds for job in each.jobs.values())


class Node(BaseModel):
    """Device and environment of the first job that worked, which those of all others must equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Device
    environment: Environment


class SlurmFiles:
    """Files in a sweep's directory that are there for its jobs alone."""

    def __init__(self, sweep_directory: Path) -> None:
        self.sweep_directory = sweep_directory
        self.directory = sweep_directory / SLURM
        self.claims, self.refusals = self.directory / _CLAIMS, self.directory / _REFUSALS

    def begin(self, plan: Plan) -> None:
        """Write the plan for jobs that are about to be submitted, without traces of earlier ones."""
        for folder in (self.claims, self.refusals):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name in (_JOBS, _NODE):
            (self.directory / name).unlink(missing_ok=True)
        for directory in (self.sweep_directory / TRIALS).glob("*"):
            earlier = usable_result(directory)
            if earlier is not None and not earlier.attempted:  # its reference had failed, and is run again
                (directory / RESULT).unlink()
        assert isinstance(plan.runner, SlurmRunner)
        saved = SavedPlan(
            command=plan.command, trials=plan.trials, runner=plan.runner, sweep=plan.sweep, server=plan.server,
            references=plan.references, sources=sources(),
        )  # fmt: skip
        plan.costs.save(self.directory / _COSTS_GIVEN)
        write_file(self.directory / _PLAN, saved.model_dump_json(by_alias=True), durable=True)

    def load_plan(self) -> tuple[Plan, str]:
        """Return the plan, without devices, and the hash of the sources that its trials are of.

        Raises:
            UsageError: If there is none.
        """
        try:
            saved = SavedPlan.model_validate_json((self.directory / _PLAN).read_bytes())
            costs = CostTable.load(self.directory / _COSTS_GIVEN)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.sweep_directory} is not the directory of a sweep that was submitted with runner=slurm"
            ) from error
        plan = Plan(
            command=saved.command, trials=saved.trials, runner=saved.runner, sweep=saved.sweep, server=saved.server,
            devices=(), costs=costs, references=saved.references,
        )  # fmt: skip
        return plan, saved.sources

    def save_submission(self, submission: Submission) -> None:
        """Write which jobs were submitted."""
        write_json(self.directory / _JOBS, submission)

    def submission(self) -> Submission | None:
        """Return which jobs were submitted; None if none were."""
        try:
            return Submission.model_validate_json((self.directory / _JOBS).read_bytes())
        except (OSError, ValidationError):
            return None

    def agree_on_node(self, node: Node) -> Node:
        """Write what all jobs' nodes must be like, unless another job has; return what stands."""
        create_once(self.directory / _NODE, node.model_dump_json())
        found = self.node()
        assert found is not None  # it is written in one step, and never removed while jobs are there
        return found

    def node(self) -> Node | None:
        """Return what the jobs' nodes are like; None while none has worked."""
        try:
            return Node.model_validate_json((self.directory / _NODE).read_bytes())
        except (OSError, ValidationError):
            return None

    def refuse(self, job: str, reason: str) -> None:
        """Write why a job does no work."""
        write_file(self.refusals / job, reason, durable=False)

    def refusal(self) -> str | None:
        """Return why a job did no work; None if all that have started did."""
        for path in sorted(self.refusals.glob("*")):
            with contextlib.suppress(OSError):
                return path.read_text()
        return None


def finished_result(sweep_directory: Path, trial_id: str, here: Environment) -> TrialResult | None:
    """Return the result of a trial, also of one that was not attempted; None if its jobs have not written it yet."""
    result = usable_result(sweep_directory / TRIALS / trial_id)
    if result is None or result.trial_id != trial_id or not result.environment.computes_as(here):
        return None
    return result


def create_once(path: Path, content: str) -> bool:
    """Write a file in one step unless it is there; return whether it was written.

    A hard link is made or refused in one step on every file system that clusters share.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_file(temporary, content, durable=True)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
