"""Workers as whoever attaches to a sweep sees them: its jobs run the trials, and results are files that appear."""

import threading
import time
from pathlib import Path

from jaxcache.lab.counted import counted
from jaxcache.lab.environment import Environment, environment
from jaxcache.lab.layout import REFERENCES
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.running import launch
from jaxcache.lab.running.earlier_results import known_reference
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.trial import Device

from ...planning.plan import Plan
from ..protocol import Reporter
from .claims import Claim, Claims, reference_key, trial_key
from .commands import JobState, SlurmError, active_jobs
from .files import SlurmFiles, finished_result
from .submission import slurm_runner

_POLL_SECONDS = 0.5
_ASK_SECONDS = 5.0  # between two questions to SLURM's controller
_UNKNOWN_DEVICE = Device(platform="cpu", index=0)  # until a job has worked


class SlurmWorkers:
    """Jobs of a sweep, whose results are waited for.

    Attributes:
        is_over: Whether the jobs have ended: what has no result then gets none.
    """

    def __init__(self, plan: Plan, directory: Path, report: Reporter) -> None:
        self.count = min(len(plan.trials), 2 * slurm_runner(plan).most_at_once)  # others may be ahead of the plan
        self.is_over = False
        self._plan, self._directory, self._report = plan, directory, report
        self._files = SlurmFiles(directory)
        self._claims = Claims(self._files.claims)
        self._newest: dict[str, int] = {}
        self._listed_at = self._asked_at = float("-inf")
        self._jobs: tuple[str, ...] | None = None  # those that were under way
        self._held: set[str] = set()  # those that were told of
        self._lock = threading.Lock()

    @property
    def device(self) -> Device:
        """Device of the jobs."""
        node = self._files.node()
        return _UNKNOWN_DEVICE if node is None else node.device

    @property
    def environment(self) -> Environment:
        """Environment of the jobs; this process's until one has worked."""
        node = self._files.node()
        return environment() if node is None else node.environment

    def trial(self, job: TrialJob, stop: threading.Event, started: Reporter) -> TrialResult:
        """Wait for the result of a trial."""
        shown = None
        while True:
            over = self.is_over
            result = self._result(job.trial_id)
            if result is not None:
                return result
            self._check(stop, over)
            claim = self._claim(trial_key(job.trial_id))
            if claim is not None and claim.state == "held" and claim.worker != shown:
                shown = claim.worker
                started(shown)
            stop.wait(_POLL_SECONDS)

    def reference(self, job: TrialJob, stop: threading.Event) -> Reference:
        """Wait for a reference."""
        while True:
            over = self.is_over
            reference = self._reference(job)
            if reference is not None:
                return reference
            claim = self._claim(reference_key(job.program_id))
            if claim is not None and claim.state == "failed":
                raise launch.Failed(claim.reason)
            self._check(stop, over)
            stop.wait(_POLL_SECONDS)

    def _result(self, trial_id: str) -> TrialResult | None:
        node = self._files.node()
        return None if node is None else finished_result(self._directory, trial_id, node.environment)

    def _reference(self, job: TrialJob) -> Reference | None:
        node = self._files.node()
        if node is None:
            return None
        theirs = TrialJob(**{**vars(job), "device": node.device, "environment": node.environment})
        return known_reference(theirs, self._directory / REFERENCES)

    def _claim(self, key: str) -> Claim | None:
        with self._lock:
            if time.monotonic() - self._listed_at > _POLL_SECONDS:
                self._newest = self._claims.newest()
                self._listed_at = time.monotonic()
            generation = self._newest.get(key)
        return None if generation is None else self._claims.read(key, generation)

    def _check(self, stop: threading.Event, was_over: bool) -> None:
        """Stop waiting if this process is to stop, or if no job is left that could bring anything.

        Raises:
            Interrupted: In either case.
        """
        if stop.is_set() or was_over:
            raise launch.Interrupted
        with self._lock:
            if time.monotonic() - self._asked_at <= _ASK_SECONDS:
                return
            self._asked_at = time.monotonic()
            submission = self._files.submission()
            if submission is None or self._have_ended(submission.jobs, submission.is_over):
                self._give_up()

    def _have_ended(self, jobs: tuple[str, ...], no_more_rounds: bool) -> bool:
        """Return whether all jobs have ended; SLURM is asked twice, since the last may have submitted others."""
        if no_more_rounds:
            return True
        try:
            active = active_jobs(jobs)
            if active:
                self._jobs = None
                self._tell_of_held(active)
                return False
        except SlurmError:
            return False
        before, self._jobs = self._jobs, jobs
        return before == jobs

    def _tell_of_held(self, active: list[JobState]) -> None:
        """Say once of each job that it waits for somebody to release it, and not for its turn."""
        for job in active:
            if job.is_held and job.job not in self._held:
                self._held.add(job.job)
                self._report(f"Job {job.job} is held ({job.reason}); to let it start: {job.release_command}")

    def _give_up(self) -> None:
        self.is_over = True
        trials = self._plan.trials
        missing = sum(self._result(planned.trial_id) is None for planned in trials)
        refusal = self._files.refusal()
        why = f" {refusal}." if refusal else f" Their output is in {self._files.directory}."
        if missing:
            self._report(f"All jobs have ended, and {counted(missing, 'trial')} of {len(trials)} have no result.{why}")
