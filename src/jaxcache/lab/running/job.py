"""TrialJob: the input of a trial's own process."""

from dataclasses import dataclass
from pathlib import Path

from ... import Cost
from .. import layout
from ..environment import Environment
from ..trial import Device, Trial

_START_SECONDS = 120.0  # of the process itself, and of comparing the output

PROGRAM_WAS_KILLED = 75  # exit code of a trial's process: EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class TrialJob:
    """Input of a process that runs a trial or a reference.

    Attributes:
        kind: ``trial`` or ``reference``.
        trial_id: The trial's id as planned. The process does not compute it from its own sources, which may have
            changed since.
        program_id: The trial's program id as planned.
        directory: Existing directory that the process writes its files to.
        costs: Cost table of the trial's cache; costs that it lacks are measured.
        costs_hash: Digest of ``costs``, for the result file.
        reference_checksum: Checksum that the output must have; None if unknown.
        reference_output: Output of a user's program that the trial's is compared with, as in its reference; empty if
            the checksum is enough.
        reference_requests: Number of its reference's requests; None if unknown.
    """

    kind: str
    trial: Trial
    device: Device
    directory: Path
    environment: Environment
    costs: dict[str, Cost]
    trial_id: str
    program_id: str
    costs_hash: str | None = None
    reference_checksum: str | None = None
    reference_output: str = ""
    reference_requests: int | None = None

    def allowed_seconds(self, timeout_seconds: float) -> float:
        """Return what the process may take; see :func:`allowed_seconds`."""
        return allowed_seconds(self.trial, self.kind, timeout_seconds)

    @property
    def scratch(self) -> Path:
        """Directory that the process may create and that is removed after it ends."""
        return layout.scratch(self.directory)


def allowed_seconds(trial: Trial, kind: str, timeout_seconds: float) -> float:
    """Return what a process may take: ``timeout_seconds``, unless the trial's program has its own for each run.

    Args:
        trial: Trial of the process.
        kind: ``trial`` or ``reference``.
        timeout_seconds: Limit of each process of the sweep.
    """
    program = trial.program
    if program is None or program.timeout is None:
        return timeout_seconds
    measured = 1 if kind == "trial" else program.runs_of_reference
    return (measured + program.warm_runs) * program.timeout + _START_SECONDS
