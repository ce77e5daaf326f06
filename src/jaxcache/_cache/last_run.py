"""Programs that a run has asked a shared directory for, noted there for the next run of the same program."""

import contextlib
import json
import multiprocessing
import os
import time
import weakref

from .._code_key.background import background
from .._disk.disk_cache import DiskCache
from .._disk.remote_tier import program_name
from .._disk.whole_programs import find_program, put_note

_MOST_KEYS = 4096
_started = time.time()


class LastRun:
    """Keys of the programs that this process has asked a directory for, in the order of their first requests."""

    def __init__(self, cache: DiskCache) -> None:
        """Begin without a request."""
        self._cache = weakref.ref(cache)
        self._asked: dict[str, None] = {}
        self._is_due = False

    def note(self, key: str) -> None:
        """Note a request; what was noted is written once the program has started."""
        if key in self._asked or len(self._asked) >= _MOST_KEYS:
            return
        self._asked[key] = None
        if not self._is_due:
            self._is_due = True
            background.add(self._write)

    def _write(self) -> None:
        self._is_due = False
        cache = self._cache()
        if cache is None:
            return
        with contextlib.suppress(Exception):  # it is only for speed
            written, before = _read(cache)
            asked = list(self._asked)
            if written >= _started or multiprocessing.parent_process() is not None:
                asked = list(dict.fromkeys([*before, *asked]))[:_MOST_KEYS]  # of one run with this one
            if asked != before:
                put_note(cache, _note_key(), json.dumps({"written": time.time(), "keys": asked}).encode())


_of_caches: "weakref.WeakKeyDictionary[DiskCache, LastRun]" = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_of_caches.clear)


def note_request(cache: DiskCache, key: str) -> None:
    """Note that this run has asked ``cache`` for the program of ``key``."""
    run = _of_caches.get(cache)
    if run is None:
        run = _of_caches.setdefault(cache, LastRun(cache))
    run.note(key)


def keys_of_last_run(cache: DiskCache) -> list[str]:
    """Return the keys of the programs that the last run of this program has asked for, in their order then."""
    try:
        return _read(cache)[1]
    except Exception:  # what cannot be read is no reason not to start
        return []


def _note_key() -> str:
    return f"jaxcache-last-run-{program_name()}"


def _read(cache: DiskCache) -> tuple[float, list[str]]:
    """Return when the last run was noted, and its keys."""
    found = find_program(cache, _note_key())
    if found is None:
        return 0.0, []
    note = json.loads(found.value)
    return float(note["written"]), [str(key) for key in note["keys"]]
