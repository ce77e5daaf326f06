"""Claims: files that say which job works on which reference or trial, so that each is worked on by one job.

A claim is made by creating a file, which exactly one job can do: ``trial-<id>.0`` is the first claim on a trial, and
who takes the trial over from a job that died makes ``trial-<id>.1``. The holder of the newest claim is the one that
counts; it alone may write to the claim, to say that it has put the trial back or that a reference failed. No claim is
removed: their number says how often a trial was begun.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from jaxcache.lab.files import write_json

from .commands import JobState
from .files import create_once


class Claim(BaseModel):
    """Content of a claim.

    Attributes:
        job: Id of the job that made it, with that of its task.
        restarts: Number of times that the job was queued again before.
        worker: Node and device, for people.
        run: Id of the run of the job that made it. A controller that was lost may start a job anew from what it had
            saved before, and count no restart.
        state: ``held`` until the work is done; ``released`` if it was put back; ``failed`` for a reference.
        reason: Why a reference failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    restarts: int
    worker: str
    run: str = ""
    state: Literal["held", "released", "failed"] = "held"
    reason: str = ""

    @property
    def array(self) -> str:
        """Id of the job as a whole, without that of a task."""
        return self.job.partition("_")[0]

    def is_abandoned(self, active: Collection[JobState]) -> bool:
        """Return whether its job has ended, or was queued again since.

        Args:
            active: Jobs that have not ended.
        """
        return not any(state.job == self.job and state.restarts <= self.restarts for state in active)

    def is_of_earlier_run(self, own: "Claim") -> bool:
        """Return whether it was made by an earlier run of the job whose claims are like ``own``: one runs at a time."""
        return self.job == own.job and (self.restarts < own.restarts or self.run != own.run)


@dataclass(frozen=True)
class HeldClaim:
    """Claim of this process on a reference or trial.

    Attributes:
        key: Of what is claimed.
        generation: Number of claims on it before.
        claim: Content.
    """

    key: str
    generation: int
    claim: Claim

    @property
    def name(self) -> str:
        """Name of the claim's file, and of the folder that is worked in."""
        return f"{self.key}.{self.generation}"


def trial_key(trial_id: str) -> str:
    """Return the key of a trial."""
    return f"trial-{trial_id}"


def reference_key(program_id: str) -> str:
    """Return the key of a program's reference."""
    return f"reference-{program_id}"


class Claims:
    """Claims in a sweep's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def newest(self) -> dict[str, int]:
        """Return the generation of the newest claim by key."""
        found: dict[str, int] = {}
        for name in os.listdir(self._directory):
            key, _, generation = name.rpartition(".")
            if generation.isdecimal() and not key.startswith("."):  # which are temporary files
                found[key] = max(found.get(key, 0), int(generation))
        return found

    def count(self) -> int:
        """Return the number of claims that were ever made."""
        return sum(generation + 1 for generation in self.newest().values())

    def read(self, key: str, generation: int) -> Claim | None:
        """Return a claim; None if there is none that can be read."""
        try:
            return Claim.model_validate_json((self._directory / f"{key}.{generation}").read_bytes())
        except (OSError, ValidationError):
            return None

    def acquire(self, key: str, generation: int, claim: Claim) -> HeldClaim | None:
        """Make a claim; return None if another job was faster."""
        held = HeldClaim(key, generation, claim)
        return held if create_once(self._directory / held.name, claim.model_dump_json()) else None

    def update(self, held: HeldClaim, state: Literal["released", "failed"], reason: str = "") -> None:
        """Write the outcome to a claim that this process holds."""
        claim = held.claim.model_copy(update={"state": state, "reason": reason})
        write_json(self._directory / held.name, claim)
