"""Process of the project's own Prefect server: started when needed, always at one address if that is free.

Prefect's ephemeral server is not used: it loses task records when the process ends after a burst, and a Ctrl-C in the
terminal reaches it too. Prefect reads its settings when it is imported, so that :func:`configure` has to come first.
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from ..planning.invocation import command_of
from ..planning.locations import server_directory
from .ports import reserve_port
from .settings import (
    DEFAULT_IDLE_HOURS,
    LOOPBACK,
    ServerError,
    ServerSettings,
    SettingError,
    remove_settings,
    requested_settings,
    save_settings,
    saved_settings,
)

PROJECT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("PREFECT_HOME") or server_directory())
EVERY_ADDRESS = "0.0.0.0"
_RECORD, _PORT, _LOG, _LOCK = "server.json", "server.port", "server.log", "server.lock"
_START_SECONDS = 120.0
_LOOPS = {  # how often services look for work; at Prefect's own 5 to 20 s an idle server is always busy
    "CANCELLATION_CLEANUP_LOOP_SECONDS": 60,
    "CLEANUP_RECONCILER_LOOP_SECONDS": 60,
    "FOREMAN_LOOP_SECONDS": 60,
    "LATE_RUNS_LOOP_SECONDS": 30,
    "PAUSE_EXPIRATIONS_LOOP_SECONDS": 60,
    "REPOSSESSOR_LOOP_SECONDS": 60,
    "SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": 30,
}
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows progress; the UI keeps the log
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # it writes a page for each event that waits for a server
}


@dataclass(frozen=True)
class Server:
    """Server process of this project, as recorded when it was started."""

    pid: int
    created: float
    port: int
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """Address of the UI on this machine."""
        return f"http://{LOOPBACK if self.host == EVERY_ADDRESS else self.host}:{self.port}"

    @property
    def api_url(self) -> str:
        """Value of ``PREFECT_API_URL`` on this machine."""
        return f"{self.url}/api"

    def use(self) -> None:
        """Let Prefect, imported later, use this server, with its auth string if it has one."""
        os.environ["PREFECT_API_URL"] = self.api_url
        auth = saved_settings(HOME).auth
        if auth is not None:
            os.environ["PREFECT_API_AUTH_STRING"] = auth
        _bypass_proxies(self.host)

    def alive(self) -> bool:
        """Return whether this very process runs; another process with the same id does not count."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def answers(self) -> bool:
        """Return whether this very server answers at its address: another may have taken the port first."""
        try:
            connections = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return False
        listens = any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port
            for connection in connections
            if connection.laddr
        )
        return listens and healthy(self.api_url)


def configure() -> None:
    """Set the variables that Prefect reads at import, except those that the user has set."""
    os.environ.setdefault("PREFECT_HOME", str(HOME))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _bypass_proxies(LOOPBACK)
    server = running()
    if server is not None and os.environ.get("PREFECT_API_URL") == server.api_url:
        server.use()


def _bypass_proxies(host: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine's own address
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))


def healthy(api_url: str, timeout_seconds: float = 2.0) -> bool:
    """Return whether a Prefect server's API answers at this address; its UI answers every path, with a page."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout_seconds) as answer:
            return answer.status == 200 and answer.read(16).strip() == b"true"
    except (OSError, http.client.HTTPException, ValueError):
        return False


def running() -> Server | None:
    """Return this project's server if its process runs."""
    server = _last()
    return server if server is not None and server.alive() else None


def _last() -> Server | None:
    """Return the server that was started last and not stopped."""
    try:
        return Server(**json.loads((HOME / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def start(wanted: ServerSettings | None = None, idle_hours: float | None = None) -> tuple[Server, bool]:
    """Return this project's server, and whether it was started just now. See :func:`wait` for when it answers.

    Args:
        wanted: Settings that the server must have. By default a running server may have any, and one that has to be
            started gets those of the environment and of the last server, unless :func:`stop` ended that.
        idle_hours: Hours without a client after which a server that has to be started ends by itself.

    Raises:
        SettingError: If a server with other settings is running, or the settings cannot be used.
        ServerError: If no port is free.
    """
    if wanted is not None and running() is None:
        wanted.over(saved_settings(HOME)).check()  # before anything is created
    HOME.mkdir(parents=True, exist_ok=True)
    with FileLock(HOME / _LOCK):
        server, last = running(), saved_settings(HOME)
        if server is not None:
            _check_alike(server, last, wanted)
            return server, False
        requested = requested_settings() if wanted is None else wanted
        settings = requested.over(ServerSettings(idle_hours=idle_hours)).over(last)
        settings.check()
        server = _launch(settings)
        save_settings(settings, HOME)
        from jaxcache.lab.files import write_file  # with pydantic, for which other commands need not wait

        write_file(HOME / _RECORD, json.dumps(asdict(server)), durable=False)
        return server, True


def _check_alike(server: Server, last: ServerSettings, wanted: ServerSettings | None) -> None:
    if wanted is None or wanted.over(last) == last:
        return
    raise SettingError(
        f"the project's server runs at {server.url} with another host, auth string, database or idle hours; "
        f"{command_of('server')} stop, then try again"
    )


def _launch(settings: ServerSettings) -> Server:
    """Start a server process on a free port."""
    port, reservation = _free_port(settings.listens)
    try:
        process = _popen(port, settings, reservation)
    finally:
        if reservation is not None:
            os.close(reservation)  # the server has inherited it
    return Server(process.pid, psutil.Process(process.pid).create_time(), port, settings.listens)


def _free_port(host: str = LOOPBACK) -> tuple[int, int | None]:
    """Return the port of the last server, or another if that is taken; reserved."""
    last = _last()
    return reserve_port(host, _stopped_port() if last is None else last.port, seed=str(HOME))


def _stopped_port() -> int | None:
    """Return the port of the server that was stopped last, at which reports link to their runs."""
    try:
        return int((HOME / _PORT).read_text())
    except (OSError, ValueError):
        return None


def _popen(port: int, settings: ServerSettings, reservation: int | None) -> "subprocess.Popen[bytes]":
    # The port is a setting and not an argument: the UI reads the API's address from the server's settings.
    variables = {
        **_QUIET,
        **{f"PREFECT_SERVER_SERVICES_{name}": str(seconds) for name, seconds in _LOOPS.items()},
        "PREFECT_HOME": str(HOME),
        **settings.variables(),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": "/api",
        # Prefect's default lets every page that is open in the user's browser read the API and start deployments.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{LOOPBACK}:{port}",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (HOME / _LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.serve", str(settings.idle_hours or DEFAULT_IDLE_HOURS)],
            env={**inherited, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            start_new_session=True,  # it outlives this command, and does not receive the terminal's Ctrl-C
            pass_fds=() if reservation is None else (reservation,),
        )


def start_and_wait(
    wanted: ServerSettings | None = None,
    idle_hours: float | None = None,
    meanwhile: Callable[[Server, bool], None] = lambda _server, _is_new: None,
) -> Server:
    """Return this project's server once it answers; one that is just ending by itself is started again.

    Args:
        wanted: As for :func:`start`.
        idle_hours: As for :func:`start`.
        meanwhile: Function that is called with the server, and whether it is new, before it is waited for.
    """
    server, is_new = start(wanted, idle_hours)
    meanwhile(server, is_new)
    try:
        wait(server)
    except ServerError:
        if is_new or server.alive():
            raise
        server, _ = start(wanted, idle_hours)
        wait(server)
    return server


def wait(server: Server) -> None:
    """Wait until a server of this project answers.

    Raises:
        ServerError: If it ends, or does not answer in two minutes.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not server.answers():
        if not server.alive():
            raise ServerError(f"the Prefect server ended while starting; see {HOME / _LOG}")
        if time.monotonic() > deadline:
            stop = f"{command_of('server')} stop"
            raise ServerError(f"the Prefect server does not answer at {server.api_url}; {stop}, then try again")
        time.sleep(0.1)


def stop() -> bool:
    """End this project's server and its child processes; return whether it ran. A running sweep starts it again."""
    if not HOME.is_dir():
        return False
    with FileLock(HOME / _LOCK):  # so that the record of a server started meanwhile is not removed
        server = running()
        remove_settings(HOME)
        if server is None:
            return False
        process = psutil.Process(server.pid)
        family = [process, *process.children(recursive=True)]
        for member in family:
            _ignore_absence(member.terminate)
        _, alive = psutil.wait_procs(family, timeout=10)
        for member in alive:
            _ignore_absence(member.kill)
        (HOME / _PORT).write_text(str(server.port))
        (HOME / _RECORD).unlink(missing_ok=True)
        return True


def _ignore_absence(end: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        end()
