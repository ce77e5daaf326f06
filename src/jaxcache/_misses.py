"""Why calls miss: causes, the record of a miss, and the warning when one cause comes in storms."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ._describe import KINDS, Difference

NEW_CAUSES = ("first_call", "function_recreated", *KINDS, "own_key", "other")
REPEAT_CAUSES = ("evicted", "not_kept", "cleared")
MISS_CAUSES = NEW_CAUSES + REPEAT_CAUSES

STORM_MISSES = 30
STORM_SECONDS = 60.0
WAY_OUT = {
    "function_recreated": "wrap the function once, outside of the loop that calls it",
    "tree_structure": "pass the same containers with the same keys each time",
    "static_value": "pass what changes often as an array instead of a static argument",
    "config_context": "set JAX's configuration once, outside of the loop",
    "device_or_sharding": "put the arguments on one device or sharding before the calls",
    "new_dtype": "convert the argument to one dtype before the calls",
    "weak_type": "convert Python numbers to arrays of one dtype before the calls",
    "new_shape": "pad the argument to a few sizes before the calls",
    "own_key": "let key= return fewer values",
    "evicted": "raise the limit, or choose a policy that keeps what is called again",
    "not_kept": "raise the limit, or choose a policy that admits what is called again",
    "cleared": "clear the cache less often",
}


class MissStormWarning(RuntimeWarning):
    """A function misses for one cause many times in a short time."""


@dataclass(frozen=True)
class Miss:
    """Why a call was, or would be, a miss.

    Attributes:
        call: The call's signature, such as ``solve(float32[512], n=3)``.
        cause: One of ``MISS_CAUSES``.
        reason: The cause in words, with what changed from what to what.
        differences: In what the call differs from the most similar signature known; empty for other causes.
    """

    call: str
    cause: str
    reason: str
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        return f"{self.call} misses: {self.reason}"


@dataclass(frozen=True)
class Explanation:
    """What ``cache.explain`` says of a call.

    Attributes:
        call: The call's signature.
        outcome: ``hit``, ``miss`` or ``bypassed``.
        miss: Why it would miss; None if it would not.
        reason: The same in words, whatever the outcome.
    """

    call: str
    outcome: str
    miss: Miss | None
    reason: str

    def __str__(self) -> str:
        return str(self.miss) if self.miss else f"{self.call} {self.reason}"


class StormWatch:
    """Notices when a function misses for one cause many times in a short time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self._told: set[tuple[str, str]] = set()

    def note(self, function: str, place: str, miss: Miss) -> str | None:
        """Note a miss; return the warning if it is the one that makes a storm, once for a function and a cause."""
        what = (function, miss.cause)
        if miss.cause not in WAY_OUT or what in self._told:
            return None
        times = self._recent.setdefault(what, deque(maxlen=STORM_MISSES))
        times.append(self._clock())
        if len(times) < STORM_MISSES or times[-1] - times[0] > STORM_SECONDS:
            return None
        self._told.add(what)
        del self._recent[what]
        return (
            f"{function}{place} missed {STORM_MISSES} times in {times[-1] - times[0]:.0f} s for one cause, "
            f"{miss.cause.replace('_', ' ')}; the last: {miss.reason}. Way out: {WAY_OUT[miss.cause]}"
        )
