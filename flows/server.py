"""``python -m flows.server start | stop | status | open``: the project's own Prefect server.

It listens on loopback, unless told otherwise by ``--host ADDRESS``, with ``--auth-file FILE`` and ``--database URL``.
"""

import argparse
import os
import socket
import sys
import webbrowser

from .planning.invocation import command_of
from .prefect_server.process import EVERY_ADDRESS, Server, configure, running, start_and_wait, stop
from .prefect_server.settings import ServerError, SettingError, requested_settings


def main(words: list[str] | None = None) -> int:
    """Start, stop or show the server; return the exit code: 0 done, 1 none runs, 2 the settings cannot be used."""
    options = _parse(words)
    configure()
    if options.action == "stop":
        print("stopped" if stop() else "no server of this project is running")
        return 0
    if options.action == "status":
        server = running()
        print(f"running at {server.url}" if server else "not running")
        return 0 if server else 1
    try:
        wanted = requested_settings(options.host, options.auth_file, options.database, options.idle_hours)
        server = start_and_wait(wanted)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    _show(server, browser=options.action == "open")
    return 0


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=command_of("server"), description="The project's own Prefect server.")
    parser.add_argument("action", choices=("start", "stop", "status", "open"), help="open also starts it if need be")
    parser.add_argument("--host", metavar="ADDRESS", help="listen there, such as 0.0.0.0; default: 127.0.0.1")
    parser.add_argument("--auth-file", metavar="FILE", help="holds user:password, which clients must send; "
                        "default: $PREFECT_SERVER_API_AUTH_STRING")  # fmt: skip
    parser.add_argument("--idle-hours", metavar="HOURS", help="end after so long without a run; default: 12")
    parser.add_argument("--database", metavar="URL", help="such as postgresql://user@host/name; default: SQLite")
    return parser.parse_args(words)


def _show(server: Server, browser: bool) -> None:
    print(f"Prefect UI: {server.url}")
    if server.host == EVERY_ADDRESS:
        print(f"From other machines: http://{socket.gethostname()}:{server.port}, with the auth string")
    if browser and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(server.url)


if __name__ == "__main__":
    sys.exit(main())
