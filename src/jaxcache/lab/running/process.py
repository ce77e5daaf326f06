"""What runs in a trial's own process. The fork server imports this module, and with it JAX, ahead of time."""

import fcntl
import os
import signal
import sys
import threading
import traceback
from multiprocessing import parent_process
from pathlib import Path

import optax  # noqa: F401  what workloads import late is there before the fork
import scipy.optimize  # noqa: F401

from ..._disk.trust import KEY_FILE_VARIABLE, KEY_VARIABLE
from ..._process.environment import VARIABLES
from ..trial import Reference, TrialResult, write_json
from .device import hold_to
from .execute import describe_answer, execute_reference, execute_trial
from .launch import REFERENCE, RESULT, STDERR, TrialJob


def main(order: TrialJob) -> None:
    """Do what the order says, and leave the result in its directory."""
    leave_the_terminal()
    _forget_variables(order)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _wait_for_predecessor(order.directory)
    log = os.open(order.directory / STDERR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        if order.kind == "reference":
            write_json(order.directory / REFERENCE, _reference(order))
        else:
            write_json(order.directory / RESULT, _trial(order))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def leave_the_terminal() -> None:
    """Leave a Ctrl-C in the terminal to the caller, which decides; also one that came before this process could."""
    os.setsid()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets what waits behind the mask
    signal.signal(signal.SIGINT, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # from here on, one that comes is meant


def _forget_variables(order: TrialJob) -> None:
    """Drop the variables that the user has set for other programs; a shared directory may need the user's key."""
    is_shared = order.kind == "trial" and order.trial.persistent.mode == "shared"
    kept = {KEY_VARIABLE, KEY_FILE_VARIABLE} if is_shared else set()
    for name in [name for name in os.environ if name.startswith(VARIABLES) and name not in kept]:
        del os.environ[name]


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _wait_for_predecessor(directory: Path) -> None:
    """Wait until a process of a killed sweep that still works in this directory is gone."""
    place = os.open(directory, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)  # never closed: it goes with the process


def _reference(order: TrialJob) -> Reference:
    device = hold_to(order.device)
    return execute_reference(order, device)


def _trial(order: TrialJob) -> TrialResult:
    device = hold_to(order.device)
    outcome = execute_trial(order)
    served = outcome.served
    reason = None
    if not served.answer.right:
        reason = f"wrong answer: {describe_answer(served.answer)}"
    elif order.reference_checksum not in (None, served.checksum):
        reason = (
            f"the output's checksum is {served.checksum}, but without a cache it was {order.reference_checksum}: "
            "the cache changed a result"
        )
    return TrialResult(
        trial_id=order.trial_id,
        program_id=order.program_id,
        label=order.trial.label,
        status="completed" if reason is None else "failed",
        reason=reason,
        config=order.trial,
        costs_hash=order.costs_hash,
        environment=order.environment,
        device=device,
        statistics=outcome.statistics,
        timing=outcome.timing,
        memory=outcome.memory,
        course=outcome.course,
        answer=served.answer,
        checksum=served.checksum,
        reference_checksum=order.reference_checksum,
        profile=outcome.profile,
    )
