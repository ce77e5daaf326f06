"""What the project's Prefect server is started with: where it listens, who may use it, which database it writes.

They are kept beside the server's data until ``make stop``, so that whoever starts the server again after it was killed
starts the same one. The auth string and the database's password stand in one file that only its owner can read, and
reach the server through its environment: never a command line, a message or a log.
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

from jaxcache._primitives.atomic_files import write_file

LOOPBACK = "127.0.0.1"
AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
_KEPT = "server.secret.json"
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_ANSWER_SECONDS = 10


class ServerError(Exception):
    """There is no server to talk to; the message says what to do."""


class SettingError(ServerError):
    """The server cannot be started as it was asked for; nothing was started."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server is to be started; None is the default, or what the last one had.

    Args:
        host: The address of this machine to listen at; default loopback.
        auth: What clients have to send, as ``user:password``; default nothing.
        database: A Postgres database, as ``postgresql://user@host/name``; default SQLite in the server's directory.
    """

    host: str | None = None
    auth: str | None = field(default=None, repr=False)
    database: str | None = field(default=None, repr=False)  # it may hold a password

    @property
    def listens(self) -> str:
        """The address to listen at."""
        return self.host or LOOPBACK

    def over(self, other: "ServerSettings") -> "ServerSettings":
        """Return these settings, and the other's where these say nothing."""
        return ServerSettings(self.host or other.host, self.auth or other.auth, self.database or other.database)

    def check(self) -> None:
        """Refuse what would let anyone on the network use the server, and a database that cannot serve.

        Raises:
            SettingError: If it is refused.
        """
        if self.auth is None and not ipaddress.ip_address(self.listens).is_loopback:
            raise SettingError(
                f"--host {self.host} can be reached from other machines: set {AUTH_VARIABLE}=user:password in the "
                "environment, or give --auth-file FILE; or leave --host out"
            )
        if self.database is not None:
            asyncio.run(_check_database(self.database))

    def variables(self) -> dict[str, str]:
        """Return what the server's environment has to hold."""
        made = {"PREFECT_SERVER_API_HOST": self.listens}
        if self.auth is not None:
            made[AUTH_VARIABLE] = self.auth
        if self.database is not None:
            made["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database.replace("://", "+asyncpg://", 1)
        return made


def asked(host: str | None = None, auth_file: str | None = None, database: str | None = None) -> ServerSettings:
    """Return what the command line and the environment ask for.

    Raises:
        SettingError: If a value cannot be used.
    """
    auth = _read_auth(Path(auth_file)) if auth_file else _checked_auth(os.environ.get(AUTH_VARIABLE), AUTH_VARIABLE)
    return ServerSettings(host and _address(host), auth, database and _postgres(database))


def kept(home: Path) -> ServerSettings:
    """Return the settings of the server that was started last and not stopped."""
    try:
        return ServerSettings(**json.loads((home / _KEPT).read_text()))
    except (OSError, ValueError, TypeError):
        return ServerSettings(LOOPBACK)


def keep(settings: ServerSettings, home: Path) -> None:
    """Keep settings for whoever starts the server again; only the owner can read them."""
    write_file(home / _KEPT, json.dumps(asdict(settings)), durable=False, mode=0o600)


def forget(home: Path) -> None:
    """Keep nothing of a server that was stopped."""
    (home / _KEPT).unlink(missing_ok=True)


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise SettingError(
            f"--host must be an IPv4 address or a name of this machine, such as 0.0.0.0, but is {host!r}"
        ) from None


def _read_auth(path: Path) -> str | None:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingError(f"--auth-file {path} can be read by others; chmod 600 it")
        return _checked_auth(path.read_text().strip() or "empty", f"--auth-file {path}")
    except (OSError, UnicodeError) as error:
        raise SettingError(f"--auth-file {path} cannot be read ({getattr(error, 'strerror', error)})") from error


def _checked_auth(text: str | None, source: str) -> str | None:
    """The value is not told: it is a secret even where it is wrong."""
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
    """Return a database's URL without what may be secret."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    with contextlib.suppress(ValueError):  # a port that is no number
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
        found = await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
    finally:
        await connection.close()
    if not found:
        raise SettingError(
            f"--database {_shown(url)} lacks the extension pg_trgm, which Prefect needs; "
            "install PostgreSQL's contrib package on its machine"
        )
