"""SQLite connections that belong to the process that opened them.

SQLite keeps the locks of a file in the memory of the process, for all connections to it together. So a child that
inherits one takes locks for its own that only its parent has, whatever connection it uses itself.
"""

import os
import sqlite3
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_inherited: list[sqlite3.Connection] = []  # kept: their end would close them, and give their files' inodes free
_inherited_files: set[int] = set()


class IndexUnavailable(Exception):
    """The index is locked, damaged beyond repair, or cannot be written."""


def check_process(process: int) -> None:
    """Stop a child that was forked in the middle of a request of ``process``, which goes on with it.

    Raises:
        IndexUnavailable: If this is another process.
    """
    if os.getpid() != process:
        raise IndexUnavailable("this process was forked in the middle of a request")


class Connection(sqlite3.Connection):
    """Connection that a forked child neither uses nor closes."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._process = os.getpid()
        super().__init__(*arguments, **settings)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        check_process(self._process)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        check_process(self._process)
        return super().executemany(sql, parameters)

    def commit(self) -> None:
        check_process(self._process)
        super().commit()

    def close(self) -> None:
        if os.getpid() == self._process:
            super().close()
        else:
            _inherited.append(self)


def inode_of(path: Path) -> int:
    """Return the inode of a file; 0 where there is none, or a folder or a device stands in its place."""
    try:
        stat_result = os.stat(path)
    except FileNotFoundError:
        return 0
    return stat_result.st_ino if stat.S_ISREG(stat_result.st_mode) else 0


def mark_inherited(inode: int, connection: sqlite3.Connection | None = None) -> None:
    """Open no connection to a file in this process, a child: its parent was using one, such as ``connection``."""
    _inherited_files.add(inode)
    if connection is not None:
        connection.close()


def is_inherited(inode: int) -> bool:
    """Return whether this process, a child, may open no connection to a file."""
    return inode in _inherited_files
