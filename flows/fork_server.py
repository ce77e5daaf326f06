"""Start the process that trials are forked from ahead of heavy imports here: it imports JAX at the same time."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import forkserver

_PRELOADED = "jaxcache.lab.child"


def start() -> None:
    """Start it, and do not wait for it. :func:`jaxcache.lab.run.warm_up` finds it running."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a fork must not find threads
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOADED])
    with _deaf_to_interrupts():
        forkserver.ensure_running()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started in here not hear the terminal's Ctrl-C: whoever started them decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ignored stays so in the program that is started
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
