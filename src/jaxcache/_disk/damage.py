"""Damage to the index's file: which errors of SQLite come from the file's bytes, and not from who reads them."""

import contextlib
import os
import sqlite3
from pathlib import Path

from .connection import Connection, inode_of, is_inherited
from .integrity import fault_of

_BLAMELESS = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
     sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}
)  # fmt: skip
_GUILTY = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def shows_damage(error: sqlite3.Error, path: Path) -> bool:
    """Return whether ``path`` is damaged, after an error that may have come of it."""
    if _comes_from_bytes(error, path):
        return True
    return _primary_code(error) not in _BLAMELESS and is_damaged(path)


def is_damaged(path: Path) -> bool:
    """Return whether ``path`` is no index in order, by a connection of its own; False where it cannot be looked at."""
    try:
        if is_inherited(inode_of(path)):
            return False
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, factory=Connection)) as db:
            return fault_of(db) is not None
    except OSError:
        return False
    except ValueError:  # a damaged text within the message of an error
        return True
    except sqlite3.Error as error:
        return _primary_code(error) not in _BLAMELESS | {sqlite3.SQLITE_IOERR}


def _comes_from_bytes(error: sqlite3.Error, path: Path) -> bool:
    primary = _primary_code(error)
    if primary == sqlite3.SQLITE_READONLY:  # a header that says so: nothing keeps us from writing
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if primary == sqlite3.SQLITE_IOERR:
        return error.sqlite_errorcode == sqlite3.SQLITE_IOERR_SHORT_READ
    return primary in _GUILTY or "decode to UTF-8" in str(error)  # of texts, by Python


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for an error of Python's own module."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
