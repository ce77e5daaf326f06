"""Connection of a command to a Prefect server: that of ``PREFECT_API_URL``, or the project's own."""

import os
import sys

from ..planning.errors import UsageError
from ..planning.invocation import command_of
from . import process
from .settings import ServerError


def check_address() -> None:
    """Refuse a ``PREFECT_API_URL`` at which no server answers; it need not be set.

    Raises:
        UsageError: If no server answers there.
    """
    process.configure()
    api_url = os.environ.get("PREFECT_API_URL")
    if api_url and not process.healthy(api_url, timeout_seconds=10):
        whole = f"{api_url.rstrip('/')}/api"
        if process.healthy(whole, timeout_seconds=10):
            raise UsageError(f"PREFECT_API_URL={api_url} is a server's UI; write PREFECT_API_URL={whole}")
        raise UsageError(
            f"PREFECT_API_URL={api_url} does not answer; start that server, or unset it to use the project's own"
        )


def find_server(idle_hours: float | None = None) -> str | None:
    """Set ``PREFECT_API_URL`` to a server that answers, started if need be; return a problem, or None.

    A server that is started ends by itself after so many hours without a client; by default as the last one did.
    """
    try:
        check_address()
    except UsageError as error:
        return str(error)
    if os.environ.get("PREFECT_API_URL"):
        return None
    try:
        process.start_and_wait(idle_hours=idle_hours, meanwhile=_import_prefect).use()
    except (OSError, ServerError) as error:
        return f"the Prefect server cannot be started: {error}"
    return None


def _import_prefect(server: process.Server, is_new: bool) -> None:
    """Import Prefect for a server that is starting: both take seconds."""
    if is_new:
        ending = f"{command_of('server')} stop ends it"
        print(f"Starting the project's Prefect server; later sweeps use it too ({ending}) …", file=sys.stderr)
    server.use()
    import prefect  # noqa: F401
