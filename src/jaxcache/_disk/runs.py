"""Record of the last runs that used a shared directory, and of their requests, kept for ``doctor``."""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Mapping

from .database import Database
from .pending import Request

_RUNS = 16
_REQUESTS = 4096  # of each


class Runs:
    """Last runs in the index of a directory. Every method may raise ``IndexUnavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._current: tuple[int, int] | None = None  # this process, and the number of its run
        self._recorded = 0

    def record_request(
        self,
        fingerprint: str,
        settings: Mapping[str, object],
        request: Request,
    ) -> None:
        """Record a request of this process, which begins a run with its first one."""
        if self._current is None or self._current[0] != os.getpid():
            script = {"script": _utf8(sys.argv[0] if sys.argv else "")}
            program = _utf8(" ".join(sys.argv))
            run = self.begin(os.uname().nodename, os.getpid(), program, fingerprint, {**settings, **script})
            self._current, self._recorded = (os.getpid(), run), 0
        self._recorded += 1
        self.record(self._current[1], self._recorded, request.key, request.outcome, request.parts)

    def begin(self, host: str, pid: int, program: str, fingerprint: str, settings: Mapping[str, object]) -> int:
        return self._database.change(_begin, (time.time(), host, pid, program, fingerprint, json.dumps(dict(settings))))

    def record(self, run: int, number: int, key: str, outcome: str, parts: Mapping[str, object]) -> None:
        if number > _REQUESTS:
            return
        row = (run, key, outcome, json.dumps(dict(parts)))
        self._database.change(lambda db: db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)", row))

    def last(self) -> list[dict[str, object]]:
        """Return the last runs, newest first, each with its requests."""
        return self._database.change(_last)


def _begin(db: sqlite3.Connection, row: tuple[object, ...]) -> int:
    run = db.execute(
        "INSERT INTO runs (started, host, pid, program, fingerprint, settings) VALUES (?, ?, ?, ?, ?, ?)", row
    ).lastrowid
    oldest = (run or 0) - _RUNS
    db.execute("DELETE FROM runs WHERE run <= ?", (oldest,))
    db.execute("DELETE FROM requests WHERE run <= ?", (oldest,))
    return run or 0


def _last(db: sqlite3.Connection) -> list[dict[str, object]]:
    cursor = db.execute("SELECT * FROM runs ORDER BY run DESC")
    names = [column[0] for column in cursor.description]
    runs = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for run in runs:
        run["settings"] = json.loads(str(run["settings"]))
        requests = db.execute("SELECT key, outcome, parts FROM requests WHERE run = ?", (run["run"],))
        run["requests"] = {key: (outcome, json.loads(parts)) for key, outcome, parts in requests}
    return runs


def _utf8(text: str) -> str:
    return text[:500].encode(errors="replace").decode()  # SQLite keeps nothing else
