"""Misses: their causes, the record of each, and the warning when one cause comes in storms."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from .difference import KINDS, Difference

NEW_CAUSES = ("first_call", "function_recreated", *KINDS, "own_key", "other")
REPEAT_CAUSES = ("evicted", "not_kept", "cleared")
MISS_CAUSES = NEW_CAUSES + REPEAT_CAUSES

STORM_MISSES = 30
STORM_SECONDS = 60.0
_WATCHED = 1024  # sources and causes
WAY_OUT = {
    "function_recreated": "wrap the function once, outside of the loop that calls it",
    "static_metadata": "keep what changes often out of the static fields of trees: make it an array field",
    "tree_structure": "pass the same containers with the same keys each time",
    "static_value": "pass what changes often as an array instead of a static argument",
    "config_context": "set JAX's configuration once, outside of the loop",
    "device_or_sharding": "put the arguments on one device or sharding before the calls",
    "new_dtype": "convert the argument to one dtype before the calls",
    "weak_type": "convert Python numbers to arrays of one dtype before the calls",
    "new_shape": "pad the argument to a few sizes before the calls",
    "own_key": "let key= return fewer values",
    "other": "pass containers of the same static data each time; what changes often belongs in an array",
    "evicted": "raise the limit, or choose a policy that keeps what is called again",
    "not_kept": "raise the limit, or choose a policy that admits what is called again",
    "cleared": "clear the cache less often",
}


class MissStormWarning(RuntimeWarning):
    """A function misses for one cause many times in a short time, or compiles much past the cache."""


@dataclass(frozen=True)
class Miss:
    """Reason why a call was, or would be, a miss.

    Attributes:
        call: The call's signature, such as ``solve(float32[512], n=3)``.
        cause: One of ``MISS_CAUSES``.
        reason: The cause in words, with what changed from what to what.
        differences: Differences from the most similar signature known; empty for other causes.
        captured: Names of values that the function captures, and an earlier one of the same source had others.
        library: The installed package that wraps the function; empty if it is wrapped in the user's own code.
        called_so: Whether an earlier function of the same source was called with the same signature.
    """

    call: str
    cause: str
    reason: str
    differences: tuple[Difference, ...] = ()
    captured: tuple[str, ...] = ()
    library: str = ""
    called_so: bool = True

    @property
    def way_out(self) -> str:
        """Change of the program that would avoid such misses; empty if none would."""
        return way_out(self.cause, self.captured, self.library, self.called_so)

    def __str__(self) -> str:
        return f"{self.call} misses: {self.reason}"


@dataclass(frozen=True)
class Explanation:
    """Explanation of a call, from ``cache.explain``.

    Attributes:
        call: The call's signature.
        outcome: ``hit``, ``miss`` or ``bypassed``.
        miss: Why it would miss; None if it would not.
        reason: The same in words, whatever the outcome, and what the function has compiled past the cache.
    """

    call: str
    outcome: str
    miss: Miss | None
    reason: str

    def __str__(self) -> str:
        return f"{self.call} misses: {self.reason}" if self.miss else f"{self.call} {self.reason}"


def listed(names: Iterable[str]) -> str:
    """Return up to four names as ``a, b, c, d and 3 more``."""
    all_names = list(names)
    return ", ".join(all_names[:4]) + (f" and {len(all_names) - 4} more" if len(all_names) > 4 else "")


def way_out(cause: str, captured: tuple[str, ...] = (), library: str = "", called_so: bool = True) -> str:
    """Return the change of the program that would avoid misses of a cause; empty if none would.

    A function whose captured values differ must not just be wrapped once: the first values would be compiled in.
    """
    if cause != "function_recreated" or not (captured or library):
        others = "" if called_so else "; then call it with fewer signatures, since each call has brought another"
        return WAY_OUT.get(cause, "") + others
    arguments = f"pass {listed(captured)} as arguments" if captured else ""
    if library:
        return (
            f"{library} wraps the function at each call: call {library} from a function of your own that is wrapped "
            f"once, whose program it then is a part of{f', and {arguments} of that' if captured else ''}"
        )
    return (
        f"{arguments} (static ones if shapes depend on them), and wrap the function once: as it is, they are compiled "
        "in as constants, and a function wrapped once would keep the first"
    )


class StormWatch:
    """Detector of functions that miss for one cause many times in a short time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By source and cause: the time of each miss, and the seconds of compiling until then; None after the warning.
        self._recent: OrderedDict[Hashable, deque[tuple[float, float]] | None] = OrderedDict()
        self._compile_seconds = 0.0

    def record(
        self, function: str, source_location: str, miss: Miss, source: Hashable = None, seconds: float = 0.0
    ) -> str | None:
        """Record a miss; return the warning if it makes a storm, once for a source and a cause.

        Args:
            function: Its name.
            source_location: Its file and line, such as `` (solve.py:12)``.
            miss: Of the function.
            source: Equal for functions of one source under generated names; the name if not given.
            seconds: Compile seconds of the miss, which do not count as time between misses.
        """
        self._compile_seconds += seconds
        key = (function if source is None else source, miss.cause)
        times = self._recent.setdefault(key, deque(maxlen=STORM_MISSES))
        self._recent.move_to_end(key)
        if len(self._recent) > _WATCHED:
            self._recent.popitem(last=False)
        if miss.cause not in WAY_OUT or times is None:
            return None
        times.append((self._clock(), self._compile_seconds))
        lasted, compiled = (last - first for first, last in zip(times[0], times[-1], strict=True))
        if len(times) < STORM_MISSES or lasted - compiled > STORM_SECONDS:
            return None
        self._recent[key] = None
        return (
            f"{function}{source_location} missed {STORM_MISSES} times in {lasted:.0f} s for one cause, "
            f"{miss.cause.replace('_', ' ')}; the last: {miss.reason}. Way out: {miss.way_out}"
        )
