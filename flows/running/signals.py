"""Handlers of SIGINT and SIGTERM while a sweep starts and while its trials run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def leave_on_interrupt(message: str) -> Iterator[None]:
    """Print a line and end the process at once on a Ctrl-C within the context, in which no trial runs.

    A KeyboardInterrupt within an import could be caught by the imported module.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        os.write(2, f"{message}\n".encode())
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event, announce: Callable[[], None], abandon: Callable[[], None]) -> Iterator[None]:
    """Set ``stop`` and announce it on SIGINT or SIGTERM within the context; a second signal ends the process at once.

    ``abandon`` is called before that; it must not wait for a lock that this thread may hold.

    Prefect would wait for running tasks and start queued ones. With ``stop`` set, running tasks end their processes
    and queued ones do not start, so that every state is set and finished trials are reported. Trials' processes end
    with this one, also if it is ended at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals, and its program handles them
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            abandon()
            os._exit(130)
        stop.set()
        announce()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
