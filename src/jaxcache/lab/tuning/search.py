"""From recordings of one program to a setting: replay every policy at every limit, weigh buckets, choose."""

from collections.abc import Sequence
from dataclasses import dataclass

from ... import Curves, ReplayResult, Trace, curves, limits_of

_CLOSE = 1.02  # settings within this ratio are as good, and the smaller one is taken


@dataclass(frozen=True)
class Recording:
    """One unbounded run of the program.

    Attributes:
        buckets: Name of the set that it was padded to.
        trace: Its requests.
        run_seconds: Of the requests, compiling left out; with the padding.
    """

    buckets: str
    trace: Trace
    run_seconds: float


@dataclass(frozen=True)
class Candidate:
    """A setting, and what the replay says of it.

    Attributes:
        bound_seconds: The fewest compile seconds of any policy with these buckets at this limit.
        run_seconds: Of the recording with these buckets.
    """

    buckets: str
    replayed: ReplayResult
    bound_seconds: float
    run_seconds: float

    @property
    def setting(self) -> tuple[str, str, int]:
        """Buckets, policy and limit: candidates with equal ones are the same, whoever replayed them."""
        return (self.buckets, self.replayed.policy, self.limit_bytes)

    @property
    def limit_bytes(self) -> int:
        """The limit."""
        return self.replayed.limit_bytes or 0

    @property
    def total_seconds(self) -> float:
        """Compiling and running."""
        return self.replayed.compile_seconds + self.run_seconds

    @property
    def over_bound(self) -> float:
        """Compile seconds over the bound; 1 where both are 0."""
        compiled = self.replayed.compile_seconds
        return 1.0 if compiled == self.bound_seconds else compiled / max(self.bound_seconds, 1e-12)


@dataclass(frozen=True)
class Tuning:
    """Every setting that was replayed, and the one to take.

    Attributes:
        recordings: One a set of buckets.
        curves: By name of the buckets.
        candidates: All settings.
        ranked: The best policy of each set of buckets at its limit, the recommended one first.
    """

    recordings: tuple[Recording, ...]
    curves: dict[str, Curves]
    candidates: tuple[Candidate, ...]
    ranked: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        """The recommended setting."""
        return self.ranked[0]

    def contenders(self, count: int) -> list[Candidate]:
        """Return so many settings worth a real run: those ranked, then the next policies at the recommended limit."""
        best, ranked = self.best, {one.setting for one in self.ranked}
        rivals = [one for one in self.candidates if (one.buckets, one.limit_bytes) == (best.buckets, best.limit_bytes)]
        rivals = sorted((one for one in rivals if one.setting not in ranked), key=lambda one: one.total_seconds)
        return [*self.ranked, *rivals][:count]

    def front(self) -> list[Candidate]:
        """Return the settings that no other beats in both seconds and bytes, by bytes."""
        kept: list[Candidate] = []
        for one in sorted(self.candidates, key=lambda one: (one.replayed.peak_bytes, one.total_seconds)):
            if not kept or one.total_seconds < kept[-1].total_seconds:
                kept.append(one)
        return kept


def tune(
    recordings: Sequence[Recording],
    policies: Sequence[str] | None = None,
    limits: Sequence[int | str] | None = None,
    memory_limit: int | None = None,
    seed: int = 0,
) -> Tuning:
    """Replay every policy at every limit on every recording, and choose.

    Args:
        recordings: One a set of buckets, the one without padding first.
        policies: Names; all if None.
        limits: Bytes, or text such as ``"8MiB"``; if None, ten from the largest program of the first recording to all.
        memory_limit: The limit to choose for, in bytes; None for the knee of each recording's curve.
        seed: Of policies that draw.

    Raises:
        ValueError: If there is nothing to replay, or a limit or a policy is none.
    """
    if not recordings or not len(recordings[0].trace):
        raise ValueError("the trace must have at least one request, but is empty")
    tried = [memory_limit] if memory_limit is not None else list(limits or limits_of(recordings[0].trace).tolist())
    drawn = {one.buckets: curves(one.trace, policies, tried, seed=seed) for one in recordings}
    candidates = tuple(
        Candidate(one.buckets, replayed, drawn[one.buckets].bounds[number].lower_bound_seconds, one.run_seconds)
        for one in recordings
        for each in drawn[one.buckets].results.values()
        for number, replayed in enumerate(each)
    )
    ranked = [_at_the_knee(drawn[one.buckets], one, candidates) for one in recordings]
    least = min(one.total_seconds for one in ranked)
    ranked.sort(key=lambda one: (max(one.total_seconds, _CLOSE * least), one.limit_bytes))
    return Tuning(tuple(recordings), drawn, candidates, tuple(ranked))


def _at_the_knee(drawn: Curves, recording: Recording, candidates: Sequence[Candidate]) -> Candidate:
    """Return the best policy of a recording at the limit beyond which more bytes save little."""
    knee = drawn.knee_bytes() if len(drawn.limits_bytes) > 2 else int(drawn.limits_bytes[-1])
    here = [one for one in candidates if one.buckets == recording.buckets and one.limit_bytes == knee]
    return min(here, key=lambda one: one.replayed.compile_seconds)
