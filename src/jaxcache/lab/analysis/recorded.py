"""Programs as their reference runs recorded them, replayed under any policy at any limit.

A replay decides as the trial did, request for request, so that its counts and seconds are predictions to be checked
against the trials that ran, and not estimates.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ... import ReplayResult, Trace, optimum, replay

_BOUND_STEPS = 200
_MOST_BOUNDED_ROWS = 50_000  # of a longer trace a bound takes seconds at each limit


@dataclass(frozen=True)
class Prediction:
    """Counts and seconds that a trial of one policy at one limit has, replayed.

    Attributes:
        limit_bytes: None for no limit.
        compile_seconds: Reference compile seconds of the misses.
        peak_bytes: The most that is held at a time.
    """

    policy: str
    limit_bytes: int | None
    requests: int
    hits: int
    misses: int
    evictions: int
    compile_seconds: float
    peak_bytes: int


class RecordedProgram:
    """The requests of one program at the prices of its sweep, with the replays that were asked for so far.

    Attributes:
        trace: The requests.
        working_set_bytes: What all signatures weigh together; from this limit on nothing is evicted.
        smallest_bytes: What the lightest signature weighs.
        unlimited_seconds: Each signature compiled once.
        uncached_seconds: Every call compiled.
        derived: Programs derived from this one, such as those of other seeds, kept with their replays.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        used = np.unique(trace.signatures)
        sizes = trace.size_bytes[used]
        self.working_set_bytes = int(sizes.sum())
        self.smallest_bytes = int(sizes.min(initial=self.working_set_bytes))
        self.unlimited_seconds = float(trace.compile_seconds[used].sum())
        self.uncached_seconds = float(trace.compile_seconds[trace.signatures].sum())
        self.derived: dict[Hashable, RecordedProgram] = {}
        self._predictions: dict[tuple[str, int | None, int], Prediction] = {}
        self._bounds: dict[int | None, float] = {}

    def predict(self, policy: str, limit_bytes: int | None, seed: int) -> Prediction:
        """Return what a trial of a policy at a limit counts; ``seed`` is for policies that draw."""
        key = (policy, limit_bytes, seed)
        if key not in self._predictions:
            self._predictions[key] = _prediction(replay(self.trace, policy, limit_bytes, seed=seed))
        return self._predictions[key]

    def bound_seconds(self, limit_bytes: int | None) -> float:
        """Return what no policy is below at a limit, certified; of very long traces what none is below without one."""
        is_free = limit_bytes is not None and limit_bytes >= self.working_set_bytes
        if is_free or len(self.trace) > _MOST_BOUNDED_ROWS:
            limit_bytes = None
        if limit_bytes not in self._bounds:
            self._bounds[limit_bytes] = optimum(self.trace, limit_bytes, steps=_BOUND_STEPS).lower_bound_seconds
        return self._bounds[limit_bytes]


def _prediction(result: ReplayResult) -> Prediction:
    return Prediction(
        result.policy, result.limit_bytes, result.requests, result.hits, result.misses, result.evictions,
        result.compile_seconds, result.peak_bytes,
    )  # fmt: skip
