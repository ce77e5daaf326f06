"""Start the process that trials are forked from ahead of heavy imports here: it imports JAX at the same time."""

import multiprocessing
import os
import signal
from multiprocessing import forkserver, resource_tracker

_PRELOADED = "jaxcache.lab.running.process"


def start() -> None:
    """Start it, and do not wait for it. :func:`jaxcache.lab.running.launch.warm_up` finds it running."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a fork must not find threads
    os.environ.pop("JAXCACHE_DIR", None)  # the user's directory is for the user's programs, and none for trials
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOADED])
    resource_tracker.ensure_running()  # which would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits this, and lets Ctrl-C to us
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
