"""The Prefect server while a sweep runs: the project's own is started again if it goes away, another's is missed.

Trials do not need it, since their results are files of ours. Prefect does, and waits for it: a minute for each request,
which is minutes at the end of a sweep. So a sweep whose server is gone for good ends without Prefect.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import server

_LOOK_SECONDS = 1.0
_MISSED_SECONDS = 30.0  # another's server may be busy, or be started again by whoever runs it
_MOST_STARTS, _STEADY_SECONDS = 10, 60.0  # one that ends that often, and each time that soon, has a reason
_NO_RECORD = "Trials go on and their results are kept; Prefect's record of this sweep ends here."


class Keeper:
    """Looks after the server at an address, in a thread of its own.

    Args:
        api_url: Where it is.
        leave: What to do with the directory of a sweep that has ended without a server; it returns the exit code.
    """

    def __init__(self, api_url: str, leave: Callable[[Path], int]) -> None:
        own = server.running()
        self._api_url, self._leave = api_url, leave
        self._ours = own is not None and own.api_url == api_url
        self._starts, self._started, self._answered = 0, time.monotonic(), time.monotonic()
        self._over, self._turn = threading.Event(), threading.Lock()
        self._gone, self._finished = False, None

    def look(self) -> None:
        """Look after it until there is nothing to look after."""
        while not self._over.wait(_LOOK_SECONDS):
            problem = self._keep() if self._ours else self._miss()
            if problem is not None:
                _say(f"{problem}. {_NO_RECORD}")
                self._meet(gone=True)
                return

    def finish(self, directory: Path) -> None:
        """Hear that all trials have ended: without a server, so does this process."""
        self._meet(finished=directory)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _meet(self, gone: bool = False, finished: Path | None = None) -> None:
        with self._turn:  # whichever comes last ends the process
            self._gone, self._finished = self._gone or gone, self._finished or finished
            if not self._gone or self._finished is None or self._over.is_set():
                return
            code = self._leave(self._finished)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # at a usual exit, Prefect sends what it has not sent, and waits for the server again

    def _keep(self) -> str | None:
        """Start our server again if it ended; return what is wrong."""
        running = server.running()
        if running is not None and time.monotonic() - self._started > _STEADY_SECONDS:
            self._starts = 0
        if running is None:
            self._starts += 1
            _say("the Prefect server went away; starting it again, trials go on")
            try:
                running, _ = server.start()
                server.wait(running)
                self._started = time.monotonic()
            except (OSError, server.ServerError) as error:
                if self._starts < _MOST_STARTS:
                    return None
                return f"the Prefect server went away and cannot be started again: {error}"
        if running.api_url != self._api_url:
            return f"the Prefect server went away from {self._api_url}; there is one at {running.api_url}"
        return None

    def _miss(self) -> str | None:
        """Return that another's server is missing, if it is."""
        if server.healthy(self._api_url, timeout_seconds=10):
            self._answered = time.monotonic()
        if time.monotonic() - self._answered < _MISSED_SECONDS:
            return None
        return f"PREFECT_API_URL={self._api_url} does not answer any more; start that server again for the next sweep"


@contextmanager
def keeping(leave: Callable[[Path], int]) -> Iterator[None]:
    """Look after the server of ``PREFECT_API_URL`` meanwhile."""
    keeper = Keeper(os.environ["PREFECT_API_URL"], leave)
    threading.Thread(target=keeper.look, name="server-keeper", daemon=True).start()
    _keepers.append(keeper)
    try:
        yield
    finally:
        _keepers.remove(keeper)
        keeper.stop()


_keepers: list[Keeper] = []  # of this process


def finish(directory: Path) -> None:
    """Tell whoever looks after the server that a sweep's trials have ended; this may end the process."""
    for keeper in _keepers:
        keeper.finish(directory)


def _say(text: str) -> None:
    print(f"sweep: {text}", file=sys.stderr, flush=True)
