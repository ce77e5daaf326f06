"""Breaker: turns an object store that fails or hangs off for a while, and bounds what waiting for it costs."""

from time import monotonic  # bound now: a test may replace the clock that others look at

ALLOWANCE_SECONDS = 1.0  # that a process may wait in vain
_REFILL_SECONDS = 600.0  # in which the whole allowance is earned again
_FAILURES = 3  # in a row
_OFF_SECONDS = 30.0


class Breaker:
    """Judge of whether an object store is asked. Not locked: a request too many, or too few, does no harm."""

    def __init__(self) -> None:
        """Begin with the full allowance."""
        self._allowance, self._counted_at = ALLOWANCE_SECONDS, monotonic()
        self._failures = 0
        self._off_since: float | None = None

    @property
    def is_off(self) -> bool:
        """Whether nobody is to wait for the store."""
        return self._off_since is not None

    @property
    def is_due(self) -> bool:
        """Whether a store that is off is to be tried again, by a request for which nobody waits."""
        return self._off_since is not None and monotonic() - self._off_since >= _OFF_SECONDS

    def patience_seconds(self) -> float:
        """Return how long a request may be waited for that makes no progress."""
        now = monotonic()
        earned = (now - self._counted_at) / _REFILL_SECONDS * ALLOWANCE_SECONDS
        self._allowance, self._counted_at = min(ALLOWANCE_SECONDS, self._allowance + earned), now
        return max(0.0, self._allowance)

    def succeeded(self) -> None:
        """Record a request that the store answered."""
        self._failures, self._off_since = 0, None

    def failed(self) -> None:
        """Record a request that the store refused."""
        self._failures += 1
        if self._failures >= _FAILURES or self.is_off:
            self._off_since = monotonic()

    def waited_in_vain(self, seconds: float) -> None:
        """Record a request that was given up, and the seconds that somebody waited for it."""
        self._allowance = self.patience_seconds() - seconds
        self._off_since = monotonic()
