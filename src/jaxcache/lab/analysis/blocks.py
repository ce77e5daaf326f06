"""Recordings put together anew out of their own blocks, where nobody can draw the requests of another seed.

A block bootstrap for a user's program: stretches of the recording, a tenth of it each, are drawn with replacement, put
one after another and replayed. The order within a block stays, and with it what a policy lives on (H. R. Künsch, The
jackknife and the bootstrap for general stationary observations, Ann. Statist. 17, 1989; blocks wrap around the end, as
in D. N. Politis and J. P. Romano, A circular block-resampling procedure for stationary data, 1992).

It assumes that the program behaves alike throughout the recording, and that what depends on each other lies within a
block. Of a short recording, and of one whose halves ask for different signatures, nothing is said. Blocks are replayed,
and not the outcomes of one replay drawn again: those depend on all that was requested before, so that intervals made
from them are too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ... import Trace
from ..counted import counted
from .paired_tests import LEVEL, Comparison, Interval, holm
from .policy_map import ProgramMap
from .recorded import RecordedProgram

BLOCKS = 10  # of a recording
FEWEST_REQUESTS = 200
_RESAMPLES = 30
_MOST_ROWS = 1_000_000  # of all resamples together: more take longer to replay than a report may
_LEAST_SECONDS = 1e-6
_MOST_NEW = 0.5  # of the second half's requests
_FAR = 3.0  # standard deviations, from which on two halves are called different


@dataclass(frozen=True)
class Blocks:
    """Recordings and what was put together out of their blocks.

    Attributes:
        recordings: Each recording, and its resamples.
        reason: Why blocks say nothing; empty if they do.
    """

    recordings: tuple[tuple[RecordedProgram, tuple[RecordedProgram, ...]], ...] = ()
    reason: str = ""

    def compare(self, policies: Sequence[str], limit_bytes: int | None) -> list[Comparison]:
        """Compare each pair of policies at a limit, as one family of tests."""
        seconds = {name: self._seconds(name, limit_bytes) for name in policies}
        pairs = [_pair(first, second, seconds, len(self.recordings)) for first, second in combinations(policies, 2)]
        adjusted = holm([pair.p_value for pair in pairs])
        return [replace(pair, adjusted=p_value) for pair, p_value in zip(pairs, adjusted, strict=True)]

    def _seconds(self, policy: str, limit_bytes: int | None) -> NDArray[np.float64]:
        """Return the compile seconds of each recording as it is, then of its resamples: [recordings, 1 + resamples]."""
        return np.array([
            [each.predict(policy, limit_bytes, seed=0).compile_seconds for each in (recording, *resamples)]
            for recording, resamples in self.recordings
        ])  # fmt: skip


def _pair(first: str, second: str, seconds: Mapping[str, NDArray[np.float64]], recordings: int) -> Comparison:
    """Return a comparison whose interval is the recordings' own ratio, give or take what the resamples vary by.

    Student's t has one degree of freedom less than there are blocks, which tell no more, however many are drawn.
    """
    a, b = seconds[first], seconds[second]
    logs = np.log(np.maximum(a, _LEAST_SECONDS) / np.maximum(b, _LEAST_SECONDS)).mean(axis=0)
    ratio, p_value = _interval(logs, recordings)
    saved, _ = _interval((b - a).mean(axis=0), recordings)
    ratio = replace(ratio, **{name: math.exp(getattr(ratio, name)) for name in ("mean", "low", "high")})
    return Comparison(first, second, ratio, saved, 0, p_value, p_value, repeats_needed=1)


def _interval(values: NDArray[np.float64], recordings: int) -> tuple[Interval, float]:
    """Return the interval of the first value, by the spread of the others, and the p-value of its being zero."""
    from scipy.special import stdtr, stdtrit  # a tenth of what a report imports, and most have no blocks

    mean, spread = float(values[0]), float(values[1:].std(ddof=1))
    reach = float(stdtrit(BLOCKS - 1, 1 - LEVEL / 2)) * spread
    p_value = 2 * float(stdtr(BLOCKS - 1, -abs(mean) / spread)) if spread else float(mean == 0)
    return Interval(mean, mean - reach, mean + reach, BLOCKS * recordings), p_value


def find_blocks(maps: Sequence[ProgramMap]) -> Blocks:
    """Return the blocks of all recordings of the maps; of none, with the reason, if one of them cannot be cut up."""
    recordings = [recording for program_map in maps for recording in program_map.recorded.values()]
    traces = [recording.trace for recording in recordings]
    shortest = min(len(trace) for trace in traces)
    if shortest < FEWEST_REQUESTS:
        return Blocks(
            reason=f"a recording of {counted(shortest, 'request')} is too short, {FEWEST_REQUESTS} are needed"
        )
    if _RESAMPLES * sum(map(len, traces)) > _MOST_ROWS:
        return Blocks(reason="recordings as long as these would take long to replay in blocks")
    if any(trace.events.any() for trace in traces):
        return Blocks(reason="a recording has programs that were made ahead or cleared, which blocks would tear apart")
    resampled = [(recording, _resamples(recording)) for recording in recordings]
    if any(changes(recording, resamples) for recording, resamples in resampled):
        return Blocks(
            reason="what a recording asks for changes on the way, so that its parts do not stand for the whole"
        )
    return Blocks(tuple(resampled))


def _resamples(recording: RecordedProgram) -> tuple[RecordedProgram, ...]:
    """Return what is put together out of a recording's blocks; the same each time, and kept with its replays."""
    trace, draw = recording.trace, np.random.default_rng(0)
    length = -(-len(trace) // BLOCKS)
    starts = draw.integers(len(trace), size=(_RESAMPLES, BLOCKS))
    rows = (starts[:, :, None] + np.arange(length)) % len(trace)
    for number, each in enumerate(rows.reshape(_RESAMPLES, -1)[:, : len(trace)]):
        if ("blocks", number) not in recording.derived:
            recording.derived["blocks", number] = RecordedProgram(Trace(
                trace.signatures[each], trace.labels, trace.size_bytes, trace.compile_seconds, trace.mappings,
                trace.events, trace.mappings_limit,
            ))  # fmt: skip
    return tuple(recording.derived["blocks", number] for number in range(_RESAMPLES))


def changes(recording: RecordedProgram, resamples: Sequence[RecordedProgram]) -> bool:
    """Return whether the second half of a recording is unlike the first.

    It is if most of its requests are for what the first half never asked for, or if the halves differ far more than
    those of the resamples do, in which order is chance.
    """
    first, second = _halves(recording.trace)
    if second[first == 0].sum() > _MOST_NEW:
        return True
    usual = [_distance(each.trace) for each in resamples]
    return _distance(recording.trace) > fmean(usual) + _FAR * float(np.std(usual, ddof=1))


def _distance(trace: Trace) -> float:
    """Return the distance in total variation of what the halves of a trace ask for."""
    first, second = _halves(trace)
    return float(np.abs(first - second).sum()) / 2


def _halves(trace: Trace) -> list[NDArray[np.float64]]:
    """Return the share of each signature in the requests of either half."""
    middle, count = len(trace) // 2, len(trace.labels)
    halves = (trace.signatures[:middle], trace.signatures[middle:])
    return [np.bincount(half, minlength=count) / len(half) for half in halves]
