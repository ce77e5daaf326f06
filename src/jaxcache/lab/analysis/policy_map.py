"""The map of a sweep: compile seconds of every policy at every limit, replayed from the recorded requests.

Trials stand on it as marks. A replay makes a trial's own decisions, so the two are equal to the last digit unless the
requests themselves vary from run to run; then the map is not trusted, and the measured trials are.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from ... import POLICIES
from ..result import TrialResult
from .recorded import Prediction, RecordedProgram
from .sweep import Program, Sweep

_SMALLEST_BYTES = 256 * 1024
_MOST_LIMITS = 20
_ROUNDING = 1e-6  # seconds over seconds: sums of the same numbers in another order
_DIGITS = 9

# Nominal seconds a request: small traces are replayed by the cache's own objects, long ones by compiled kernels.
_LONG_TRACE = 1000
_OBJECT_SECONDS = 6e-6
_KERNEL_SECONDS = {"adaptive": 10e-6, "lnc_ra": 2e-6}
_CHEAP_KERNEL_SECONDS = 0.2e-6
_BOUND_SECONDS = 0.02  # of one trace at one limit
_BUDGET_SECONDS = 4.0
_ALWAYS = ("lru", "gdsf")
NOT_TO_TAKE = frozenset({"none"})  # it keeps what came first: a policy to compare with, not to choose


class Check(NamedTuple):
    """A measured trial beside its prediction."""

    result: TrialResult
    prediction: Prediction

    @property
    def is_equal(self) -> bool:
        """Whether misses, hits, evictions and reference compile seconds are the same."""
        measured, predicted = self.result.statistics, self.prediction
        if measured is None:
            return False
        counts = (measured.misses, measured.hits, measured.evictions)
        return counts == (predicted.misses, predicted.hits, predicted.evictions) and math.isclose(
            measured.cost_seconds, predicted.compile_seconds, rel_tol=_ROUNDING, abs_tol=_ROUNDING
        )


@dataclass(frozen=True)
class ProgramMap:
    """Every policy over the limits, of one program with one choice of buckets: means over the seeds replayed.

    Attributes:
        program: Named as its groups are.
        buckets: Named as in settings.
        recorded: By seed, those that were replayed.
        left_out_seeds: Seeds that have a trace but were not replayed, for the time that takes.
        policies: Of the map, in the order of ``jaxcache.POLICIES``.
        limits_bytes: Of the whole sweep, ascending.
        checks: The measured trials that were held against their prediction.
        unchecked: Measured trials that were not, for the time that takes.
        run_seconds: What the requests take without compiling, measured in the reference runs; None where unknown.
    """

    program: Program
    buckets: str
    recorded: Mapping[int, RecordedProgram]
    left_out_seeds: int
    policies: tuple[str, ...]
    limits_bytes: tuple[int, ...]
    checks: tuple[Check, ...]
    unchecked: int = 0
    run_seconds: float | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds replayed, ascending."""
        return tuple(self.recorded)

    @property
    def is_trusted(self) -> bool:
        """Whether every measured trial equals its prediction."""
        return all(check.is_equal for check in self.checks)

    @cached_property
    def working_set_bytes(self) -> int:
        """The limit from which on no seed evicts."""
        return max(recording.working_set_bytes for recording in self.recorded.values())

    @property
    def mean_bytes(self) -> float:
        """The working set, mean over the seeds."""
        return fmean(recording.working_set_bytes for recording in self.recorded.values())

    @cached_property
    def unlimited_seconds(self) -> float:
        """Each signature compiled once and nothing freed, as under ``jax.jit`` itself."""
        return _mean(recording.unlimited_seconds for recording in self.recorded.values())

    @cached_property
    def uncached_seconds(self) -> float:
        """Every call compiled."""
        return _mean(recording.uncached_seconds for recording in self.recorded.values())

    @cached_property
    def own_limits(self) -> tuple[int, ...]:
        """The limits from the smallest signature to the first that holds all of them."""
        least = min(recording.smallest_bytes for recording in self.recorded.values())
        enough = next((limit for limit in self.limits_bytes if limit >= self.working_set_bytes), None)
        return tuple(
            limit for limit in self.limits_bytes if limit >= least and (enough is None or limit <= enough)
        ) or self.limits_bytes[-1:]  # fmt: skip

    def predictions(self, policy: str, limit_bytes: int | None) -> dict[int, Prediction]:
        """Return the replay of each seed."""
        return {seed: recording.predict(policy, limit_bytes, seed) for seed, recording in self.recorded.items()}

    def seconds(self, policy: str, limit_bytes: int | None) -> float:
        """Return the mean compile seconds of a policy at a limit."""
        if limit_bytes is None or limit_bytes >= self.working_set_bytes:
            return self.unlimited_seconds
        return _mean(prediction.compile_seconds for prediction in self.predictions(policy, limit_bytes).values())

    def bound_seconds(self, limit_bytes: int | None) -> float:
        """Return the mean certified bound at a limit."""
        return _mean(recording.bound_seconds(limit_bytes) for recording in self.recorded.values())

    def best(self, limit_bytes: int | None) -> str:
        """Return the policy to take with the fewest seconds at a limit; ties go to lru, the simplest."""
        policies = [name for name in self.policies if name not in NOT_TO_TAKE]
        return min(policies, key=lambda name: (self.seconds(name, limit_bytes), name != "lru", name))


def _mean(values: Iterator[float]) -> float:
    return round(fmean(values), _DIGITS)


def draw_maps(sweep: Sweep) -> tuple[ProgramMap, ...]:
    """Return the map of each program and choice of buckets that has a trace; empty if none has."""
    variants: dict[tuple[Program, str], dict[int, str]] = defaultdict(dict)
    trials: dict[tuple[Program, str], list[TrialResult]] = defaultdict(list)
    for result in sweep.results:
        if result.program_id in sweep.recorded and len(sweep.recorded[result.program_id].trace):
            variant = (sweep.programs[result.program_id], sweep.setting_of(result).buckets)
            variants[variant][result.config.seed] = result.program_id
            trials[variant].append(result)
    if not variants:
        return ()
    recorded = {variant: {seed: sweep.recorded[ids[seed]] for seed in sorted(ids)} for variant, ids in variants.items()}
    tried = {result.config.memory_limit for each in trials.values() for result in each}
    run = {result.config.eviction.name for each in trials.values() for result in each}
    extent = _Extent.within_budget(recorded, tried, run)
    maps: list[ProgramMap] = []
    for variant, recording in sorted(recorded.items()):
        kept = dict(itertools.islice(recording.items(), extent.seeds))
        done = [result for result in trials[variant] if result.statistics is not None]
        checked = _affordable(done, recording)
        run_seconds = [
            sweep.references[ids].run_seconds for ids in variants[variant].values() if ids in sweep.references
        ]
        maps.append(ProgramMap(
            *variant, recorded=kept, left_out_seeds=len(recording) - len(kept), policies=extent.policies,
            limits_bytes=extent.limits_bytes,
            checks=tuple(Check(result, _predicted(result, recording)) for result in checked),
            unchecked=len(done) - len(checked),
            run_seconds=fmean(run_seconds) if run_seconds and all(run_seconds) else None,
        ))  # fmt: skip
    return tuple(maps)


def _predicted(result: TrialResult, recording: Mapping[int, RecordedProgram]) -> Prediction:
    config = result.config
    return recording[config.seed].predict(config.eviction.name, config.memory_limit, config.seed)


def _affordable(done: Sequence[TrialResult], recording: Mapping[int, RecordedProgram]) -> list[TrialResult]:
    """Return the first trials that can be replayed within the budget; all of a usual sweep."""
    left, kept = _BUDGET_SECONDS, []
    for result in done:
        left -= _nominal_seconds(result.config.eviction.name, len(recording[result.config.seed].trace))
        if left < 0:
            break
        kept.append(result)
    return kept


def _nominal_seconds(policy: str, rows: int) -> float:
    return rows * (_OBJECT_SECONDS if rows <= _LONG_TRACE else _KERNEL_SECONDS.get(policy, _CHEAP_KERNEL_SECONDS))


@dataclass(frozen=True)
class _Extent:
    """Policies, limits and seeds of a map: all of them, or as many as the budget allows.

    The budget is counted and not timed, so that a report that is made twice is the same.
    """

    policies: tuple[str, ...]
    limits_bytes: tuple[int, ...]
    seeds: int

    @classmethod
    def within_budget(
        cls,
        recorded: Mapping[tuple[Program, str], Mapping[int, RecordedProgram]],
        tried: Collection[int | None],
        run: Collection[str],
    ) -> "_Extent":
        programs = [recording for each in recorded.values() for recording in each.values()]
        limits = limits_between(
            min(recording.smallest_bytes for recording in programs),
            max(recording.working_set_bytes for recording in programs),
        )
        fewer = tuple(name for name in POLICIES if name in run or name not in _KERNEL_SECONDS)
        fewest = tuple(name for name in POLICIES if name in run or name in _ALWAYS)
        most_seeds = max(len(each) for each in recorded.values())
        tried_limits = sorted(limit for limit in tried if limit is not None)
        for policies, seeds, every in itertools.product(
            (tuple(POLICIES), fewer, fewest), range(most_seeds, 0, -1), (1, 2)
        ):
            extent = cls(policies, tuple(sorted({*limits[::-1][::every], *tried_limits[:_MOST_LIMITS]})), seeds)
            if extent._seconds(recorded) <= _BUDGET_SECONDS:
                return extent
        return cls(fewest, tuple(sorted({*limits[::-1][::2], *tried_limits[:1]})), 1)

    def _seconds(self, recorded: Mapping[tuple[Program, str], Mapping[int, RecordedProgram]]) -> float:
        rows = [
            len(recording.trace)
            for each in recorded.values()
            for recording in itertools.islice(each.values(), self.seeds)
        ]
        replays = sum(_nominal_seconds(name, count) for name in self.policies for count in rows)
        return len(self.limits_bytes) * (replays + _BOUND_SECONDS * len(rows))


def limits_between(smallest_bytes: int, working_set_bytes: int) -> list[int]:
    """Return limits that people would type, from the smallest signature to all: 1, 1.5, 2, 3, 4, 6 … MiB."""
    steps = [int(_SMALLEST_BYTES * 2**power * factor) for power in range(40) for factor in (1, 1.5)]
    first = max(0, next(number for number, step in enumerate(steps) if step >= smallest_bytes) - 1)
    last = next(number for number, step in enumerate(steps) if step >= working_set_bytes)
    limits = steps[first : last + 1]
    while len(limits) > _MOST_LIMITS:
        limits = limits[::-1][::2][::-1]
    return limits


def by_program(maps: Sequence[ProgramMap]) -> dict[Program, list[ProgramMap]]:
    """Return the maps of each program, one a choice of buckets."""
    programs: dict[Program, list[ProgramMap]] = defaultdict(list)
    for program_map in maps:
        programs[program_map.program].append(program_map)
    return programs
