"""Ctrl-C, and a polite kill, while trials run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def leave_on_interrupt(said: str) -> Iterator[None]:
    """While in here, Ctrl-C prints a line and ends the process at once: nothing runs yet that would have to be ended.

    A KeyboardInterrupt in the middle of an import comes out as whatever the module that is imported makes of it.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        os.write(2, f"{said}\n".encode())
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
    """While in here, SIGINT and SIGTERM set ``stop`` and announce it; a second one ends the process at once.

    ``abandon`` is called then; it must not wait for anything that this thread may hold.

    Prefect would wait for running tasks and start queued ones. With ``stop`` set, running ones end their processes
    and queued ones do not start, so that every state is set and what was done is reported. Trials' processes die with
    this one, also if it is ended at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals: whoever started us decides
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
