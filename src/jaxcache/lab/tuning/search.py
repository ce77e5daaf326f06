"""Search for the best setting of one program: replay its recordings with every policy at every limit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ... import Curves, ReplayResult, Trace, curves, limits_of

_CLOSE = 1.02  # settings within this ratio count as equally fast, and the smaller is chosen
HEADROOM = 1.1  # a recommended limit over what the replay needed


@dataclass(frozen=True)
class Recording:
    """Unbounded run of the program with one set of buckets.

    Attributes:
        buckets: Name of the set of buckets.
        trace: Requests of the run.
        run_seconds: Time of the requests without compiling, with the padding.
    """

    buckets: str
    trace: Trace
    run_seconds: float


@dataclass(frozen=True)
class Candidate:
    """Setting with its replay.

    Attributes:
        buckets: Name of the set of buckets.
        replayed: Replay of the policy at the limit.
        bound_seconds: Lower bound of any policy's compile seconds with these buckets at this limit.
        run_seconds: Run time of the recording with these buckets.
    """

    buckets: str
    replayed: ReplayResult
    bound_seconds: float
    run_seconds: float

    @property
    def setting(self) -> tuple[str, str, int]:
        """Buckets, policy and limit, which identify the candidate across searches."""
        return (self.buckets, self.replayed.policy, self.limit_bytes)

    @property
    def limit_bytes(self) -> int:
        """Memory limit of the setting."""
        return self.replayed.limit_bytes or 0

    @property
    def total_seconds(self) -> float:
        """Seconds of compiling and running together."""
        return self.replayed.compile_seconds + self.run_seconds

    @property
    def over_bound(self) -> float:
        """Compile seconds divided by the bound; 1 where both are 0."""
        compiled = self.replayed.compile_seconds
        return 1.0 if compiled == self.bound_seconds else compiled / max(self.bound_seconds, 1e-12)


@dataclass(frozen=True)
class Tuning:
    """Replays of all settings, ranked.

    Attributes:
        recordings: One recording for each set of buckets.
        curves: Curves of each recording, by the name of its buckets.
        candidates: All settings.
        ranked: Best policy of each set of buckets at its limit, the recommended setting first.
        has_headroom: Whether the recommended limit exceeds what the replay needed by a tenth, since none was given.
    """

    recordings: tuple[Recording, ...]
    curves: dict[str, Curves]
    candidates: tuple[Candidate, ...]
    ranked: tuple[Candidate, ...]
    has_headroom: bool = False

    @property
    def best(self) -> Candidate:
        """Recommended setting."""
        return self.ranked[0]

    def contenders(self, count: int) -> list[Candidate]:
        """Return ``count`` settings worth a real run: the ranked, then the next policies at the recommended limit."""
        condition, ranked = (self.best.buckets, self.best.limit_bytes), {each.setting for each in self.ranked}
        rivals = [each for each in self.candidates if (each.buckets, each.limit_bytes) == condition]
        rivals = sorted((each for each in rivals if each.setting not in ranked), key=lambda each: each.total_seconds)
        return [*self.ranked, *rivals][:count]

    def front(self) -> list[Candidate]:
        """Return the settings that no other beats in both seconds and bytes, by bytes."""
        front: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda each: (each.replayed.peak_bytes, each.total_seconds)):
            if not front or candidate.total_seconds < front[-1].total_seconds:
                front.append(candidate)
        return front


def search(
    recordings: Sequence[Recording],
    policies: Sequence[str] | None = None,
    limits: Sequence[int | str] | None = None,
    memory_limit: int | None = None,
    seed: int = 0,
    present_limit: int | None = None,
) -> Tuning:
    """Replay every policy at every limit on every recording, and rank the settings.

    Where no limit is given, the recommended one is the knee of its curve and a tenth more: the next run may hold a
    little more than the recorded one, and a limit just below what is needed costs many times as much. Whoever has a
    larger limit today may use it: up to that, the least seconds decide.

    Args:
        recordings: One recording for each set of buckets, that without padding first.
        policies: Names of policies; all if None.
        limits: Bytes, or text such as ``"8MiB"``; if None, ten limits, from the size of the first recording's largest
            program to that of all together.
        memory_limit: The limit to choose for, in bytes; None for the knee of each recording's curve.
        seed: Seed of policies that draw random numbers.
        present_limit: The limit that the program has today, in bytes; None if it has none. Looked at where neither
            ``limits`` nor ``memory_limit`` says what to look at.

    Raises:
        ValueError: If the trace is empty, or a limit or a policy is invalid.
    """
    if not recordings or not len(recordings[0].trace):
        raise ValueError("the trace must have at least one request, but is empty")
    tried = [memory_limit] if memory_limit is not None else list(limits or limits_of(recordings[0].trace).tolist())
    replayed = {each.buckets: curves(each.trace, policies, tried, seed=seed) for each in recordings}
    candidates = [candidate for each in recordings for candidate in _candidates(each, replayed[each.buckets])]
    ranked = [_best_at_knee(each, replayed[each.buckets], candidates) for each in recordings]
    if is_free := memory_limit is None and not limits:
        for number, recording in enumerate(recordings):
            wider = [_with_headroom(_needed(ranked[number].replayed))]
            if present_limit is not None:
                all_of_it = _with_headroom(recording.trace.working_set_bytes)
                wider += [present_limit, *([all_of_it] if all_of_it < present_limit else [])]
            at_wider = list(_candidates(recording, curves(recording.trace, policies, wider, seed=seed)))
            candidates += at_wider
            ranked[number] = _least(at_wider)
    least = min(each.total_seconds for each in ranked)
    ranked.sort(key=lambda each: (max(each.total_seconds, _CLOSE * least), each.limit_bytes))
    has_headroom = is_free and ranked[0].limit_bytes != present_limit
    return Tuning(tuple(recordings), replayed, tuple(candidates), tuple(ranked), has_headroom)


def _needed(replayed: ReplayResult) -> int:
    """Return the bytes of a limit that a replay needed."""
    fits = not replayed.evictions and not replayed.rejected
    return replayed.peak_bytes if fits else replayed.limit_bytes or 0


def _with_headroom(size_bytes: int) -> int:
    """Return a tenth more, rounded up to some two digits."""
    roomy = HEADROOM * size_bytes
    step = 1 << max(0, int(roomy).bit_length() - 6)
    return math.ceil(roomy / step) * step


def _least(candidates: Sequence[Candidate]) -> Candidate:
    """Return the smallest limit among those that are about as fast as the fastest, with its best policy."""
    enough = _CLOSE * min(each.total_seconds for each in candidates)
    close = [each for each in candidates if each.total_seconds <= enough]
    return min(close, key=lambda each: (each.limit_bytes, each.replayed.compile_seconds))


def _candidates(recording: Recording, replayed: Curves) -> Iterator[Candidate]:
    for results in replayed.results.values():
        for result, bound in zip(results, replayed.bounds, strict=True):
            yield Candidate(recording.buckets, result, bound.lower_bound_seconds, recording.run_seconds)


def _best_at_knee(recording: Recording, replayed: Curves, candidates: Sequence[Candidate]) -> Candidate:
    """Return the best policy of a recording at the limit beyond which more bytes save little."""
    knee = replayed.knee_bytes() if len(replayed.limits_bytes) > 2 else int(replayed.limits_bytes[-1])
    at_knee = [each for each in candidates if each.buckets == recording.buckets and each.limit_bytes == knee]
    return min(at_knee, key=lambda each: each.replayed.compile_seconds)
