"""EventLoop: a daemon thread in which requests run, so that they need no thread each and can be given up."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from time import monotonic  # bound now: a test may replace the clock that others look at
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_END_SECONDS = 5.0  # it takes milliseconds, unless the processors are overloaded
_LOOK_SECONDS = 0.05
_has_ended = False


class EventLoop:
    """Event loop in a daemon thread, which begins with the first request."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_closed = False

    @property
    def has_begun(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def submit(self, request: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        """Start a request.

        Raises:
            RuntimeError: If the loop is closed, or no thread can be started any more.
        """
        try:
            with self._lock:
                return asyncio.run_coroutine_threadsafe(request, self._begun())
        except BaseException:
            request.close()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the thread, before requests that are made later begin, and before the loop is closed.

        A request that is made as the loop closes may be given up before its first line has run.

        Raises:
            RuntimeError: If the loop is closed, or no thread can be started any more.
        """
        with self._lock:
            self._begun().call_soon_threadsafe(function)

    def _begun(self) -> asyncio.AbstractEventLoop:
        if self.is_closed or _has_ended:
            raise RuntimeError("the event loop is closed")
        if self._loop is None or self._thread is None:
            loop = asyncio.SelectorEventLoop()  # whichever the program prefers: see ObjectStore.is_idle
            self._thread = threading.Thread(target=_run, args=(loop,), name="jaxcache remote", daemon=True)
            self._thread.start()
            self._loop = loop
        return self._loop

    def close(self, until_told: Callable[[], object]) -> None:
        """Give up all requests, end the thread, and wait for it; again where that was interrupted.

        Args:
            until_told: Waits until nobody is to tell the loop of a request any more, of one that was given up too: who
                told a loop that has ended would print an error.
        """
        with self._lock:
            self.is_closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        with contextlib.suppress(RuntimeError):  # it was ended meanwhile
            given_up = threading.Event()
            loop.call_soon_threadsafe(_cancel_all, given_up)
            _wait_for(given_up, thread)
            until_told()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_END_SECONDS)


def refuse_requests() -> None:
    """Refuse all further requests, of whichever event loop: the interpreter ends."""
    global _has_ended
    _has_ended = True


def _wait_for(given_up: threading.Event, thread: threading.Thread) -> None:
    """Wait until requests are given up, as none are that a loop is asked to which has stopped, or for its thread."""
    until = monotonic() + _END_SECONDS
    while thread.is_alive() and monotonic() < until and not given_up.wait(_LOOK_SECONDS):
        pass


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    with contextlib.suppress(Exception):
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _cancel_all(given_up: threading.Event) -> None:
    tasks = asyncio.all_tasks()
    for task in tasks:
        task.cancel()
    asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: given_up.set())
