"""Run one Trial in a fresh process on one device -> TrialResult.

Processes come from multiprocessing's fork server, which has imported JAX once but started no backend: a trial gets a
clean JAX in a tenth of the time that a new interpreter takes. Nothing that happens to the process reaches the caller;
a crash, a time-out or a kill becomes a failed result with its reason.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import psutil
from pydantic import ValidationError

from ... import Cost, format_size
from ..._process.environment import DIRECTORY_VARIABLE
from ..analysis.reading import fault_of_result
from ..environment import Environment
from ..trial import Device, Reference, Trial, TrialResult, write_json
from .gpu_lock import turn_on

RESULT, REFERENCE, STDERR = "result.json", "reference.json", "stderr.txt"
COSTS = "costs.json"  # of a sweep
REQUESTS = "trace.parquet"  # of a reference: what the program asks of a cache
TRIALS, REFERENCES = "trials", "references"  # in a sweep's directory, one place a trial or a program
_TAIL_BYTES = 4000
_POLL_SECONDS = 0.2
_BACK_OFF_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_SERVER_DIED = 255  # multiprocessing's exit code for a process whose fork server is gone
_context: ForkServerContext = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the fork server, so that it imports JAX while the caller does something else."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a fork must not find threads
    _context.set_forkserver_preload(["jaxcache.lab.running.process"])
    threading.Thread(target=_start_first, daemon=True).start()


def _start_first() -> None:
    """Make the fork server start, and wait for it; any call that needs nothing will do."""
    with contextlib.suppress(EOFError, OSError):  # it was killed: whoever needs it starts it again
        first = _context.Process(target=os.getpid)
        _start(first)
        first.join()


def _start(process: ForkServerProcess) -> None:
    """Start a process. What is started on the way does not hear the terminal's Ctrl-C: the caller decides."""
    os.environ.pop(DIRECTORY_VARIABLE, None)  # it would turn the user's directory on where the server imports jaxcache
    resource_tracker.ensure_running()  # which would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class TrialJob:
    """What a child process is told.

    Attributes:
        kind: ``trial`` or ``reference``.
        trial_id: The trial's, as planned: the process is not to ask its sources again, which may have changed.
        program_id: Likewise.
        directory: Where its files go; it exists.
        costs: Of the trial's cache; empty to measure.
        reference_checksum: What the output's checksum must be; None if unknown.
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

    @property
    def scratch(self) -> Path:
        """A directory that the process may make and that is gone after it."""
        return scratch(self.directory)


def scratch(directory: Path) -> Path:
    """Return where the process of a trial's directory keeps what is gone after it."""
    return directory / "scratch"


class Interrupted(Exception):
    """The caller asked to stop, and the process was ended."""


class Failed(Exception):
    """The process did not do its work; the message says why."""


class Crashed(Failed):
    """A signal ended the process or its fork server: it may well work when it is started again."""


@dataclass(frozen=True)
class Bounds:
    """What a process may take, beside time.

    Attributes:
        memory_bytes: Resident memory at which it is ended; None for no limit.
        retries: How often it is started again after a crash by a signal; its own errors are final.
    """

    memory_bytes: int | None = None
    retries: int = 0


_UNBOUNDED = Bounds()


def run_trial(
    order: TrialJob, timeout_seconds: float, stop: threading.Event, bounds: Bounds = _UNBOUNDED
) -> TrialResult:
    """Run a trial and return its result, which is also in ``order.directory`` as ``result.json``.

    Raises:
        Interrupted: If ``stop`` was set; there is no result then.
    """
    path = order.directory / RESULT
    try:
        _run_again(order, timeout_seconds, stop, path, bounds)
        return TrialResult.model_validate_json(path.read_bytes())
    except Failed as error:
        return failed_result(order, str(error))


def failed_result(order: TrialJob, reason: str, attempted: bool = True) -> TrialResult:
    """Return the result of a trial that could not be run to its end, or not at all, and write it to its directory."""
    result = TrialResult(
        trial_id=order.trial_id,
        program_id=order.program_id,
        label=order.trial.label,
        status="failed",
        attempted=attempted,
        reason=reason,
        stderr_tail=stderr_tail(order.directory),
        config=order.trial,
        costs_hash=order.costs_hash,
        environment=order.environment,
        reference_checksum=order.reference_checksum,
    )
    write_json(order.directory / RESULT, result)
    return result


def known_result(directory: Path, trial_id: str, here: Environment) -> TrialResult | None:
    """Return the result that an earlier run of this very trial left, or None if it has to be run.

    One that was never attempted has to: its reference may have failed of what is otherwise now.
    """
    result = usable_result(directory)
    if result is None:
        return None
    wanted = result.attempted and result.trial_id == trial_id and result.environment.computes_as(here)
    return result if wanted else None


def usable_result(directory: Path) -> TrialResult | None:
    """Return the result in a trial's directory; None if there is none, or it is damaged."""
    try:
        result = TrialResult.model_validate_json((directory / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None
    return result if fault_of_result(result) is None else None


def run_reference(
    order: TrialJob, timeout_seconds: float, stop: threading.Event, bounds: Bounds = _UNBOUNDED
) -> Reference:
    """Run a reference and return it; it is also in ``order.directory`` as ``reference.json``.

    Raises:
        Interrupted: If ``stop`` was set.
        Failed: If it did not finish, or gave a wrong answer.
    """
    path = order.directory / REFERENCE
    _run_again(order, timeout_seconds, stop, path, bounds)
    return Reference.model_validate_json(path.read_bytes())


def known_reference(order: TrialJob, references: Path | None) -> Reference | None:
    """Return the reference of an earlier sweep if it is of this very program on such a device, and copy its file."""
    if references is None:
        return None
    try:
        text = (references / order.program_id / REFERENCE).read_bytes()
        reference = Reference.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    if reference.slot != order.device.slot or not reference.environment.computes_as(order.environment):
        return None
    trace, place = references / order.program_id / REQUESTS, order.directory / REQUESTS
    if trace.exists() and not (place.exists() and place.samefile(trace)):  # a sweep that goes on has its own there
        shutil.copy(trace, place)
    write_json(order.directory / REFERENCE, reference)
    return reference


def _run_again(order: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, bounds: Bounds) -> None:
    """Run a child process, and again after a crash, with longer and longer pauses."""
    for attempt in range(bounds.retries + 1):
        try:
            return _run(order, timeout_seconds, stop, written, bounds.memory_bytes)
        except Crashed as error:
            if not bounds.retries:
                raise
            if attempt == bounds.retries:
                raise Failed(f"{error}, {attempt + 1} times in a row") from error
        if stop.wait(min(_BACK_OFF_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)):
            raise Interrupted
    return None


def _run(
    order: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, memory_bytes: int | None
) -> None:
    """Run a child process to its end, alone on its GPU; it must leave ``written`` behind."""
    with turn_on(order.device, stop) as ours:
        if not ours:
            raise Interrupted
        code = _run_process(order, timeout_seconds, stop, written, memory_bytes)
    _judge(code, order, stop, written)


def _run_process(
    order: TrialJob, timeout_seconds: float, stop: threading.Event, written: Path, memory_bytes: int | None
) -> int | None:
    """Return the exit code of a child process."""
    from . import process as child  # imported late: only child processes need what it needs

    written.unlink(missing_ok=True)
    shutil.rmtree(order.scratch, ignore_errors=True)  # of a run that was killed
    process: ForkServerProcess = _context.Process(target=child.main, args=(order,), name=order.trial.label)
    try:
        _start(process)
    except (EOFError, OSError) as error:
        raise Crashed(f"the fork server ended while it started the process ({type(error).__name__})") from error
    try:
        _wait(process, timeout_seconds, stop, memory_bytes)
    finally:
        if process.is_alive():  # else its number may be another's by now
            process.kill()
        process.join()
        shutil.rmtree(order.scratch, ignore_errors=True)
    code = process.exitcode
    process.close()  # whoever lost its fork server hears by this that it is to end
    return code


def _judge(code: int | None, order: TrialJob, stop: threading.Event, written: Path) -> None:
    """Raise what the exit code of a process means; nothing if it has done its work."""
    if written.exists():  # in one step and last of all: whatever came then, the work was done
        return
    if code and stop.is_set():  # the terminal's Ctrl-C reaches a process that has no session of its own yet
        raise Interrupted
    if code == _SERVER_DIED:
        raise Crashed("the fork server of the process was killed")
    if code and code < 0:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        raise Crashed(f"the process was killed by {name}{hint}")
    lines = stderr_tail(order.directory).strip().splitlines()
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
    try:
        return psutil.Process(process.pid).memory_info().rss
    except psutil.NoSuchProcess:  # it ended just now
        return 0


def stderr_tail(directory: Path) -> str:
    """Return the end of what the child process of this directory printed."""
    try:
        return (directory / STDERR).read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
