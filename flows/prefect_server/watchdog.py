"""Watchdog of the Prefect server during a sweep: it starts the project's own again, and gives up another's.

Trials do not need the server, since their results are files. Prefect does, and waits a minute for each request, which
adds up to minutes at the end of a sweep. So a sweep whose server is gone for good ends without Prefect.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import process
from .settings import ServerError

_LOOK_SECONDS = 1.0
_MISSED_SECONDS = 30.0  # another's server may be busy, or its owner may start it again
_MOST_STARTS, _STEADY_SECONDS = 10, 60.0  # a server that ends this often, each time this soon, will not stay up
_NO_RECORD = "Trials go on and their results are kept; Prefect's record of this sweep ends here."


class Watchdog:
    """Watchdog of the server at an address; :meth:`watch` runs in its own thread.

    Args:
        api_url: Address of the server.
        leave: Function that ends a sweep without a server, given the sweep's directory; it returns the exit code.
    """

    def __init__(self, api_url: str, leave: Callable[[Path], int]) -> None:
        server = process.running()
        self._api_url, self._leave = api_url, leave
        self._is_ours = server is not None and server.api_url == api_url
        self._starts, self._started, self._answered = 0, time.monotonic(), time.monotonic()
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._is_server_gone, self._finished = False, None

    def watch(self) -> None:
        """Check the server every second, until it is gone for good or :meth:`stop` is called."""
        while not self._stopped.wait(_LOOK_SECONDS):
            problem = self._restart() if self._is_ours else self._absence()
            if problem is not None:
                _report(f"{problem}. {_NO_RECORD}")
                self._end_without_server(server_gone=True)
                return

    def finish(self, directory: Path) -> None:
        """Record that all trials have ended; without a server, this process ends now."""
        self._end_without_server(finished=directory)

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _end_without_server(self, server_gone: bool = False, finished: Path | None = None) -> None:
        """End this process once the server is gone and the trials have ended, whichever comes last."""
        with self._lock:
            self._is_server_gone = self._is_server_gone or server_gone
            self._finished = self._finished or finished
            if not self._is_server_gone or self._finished is None or self._stopped.is_set():
                return
            code = self._leave(self._finished)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # a usual exit would let Prefect send its remaining records, and wait for the server again

    def _restart(self) -> str | None:
        """Start the project's server again if it ended; return a problem, or None."""
        running = process.running()
        if running is not None and time.monotonic() - self._started > _STEADY_SECONDS:
            self._starts = 0
        if running is None:
            self._starts += 1
            _report("the Prefect server went away; starting it again, trials go on")
            try:
                running, _ = process.start()
                process.wait(running)
                self._started = time.monotonic()
            except (OSError, ServerError) as error:
                if self._starts < _MOST_STARTS:
                    return None
                return f"the Prefect server went away and cannot be started again: {error}"
        if running.api_url != self._api_url:
            return f"the Prefect server went away from {self._api_url}; there is one at {running.api_url}"
        return None

    def _absence(self) -> str | None:
        """Return a problem if another's server has not answered for a while, or None."""
        if process.healthy(self._api_url, timeout_seconds=10):
            self._answered = time.monotonic()
        if time.monotonic() - self._answered < _MISSED_SECONDS:
            return None
        return f"PREFECT_API_URL={self._api_url} does not answer any more; start that server again for the next sweep"


@contextmanager
def watching(leave: Callable[[Path], int]) -> Iterator[None]:
    """Watch the server of ``PREFECT_API_URL`` within the context."""
    watchdog = Watchdog(os.environ["PREFECT_API_URL"], leave)
    threading.Thread(target=watchdog.watch, name="server-watchdog", daemon=True).start()
    _watchdogs.append(watchdog)
    try:
        yield
    finally:
        _watchdogs.remove(watchdog)
        watchdog.stop()


_watchdogs: list[Watchdog] = []  # those of this process


def finish(directory: Path) -> None:
    """Tell the watchdogs that a sweep's trials have ended; this may end the process."""
    for watchdog in _watchdogs:
        watchdog.finish(directory)


def _report(text: str) -> None:
    print(f"sweep: {text}", file=sys.stderr, flush=True)
