"""SQLite file of the index: one connection a process, a new file when damaged, left alone for a while when locked."""

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic  # bound now: a test may replace the clock that others look at
from typing import Any, Concatenate, ParamSpec, TypeVar

from .byte_locks import LocksUnsupported, range_locks
from .connection import Connection, IndexUnavailable, inode_of, is_inherited, mark_inherited
from .damage import is_damaged, shows_damage
from .integrity import fault_of, salvage
from .schema import SCHEMA, VERSION

_BUSY_SECONDS = 2.0
_MUTEX_SECONDS = 10.0
_TURN_SECONDS = 15.0  # longer than the thread that has the turn waits for another process
_REST_SECONDS = 30.0  # a locked index is left alone for so long, so that not every request waits

Salvaged = tuple[dict[str, Any], list[tuple[str, str, float]]]
Fill = Callable[[sqlite3.Connection, Salvaged], None]

P = ParamSpec("P")
T = TypeVar("T")

_all: "weakref.WeakSet[Database]" = weakref.WeakSet()


class IndexDamaged(Exception):
    """The index is no database of ours."""


class Database:
    """One SQLite file in WAL mode, and the lock that its writers take around changes to files.

    Threads take turns at one connection, which crosses no fork: that waits for the turn and closes it. Where a signal
    handler forks in the middle of a request, its child does not open the file at all, and makes the index anew.
    """

    def __init__(self, path: Path, make_folder: Callable[[], None], on_new: Fill) -> None:
        """Use ``path``.

        Args:
            path: Path of the file.
            make_folder: Makes its folder.
            on_new: Fills a new database, with the lock held, given what was salvaged of a damaged one.
        """
        self._make_folder = make_folder
        self.path = path
        self._on_new = on_new
        self.is_read_only = False  # whether to make no file: where there is no index, a passing one is in memory
        self._turns = threading.RLock()  # of a kind that a signal handler may take again
        self._owner = 0  # the thread that has the turn
        self._postponed: deque[Callable[[], None]] = deque()
        self._connection: sqlite3.Connection | None = None
        self._in_transaction = False
        self._inode = self._checked = 0  # of the file that the connection is of, and of the one that has added up
        self._damaged: set[int] = set()  # inodes of files that are not to be used
        self._rests_until = 0.0
        self._fault = ""
        _all.add(self)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self.in_turn(self._close)

    def _close(self) -> None:
        if self._connection is None or self._in_transaction:  # a signal handler's, in the middle of a request
            return
        if self.path.parent.is_dir():
            with contextlib.suppress(IndexUnavailable):
                self.locked(self._disconnect)  # SQLite removes files by name
        self._disconnect()  # without the lock where it cannot be had

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # -- turns

    # Python looks for signals after calls and where a function begins, not between other lines, and drops a generator
    # that it interrupts at its ``yield`` only with the traceback. So these are functions with one ``finally`` each, no
    # context managers, and what a ``finally`` must do for certain precedes its first call.

    def in_turn(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, while no other thread of this process is let in."""
        me = threading.get_ident()
        if self._owner == me:
            return work()
        try:
            with self._turns:
                try:
                    self._owner = me
                    return work()
                finally:
                    self._owner = 0
        finally:
            self._run_postponed()

    def is_held_here(self) -> bool:
        """Return whether this thread has the turn: asked at the start of a request, a signal handler interrupted it."""
        return self._owner == threading.get_ident()

    def when_free(self, work: Callable[[], None]) -> None:
        """Change the index by ``work`` now or, in a signal handler that interrupted a request, right after it.

        A handler that waited for the mutex would wait for another thread or process that waits for its own thread.
        """
        if self.is_held_here():
            self._postponed.append(work)
        else:
            work()

    def _run_postponed(self) -> None:
        with contextlib.suppress(IndexUnavailable, IndexError):  # the first is reported at the next request
            while True:
                self._postponed.popleft()()

    # -- forks

    def hold_for_fork(self) -> None:
        """Wait until no other thread is in the middle of anything, and close the connection."""
        if self._turns.acquire(timeout=_TURN_SECONDS) and self._owner != threading.get_ident():
            if self._connection is not None and sys.version_info >= (3, 12):  # here is no lock under which to remove
                self._connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)  # files by name: it takes time
            self._disconnect()

    def release_after_fork(self) -> None:
        """Let the parent's threads in again."""
        with contextlib.suppress(RuntimeError):  # made meanwhile, or waited for in vain
            self._turns.release()

    def reset_after_fork(self) -> None:
        """Use nothing of the parent's, in the child."""
        if self._connection is not None:
            mark_inherited(self._inode, self._connection)
        if self._owner:  # forked in the middle of a request, which may be opening another
            with contextlib.suppress(OSError):
                mark_inherited(inode_of(self.path))
        self._connection, self._in_transaction = None, False
        self._postponed = deque()
        if self._owner == threading.get_ident():
            self.release_after_fork()  # the request goes on, and ends without a result
        else:
            self._turns, self._owner = threading.RLock(), 0

    # -- changes

    def locked(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns, while no other thread or process of this host changes which entries there are.

        Raises:
            IndexUnavailable: If another process holds the lock for too long, or there are no locks.
        """
        return self.in_turn(lambda: self._locked(lambda: work(*args, **kwargs)))

    def _locked(self, work: Callable[[], T]) -> T:
        if self.is_read_only:
            return work()
        try:
            if not self.path.parent.is_dir():
                self._make_folder()
            locks = range_locks(self.path.with_suffix(".lock"))
        except (OSError, LocksUnsupported) as error:
            raise self._rest(f"its lock cannot be had ({error})") from error
        if locks.is_mine(0):
            return work()
        try:
            try:
                self._wait_for(lambda: locks.try_acquire(0))
            except LocksUnsupported as error:
                raise self._rest(f"its lock cannot be had ({error})") from error
            return work()
        finally:  # also where an interrupt came as soon as it was had
            try:
                locks.release(0)
            except BaseException:  # an interrupt before it was given back
                locks.release(0)
                raise

    def _wait_for(self, acquired: Callable[[], bool]) -> None:
        self._refuse_while_resting()
        until, pause = monotonic() + _MUTEX_SECONDS, 0.0002
        while not acquired():
            if monotonic() > until:
                raise self._rest(f"another process has held its lock for {_MUTEX_SECONDS:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.005)

    @property
    def is_open(self) -> bool:
        """Whether the next request can be expected to find the index in order, and at once."""
        return self._connection is not None and monotonic() >= self._rests_until

    def change(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns, given the connection within one write transaction, and the arguments.

        Raises:
            IndexUnavailable: If the index is locked, damaged or cannot be written; for a while then at once.
        """
        return self.in_turn(lambda: self._change(lambda db: work(db, *args, **kwargs)))

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._in_transaction and self._connection is not None:
            return work(self._connection)  # a signal handler's, in the middle of a request of the same thread
        try:
            return self._commit(self._connected(), work)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:  # a value that is not what we wrote
            if is_damaged(self.path):
                raise self._condemn(error) from error
            raise

    def _commit(self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        """Keep to a transaction of which an interrupt, wherever it comes, leaves nothing open: that locks all out."""
        try:
            self._in_transaction = True
            if db.in_transaction:  # even so: an interrupt came between two lines
                db.rollback()
            db.execute("BEGIN IMMEDIATE")
            value = work(db)
            db.commit()
            return value
        finally:
            self._in_transaction = False
            try:
                self._roll_back(db)
            except BaseException:  # an interrupt before it was done
                self._roll_back(db)
                raise

    def _roll_back(self, db: sqlite3.Connection) -> None:
        if db is self._connection and db.in_transaction:  # a child, forked meanwhile, has none
            db.rollback()

    def check(self) -> None:
        """Make the index anew if it does not add up.

        Raises:
            IndexUnavailable: If it cannot be used.
        """
        self.in_turn(self._check)

    def _check(self) -> None:
        fault = self.change(fault_of)
        if fault is not None:
            self._condemn(IndexDamaged(fault))
            self._connected()

    # -- the file

    def _connected(self) -> sqlite3.Connection:
        self._refuse_while_resting()
        try:
            inode = inode_of(self.path)
        except OSError as error:
            raise self._rest(str(error)) from error
        if self._connection is not None and self._inode in (inode, -1):
            return self._connection
        try:
            return self.locked(self._open_or_make)  # SQLite finds files by name: none may be replaced meanwhile
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _open_or_make(self) -> sqlite3.Connection:
        with contextlib.suppress(IndexDamaged):
            return self._open()
        return self._make()

    def _make(self) -> sqlite3.Connection:
        """Make the index anew, unless another process just did."""
        if self.is_read_only:
            self._disconnect()
            self._connection, self._inode = self._fill(":memory:"), -1
            return self._connection
        return self.locked(self._replace)

    def _replace(self) -> sqlite3.Connection:
        with contextlib.suppress(IndexDamaged, sqlite3.Error, OSError):
            return self._open()
        try:
            self._disconnect()
            staged = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
            staged.unlink(missing_ok=True)  # no temporary_file: closing another descriptor ends SQLite's locks
            self._fill(staged).close()  # while the old file exists, so that their inodes differ
            for suffix in ("", "-wal", "-shm"):
                _clear_away(self.path.with_name(self.path.name + suffix))
            os.replace(staged, self.path)
            self._damaged.clear()
            return self._open()
        except (sqlite3.Error, OSError, IndexDamaged) as error:
            raise self._rest(str(error)) from error

    def _fill(self, path: Path | str) -> sqlite3.Connection:
        """Return a new database at ``path`` with all entries in it."""
        salvaged = self._salvage()
        connection = sqlite3.connect(path, factory=Connection, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # it is not read before it is whole
            connection.executescript(f"BEGIN; {SCHEMA}")
            self._on_new(connection, salvaged)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _salvage(self) -> Salvaged:
        with contextlib.suppress(sqlite3.Error, OSError):
            inode = inode_of(self.path)
            if inode and not is_inherited(inode):
                uri = f"{self.path.absolute().as_uri()}?mode={'ro' if self.is_read_only else 'rw'}"
                with contextlib.closing(sqlite3.connect(uri, uri=True, factory=Connection)) as db:
                    return salvage(db)
        return {}, []

    def _open(self) -> sqlite3.Connection:
        """Open a connection instead of the former one.

        Raises:
            IndexDamaged: If the file is not to be used.
        """
        self._disconnect()
        inode = inode_of(self.path)
        if not inode or inode in self._damaged or is_inherited(inode):
            raise IndexDamaged("it is to be made anew")
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            factory=Connection,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            if inode != self._checked and (fault := fault_of(db)) is not None:
                raise IndexDamaged(fault)
        except IndexDamaged:
            db.close()
            raise
        except ValueError as error:  # a damaged text within the message of an error
            db.close()
            raise IndexDamaged(str(error)) from error
        except sqlite3.Error as error:
            db.close()
            if shows_damage(error, self.path):
                raise IndexDamaged(str(error)) from error
            raise
        self._inode = self._checked = inode
        self._connection = db
        return db

    # -- faults

    def _failed(self, error: sqlite3.Error | OSError) -> IndexUnavailable:
        """Turn an error into what callers expect; the next request makes a damaged index anew."""
        if isinstance(error, sqlite3.Error) and shows_damage(error, self.path):
            return self._condemn(error)
        return self._rest(str(error))

    def _condemn(self, error: Exception) -> IndexUnavailable:
        with contextlib.suppress(OSError):
            self._damaged.add(os.stat(self.path).st_ino)
        self._disconnect()
        return IndexUnavailable(f"it was damaged ({error}) and is made anew from the entries")

    def _rest(self, fault: str) -> IndexUnavailable:
        self._rests_until, self._fault = monotonic() + _REST_SECONDS, fault
        return IndexUnavailable(fault)

    def _refuse_while_resting(self) -> None:
        if monotonic() < self._rests_until:
            raise IndexUnavailable(self._fault)


def _clear_away(path: Path) -> None:
    """Remove a file; a folder, which is none of ours, is moved aside."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f".{path.name}.{time.time_ns()}.aside"))
    else:
        path.unlink(missing_ok=True)


def _before_fork() -> None:
    for database in sorted(_all, key=id):
        database.hold_for_fork()


def _after_fork_in_parent() -> None:
    for database in list(_all):
        database.release_after_fork()


def _after_fork_in_child() -> None:
    for database in list(_all):
        database.reset_after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
