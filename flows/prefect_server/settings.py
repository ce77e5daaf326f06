"""Settings of the project's Prefect server: its address, its auth string, its database, and when it ends by itself.

They are kept beside the server's data until ``make stop``, so that a server started again after it was killed has the
same. The auth string and the database's password are in one file that only its owner can read, and reach the server
through its environment: never a command line, a message or a log.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOOPBACK = "127.0.0.1"
DEFAULT_IDLE_HOURS = 12.0
AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
_SAVED = "server.secret.json"
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_ANSWER_SECONDS = 10


class ServerError(Exception):
    """Raised when no server can be used; the message says what to do."""


class SettingError(ServerError):
    """Raised when a server cannot have the requested settings; nothing was started."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server; None stands for the default, or for the setting of the last server.

    Args:
        host: Address of this machine to listen at; default loopback.
        auth: Auth string that clients have to send, as ``user:password``; default none.
        database: Postgres database, as ``postgresql://user@host/name``; default SQLite in the server's directory.
        idle_hours: Hours without a client after which the server ends by itself; default 12, infinite for never.
    """

    host: str | None = None
    auth: str | None = field(default=None, repr=False)
    database: str | None = field(default=None, repr=False)  # it may hold a password
    idle_hours: float | None = None

    @property
    def listens(self) -> str:
        """Address to listen at."""
        return self.host or LOOPBACK

    def over(self, other: "ServerSettings") -> "ServerSettings":
        """Return these settings, with the other's where these are None."""
        return ServerSettings(
            self.host or other.host,
            self.auth or other.auth,
            self.database or other.database,
            self.idle_hours or other.idle_hours,
        )

    def check(self) -> None:
        """Refuse an address that is open to the network without an auth string, and a database that cannot be used.

        Raises:
            SettingError: If the settings are refused.
        """
        if self.auth is None and not ipaddress.ip_address(self.listens).is_loopback:
            raise SettingError(
                f"--host {self.host} can be reached from other machines: set {AUTH_VARIABLE}=user:password in the "
                "environment, or give --auth-file FILE; or leave --host out"
            )
        if self.database is not None:
            asyncio.run(_check_database(self.database))

    def variables(self) -> dict[str, str]:
        """Return the variables of the server's environment."""
        variables = {"PREFECT_SERVER_API_HOST": self.listens}
        if self.auth is not None:
            variables[AUTH_VARIABLE] = self.auth
        if self.database is not None:
            variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database.replace("://", "+asyncpg://", 1)
        return variables


def requested_settings(
    host: str | None = None,
    auth_file: str | None = None,
    database: str | None = None,
    idle_hours: str | None = None,
) -> ServerSettings:
    """Return the settings of the command line and the environment.

    Raises:
        SettingError: If a value cannot be used.
    """
    auth = _read_auth(Path(auth_file)) if auth_file else _checked_auth(os.environ.get(AUTH_VARIABLE), AUTH_VARIABLE)
    hours = None if idle_hours is None else _hours(idle_hours)
    return ServerSettings(host and _address(host), auth, database and _postgres(database), hours)


def saved_settings(home: Path) -> ServerSettings:
    """Return the settings of the server that was started last and not stopped."""
    try:
        return ServerSettings(**json.loads((home / _SAVED).read_text()))
    except (OSError, ValueError, TypeError):
        return ServerSettings(LOOPBACK)


def save_settings(settings: ServerSettings, home: Path) -> None:
    """Save settings for the next start of the server, in a file that only its owner can read."""
    from jaxcache.lab.files import write_file  # with pydantic, for which other commands need not wait

    write_file(home / _SAVED, json.dumps(asdict(settings)), durable=False, mode=0o600)


def remove_settings(home: Path) -> None:
    """Remove the settings of a server that was stopped."""
    (home / _SAVED).unlink(missing_ok=True)


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise SettingError(
            f"--host must be an IPv4 address or a name of this machine, such as 0.0.0.0, but is {host!r}"
        ) from None


def _hours(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (hours := float(text)) > 0:
            return hours
    raise SettingError(f"--idle-hours must be a number above 0, such as 12, or inf for never, but is {text!r}")


def _read_auth(path: Path) -> str | None:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingError(f"--auth-file {path} can be read by others; run: chmod 600 {path}")
        return _checked_auth(path.read_text().strip() or "empty", f"--auth-file {path}")
    except (OSError, UnicodeError) as error:
        raise SettingError(f"--auth-file {path} cannot be read ({getattr(error, 'strerror', error)})") from error


def _checked_auth(text: str | None, source: str) -> str | None:
    """Return an auth string, or None for an empty one. The error does not quote it: even a wrong one is a secret."""
    if not text:
        return None
    user, _, password = text.partition(":")
    if not (user and password and text.isprintable()):
        raise SettingError(f"{source} must be of the form user:password, in one line")
    return text


def _postgres(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator or not rest:
        named = f"is of scheme {scheme!r}" if separator else "is no URL"
        raise SettingError(f"--database must be such as postgresql://user@host/name, but {named}")
    return f"postgresql://{rest}"


def _shown(url: str) -> str:
    """Return a database's URL without its secrets."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    with contextlib.suppress(ValueError):  # raised for a port that is no number
        return f"postgresql://{user}{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    return "postgresql://…"


async def _check_database(url: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=_ANSWER_SECONDS)
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        password = urlsplit(url).password
        for secret in filter(None, (password, unquote(password or ""))):
            reason = reason.replace(secret, "…")
        raise SettingError(f"--database {_shown(url)} cannot be used ({reason})") from None
    try:
        extensions = await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
    finally:
        await connection.close()
    if not extensions:
        raise SettingError(
            f"--database {_shown(url)} lacks the extension pg_trgm, which Prefect needs; "
            "install PostgreSQL's contrib package on its machine"
        )
