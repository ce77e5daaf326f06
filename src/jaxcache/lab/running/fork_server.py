"""Fork server of trials: a process that has imported JAX but started no backend, from which each trial is forked."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess

from ..._process.variables import DIRECTORY_VARIABLE

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
_PRELOADED = ["jaxcache.lab.running.process"]


def start() -> None:
    """Start the fork server unless it runs; it goes on importing JAX after this returns."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process with threads must not be forked
    CONTEXT.set_forkserver_preload(_PRELOADED)
    with _inheritable_settings():
        forkserver.ensure_running()


def start_process(process: ForkServerProcess) -> None:
    """Start a process from the fork server, which is started too if it does not run."""
    with _inheritable_settings():
        process.start()


@contextmanager
def _inheritable_settings() -> Iterator[None]:
    """Set up the signal mask and the environment that the fork server inherits.

    It does not receive the terminal's Ctrl-C, since this process decides what an interrupt ends, and it does not use
    the directory that JAXCACHE_DIR names for the user's programs.
    """
    os.environ.pop(DIRECTORY_VARIABLE, None)
    resource_tracker.ensure_running()  # started later, it would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
