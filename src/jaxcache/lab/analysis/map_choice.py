"""The choice that the map carries: which limit, which buckets, which policy, over all programs of a sweep.

The largest lever comes first: limit, then buckets, then policy. Seconds are means over the programs; a limit is one
that was replayed for all of them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from ... import find_knee
from ..trial import Trial
from .blocks import Blocks, find_blocks
from .choice import told_by
from .other_seeds import OtherSeeds, find_other_seeds
from .paired_tests import Comparison, compare
from .policy_map import NOT_TO_TAKE, ProgramMap, by_program
from .ranking import limit_order
from .sweep import Group, Program, Setting, Sweep

CLOSE = 1.05  # times the seconds of no limit: a limit that stays within it is large enough
_MOST_OF_ALL = 0.9  # of the working set: a limit above it bounds little
NEAR = "within 5 % of no limit"
_MOST_CANDIDATES = 6
_MOST_ASKED = 4


class Point(NamedTuple):
    """One policy at one limit, over all programs.

    Attributes:
        reason: Why the limit is of interest: ``asked for``, ``knee``, ``within 5 % of no limit``, ``no limit``.
        seconds: Compile seconds a run, replayed.
        baseline_seconds: The same of the baseline policy.
        bound_seconds: What no policy is below at this limit.
        against: The policy held against the baseline over seeds, or blocks, that were replayed; None where that
            cannot be.
        measured_seconds: What trials of this very setting took; None where none ran for all programs.
    """

    limit_bytes: int | None
    reason: str
    policy: str
    seconds: float
    baseline_seconds: float
    bound_seconds: float
    against: Comparison | None
    measured_seconds: float | None


@dataclass(frozen=True)
class Joint:
    """The maps of all programs for one choice of buckets, read together."""

    buckets: str
    maps: tuple[ProgramMap, ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies replayed."""
        return self.maps[0].policies

    @cached_property
    def limits_bytes(self) -> tuple[int, ...]:
        """The limits at which some program evicts, and the first at which none does; ascending."""
        return tuple(sorted({limit for program_map in self.maps for limit in program_map.own_limits}))

    def seconds(self, policy: str, limit_bytes: int | None) -> float:
        """Return the mean over the programs."""
        return fmean(program_map.seconds(policy, limit_bytes) for program_map in self.maps)

    def bound_seconds(self, limit_bytes: int | None) -> float:
        """Return the mean over the programs of what no policy is below."""
        return fmean(program_map.bound_seconds(limit_bytes) for program_map in self.maps)

    @property
    def unlimited_seconds(self) -> float:
        """With no limit, as under ``jax.jit`` itself: each signature compiled once."""
        return fmean(program_map.unlimited_seconds for program_map in self.maps)

    @property
    def uncached_seconds(self) -> float:
        """Every call compiled."""
        return fmean(program_map.uncached_seconds for program_map in self.maps)

    @property
    def working_set_bytes(self) -> int:
        """What the program with most to hold would hold without a limit."""
        return max(program_map.working_set_bytes for program_map in self.maps)

    @property
    def run_seconds(self) -> float | None:
        """What requests take besides compiling; None where that is not known of all programs."""
        run_seconds = [program_map.run_seconds for program_map in self.maps if program_map.run_seconds is not None]
        return fmean(run_seconds) if len(run_seconds) == len(self.maps) else None

    def ranked(self, limit_bytes: int | None) -> list[str]:
        """Return the policies to take at a limit, the fewest seconds first; ties go to lru, the simplest."""
        policies = [name for name in self.policies if name not in NOT_TO_TAKE]
        return sorted(policies, key=lambda name: (self.seconds(name, limit_bytes), name != "lru", name))

    @cached_property
    def least(self) -> dict[int, float]:
        """The seconds of the best policy at each limit."""
        return {limit: self.seconds(self.ranked(limit)[0], limit) for limit in self.limits_bytes}

    @cached_property
    def knee_bytes(self) -> int:
        """The limit beyond which more bytes save little."""
        return find_knee(self.limits_bytes, [self.least[limit] for limit in self.limits_bytes])

    @cached_property
    def close_bytes(self) -> int:
        """The smallest limit replayed at which the best policy is within ``CLOSE`` of no limit."""
        close = (limit for limit in self.limits_bytes if self.is_close(self.ranked(limit)[0], limit))
        return next(close, self.limits_bytes[-1])

    def recommended_bytes(self, wanted_limits: Collection[int | None]) -> int:
        """Return the limit to take: close to no limit; if that is most of the working set, the knee, or what was asked.

        Args:
            wanted_limits: Those that were run: what people have the memory for, none of which is lowered at a loss.
        """
        has_room = any(limit_order(limit) >= self.close_bytes for limit in wanted_limits)
        if has_room or self.close_bytes <= _MOST_OF_ALL * self.working_set_bytes:
            return self.close_bytes
        within = [limit for limit in wanted_limits if limit is not None and limit < self.working_set_bytes]
        return max([self.knee_bytes, *within])

    def is_close(self, policy: str, limit_bytes: int | None) -> bool:
        """Return whether a policy at a limit is within ``CLOSE`` of no limit."""
        return self.seconds(policy, limit_bytes) <= CLOSE * self.unlimited_seconds


class BucketsCost(NamedTuple):
    """Seconds of a run with one choice of buckets, over all programs: padding saves compiling and costs in the running.

    Attributes:
        buckets: Named as in settings.
        compile_seconds: Of the best policy at the limit to take with these buckets, replayed.
        run_seconds: What requests take besides compiling, measured; None where that is not known of all programs.
    """

    buckets: str
    compile_seconds: float
    run_seconds: float | None


@dataclass(frozen=True)
class MapChoice:
    """The setting to take by the map, and the points beside it that a reader asks for.

    Attributes:
        joint: Of the chosen buckets.
        others: The maps of other buckets that all programs were run with.
        costs: Of the chosen buckets, and of the others after them.
        buckets_apart: Other buckets, that some programs alone were run with.
        point: The setting to take.
        points: One a limit of interest, ascending.
        baseline: The policy that others are held against.
        best_run: The setting with the fewest seconds of those that ran with the chosen buckets for all programs and
            seeds; None if none did.
        best_run_seconds: Its seconds, measured.
        settings_run: How many settings ran with the chosen buckets for all programs and seeds.
        settings_tried: How many with these buckets have a successful trial at all.
        other_seeds: By program, the seeds that were replayed without being run; empty where that cannot be.
        blocks: Of the recordings, where there are no other seeds.
    """

    joint: Joint
    others: tuple[Joint, ...]
    costs: tuple[BucketsCost, ...]
    buckets_apart: tuple[str, ...]
    point: Point
    points: tuple[Point, ...]
    baseline: str
    best_run: Setting | None
    best_run_seconds: float | None
    settings_run: int
    settings_tried: int
    other_seeds: Mapping[Program, OtherSeeds]
    blocks: Blocks

    @property
    def setting(self) -> Setting:
        """The setting to take."""
        return Setting(self.point.policy, self.point.limit_bytes, self.joint.buckets)


def choose_from_map(sweep: Sweep, maps: Sequence[ProgramMap]) -> MapChoice | None:
    """Return the choice that trusted maps carry; None without trials or maps, or where a map is not to be trusted."""
    if not sweep.groups or not maps or not all(program_map.is_trusted for program_map in maps):
        return None
    joints = _joints(maps, {group.setting.buckets for group in sweep.groups})
    if not joints:
        return None
    wanted_limits = {group.setting.memory_limit for group in sweep.groups}
    costs = sorted((_cost_of(each, wanted_limits) for each in joints), key=_by_total(joints))
    joint = next(each for each in joints if each.buckets == costs[0].buckets)
    mapped = {program_map.program for program_map in maps}
    if any(group.program not in mapped for group in sweep.groups):
        return None
    tried = [setting for setting in dict.fromkeys(g.setting for g in sweep.groups) if setting.buckets == joint.buckets]
    baseline = "lru" if "lru" in joint.policies else joint.policies[0]
    trials = trials_by_program(sweep, joint.buckets)
    other_seeds = _other_seeds(joint, trials)
    blocks = Blocks() if other_seeds else find_blocks(joint.maps)
    measured = _measured(sweep.groups, joint)
    chooser = _Chooser(joint, baseline, {setting.eviction for setting in tried}, other_seeds, blocks, measured)
    limit = joint.recommended_bytes(wanted_limits)
    reasons = _limits_of_interest(joint, tried, limit)
    points = tuple(chooser.point(limit, reason) for limit, reason in reasons.items())
    recommended = next(point for point in points if point.limit_bytes == limit)
    best_run = min(measured, key=lambda run: _order_of(run, measured[run]), default=None)
    return MapChoice(
        joint=joint,
        others=tuple(each for each in joints if each is not joint),
        costs=tuple(costs),
        buckets_apart=tuple(sorted({group.setting.buckets for group in sweep.groups} - {c.buckets for c in costs})),
        point=recommended,
        points=points,
        baseline=baseline,
        best_run=best_run,
        best_run_seconds=None if best_run is None else measured[best_run],
        settings_run=len(measured),
        settings_tried=len(tried),
        other_seeds=other_seeds,
        blocks=blocks,
    )


def _joints(maps: Sequence[ProgramMap], succeeded: Collection[str]) -> list[Joint]:
    """Return the maps of each choice of buckets that every program has, and with which some trial succeeded."""
    programs = by_program(maps)
    names = dict.fromkeys(program_map.buckets for program_map in maps if program_map.buckets in succeeded)
    variants = {name: [program_map for program_map in maps if program_map.buckets == name] for name in names}
    return [Joint(name, tuple(each)) for name, each in variants.items() if len(each) == len(programs)]


def _cost_of(joint: Joint, wanted_limits: Collection[int | None]) -> BucketsCost:
    limit = joint.recommended_bytes(wanted_limits)
    return BucketsCost(joint.buckets, joint.seconds(joint.ranked(limit)[0], limit), joint.run_seconds)


def _by_total(joints: Sequence[Joint]) -> Callable[[BucketsCost], tuple[float, str]]:
    """Return a key that sorts by compiling and running together, or where running is not known of all by compiling."""
    has_running = all(joint.run_seconds is not None for joint in joints)
    return lambda cost: (cost.compile_seconds + ((cost.run_seconds or 0.0) if has_running else 0.0), cost.buckets)


def _limits_of_interest(joint: Joint, tried: Sequence[Setting], recommended: int) -> dict[int | None, str]:
    """Return limits that a reader asks for, ascending, with the reasons."""
    reasons: dict[int | None, list[str]] = {}
    wanted_limits = sorted({setting.memory_limit for setting in tried if setting.memory_limit is not None})
    for limit in (
        wanted_limits if len(wanted_limits) <= _MOST_ASKED else [*wanted_limits[: _MOST_ASKED - 1], wanted_limits[-1]]
    ):
        reasons.setdefault(limit, []).append("asked for")
    if joint.knee_bytes != joint.limits_bytes[-1]:
        reasons.setdefault(joint.knee_bytes, []).append("knee")
    if joint.close_bytes < joint.working_set_bytes:
        reasons.setdefault(joint.close_bytes, []).append(NEAR)
    elif recommended == joint.close_bytes:
        reasons.setdefault(recommended, []).append("holds all programs")
    reasons.setdefault(recommended, [])
    reasons[None] = ["no limit"]
    return {limit: ", ".join(reasons[limit]) for limit in sorted(reasons, key=limit_order)}


def trials_by_program(sweep: Sweep, buckets: str) -> dict[Program, dict[int, Trial]]:
    """Return a trial of each program and seed that was run with these buckets."""
    trials: dict[Program, dict[int, Trial]] = {}
    for result in sweep.results:
        if sweep.setting_of(result).buckets == buckets:
            trials.setdefault(sweep.programs[result.program_id], {})[result.config.seed] = result.config
    return trials


def _other_seeds(joint: Joint, trials: Mapping[Program, Mapping[int, Trial]]) -> dict[Program, OtherSeeds]:
    """Return the other seeds of every program; of none, if one of them has none."""
    found_seeds = {
        program_map.program: find_other_seeds(trials[program_map.program], program_map.recorded)
        for program_map in joint.maps
    }
    ready = {program: seeds for program, seeds in found_seeds.items() if seeds is not None}
    return ready if len(ready) == len(found_seeds) else {}


def _measured(groups: Sequence[Group], joint: Joint) -> dict[Setting, float]:
    """Return the measured seconds of the settings that ran for every program and seed of the map."""
    by_setting: dict[Setting, dict[Program, Group]] = {}
    for group in groups:
        if group.setting.buckets == joint.buckets:
            by_setting.setdefault(group.setting, {})[group.program] = group
    whole = {program_map.program: program_map.seeds for program_map in joint.maps}
    return {
        setting: fmean(group.mean("cost_seconds") for group in mine.values())
        for setting, mine in by_setting.items()
        if {program: group.seeds for program, group in mine.items()} == whole
    }


def _order_of(setting: Setting, seconds: float) -> tuple[float, float, bool, str]:
    """Return a key that sorts settings: fewer seconds, then a smaller limit, then lru, the simplest."""
    return (round(seconds, 9), limit_order(setting.memory_limit), setting.eviction != "lru", setting.eviction)


@dataclass(frozen=True)
class _Chooser:
    """Chooses the policy at a limit: by seeds or blocks replayed where there are some, else by the map itself."""

    joint: Joint
    baseline: str
    run: Collection[str]
    other_seeds: Mapping[Program, OtherSeeds]
    blocks: Blocks
    measured: Mapping[Setting, float]

    def point(self, limit_bytes: int | None, reason: str) -> Point:
        joint = self.joint
        policy, against = self._choose(limit_bytes, reason)
        measured = self.measured.get(Setting(policy, limit_bytes, joint.buckets))
        return Point(
            limit_bytes, reason, policy, joint.seconds(policy, limit_bytes), joint.seconds(self.baseline, limit_bytes),
            joint.bound_seconds(limit_bytes), against, measured,
        )  # fmt: skip

    def _choose(self, limit_bytes: int | None, reason: str) -> tuple[str, Comparison | None]:
        """Return the policy to take at a limit, and how it compares with the baseline over what else was replayed."""
        joint = self.joint
        if limit_bytes is None or limit_bytes >= joint.working_set_bytes:
            return joint.ranked(limit_bytes)[0], None
        if not (self.other_seeds or self.blocks.recordings):
            return joint.ranked(limit_bytes)[0], None
        candidates = self._candidates(limit_bytes)
        seconds = self._over_seeds(candidates, limit_bytes)
        # A point that is said to be near no limit has a policy that is, on the recorded seeds too.
        mean = {
            name: fmean(seconds[name].values()) if seconds else joint.seconds(name, limit_bytes) for name in candidates
            if NEAR not in reason or joint.is_close(name, limit_bytes)
        }  # fmt: skip
        ranked = sorted(mean, key=lambda name: (round(mean[name], 9), name != self.baseline, name))
        if ranked[0] == self.baseline:
            return self.baseline, None
        held = sorted({*mean, self.baseline})
        compared = (
            compare({name: seconds[name] for name in held}) if seconds else self.blocks.compare(held, limit_bytes)
        )
        against = {name: self._against_baseline(name, compared) for name in ranked}
        first = against[ranked[0]]
        if first is None or self.baseline not in mean:
            return ranked[0], first
        for name, pair in against.items():
            if pair is not None and pair.verdict == "less":
                return name, pair
        return self.baseline, first  # what was not shown to be better is no reason to leave what people know

    def _against_baseline(self, policy: str, compared: Sequence[Comparison]) -> Comparison | None:
        """Return how a policy compares with the baseline, among comparisons of all candidates."""
        return next((pair for pair in told_by(policy, compared) if pair.second == self.baseline), None)

    def _candidates(self, limit_bytes: int) -> list[str]:
        """Return the policies worth a look at a limit."""
        ranked = self.joint.ranked(limit_bytes)
        wanted = {self.baseline, *self.run} & set(ranked)
        more = [name for name in ranked if name not in wanted][: max(2, _MOST_CANDIDATES - len(wanted))]
        return sorted({*wanted, *more})

    def _over_seeds(self, policies: Sequence[str], limit_bytes: int) -> dict[str, dict[tuple[Program, int], float]]:
        """Return the seconds of policies by program and seed; empty where no other seeds can be replayed."""
        return {
            name: {
                (program, seed): recording.predict(name, limit_bytes, seed).compile_seconds
                for program, each in self.other_seeds.items()
                for seed, recording in each.programs.items()
            }
            for name in policies if self.other_seeds
        }  # fmt: skip
