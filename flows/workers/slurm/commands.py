"""SLURM's own commands: sbatch, squeue, scancel and scontrol, with their refusals as errors of one line."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...planning.errors import UsageError

_NEEDED = ("sbatch", "squeue", "scancel")
_ANSWER_SECONDS = 60.0  # a busy controller takes its time
_GONE_POLL_SECONDS = 0.5
_PREFIX = re.compile(r"^(sbatch|squeue|scancel|scontrol|slurm_load_jobs): (error|fatal): ")
_FIELDS = "ArrayJobID:24,ArrayTaskID:64,State:24,RestartCnt:12,Reason:48"
_NO_TASK = "N/A"
_UNKNOWN_JOB = "Invalid job id"  # of a job that ended so long ago that the controller has forgotten it


class SlurmError(Exception):
    """Raised when a command of SLURM fails; the message is what it printed, in one line."""


@dataclass(frozen=True)
class JobState:
    """Job, or task of an array, that has not ended.

    Attributes:
        job: Id, such as ``17`` or ``17_3``; of tasks that wait together, such as ``17_0-3``.
        state: SLURM's word for its state, such as ``RUNNING`` or ``PENDING``.
        restarts: Number of times that it was queued again.
        reason: SLURM's word for why it waits; ``None`` if it does not.
    """

    job: str
    state: str
    restarts: int
    reason: str

    @property
    def is_held(self) -> bool:
        """Whether SLURM will not start it before somebody releases it.

        A user or an administrator may have held it, or SLURM itself: where a node refused a job, as after a controller
        that was lost and started the job a second time.
        """
        return self.state == "PENDING" and "held" in self.reason.lower()

    @property
    def release_command(self) -> str:
        """Command that lets a held job start, with all tasks of its array."""
        return f"scontrol release {self.job.partition('_')[0]}"


def check_commands() -> None:
    """Check that SLURM's commands are installed.

    Raises:
        UsageError: If one is not on the PATH.
    """
    for name in _NEEDED:
        if shutil.which(name) is None:
            raise UsageError(
                f"runner=slurm needs {name}, which is not on the PATH; run this where SLURM's commands are installed, "
                "or write runner=local"
            )


def submit(script: Path, options: Sequence[str]) -> str:
    """Submit a script; return the id of its job.

    Raises:
        SlurmError: If sbatch refuses it.
    """
    of_this_job = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
    clean = {name: value for name, value in os.environ.items() if name not in of_this_job}  # a job inherits the rest
    return _run("sbatch", "--parsable", *options, str(script), environment=clean).strip().partition(";")[0]


def active_jobs(jobs: Iterable[str], each_task: bool = False) -> list[JobState]:
    """Return those of some jobs, and of their tasks, that have not ended.

    Args:
        jobs: Ids.
        each_task: Whether tasks of an array that wait are named one by one.

    Raises:
        SlurmError: If the controller does not answer.
    """
    ids = ",".join(jobs)
    if not ids:
        return []
    try:
        text = _run(
            "squeue", "--noheader", *(("--array",) if each_task else ()), f"--Format={_FIELDS}", f"--jobs={ids}"
        )
    except SlurmError as error:
        if _UNKNOWN_JOB in str(error):
            return []
        raise
    return [_job_state(*line.split(maxsplit=4)) for line in text.splitlines() if line.strip()]


def _job_state(job: str, task: str, state: str, restarts: str, reason: str = "") -> JobState:
    return JobState(job if task == _NO_TASK else f"{job}_{task}", state, int(restarts), reason.strip())


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are left alone.

    Raises:
        SlurmError: If the controller refuses or does not answer.
    """
    ids = [*jobs]
    if ids:
        _run("scancel", "--quiet", *ids)


def wait_until_gone(jobs: Sequence[str], seconds: float) -> bool:
    """Wait until jobs have ended; return False if some have not within the time."""
    deadline = time.monotonic() + seconds
    while active_jobs(jobs):
        if time.monotonic() > deadline:
            return False
        time.sleep(_GONE_POLL_SECONDS)
    return True


def requeue(job: str) -> None:
    """Queue a job that runs again; SLURM ends it where it runs.

    Raises:
        SlurmError: If the cluster does not allow it.
    """
    _run("scontrol", "requeue", job)


def _run(*words: str, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise SlurmError(f"there is no {words[0]} on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{words[0]} did not answer within {_ANSWER_SECONDS:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    lines = [_PREFIX.sub("", line.strip()) for line in done.stderr.splitlines() if line.strip()]
    raise SlurmError("; ".join(dict.fromkeys(lines)) or f"{words[0]} ended with exit code {done.returncode}")
