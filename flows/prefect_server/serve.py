"""``python -m flows.prefect_server.serve HOURS``: Prefect's server, until nobody has used it for so many hours.

A server is used by whoever runs, serves or waits for flows: all of these are clients of its API. The UI is not: a
forgotten tab of a browser would keep the server for ever.
"""

import asyncio
import functools
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOK_SECONDS = 30.0
_TICK_SECONDS = 0.9  # beside uvicorn's own 0.1
_LEAVE_SECONDS = 10  # for requests under way when the server ends
_TASKS_EVERY = timedelta(seconds=2)


class ClientLog:
    """ASGI application that passes requests on, and keeps when the last client used it.

    Args:
        app: Application that answers.
        clock: Function that returns seconds.
    """

    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._clock = app, clock
        self._connected = 0
        self._last_used: float | None = clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a WebSocket, such as a running flow has for its events, lasts as long as its client."""
        if scope["type"] == "lifespan":
            self._last_used = None
            await self._app(scope, receive, functools.partial(self._report_start, send))
            return
        if not _is_from_client(scope):
            await self._app(scope, receive, send)
            return
        self._connected += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._connected -= 1
            self._last_used = self._clock()

    async def _report_start(self, send: Send, message: MutableMapping[str, Any]) -> None:
        """Count from the end of the server's start, which may take minutes."""
        self._last_used = self._clock()
        await send(message)

    @property
    def idle_seconds(self) -> float:
        """Seconds since a client last used the server; 0 while one does, and while the server starts."""
        return 0.0 if self._connected or self._last_used is None else self._clock() - self._last_used


def _is_from_client(scope: Scope) -> bool:
    """Return whether a request is neither a browser's nor one that only asks whether the server answers."""
    if scope["path"].endswith("/health"):
        return False
    agents = [value for name, value in scope["headers"] if name == b"user-agent"]
    return not any(agent.startswith(b"Mozilla/") for agent in agents)


def end_when_idle(log: ClientLog, idle_seconds: float, end: Callable[[], None], pause: Callable[[float], None]) -> None:
    """Call ``end`` once no client has used the server for so long.

    Args:
        log: Log of the server's clients.
        idle_seconds: Seconds without a client after which the server ends.
        end: Function that ends it.
        pause: Function that waits for the given seconds.
    """
    while log.idle_seconds < idle_seconds:
        pause(min(_LOOK_SECONDS, idle_seconds / 4))
    end()


class _SleepyServer(uvicorn.Server):
    """Server that looks once a second, and not ten times, whether it is to end."""

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; at every tenth tick, uvicorn sets the date of its answers too."""
        await asyncio.sleep(_TICK_SECONDS)
        return await super().on_tick(10 * counter)


def main() -> None:
    """Serve until a signal comes or the server is idle for too long."""
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    _let_worker_sleep()
    settings = get_current_settings().server
    log = ClientLog(create_app(final=True))
    config = uvicorn.Config(
        log,
        host=settings.api.host,
        port=settings.api.port,
        log_level=settings.logging_level.lower(),
        timeout_keep_alive=settings.api.keepalive_timeout,
        timeout_graceful_shutdown=_LEAVE_SECONDS,
    )
    server = _SleepyServer(config)
    ending = functools.partial(setattr, server, "should_exit", True)
    arguments = (log, 3600 * float(sys.argv[1]), ending, time.sleep)
    threading.Thread(target=end_when_idle, args=arguments, name="idle", daemon=True).start()
    server.run()


def _let_worker_sleep() -> None:
    """Let the worker of Prefect's background tasks look for them every other second, not up to ten times a second.

    Prefect has no setting for this. Should it start its worker in another way one day, the server is only less quiet.
    """
    from docket import Worker
    from prefect.server.api import background_workers

    if getattr(background_workers, "Worker", None) is Worker:
        sleepy = functools.partial(Worker, minimum_check_interval=_TASKS_EVERY, scheduling_resolution=_TASKS_EVERY)
        background_workers.Worker = sleepy  # pyright: ignore[reportPrivateImportUsage]


if __name__ == "__main__":
    main()
