"""The project's own Prefect server: on loopback unless asked otherwise, started when needed.

Prefect's ephemeral server is not used: it loses task records when the process ends after a burst, and a Ctrl-C in the
terminal reaches it too. Prefect reads its settings when it is imported, so :func:`configure` comes first.

    python -m flows.server start | stop | status | open [--host ADDRESS] [--auth-file FILE] [--database URL]
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from jaxcache._primitives.atomic_files import write_file

from .prefect_server.settings import LOOPBACK, ServerError, ServerSettings, SettingError, asked, forget, keep, kept

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("PREFECT_HOME") or PROJECT / ".prefect")
_LET_GO_SECONDS = 5.0  # a killed server keeps its port until its memory is freed, also when it counts as dead already
_PORTS = range(4200, 4300)  # below those that the system gives to outgoing connections: one can be had again
_START_SECONDS = 120.0
_EVERY_ADDRESS = "0.0.0.0"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows progress; the UI keeps the log
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # a page for each event that waits for a server
}


@dataclass(frozen=True)
class Server:
    """A server process of ours."""

    pid: int
    created: float
    port: int
    host: str = LOOPBACK

    @property
    def api_url(self) -> str:
        """What ``PREFECT_API_URL`` must be on this machine."""
        return f"http://{LOOPBACK if self.host == _EVERY_ADDRESS else self.host}:{self.port}/api"

    def use(self) -> None:
        """Let Prefect, imported later, talk to this server, with its auth string if it has one."""
        os.environ["PREFECT_API_URL"] = self.api_url
        auth = kept(HOME).auth
        if auth is not None:
            os.environ["PREFECT_API_AUTH_STRING"] = auth
        _go_past_proxies(self.host)

    def alive(self) -> bool:
        """Whether that very process runs; a number that another process has now does not count."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def answers(self) -> bool:
        """Whether it is this server that answers at its address: another may have taken the port first."""
        try:
            held = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return False
        listens = any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in held if one.laddr)
        return listens and healthy(self.api_url)


def configure() -> None:
    """Set what Prefect reads at import. What the user's environment says stands."""
    os.environ.setdefault("PREFECT_HOME", str(HOME))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _go_past_proxies(LOOPBACK)
    own = running()
    if own is not None and os.environ.get("PREFECT_API_URL") == own.api_url:
        own.use()


def _go_past_proxies(host: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):  # a proxy knows nothing of this machine's own address
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))


def healthy(api_url: str, timeout_seconds: float = 2.0) -> bool:
    """Whether a Prefect server answers at this address."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout_seconds) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException, ValueError):
        return False


def running() -> Server | None:
    """Return our server if its process is there."""
    server = _last()
    return server if server is not None and server.alive() else None


def _last() -> Server | None:
    """Return the server that was started last."""
    try:
        return Server(**json.loads((HOME / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def start(wanted: ServerSettings | None = None) -> tuple[Server, bool]:
    """Return our server, and whether it was started just now. It may still be starting up; see :func:`wait`.

    Args:
        wanted: What it must be started with. Default: any that runs will do; one that has to be started gets what the
            environment says, and what the last one had if that did not end by :func:`stop`.

    Raises:
        SettingError: If one with other settings is running, or these cannot be.
        ServerError: If there is no port for it.
    """
    if wanted is not None and running() is None:
        wanted.over(kept(HOME)).check()  # before anything is made
    HOME.mkdir(parents=True, exist_ok=True)
    with FileLock(HOME / "server.lock"):
        server, last = running(), kept(HOME)
        if server is not None:
            _check_alike(server, last, wanted)
            return server, False
        settings = (asked() if wanted is None else wanted).over(last)
        settings.check()
        port, reservation = _free_port(settings.listens)
        try:
            server = _launch(port, settings, reservation)
        finally:
            if reservation is not None:
                os.close(reservation)  # the server has it too
        keep(settings, HOME)
        write_file(HOME / "server.json", json.dumps(asdict(server)), durable=False)
        return server, True


def _check_alike(server: Server, last: ServerSettings, wanted: ServerSettings | None) -> None:
    if wanted is None or wanted.over(last) == last:
        return
    raise SettingError(
        f"the project's server runs at {server.api_url.removesuffix('/api')} with another host, auth string or "
        "database; make stop, then try again"
    )


def _free_port(host: str = LOOPBACK) -> tuple[int, int | None]:
    """Return the port of a server that did not end by ``stop``, whose address others still know; or another.

    With it comes the descriptor that reserves the port, for the server to inherit; None if it needs none.
    """
    last = _last()
    if last is not None:
        deadline = time.monotonic() + _LET_GO_SECONDS
        while _bindable(host, last.port) is None and time.monotonic() < deadline:
            time.sleep(0.05)
    others = random.sample(_PORTS, len(_PORTS))  # whoever starts a server at this moment looks elsewhere
    for port in (*(() if last is None else (last.port,)), _PORTS[0], *others):
        if _bindable(host, port) is not None and (reservation := _reserve(port)) is not None:
            return port, reservation
    found = _bindable(host, 0)
    if found is not None:
        return found, None
    raise ServerError(f"no free port on {host} for the Prefect server; is this an address of this machine?")


def _reserve(port: int) -> int | None:
    """Return a descriptor that reserves a port among this user's projects for as long as any process has it.

    A server listens only seconds after its port was found free: another project's may have been promised it meanwhile.
    """
    path = Path(tempfile.gettempdir()) / f"jaxcache-prefect-{os.getuid()}-{port}.lock"
    try:
        reservation = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # somebody else's file
        return None
    try:
        fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(reservation)
        return None
    return reservation


def _bindable(host: str, port: int) -> int | None:
    """Return the port, for 0 any, if a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return probe.getsockname()[1]


def _launch(port: int, chosen: ServerSettings, reservation: int | None = None) -> Server:
    # Settings and not --port: the UI asks the server where the API is, and must hear of the port.
    settings = {
        **_QUIET,
        "PREFECT_HOME": str(HOME),
        **chosen.variables(),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": "/api",
        # Prefect lets every page that is open in the user's browser read the API and start what it offers.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{LOOPBACK}:{port}",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (HOME / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start"],
            env={**inherited, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            start_new_session=True,  # it outlives this command, and does not hear the terminal's Ctrl-C
            pass_fds=() if reservation is None else (reservation,),
        )
    return Server(process.pid, psutil.Process(process.pid).create_time(), port, chosen.listens)


def wait(server: Server) -> None:
    """Wait until our server answers.

    Raises:
        ServerError: If it ends, or does not answer in two minutes.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not server.answers():
        if not server.alive():
            raise ServerError(f"the Prefect server ended while starting; see {HOME.name}/server.log")
        if time.monotonic() > deadline:
            raise ServerError(f"the Prefect server does not answer at {server.api_url}; make stop, then try again")
        time.sleep(0.1)


def stop() -> bool:
    """End our server and whatever it started; return whether there was one. A sweep that runs starts one again."""
    if not HOME.is_dir():
        return False
    with FileLock(HOME / "server.lock"):  # whoever starts one meanwhile waits, or its record would be removed here
        server = running()
        forget(HOME)
        if server is None:
            return False
        process = psutil.Process(server.pid)
        family = [process, *process.children(recursive=True)]
        for member in family:
            _quietly(member.terminate)
        _, left = psutil.wait_procs(family, timeout=10)
        for member in left:
            _quietly(member.kill)
        (HOME / "server.json").unlink(missing_ok=True)
        return True


def _quietly(end: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        end()


def main(words: list[str] | None = None) -> int:
    """Start, stop or show the server; return the exit code: 0 done, 1 there is none, 2 it cannot be as asked."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description="The project's own Prefect server.")
    parser.add_argument("action", choices=("start", "stop", "status", "open"), help="open also starts it if need be")
    parser.add_argument("--host", metavar="ADDRESS", help="listen there, such as 0.0.0.0; default: 127.0.0.1")
    parser.add_argument("--auth-file", metavar="FILE", help="holds user:password, which clients must send; "
                        "default: $PREFECT_SERVER_API_AUTH_STRING")  # fmt: skip
    parser.add_argument("--database", metavar="URL", help="such as postgresql://user@host/name; default: SQLite")
    options = parser.parse_args(words)
    configure()
    if options.action == "stop":
        print("stopped" if stop() else "no server of this project is running")
        return 0
    if options.action == "status":
        server = running()
        print(f"running at {server.api_url.removesuffix('/api')}" if server else "not running")
        return 0 if server else 1
    try:
        server, _ = start(asked(options.host, options.auth_file, options.database))
        wait(server)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    address = server.api_url.removesuffix("/api")
    print(f"Prefect UI: {address}")
    if server.host == _EVERY_ADDRESS:
        print(f"From other machines: http://{socket.gethostname()}:{server.port}, with the auth string")
    if options.action == "open" and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
