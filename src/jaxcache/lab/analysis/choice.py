"""One block of settings that share their cells -> the setting that they speak for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from .paired_tests import Comparison, Interval, compare, paired_interval, reverse
from .ranking import Block, limit_order
from .sweep import Group, Setting

_CLOSE = 0.05  # of what caching can save: a limit that loses no more than this is large enough


@dataclass(frozen=True)
class Choice:
    """The recommended setting of a block.

    No setting with its limit and its buckets took fewer compile seconds over the block's cells.

    Attributes:
        policies: Every pair of policies of the block, held against each other at equal limits and buckets.
        buckets: Every pair of bucket choices likewise, at equal policies and limits.
        lost_share: Of what a cache without a limit saves, the most that the setting loses on a program, where that is
            little enough for the limit to be called large enough; else None.
    """

    block: Block
    setting: Setting
    policies: tuple[Comparison, ...]
    buckets: tuple[Comparison, ...]
    lost_share: float | None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The trials of the setting, a group a program."""
        return self.block.by_setting[self.setting]

    @property
    def seconds(self) -> float:
        """Reference compile seconds of the setting."""
        return self.block.seconds[self.setting]

    @cached_property
    def rivals(self) -> list[Setting]:
        """The other settings at this limit with these buckets, the fewest seconds first."""
        here = self.block.at(self.setting.memory_limit, self.setting.buckets)
        return [setting for setting in here if setting != self.setting]

    @property
    def is_least(self) -> bool:
        """Whether no setting of the block took fewer seconds."""
        return self.seconds <= min(self.block.seconds.values())

    @property
    def is_least_with_running(self) -> bool:
        """Whether no setting of the block took fewer seconds of compiling and running together."""
        total = {
            setting: seconds + fmean(group.mean("run_seconds") for group in self.block.by_setting[setting])
            for setting, seconds in self.block.seconds.items()
        }
        return total[self.setting] <= min(total.values())

    @cached_property
    def against(self) -> list[Comparison]:
        """The policy held against each other one, told from its side."""
        return told_by(self.setting.eviction, self.policies)

    @property
    def claimed(self) -> bool:
        """Whether the policy was shown to take less than one tried at this limit, and none was shown to take less."""
        here = {setting.eviction for setting in self.rivals}
        shown = any(pair.verdict == "less" and pair.second in here for pair in self.against)
        return shown and all(pair.verdict != "more" for pair in self.against)

    def saved_over(self, rival: Setting) -> Interval:
        """Return the seconds saved over a setting of the block, with an interval where programs have the same seeds."""
        mean = self.block.seconds[rival] - self.seconds
        seeds = {group.seeds for group in self.groups}
        if len(seeds) > 1:
            return Interval(mean, None, None, len(set().union(*seeds)))
        pairs = zip(self.groups, self.block.by_setting[rival], strict=True)
        by_seed = defaultdict[int, list[float]](list)
        for mine, other in pairs:
            for seed, seconds in mine.seconds_by_seed.items():
                by_seed[seed].append(other.seconds_by_seed[seed] - seconds)
        return paired_interval([fmean(by_seed[seed]) for seed in sorted(by_seed)])


def choose(block: Block) -> Choice:
    """Return the setting to take: the smallest limit that loses little, else the fewest seconds."""
    buckets = _best_buckets(block)
    limit, lost_share = _best_limit(block, buckets)
    return Choice(
        block,
        block.at(limit, buckets)[0],
        tuple(compare(by_policy(block.groups))),
        tuple(compare(by_buckets(block.groups))),
        lost_share,
    )


def _best_buckets(block: Block) -> str:
    """Return the buckets with which compiling and running take least: padding costs in the running."""

    def total_seconds(name: str) -> float:
        settings = [setting for setting in block.by_setting if setting.buckets == name]
        # Running hardly depends on the policy and its limit: the mean over them is less noisy than that of the best.
        running = fmean(group.mean("run_seconds") for setting in settings for group in block.by_setting[setting])
        return min(block.seconds[setting] for setting in settings) + running

    return min(sorted({setting.buckets for setting in block.by_setting}), key=lambda name: (total_seconds(name), name))


def _best_limit(block: Block, buckets: str) -> tuple[int | None, float | None]:
    """Return the smallest limit that is large enough for all programs, or that of the fewest seconds, and its loss."""
    limits = sorted(
        {setting.memory_limit for setting in block.by_setting if setting.buckets == buckets}, key=limit_order
    )
    best = [block.at(limit, buckets)[0] for limit in limits]
    for setting in best:
        lost = [_lost_share(group) for group in block.by_setting[setting]]
        shares = [share for share in lost if share is not None]
        if len(shares) == len(lost) and max(shares) <= _CLOSE:
            return setting.memory_limit, max(0.0, *shares)
    return min(best, key=lambda setting: block.seconds[setting]).memory_limit, None


def _lost_share(group: Group) -> float | None:
    """Return which share of what caching can save this setting does not; None where that is not known."""
    frame = group.frame
    if frame is None or frame.uncached_seconds <= frame.unbounded_seconds:
        return None
    return (group.mean("cost_seconds") - frame.unbounded_seconds) / (frame.uncached_seconds - frame.unbounded_seconds)


def told_by(option: str, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons of an option with each other one, told from its side."""
    mine = [pair for pair in comparisons if option in (pair.first, pair.second)]
    return [pair if pair.first == option else reverse(pair) for pair in mine]


def by_policy(groups: Sequence[Group]) -> dict[str, dict[tuple[Any, int], float]]:
    """Return each policy's seconds by cell (what else is set) and seed."""
    return _measured(groups, lambda g: g.setting.eviction, lambda g: (g.program, g.setting[1:]))


def by_buckets(groups: Sequence[Group]) -> dict[str, dict[tuple[Any, int], float]]:
    """Return the seconds of each choice of buckets likewise, those of running included: padding costs there."""
    return _measured(
        groups, lambda g: g.setting.buckets, lambda g: (g.program, g.setting[:2]), lambda g: g.total_seconds_by_seed
    )


def baseline_of(groups: Sequence[Group]) -> str | None:
    """Return the policy that others are held against: ``lru`` where it was tried, else that with the most trials."""
    counted = Counter[str]()
    for group in groups:
        counted[group.setting.eviction] += len(group.results)
    if "lru" in counted or not counted:
        return "lru" if counted else None
    return max(sorted(counted), key=lambda name: counted[name])


def _measured(
    groups: Sequence[Group],
    option: Callable[[Group], str],
    cell: Callable[[Group], Any],
    seconds_of: Callable[[Group], dict[int, float]] = lambda group: group.seconds_by_seed,
) -> dict[str, dict[tuple[Any, int], float]]:
    measured: dict[str, dict[tuple[Any, int], float]] = defaultdict(dict)
    for group in groups:
        for seed, seconds in seconds_of(group).items():
            measured[option(group)][cell(group), seed] = seconds
    return {name: measured[name] for name in sorted(measured)}
