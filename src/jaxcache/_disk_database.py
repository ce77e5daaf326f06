"""The SQLite file behind the index: a connection a thread, a new file when it is damaged, a rest when it is locked."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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


@dataclass(eq=False)
class _Connection:
    """A thread's connection. Who uses or closes it holds its lock: SQLite crashes where both go on at once."""

    db: sqlite3.Connection
    inode: int  # of the file
    thread: threading.Thread = field(default_factory=threading.current_thread)
    lock: threading.RLock = field(default_factory=threading.RLock)  # of a kind that a signal handler may take again
    busy: bool = False  # within a transaction
    closed: bool = False

    def close(self) -> bool:
        """Close, as soon as nobody uses it; say whether it is closed."""
        if not self.lock.acquire(timeout=2 * _BUSY_SECONDS):
            return False
        with contextlib.suppress(sqlite3.Error):
            self.db.close()
        self.closed = True
        self.lock.release()
        return True


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
        self._connections: list[_Connection] = []
        self._guard = threading.RLock()
        self._rests_until = 0.0
        self._fault = ""

    def forget(self) -> None:
        """In a forked child: use connections of its own."""
        _inherited.append((self._connections, self._local))
        self._local, self._connections, self._guard = threading.local(), [], threading.RLock()

    def close(self) -> None:
        """Close the connections of all threads; whoever asks next opens one again."""
        self._close(lambda _: True)

    def _close(self, chosen: Callable[[_Connection], bool]) -> None:
        with self._guard:
            connections = [one for one in self._connections if chosen(one)]
        closed = [one for one in connections if one.close()]
        with self._guard:
            self._connections = [one for one in self._connections if one not in closed]

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Be the only one, in all processes of this host, who changes which entries there are.

        Raises:
            IndexUnavailable: If somebody holds it for too long, or there are no locks.
        """
        try:
            if not self.path.parent.is_dir():
                self._make_folder()
            locks = range_locks(self.path.with_suffix(".lock"))
        except (OSError, LocksUnsupported) as error:
            raise self._rest(f"its lock cannot be had ({error})") from error
        if locks.is_mine(0):
            yield
            return
        try:
            try:
                self._wait_for(lambda: locks.try_acquire(0))
            except LocksUnsupported as error:
                raise self._rest(f"its lock cannot be had ({error})") from error
            yield
        finally:  # also where an interrupt came as soon as it was had
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
        try:
            with self._in_use() as connection:
                if connection.busy:  # this is a signal handler's, in the middle of one of the same thread
                    yield connection.db
                    return
                with _transaction(connection):
                    yield connection.db
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[_Connection]:
        """Hand out the thread's connection, which nobody closes meanwhile."""
        while True:
            connection = self._connection()
            with connection.lock:
                if not connection.closed:  # by another thread, just now
                    yield connection
                    return

    def _connection(self) -> _Connection:
        self._refuse_while_resting()
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = 0
        except OSError as error:
            raise self._rest(str(error)) from error
        known: _Connection | None = getattr(self._local, "connection", None)
        if known is not None and known.inode == inode and not known.closed:
            return known
        return self._open_again() if inode else self._make()

    def _open_again(self) -> _Connection:
        try:
            return self._open()
        except IndexDamaged:
            return self._make()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _make(self) -> _Connection:
        """Make the index anew, unless somebody else just did."""
        with self.mutex():
            with contextlib.suppress(IndexDamaged, sqlite3.Error, OSError):
                if self.path.exists():
                    return self._open()
            try:
                self._close_own()
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

    def _open(self) -> _Connection:
        """Open a connection for this thread, in the place of those that it and threads that are gone had."""
        self._close(lambda one: one.thread is threading.current_thread() or not one.thread.is_alive())
        inode = os.stat(self.path).st_ino
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            db.execute("PRAGMA trusted_schema = OFF")
            if db.execute("PRAGMA user_version").fetchone() != (VERSION,):
                raise IndexDamaged("it is of another version")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("SELECT COUNT(*) FROM state").fetchone() != (1,):
                raise IndexDamaged("it has no state")
        except IndexDamaged:
            db.close()
            raise
        except sqlite3.Error as error:
            db.close()
            if _tells_of_damage(error):
                raise IndexDamaged(str(error)) from error
            raise
        made = self._local.connection = _Connection(db, inode)
        with self._guard:
            self._connections.append(made)
        return made

    def _close_own(self) -> None:
        self._close(lambda one: one.thread is threading.current_thread())

    def _failed(self, error: sqlite3.Error | OSError) -> IndexUnavailable:
        """Turn an error into what callers expect; a damaged file is out of the way for the next request."""
        if _tells_of_damage(error):
            self._close_own()
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


@contextlib.contextmanager
def _transaction(connection: _Connection) -> Iterator[None]:
    """Keep to a transaction of which an interrupt, wherever it comes, leaves nothing open: that locks everybody out."""
    db = connection.db
    try:
        connection.busy = True
        if db.in_transaction:  # even so: an interrupt came between two lines
            db.rollback()
        db.execute("BEGIN IMMEDIATE")
        yield
        db.commit()
    finally:
        connection.busy = False
        if db.in_transaction:
            db.rollback()


def _tells_of_damage(error: Exception) -> bool:
    """Whether the file is to blame: its bytes, or tables that are not ours. A mistake in a query is no damage."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(error)
