"""The SQLite file behind the index: a connection a thread, a new file when it is damaged, a rest when it is locked."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at

from ._disk_schema import SCHEMA, VERSION
from ._range_lock import LocksUnsupported, range_locks

_BUSY_SECONDS = 2.0
_MUTEX_SECONDS = 10.0
_REST_SECONDS = 30.0  # a locked index is not asked again for so long, so that nobody waits at each request
_inherited: list[object] = []  # connections of the parent: a child must neither use nor close them


class IndexUnavailable(Exception):
    """The index is locked, damaged beyond repair, or cannot be written."""


class IndexDamaged(Exception):
    """The index is no database of ours."""


class Database:
    """One SQLite file in WAL mode, and the lock that its writers take around changes to files."""

    def __init__(
        self, path: Path, make_folder: Callable[[], None], on_new: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Use ``path``.

        Args:
            path: Of the file.
            make_folder: Makes the folder that it stands in.
            on_new: Fills a new database, with the lock held.
        """
        self._make_folder = make_folder
        self.path = path
        self._on_new = on_new
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._rests_until = 0.0
        self._fault = ""

    def forget(self) -> None:
        """In a forked child: use connections of its own."""
        _inherited.append((self._connections, self._local))
        self._local, self._connections, self._guard = threading.local(), [], threading.Lock()

    def close(self) -> None:
        """Close the connections of all threads; whoever asks next opens one again."""
        with self._guard:
            connections, self._connections, self._local = self._connections, [], threading.local()
        for one in connections:
            with contextlib.suppress(sqlite3.Error):
                one.close()

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Be the only one, in all processes of this host, who changes which entries there are.

        Raises:
            IndexUnavailable: If somebody holds it for too long, or there are no locks.
        """
        if getattr(self._local, "has_mutex", False):
            yield
            return
        local = self._local
        try:
            if not self.path.parent.is_dir():
                self._make_folder()
            locks = range_locks(self.path.with_suffix(".lock"))
            self._wait_for(lambda: locks.try_acquire(0))
        except (OSError, LocksUnsupported) as error:
            raise self._rest(f"its lock cannot be had ({error})") from error
        local.has_mutex = True
        try:
            yield
        finally:
            local.has_mutex = False
            locks.release(0)

    def _wait_for(self, acquired: Callable[[], bool]) -> None:
        self._refuse_while_resting()
        until, pause = monotonic() + _MUTEX_SECONDS, 0.0002
        while not acquired():
            if monotonic() > until:
                raise self._rest(f"another process has held its lock for {_MUTEX_SECONDS:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.005)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hand out the thread's connection within one write transaction.

        Raises:
            IndexUnavailable: If it is locked or cannot be written; for a while then at once.
        """
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _connection(self) -> sqlite3.Connection:
        self._refuse_while_resting()
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = 0
        except OSError as error:
            raise self._rest(str(error)) from error
        known: tuple[int, sqlite3.Connection] | None = getattr(self._local, "connection", None)
        if known is not None and known[0] == inode:
            return known[1]
        return self._open_again() if inode else self._make()

    def _open_again(self) -> sqlite3.Connection:
        try:
            return self._open()
        except IndexDamaged:
            return self._make()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _make(self) -> sqlite3.Connection:
        """Make the index anew, unless somebody else just did."""
        with self.mutex():
            with contextlib.suppress(IndexDamaged, sqlite3.Error, OSError):
                if self.path.exists():
                    return self._open()
            try:
                self.close_own()
                for suffix in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                staged = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
                staged.unlink(missing_ok=True)
                made = sqlite3.connect(staged, isolation_level=None)
                try:
                    made.execute("PRAGMA synchronous = OFF")  # nobody sees it before it is whole
                    made.executescript(f"BEGIN; {SCHEMA}")
                    self._on_new(made)
                    made.execute(f"PRAGMA user_version = {VERSION}")
                    made.execute("COMMIT")
                finally:
                    made.close()
                os.replace(staged, self.path)
                return self._open()
            except (sqlite3.Error, OSError, IndexDamaged) as error:
                raise self._rest(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        self.close_own()
        inode = os.stat(self.path).st_ino
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            if connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
                raise IndexDamaged("it is of another version")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if connection.execute("SELECT COUNT(*) FROM state").fetchone() != (1,):
                raise IndexDamaged("it has no state")
        except sqlite3.OperationalError as error:
            connection.close()
            if "no such table" in str(error):
                raise IndexDamaged(str(error)) from error
            raise
        except sqlite3.DatabaseError as error:
            connection.close()
            raise IndexDamaged(str(error)) from error
        except IndexDamaged:
            connection.close()
            raise
        with self._guard:
            self._connections.append(connection)
        self._local.connection = (inode, connection)
        return connection

    def close_own(self) -> None:
        """Close this thread's connection, if it has one."""
        known = getattr(self._local, "connection", None)
        self._local.connection = None
        if known is not None:
            with self._guard, contextlib.suppress(ValueError):
                self._connections.remove(known[1])
            with contextlib.suppress(sqlite3.Error):
                known[1].close()

    def _failed(self, error: sqlite3.Error | OSError) -> IndexUnavailable:
        """Turn an error into what callers expect; a damaged file is out of the way for the next request."""
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged or "no such table" in str(error) or "malformed" in str(error):
            self.close_own()
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".damaged"))
            return IndexUnavailable(f"it was damaged ({error}) and is made anew from the entries")
        return self._rest(str(error))

    def _rest(self, fault: str) -> IndexUnavailable:
        self._rests_until, self._fault = monotonic() + _REST_SECONDS, fault
        return IndexUnavailable(fault)

    def _refuse_while_resting(self) -> None:
        if monotonic() < self._rests_until:
            raise IndexUnavailable(self._fault)
