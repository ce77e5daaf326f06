"""Who has asked a shared directory for what: the last runs, kept for ``doctor``."""

import json
import time
from collections.abc import Mapping

from ._disk_database import Database

_RUNS = 16
_REQUESTS = 4096  # of each


class Runs:
    """The runs that the index of a directory remembers. Every method may raise ``IndexUnavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, host: str, pid: int, program: str, fingerprint: str, settings: Mapping[str, object]) -> int:
        with self._database.transaction() as db:
            run = db.execute(
                "INSERT INTO runs (started, host, pid, program, fingerprint, settings) VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), host, pid, program, fingerprint, json.dumps(dict(settings))),
            ).lastrowid
            oldest = (run or 0) - _RUNS
            db.execute("DELETE FROM runs WHERE run <= ?", (oldest,))
            db.execute("DELETE FROM requests WHERE run <= ?", (oldest,))
        return run or 0

    def note(self, run: int, number: int, key: str, outcome: str, parts: Mapping[str, str]) -> None:
        if number > _REQUESTS:
            return
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)", (run, key, outcome, json.dumps(dict(parts)))
            )

    def last(self) -> list[dict[str, object]]:
        """Return the last runs, newest first, each with its requests."""
        with self._database.transaction() as db:
            cursor = db.execute("SELECT * FROM runs ORDER BY run DESC")
            names = [one[0] for one in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            for one in found:
                one["settings"] = json.loads(str(one["settings"]))
                asked = db.execute("SELECT key, outcome, parts FROM requests WHERE run = ?", (one["run"],))
                one["requests"] = {key: (outcome, json.loads(parts)) for key, outcome, parts in asked}
        return found
