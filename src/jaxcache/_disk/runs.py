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
        self._settings: Mapping[str, object] = {}

    def record_request(
        self,
        fingerprint: str,
        settings: Mapping[str, object],
        request: Request,
    ) -> None:
        """Record a request of this process, which begins a run with its first one."""
        if self._current is None or self._current[0] != os.getpid():
            run = self.begin(
                os.uname().nodename, os.getpid(), _utf8(" ".join(sys.argv)), fingerprint, _with_script(settings)
            )
            self._current, self._recorded, self._settings = (os.getpid(), run), 0, settings
        self._recorded += 1
        self.record(self._current[1], self._recorded, request.key, request.outcome, request.parts)

    def record_settings(self, settings: Mapping[str, object]) -> None:
        """Record what has changed of this process's settings, such as the answers of tiers, since its run began."""
        if self._current is None or self._current[0] != os.getpid() or settings == self._settings:
            return
        row = (json.dumps(_with_script(settings)), self._current[1])
        self._database.change(lambda db: db.execute("UPDATE runs SET settings = ? WHERE run = ?", row))
        self._settings = settings

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


def _with_script(settings: Mapping[str, object]) -> dict[str, object]:
    return {**settings, "script": _utf8(sys.argv[0] if sys.argv else "")}


def _utf8(text: str) -> str:
    return text[:500].encode(errors="replace").decode()  # SQLite keeps nothing else
