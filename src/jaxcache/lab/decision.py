"""An aggregate -> the answer: which policy, which limit, which buckets, what it saves, and how sure that is."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .._bytesize import format_size
from .aggregate import Group, Setting
from .comparison import Comparison, Interval, compare, leaders, paired_interval, reverse

_CLOSE = 0.05  # of what caching can save: a limit that loses no more than this is large enough


@dataclass(frozen=True)
class Decision:
    """What to choose, as far as the sweep carries it.

    Attributes:
        sentence: The answer.
        notes: How sure, and what would settle what is open; a sentence each.
        chosen: The groups of the recommended setting, one a program; empty if no trial succeeded.
        policies: Every pair of policies, held against each other over all cells.
        buckets: Every pair of bucket choices likewise.
        claimed: Whether the choice of the policy rests on a difference that was shown.
    """

    sentence: str
    notes: tuple[str, ...] = ()
    chosen: tuple[Group, ...] = ()
    policies: tuple[Comparison, ...] = ()
    buckets: tuple[Comparison, ...] = ()
    claimed: bool = False

    @property
    def setting(self) -> Setting | None:
        """The recommended setting."""
        return self.chosen[0].setting if self.chosen else None

    @property
    def override(self) -> str:
        """What to add to ``python -m flows.sweep`` for the recommended setting."""
        chosen = self.setting
        if chosen is None:
            return ""
        limit = "null" if chosen.memory_limit is None else format_size(chosen.memory_limit).replace(" ", "")
        buckets = f" buckets={chosen.buckets}" if chosen.buckets != "none" else ""
        return f"eviction={chosen.eviction.partition(' ')[0]} memory_limit={limit}{buckets}"

    @property
    def python(self) -> str:
        """The same in a program."""
        chosen = self.setting
        if chosen is None:
            return ""
        limit = "None" if chosen.memory_limit is None else f'"{format_size(chosen.memory_limit).replace(" ", "")}"'
        cache = f'jaxcache.JitCache({limit}, eviction="{chosen.eviction.partition(" ")[0]}")'
        courses = (result.course for group in self.chosen for result in group.results)
        lengths = next((course.buckets for course in courses if course is not None and course.buckets), None)
        return cache if lengths is None else f"jaxcache.bucketed(f, cache={cache}, buckets={lengths})"


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


def decide(groups: Sequence[Group]) -> Decision:
    """Return what the sweep says."""
    if not groups:
        return Decision("No trial succeeded, so there is nothing to choose from.")
    measured = by_policy(groups)
    policies, buckets = compare(measured), compare(by_buckets(groups))
    eviction = _lowest(measured, policies)
    equal = [name for name in measured if name != eviction and measured[name] == measured[eviction]]
    chosen_buckets = _lowest(by_buckets(groups), buckets)
    candidates = [g for g in groups if g.setting.eviction == eviction and g.setting.buckets == chosen_buckets]
    limit, limit_note = _limit(candidates or [g for g in groups if g.setting.eviction == eviction])
    at_limit = [g for g in candidates or groups if g.setting.memory_limit == limit]
    at_limit = [g for g in at_limit if g.setting == at_limit[0].setting]
    best = leaders(policies)
    claimed = eviction in best and any(one.verdict == "less" for one in _told_by(eviction, policies))
    alike = _alike(groups) if len(equal) == len(measured) - 1 > 0 else ""
    notes = [alike or _policy_note(eviction, policies, best), _buckets_note(chosen_buckets, buckets), limit_note]
    return Decision(
        sentence=_sentence(at_limit, groups, claimed, equal),
        notes=tuple(note for note in notes if note),
        chosen=tuple(at_limit),
        policies=tuple(policies),
        buckets=tuple(buckets),
        claimed=claimed,
    )


def _lowest(measured: dict[str, dict[tuple[Any, int], float]], comparisons: list[Comparison]) -> str:
    """Return the option with the lowest geometric mean of its ratios to the others, among those not beaten."""
    if not comparisons:
        return max(measured, key=lambda option: len(measured[option]))
    logs: dict[str, list[float]] = defaultdict(list)
    for one in comparisons:
        logs[one.first].append(one.ratio.mean)
        logs[one.second].append(1 / one.ratio.mean)
    standing = leaders(comparisons) or set(logs)
    return min(sorted(standing), key=lambda option: (round(fmean(logs[option]), 9), option != "lru"))  # the plainest


def _alike(groups: Sequence[Group]) -> str:
    """Say of policies that took the same seconds in every trial why, and what would tell them apart."""
    if any(group.mean("evictions") for group in groups):
        return "All policies took the same seconds in every trial: more seeds tell them apart hardly, other limits may."
    return "Nothing was evicted, so policies cannot differ: a smaller memory_limit would tell them apart."


def _excess(group: Group) -> float | None:
    """Return which share of what caching can save this setting does not."""
    frame = group.frame
    if frame is None or frame.uncached_seconds <= frame.unbounded_seconds:
        return None
    return (group.mean("cost_seconds") - frame.unbounded_seconds) / (frame.uncached_seconds - frame.unbounded_seconds)


def _limit(groups: Sequence[Group]) -> tuple[int | None, str]:
    """Return the smallest limit that is large enough for all programs, or the largest tried, and a word on it."""
    by_limit: dict[int | None, list[Group]] = defaultdict(list)
    for group in groups:
        by_limit[group.setting.memory_limit].append(group)
    ordered = sorted(by_limit, key=lambda limit: limit or float("inf"))
    if len(ordered) == 1:
        return ordered[0], "One limit was tried, so the sweep says nothing of others."
    for limit in ordered:
        excess = [_excess(group) for group in by_limit[limit]]
        known = [share for share in excess if share is not None]
        if known and max(known) <= _CLOSE:
            return limit, (
                f"With it all but {max(known):.0%} of what a cache without a limit saves is saved; a larger limit "
                "gains no more than that."
            )
    if any(group.frame is None for group in groups):
        return ordered[-1], "Without reference runs nothing says how much a larger limit would gain."
    return ordered[-1], "It is the largest limit tried, and compile seconds still fall there: try a larger one."


def _policy_note(eviction: str, comparisons: list[Comparison], best: set[str]) -> str:
    if not comparisons:
        return "One policy was tried, so the sweep says nothing of others."
    repeats = min(one.repeats for one in comparisons)
    needed = comparisons[0].repeats_needed
    if all(one.verdict == "too few repeats" for one in comparisons):
        seeds = ",".join(map(str, range(needed)))
        return (
            f"{eviction} took the fewest seconds, which is no claim: there {'are' if repeats > 1 else 'is'} {repeats} "
            f"repeat{'s' * (repeats > 1)}, and {needed} are needed before a difference can be shown; seed={seeds} "
            "would settle it."
        )
    mine = [
        one if one.first == eviction else reverse(one) for one in comparisons if eviction in (one.first, one.second)
    ]
    beaten = [one for one in mine if one.verdict == "less"]
    level = [one.second for one in mine if one.verdict == "no difference seen"]
    parts = [f"{eviction} takes {describe_ratio(one.ratio)} of the compile seconds of {one.second}" for one in beaten]
    said = "; ".join(parts) + f" (paired over {repeats} seeds, Holm's correction)." if parts else ""
    if level:
        said += (" " if said else "") + f"Between {eviction} and {_listed(level)} no difference was seen."
    return said


def _told_by(option: str, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons of an option with each other one, told from its side."""
    mine = [one for one in comparisons if option in (one.first, one.second)]
    return [one if one.first == option else reverse(one) for one in mine]


def _buckets_note(chosen: str, comparisons: list[Comparison]) -> str:
    if not comparisons:
        return ""
    mine = _told_by(chosen, comparisons)
    told = [f"{describe_ratio(one.ratio)} of {one.second} ({one.verdict})" for one in mine]
    return f"Buckets {chosen}: compiling and running take " + ", ".join(told) + "."


def describe_ratio(ratio: Interval) -> str:
    """Return ``0.82 (0.78–0.86)``."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.mean:.2f}"
    return f"{ratio.mean:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(at_limit: list[Group], groups: Sequence[Group], claimed: bool, equal: list[str]) -> str:
    chosen = at_limit[0].setting
    limit = "no limit" if chosen.memory_limit is None else f"a limit of {chosen.limit}"
    buckets = f", buckets {chosen.buckets}" if len({g.setting.buckets for g in groups}) > 1 else ""
    seconds = fmean(group.mean("cost_seconds") for group in at_limit)
    uncached = [group.frame.uncached_seconds for group in at_limit if group.frame]
    against = f" of the {fmean(uncached):.1f} that a compile at every call would take" if uncached else ""
    what = f"{chosen.eviction} with {limit}{buckets}"
    if len(groups) == 1:
        return f"One setting was tried, {what}: {seconds:.1f} compile seconds a run{against}."
    rival = baseline_of(groups)
    saved = _saved(at_limit, groups, rival) if rival != chosen.eviction else None
    if len({group.setting.eviction for group in groups}) == 1:
        lead = f"One policy was tried: {what}"
    elif claimed:
        lead = f"Take {what}"
    else:
        lead = f"No policy is shown to be better than the rest; {what} took the fewest seconds"
        lead += f", as did {_listed(equal)}" if equal else ""
    words = f"{lead}: {seconds:.1f} compile seconds a run{against}"
    if saved is not None and abs(saved.mean) >= 0.05:  # less would be written as 0.0
        sign = "less" if saved.mean >= 0 else "more"
        words += f", {abs(saved.mean):.1f} {sign} than {rival} at the same limit{_range(saved)}"
    return words + "."


def _saved(at_limit: list[Group], groups: Sequence[Group], rival: str | None) -> Interval | None:
    """Return the seconds saved over the rival at the same limit, a program, paired by seed."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for group in at_limit:
        same = group.setting._replace(eviction=rival or "")
        other = next((one for one in groups if (one.program, one.setting) == (group.program, same)), None)
        for seed, seconds in (other.seconds_by_seed if other else {}).items():
            if seed in group.seconds_by_seed:
                by_seed[seed].append(seconds - group.seconds_by_seed[seed])
    return paired_interval([fmean(one) for one in by_seed.values()]) if by_seed else None


def _range(saved: Interval) -> str:
    if saved.low is None or saved.high is None:
        return f" ({saved.repeats} repeat{'s' * (saved.repeats > 1)}: too few for an interval)"
    return f" ({saved.confidence:.0%} interval {saved.low:.1f} to {saved.high:.1f}, {saved.repeats} repeats)"
