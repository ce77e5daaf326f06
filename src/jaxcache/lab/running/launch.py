"""Launch of one Trial in a fresh process on one device -> TrialResult.

Each trial gets a clean JAX, forked in a tenth of the time that a new interpreter takes. Nothing that happens to its
process reaches the caller: a crash, a time-out or a kill becomes a failed result with its reason.
"""

import contextlib
import multiprocessing.connection
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from ... import format_size
from ..files import write_json
from ..layout import REFERENCE, RESULT, STDERR
from ..result import Reference, TrialResult
from . import fork_server
from .gpu_lock import gpu_lock
from .job import PROGRAM_WAS_KILLED, TrialJob

_TAIL_BYTES = 4000
_POLL_SECONDS = 0.2
_BACK_OFF_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_FORK_SERVER_DIED = 255  # multiprocessing's exit code for a process whose fork server is gone


class Interrupted(Exception):
    """Raised when the caller asked to stop, and the process was ended."""


class Failed(Exception):
    """Raised when the process did not do its work; the message says why."""


class Crashed(Failed):
    """Raised when a signal ended the process or its fork server: a second start may well succeed."""


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of a process, beside its time.

    Attributes:
        memory_bytes: Resident memory at which the process is ended; None for no limit.
        retries: Number of restarts after crashes by a signal; errors of the process itself are final.
    """

    memory_bytes: int | None = None
    retries: int = 0


_UNLIMITED = ProcessLimits()


def run_trial(
    job: TrialJob, timeout_seconds: float, stop: threading.Event, limits: ProcessLimits = _UNLIMITED
) -> TrialResult:
    """Run a trial and return its result, also written to ``job.directory`` as ``result.json``.

    Raises:
        Interrupted: If ``stop`` was set; no result is written then.
    """
    path = job.directory / RESULT
    try:
        _run_again(job, timeout_seconds, stop, path, limits)
        return TrialResult.model_validate_json(path.read_bytes())
    except Failed as error:
        return failed_result(job, str(error))


def failed_result(job: TrialJob, reason: str, attempted: bool = True) -> TrialResult:
    """Return the result of a trial that was not run to its end, or not at all, and write it to its directory."""
    result = TrialResult(
        trial_id=job.trial_id,
        program_id=job.program_id,
        label=job.trial.label,
        status="failed",
        attempted=attempted,
        reason=reason,
        stderr_tail=stderr_tail(job.directory),
        config=job.trial,
        costs_hash=job.costs_hash,
        environment=job.environment,
        reference_checksum=job.reference_checksum,
    )
    write_json(job.directory / RESULT, result)
    return result


def run_reference(
    job: TrialJob, timeout_seconds: float, stop: threading.Event, limits: ProcessLimits = _UNLIMITED
) -> Reference:
    """Run a reference and return it, also written to ``job.directory`` as ``reference.json``.

    Raises:
        Interrupted: If ``stop`` was set.
        Failed: If it did not finish, or gave a wrong answer.
    """
    path = job.directory / REFERENCE
    _run_again(job, timeout_seconds, stop, path, limits)
    return Reference.model_validate_json(path.read_bytes())


def _run_again(
    job: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, limits: ProcessLimits
) -> None:
    """Run a child process, and again after a crash, with a pause that doubles each time."""
    for attempt in range(limits.retries + 1):
        try:
            return _run(job, timeout_seconds, stop, written, limits.memory_bytes)
        except Crashed as error:
            if not limits.retries:
                raise
            if attempt == limits.retries:
                raise Failed(f"{error}, {attempt + 1} times in a row") from error
        if stop.wait(min(_BACK_OFF_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)):
            raise Interrupted
    return None


def _run(job: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, memory_bytes: int | None) -> None:
    """Run a child process to its end, alone on its GPU; it must write the file ``written``."""
    with gpu_lock(job.device, stop) as acquired:
        if not acquired:
            raise Interrupted
        code = _run_process(job, timeout_seconds, stop, written, memory_bytes)
    _judge(code, job, stop, written)


def _run_process(
    job: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, memory_bytes: int | None
) -> int | None:
    """Run a child process and return its exit code."""
    written.unlink(missing_ok=True)
    shutil.rmtree(job.scratch, ignore_errors=True)  # left by a run that was killed
    process: ForkServerProcess = fork_server.CONTEXT.Process(target=_in_child, args=(job,), name=job.trial.label)
    try:
        fork_server.start_process(process)
    except (EOFError, OSError) as error:
        raise Crashed(f"the fork server ended while it started the process ({type(error).__name__})") from error
    try:
        _wait(process, job.allowed_seconds(timeout_seconds), stop, memory_bytes)
    finally:
        if process.is_alive():  # otherwise another process may have its id by now
            _kill(process)
        process.join()
        shutil.rmtree(job.scratch, ignore_errors=True)
    code = process.exitcode
    process.close()  # a process that lost its fork server ends when this connection closes
    return code


def _in_child(job: TrialJob) -> None:
    """Run a job in the child process, which alone imports JAX and what trials need."""
    from .process import main

    main(job)


def _kill(process: ForkServerProcess) -> None:
    """End a process, and the program that it runs, which is in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has not made its group yet
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()


def _judge(code: int | None, job: TrialJob, stop: threading.Event, written: Path) -> None:
    """Raise the error that an exit code means; return if the process has done its work."""
    if written.exists():  # it is written last, in one step: the work was done, whatever came then
        return
    if code and stop.is_set():  # a process without its own session yet receives the terminal's Ctrl-C
        raise Interrupted
    if code == _FORK_SERVER_DIED:
        raise Crashed("the fork server of the process was killed")
    if code and code < 0:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        raise Crashed(f"the process was killed by {name}{hint}")
    lines = stderr_tail(job.directory).strip().splitlines()
    if code == PROGRAM_WAS_KILLED and lines:
        raise Crashed(lines[-1])
    raise Failed(lines[-1] if lines else f"the process ended with exit code {code}")


def _wait(process: ForkServerProcess, timeout_seconds: float, stop: threading.Event, memory_bytes: int | None) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not multiprocessing.connection.wait([process.sentinel], timeout=_POLL_SECONDS):
        if stop.is_set():
            raise Interrupted
        if memory_bytes is not None and (held := _resident_bytes(process)) > memory_bytes:
            raise Failed(
                f"held {format_size(held)} of memory, over runner.memory_limit={format_size(memory_bytes)}; "
                "raise it or shorten the trial"
            )
        if time.monotonic() > deadline:
            raise Failed(f"took more than {timeout_seconds:g} s; raise runner.timeout_seconds or shorten the trial")


def _resident_bytes(process: ForkServerProcess) -> int:
    """Return the memory of a process and of those that it has started."""
    held = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        own = psutil.Process(process.pid)
        for each in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                held += each.memory_info().rss
    return held


def stderr_tail(directory: Path) -> str:
    """Return the end of the output of this directory's child process."""
    try:
        return (directory / STDERR).read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
