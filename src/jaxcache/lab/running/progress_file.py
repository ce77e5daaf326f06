"""How far a trial is: a small file that its process keeps while it serves requests, for whoever watches."""

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ... import JitCache
from ..trial import write_json

_FILE = "advance.json"
_EVERY_SECONDS = 0.5


class TrialProgress(BaseModel):
    """How far a trial was a moment ago."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    served: int
    requests: int
    hit_rate: float


class AdvanceWriter:
    """Writes the file now and then, between requests: what that takes does not count as serving."""

    def __init__(self, scratch: Path, requests: int, cache: JitCache) -> None:
        self._scratch, self._requests, self._cache = scratch, requests, cache
        self._served, self._written = 0, time.monotonic()

    def after(self) -> None:
        """Take note of a request that was just served."""
        self._served += 1
        if time.monotonic() - self._written < _EVERY_SECONDS:
            return
        hit_rate = self._cache.stats().hit_rate
        write_advance(self._scratch, TrialProgress(served=self._served, requests=self._requests, hit_rate=hit_rate))
        self._written = time.monotonic()


def write_advance(scratch: Path, advance: TrialProgress) -> None:
    """Say how far the trial is that has this directory, which may have to be made."""
    scratch.mkdir(exist_ok=True)
    write_json(scratch / _FILE, advance, durable=False)


def read_advance(scratch: Path) -> TrialProgress | None:
    """Return how far the trial is that has this directory; None if it does not say."""
    try:
        return TrialProgress.model_validate_json((scratch / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None
