"""Work of one job: it claims references, then trials, runs each in a process of its own, and publishes what they wrote.

A claimed trial is run in a folder of that claim. Its files are moved to the trial's directory afterwards, the result
last, by a link that is refused if there is a result: whatever two jobs believe, a result is written once.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from jaxcache.lab.layout import REFERENCE, REFERENCES, RESULT, TRIAL_PROGRESS, TRIALS, scratch
from jaxcache.lab.result import Reference
from jaxcache.lab.running import launch
from jaxcache.lab.running.earlier_results import known_reference

from ...planning.plan import PlannedTrial
from ...running.session import Session
from .claims import Claim, Claims, HeldClaim, reference_key, trial_key
from .commands import JobState, SlurmError, active_jobs
from .files import SlurmFiles, finished_result

_SETTLE_POLL_SECONDS = 1.0
_ASK_SECONDS = 5.0  # between two questions to SLURM's controller, which all jobs of a cluster ask
_MOST_DEATHS = 4  # of jobs with one trial
_MOST_BEGUN = 10  # how often one trial is begun, deaths and being put back together


class Puller:
    """Worker of one job, whose :meth:`work` may run in several threads, one for each device."""

    def __init__(self, files: SlurmFiles, session: Session, own: Claim) -> None:
        self._files, self._session, self._own = files, session, own
        self._claims = Claims(files.claims)
        self._programs = {planned.program_id: planned for planned in reversed(session.plan.trials)}
        self._finished = {trial_key(trial_id) for trial_id in session.known}
        self._references: dict[str, Reference] = {}
        self._active: list[JobState] | None = None
        self._asked, self._asked_at = set[str](), float("-inf")
        self._lock = threading.Lock()
        self._has_costs = False

    def work(self, with_trials: bool) -> None:
        """Run references until none is left, then trials, unless they are not wanted."""
        self._drain(self._next_reference, self._run_reference)
        if not with_trials:
            return
        while not self._stopped and not self._is_settled():  # another job runs one
            self._session.stop.wait(_SETTLE_POLL_SECONDS)
            self._drain(self._next_reference, self._run_reference)
        self._drain(self._next_trial, self._run_trial)

    def has_left_work(self, with_trials: bool) -> bool:
        """Return whether something is neither done nor held by a job, such as what this one has put back."""
        keys = [reference_key(program_id) for program_id in self._programs]
        keys += [trial_key(planned.trial_id) for planned in self._session.plan.trials] if with_trials else []
        newest = self._claims.newest()
        return any(self._is_free(key, newest.get(key)) for key in keys)

    def _is_free(self, key: str, generation: int | None) -> bool:
        if key in self._finished or self._is_done(key):
            return False
        claim = None if generation is None else self._claims.read(key, generation)
        return generation is None or (claim is not None and claim.state == "released")

    @property
    def _stopped(self) -> bool:
        return self._session.stop.is_set()

    # Choosing what to do next.

    def _drain(
        self, claim_next: Callable[[], tuple[HeldClaim, PlannedTrial] | None],
        run: Callable[[HeldClaim, PlannedTrial], None],
    ) -> None:  # fmt: skip
        """Claim and run until nothing is left, or this job is to stop."""
        while not self._stopped and (claimed := claim_next()) is not None:
            held, planned = claimed
            try:
                run(held, planned)
            except BaseException as error:
                self._claims.update(held, "released")
                if not isinstance(error, launch.Interrupted):
                    raise

    def _next_reference(self) -> tuple[HeldClaim, PlannedTrial] | None:
        return self._claim_next({reference_key(program_id): each for program_id, each in self._programs.items()})

    def _next_trial(self) -> tuple[HeldClaim, PlannedTrial] | None:
        return self._claim_next({trial_key(each.trial_id): each for each in self._session.plan.trials})

    def _claim_next(self, work: dict[str, PlannedTrial]) -> tuple[HeldClaim, PlannedTrial] | None:
        """Claim the first that nobody has claimed; else one that was put back, or whose job is gone."""
        with self._lock:
            newest = self._claims.newest()
            unfinished = [key for key in work if key not in self._finished]
            for key in sorted(unfinished, key=lambda key: key in newest):  # keeps the order of the plan
                generation = newest.get(key, -1)
                if generation >= 0 and (self._is_done(key) or not self._may_take_over(key, generation)):
                    continue
                held = self._claims.acquire(key, generation + 1, self._own)
                if held is not None and not self._is_done(key):  # its job may have ended just now, with a result
                    return held, work[key]
            return None

    def _is_done(self, key: str) -> bool:
        """Return whether there is a result, or a reference, and remember it."""
        kind, _, name = key.partition("-")
        if kind == "trial":
            done = finished_result(self._session.directory, name, self._session.workers.environment) is not None
        else:
            done = self._reference_of(name) is not None
        if done:
            self._finished.add(key)
        return done

    def _may_take_over(self, key: str, generation: int) -> bool:
        claim = self._claims.read(key, generation)
        if claim is None or claim.state == "failed":
            return False
        if claim.state == "released" or claim.is_of_earlier_run(self._own):
            return True
        active = self._active_jobs(claim.array)
        return active is not None and claim.is_abandoned(active)

    def _active_jobs(self, job: str) -> list[JobState] | None:
        """Return jobs that have not ended, this one among them, as of some seconds ago; None without an answer."""
        if job not in self._asked or time.monotonic() - self._asked_at > _ASK_SECONDS:
            self._asked.add(job)
            try:
                self._active = active_jobs(self._asked, each_task=True)
            except SlurmError:
                self._active = None
            self._asked_at = time.monotonic()
        return self._active

    # References.

    def _is_settled(self) -> bool:
        """Return whether each reference is there or has failed; then the cost table, which all trials share, is too."""
        outcomes = {program_id: self._outcome_of(program_id) for program_id in self._programs}
        if any(outcome is None for outcome in outcomes.values()):
            return False
        with self._lock:
            if not self._has_costs:
                references = [outcome for outcome in outcomes.values() if isinstance(outcome, Reference)]
                self._session.add_references(references)
                self._has_costs = True
        return True

    def _outcome_of(self, program_id: str) -> Reference | str | None:
        """Return a program's reference, why it failed, or None while it is not settled."""
        reference = self._reference_of(program_id)
        if reference is not None:
            return reference
        key = reference_key(program_id)
        generation = self._claims.newest().get(key)
        claim = None if generation is None else self._claims.read(key, generation)
        return claim.reason if claim is not None and claim.state == "failed" else None

    def _reference_of(self, program_id: str) -> Reference | None:
        """Return the reference in the sweep's directory if it is of a node like this one."""
        if program_id in self._references:
            return self._references[program_id]
        path = self._session.directory / REFERENCES / program_id / REFERENCE
        try:
            reference = Reference.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        workers = self._session.workers
        alike = reference.slot == workers.device.slot and reference.environment.computes_as(workers.environment)
        if not alike:
            return None
        self._references[program_id] = reference
        return reference

    def _run_reference(self, held: HeldClaim, planned: PlannedTrial) -> None:
        directory = self._session.directory / REFERENCES / planned.program_id
        with self._attempt(held, directory, REFERENCE) as attempt:
            job = self._session.job("reference", planned, attempt)
            try:
                if exhausted := self._exhausted(held):
                    raise launch.Failed(exhausted)
                if known_reference(job, self._session.plan.references) is None:
                    self._session.workers.reference(job, self._session.stop)
            except launch.Failed as error:
                _move_files(attempt, directory, last=REFERENCE)
                self._claims.update(held, "failed", str(error))
                return
            self._publish(held, attempt, directory, REFERENCE)

    # Trials.

    def _run_trial(self, held: HeldClaim, planned: PlannedTrial) -> None:
        session, directory = self._session, self._session.directory / TRIALS / planned.trial_id
        with self._attempt(held, directory, RESULT) as attempt:
            session.save_config(planned, directory)
            job = session.job("trial", planned, attempt)
            outcome = self._outcome_of(planned.program_id)
            obstacle = f"its reference run failed: {outcome}" if isinstance(outcome, str) else None
            if obstacle is not None or (obstacle := self._exhausted(held)) is not None:
                launch.failed_result(job, obstacle, attempted=not isinstance(outcome, str))
            else:
                session.workers.trial(job, session.stop, lambda _: None)
            self._publish(held, attempt, directory, RESULT)

    def _exhausted(self, held: HeldClaim) -> str | None:
        """Return why something is not begun once more, or None."""
        before = [self._claims.read(held.key, generation) for generation in range(held.generation)]
        if sum(claim is None or claim.state == "held" for claim in before) >= _MOST_DEATHS:
            return f"every job that ran it died, {_MOST_DEATHS} of them"
        if held.generation >= _MOST_BEGUN:
            return f"was begun {_MOST_BEGUN} times and never ended in its job's time; raise runner.time"
        return None

    # Folders and files.

    @contextlib.contextmanager
    def _attempt(self, held: HeldClaim, directory: Path, last: str) -> Iterator[Path]:
        """Hand out the folder of a claim; remove it afterwards, with those of earlier claims."""
        folder = scratch(directory)
        attempt, progress = folder / held.name, folder / TRIAL_PROGRESS
        shutil.rmtree(folder, ignore_errors=True)
        attempt.mkdir(parents=True)
        with contextlib.suppress(OSError):
            progress.symlink_to(scratch(Path(held.name)) / TRIAL_PROGRESS)  # where whoever attaches looks
        (directory / last).unlink(missing_ok=True)  # of another kind of node, or damaged
        try:
            yield attempt
        finally:
            if self._is_newest(held):
                shutil.rmtree(folder, ignore_errors=True)

    def _is_newest(self, held: HeldClaim) -> bool:
        """Return whether no other job has taken over."""
        return self._claims.newest().get(held.key) == held.generation

    def _publish(self, held: HeldClaim, attempt: Path, directory: Path, last: str) -> None:
        """Move what a claim's process wrote to its directory, unless another job has taken over."""
        if not self._is_newest(held):
            return
        _move_files(attempt, directory, last)
        with contextlib.suppress(FileExistsError):
            os.link(attempt / last, directory / last)
        self._finished.add(held.key)


def _move_files(attempt: Path, directory: Path, last: str) -> None:
    """Move files but one."""
    for path in [path for path in attempt.rglob("*") if path.is_file() and path != attempt / last]:
        target = directory / path.relative_to(attempt)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
