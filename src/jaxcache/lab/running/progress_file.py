"""Progress of a trial: a small file that its process, or that of its program, updates while it serves requests."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from ..files import write_json
from ..layout import TRIAL_PROGRESS

if TYPE_CHECKING:  # who only reads progress needs no JAX
    from ... import JitCache

_EVERY_SECONDS = 0.5


class TrialProgress(BaseModel):
    """Progress of a trial at its latest update.

    Attributes:
        served: Requests so far.
        requests: Expected number of requests; None if it is not known.
        hit_rate: Share of hits so far.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    served: int
    requests: int | None
    hit_rate: float

    @property
    def share(self) -> float:
        """Share of its requests that are served; 0 if their number is not known."""
        return min(1.0, self.served / self.requests) if self.requests else 0.0

    @property
    def text(self) -> str:
        """Requests so far, and of how many: ``30/120``."""
        return f"{self.served}/{self.requests}" if self.requests else f"{self.served}"


class ProgressWriter:
    """Writer of the file, between requests and at most twice a second; its time does not count as serving."""

    def __init__(self, scratch: Path, requests: int, cache: "JitCache") -> None:
        self._scratch, self._requests, self._cache = scratch, requests, cache
        self._served, self._written = 0, time.monotonic()

    def after_request(self, _length: int, _seconds: float) -> None:
        """Record a request that was just served."""
        self._served += 1
        if time.monotonic() - self._written < _EVERY_SECONDS:
            return
        hit_rate = self._cache.stats().hit_rate
        progress = TrialProgress(served=self._served, requests=self._requests, hit_rate=hit_rate)
        write_progress(self._scratch, progress)
        self._written = time.monotonic()


def write_progress(scratch: Path, progress: TrialProgress) -> None:
    """Write a trial's progress to its scratch directory, and create that if it is missing."""
    scratch.mkdir(exist_ok=True)
    write_json(scratch / TRIAL_PROGRESS, progress, durable=False)


def read_progress(scratch: Path) -> TrialProgress | None:
    """Return a trial's progress from its scratch directory; None if the file is missing or damaged."""
    try:
        return TrialProgress.model_validate_json((scratch / TRIAL_PROGRESS).read_bytes())
    except (OSError, ValidationError):
        return None
