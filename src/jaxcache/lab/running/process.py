"""Main function of a trial's process. The fork server imports this module, and with it JAX, ahead of time."""

import contextlib
import fcntl
import os
import signal
import sys
import threading
import traceback
from multiprocessing import parent_process
from pathlib import Path

from ..._disk.trust import KEY_FILE_VARIABLE, KEY_VARIABLE
from ..._process.variables import VARIABLES
from ..files import write_json
from ..layout import REFERENCE, RESULT, STDERR
from ..result import Reference, TrialResult
from .device import pin_to_device
from .execute import Outcome, describe_answer, execute_reference, execute_trial
from .job import PROGRAM_WAS_KILLED, TrialJob
from .program_run import ProgramFailed, ProgramKilled, ending_leftovers, execute_program, execute_program_reference


def main(job: TrialJob) -> None:
    """Run a job, and write the result to its directory."""
    leave_the_terminal()
    _forget_variables(job)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _wait_for_predecessor(job.directory)
    log = os.open(job.directory / STDERR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        if job.kind == "reference":
            write_json(job.directory / REFERENCE, _reference(job))
        else:
            write_json(job.directory / RESULT, _trial(job))
    except ProgramFailed as error:
        print(error, file=sys.stderr, flush=True)  # the last line is the reason that people read
        os._exit(PROGRAM_WAS_KILLED if isinstance(error, ProgramKilled) else 1)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def leave_the_terminal() -> None:
    """Leave the terminal's session, so that a Ctrl-C, also an earlier one, reaches the caller alone."""
    os.setsid()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # discards a signal that the mask holds back
    signal.signal(signal.SIGINT, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a signal after this is meant for this process


def _forget_variables(job: TrialJob) -> None:
    """Drop the variables that the user set for other programs; a shared directory may need the user's key."""
    is_shared = job.trial.persistent.mode == "shared"
    kept = {KEY_VARIABLE, KEY_FILE_VARIABLE} if is_shared else set()
    for name in [name for name in os.environ if name.startswith(VARIABLES) and name not in kept]:
        del os.environ[name]


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)  # with the program that this process runs
        os._exit(1)


def _wait_for_predecessor(directory: Path) -> None:
    """Wait until the process of a killed sweep that still works in this directory has ended."""
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # never closed: the lock is held until this process ends


def _reference(job: TrialJob) -> Reference:
    if job.trial.program is not None:
        with ending_leftovers():
            return execute_program_reference(job)
    device = pin_to_device(job.device)
    return execute_reference(job, device)


def _trial(job: TrialJob) -> TrialResult:
    if job.trial.program is not None:
        with ending_leftovers():
            return _result(job, *execute_program(job))
    device = pin_to_device(job.device)
    outcome = execute_trial(job)
    served = outcome.served
    reason = None
    if not served.answer.right:
        reason = f"wrong answer: {describe_answer(served.answer)}"
    elif job.reference_checksum not in (None, served.checksum):
        reason = (
            f"the output's checksum is {served.checksum}, but without a cache it was {job.reference_checksum}: "
            "the cache changed a result"
        )
    return _result(job, outcome, device, reason)


def _result(job: TrialJob, outcome: Outcome, device: str, reason: str | None) -> TrialResult:
    """Return the result of a trial that was run to its end; a reason is why it failed nevertheless."""
    served = outcome.served
    return TrialResult(
        trial_id=job.trial_id,
        program_id=job.program_id,
        label=job.trial.label,
        status="completed" if reason is None else "failed",
        reason=reason,
        config=job.trial,
        costs_hash=job.costs_hash,
        environment=job.environment,
        device=device,
        statistics=outcome.statistics,
        timing=outcome.timing,
        memory=outcome.memory,
        course=outcome.timeline,
        answer=served.answer,
        checksum=served.checksum,
        reference_checksum=job.reference_checksum,
        profile=outcome.profile,
        program=outcome.program,
    )
