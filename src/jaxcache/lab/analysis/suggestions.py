"""An aggregate -> suggestions: what the best setting still loses, and which policy is cheaper.

Only the setting that is best for a program is asked what it loses: what a sweep shows to be worse needs no advice.
Where the sweep has tried what a suggestion says, the effect is what was measured; a suggestion that did not help is
left out.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from ... import format_size, parse_size
from ..._advice.suggestion import WORTH_SECONDS, Suggestion, merge
from ..._advice.suggestions import Thresholds, all_suggestions
from ..counted import counted
from ..result import TrialResult
from .answer import describe_ratio
from .choice import by_policy, told_by
from .paired_tests import LEVEL, Comparison, Interval, compare, correct, paired_interval
from .pathologies import giant_entry, scan_pollution
from .ranking import find_blocks
from .sweep import Group, Program

_ALL_WRITTEN = Thresholds(in_use=True, min_compile_seconds=0.0, min_entry_bytes=-1)  # as trials set it


@dataclass(frozen=True)
class Advice:
    """A suggestion in its place.

    Attributes:
        about: The program and the setting.
        expected: The effect, with its interval.
        checked: How that is known.
        saved_seconds: Compile seconds of a run, by which advice is ranked.
        basis: Whether the effect was counted, which is at most what is saved, measured, or replayed.
    """

    about: str
    suggestion: Suggestion
    expected: str
    checked: str
    saved_seconds: float
    basis: Literal["counted", "measured", "replayed"] = "counted"


def advise(groups: Sequence[Group]) -> list[Advice]:
    """Return what to change, most seconds first; empty if there is nothing to gain."""
    advice = _cheaper_policies(groups)
    programs: dict[Program, list[Group]] = defaultdict(list)
    for group in groups:
        programs[group.program].append(group)
    for members in programs.values():
        advice += _of_setting(_best_of(members), members)
    return sorted(advice, key=lambda each: -each.saved_seconds)


def _best_of(members: list[Group]) -> Group:
    """Return the group with the fewest seconds on the seeds that settings share; the one with most where none do."""
    block = next(iter(find_blocks(members)), None)
    if block is None:
        return max(members, key=lambda group: len(group.results))
    best = min(block.seconds, key=lambda setting: block.seconds[setting])
    return next(group for group in members if group.setting == best)


def _of_setting(group: Group, rivals: list[Group]) -> list[Advice]:
    """Return what the rules say of a setting: those that fire for more than half of its seeds."""
    fired: dict[str, list[Suggestion]] = defaultdict(list)
    for result in group.results:
        for suggestion in (
            suggestion for suggestion in _rules(group, result) if not _is_set(group, suggestion.override)
        ):
            fired[suggestion.override or f"{suggestion.rule} {suggestion.title}"].append(suggestion)
    advice: list[Advice] = []
    for same in fired.values():
        by_rule: dict[str, list[Suggestion]] = defaultdict(list)
        for suggestion in same:
            by_rule[suggestion.rule].append(suggestion)
        often = [suggestions for suggestions in by_rule.values() if 2 * len(suggestions) > len(group.results)]
        if often:
            advice += _weigh(group, rivals, often)
    return advice


def _rules(group: Group, result: TrialResult) -> list[Suggestion]:
    if result.statistics is None:
        return []
    stats = result.statistics.counted(group.setting.memory_limit)
    pathologies = [scan_pollution(group, result), giant_entry(group, result)]
    thresholds = replace(_ALL_WRITTEN, in_use=not group.program.persistent.startswith("off"))
    found = [each for each in pathologies if each is not None]
    found += all_suggestions(stats, group.setting.eviction, thresholds)
    if len(group.results) == 1:
        return found
    return [replace(each, evidence=f"with seed {result.config.seed}, {each.evidence}") for each in found]


def _weigh(group: Group, rivals: list[Group], often: list[list[Suggestion]]) -> list[Advice]:
    """Return the advice of rules that suggest one and the same; none if the sweep shows that it does not help."""
    first = merge([suggestions[0] for suggestions in often])
    about = f"{group.program.label}, {group.setting.label}"
    tried = _tried(group, rivals, first.override)
    if tried is not None:
        saved = [s - tried.seconds_by_seed[seed] for seed, s in group.seconds_by_seed.items()
                 if seed in tried.seconds_by_seed]  # fmt: skip
        if fmean(saved) < WORTH_SECONDS:
            return []
        interval = paired_interval(saved)
        checked = f"measured in this sweep: {tried.setting.label} against {group.setting.label}, paired by seed"
        return [
            Advice(
                about,
                first,
                f"{describe_seconds(interval)} compile seconds a run saved",
                checked,
                interval.mean,
                "measured",
            )
        ]
    spared = [suggestion.saved_seconds for suggestion in max(often, key=len)]
    return [Advice(
        about, first, f"at most {max(spared):.1f} compile seconds a run saved",
        "counted, not tried and not replayed: the misses it could spare took "
        f"{_span(spared)} s in {counted(len(spared), 'seed')}",
        fmean(spared),
    )]  # fmt: skip


def _span(seconds: Sequence[float]) -> str:
    least, most = f"{min(seconds):.1f}", f"{max(seconds):.1f}"
    return most if least == most else f"{least} to {most}"


def _is_set(group: Group, override: str) -> bool:
    """Return whether a setting is already what an override says, or more than that."""
    key, _, value = override.partition("=")
    if key == "memory_limit":
        return group.setting.memory_limit is None or parse_size(value, key) <= group.setting.memory_limit
    return key in group.setting._fields and value == getattr(group.setting, key)


def _tried(group: Group, rivals: list[Group], override: str) -> Group | None:
    """Return the group of the sweep that did what an override says, all else equal."""
    key, _, value = override.partition("=")
    for rival in rivals:
        same = rival.setting._replace(**{key: getattr(group.setting, key)}) if key in rival.setting._fields else None
        if same != group.setting or rival is group or not set(rival.seeds) & set(group.seeds):
            continue
        mine = getattr(rival.setting, key)
        if mine == (parse_size(value, key) if key == "memory_limit" else value):
            return rival
    return None


def describe_seconds(interval: Interval) -> str:
    """Return ``9.8 (8.1 to 11.4)``, or why there is no interval."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.1f} ({counted(interval.repeats, 'repeat')}, too few for an interval)"
    return f"{interval.mean:.1f} ({interval.confidence:.0%} interval {interval.low:.1f} to {interval.high:.1f})"


def _cheaper_policies(groups: Sequence[Group]) -> list[Advice]:
    """Return, for each program, the policy that takes least: where it was shown, over all pairs of all programs."""
    programs: dict[Program, list[Group]] = defaultdict(list)
    for group in groups:
        programs[group.program].append(group)
    pairs = [(program, pair) for program, members in programs.items() for pair in compare(by_policy(members))]
    corrected = correct([pair for _, pair in pairs])
    by_program: dict[Program, list[Comparison]] = defaultdict(list)
    for (program, _), pair in zip(pairs, corrected, strict=True):
        by_program[program].append(pair)
    cheaper = [_cheaper(program, programs[program], pairs_of) for program, pairs_of in by_program.items()]
    return [pair for pair in cheaper if pair is not None]


def _is_no_worse(pair: Comparison) -> bool:
    """Return whether the first option took no more than the second, in ratio and in seconds."""
    return pair.ratio.mean <= 1 and pair.saved_seconds.mean >= 0


def _cheaper(program: Program, members: list[Group], comparisons: list[Comparison]) -> Advice | None:
    """Return the policy that was shown to take less than another, and that nothing was seen to take less than."""
    policies = {group.setting.eviction for group in members}
    against = {name: told_by(name, comparisons) for name in policies}
    shown = {name: [pair for pair in pairs_of if pair.verdict == "less"] for name, pairs_of in against.items()}
    best = min(
        (name for name in sorted(policies) if shown[name] and all(_is_no_worse(pair) for pair in against[name])),
        key=lambda name: min(pair.ratio.mean for pair in shown[name]), default=None,
    )  # fmt: skip
    if best is None:
        return None
    mine = shown[best]
    dearest = max(mine, key=lambda pair: pair.saved_seconds.mean)
    if dearest.saved_seconds.mean < WORTH_SECONDS:
        return None
    also = sorted(pair.second for pair in against[best] if pair.verdict == "no difference seen")
    no_worse = f" ({', '.join(also)}: no difference seen)" if also else ""
    least = len(against[best]) == len(policies) - 1
    claim = "compiles least" if least else f"compiles less than {', '.join(sorted(pair.second for pair in mine))}"
    limits = sorted({g.setting.memory_limit for g in members}, key=lambda limit: limit or float("inf"))
    where = ", ".join("no limit" if limit is None else format_size(limit) for limit in limits)
    ratio = "; ".join(f"{describe_ratio(pair.ratio)} of {pair.second}" for pair in mine)
    missing = sum(pair.missing for pair in mine)
    suggestion = Suggestion(
        "cheaper policy",
        f"{best} {claim}{no_worse}",
        f"reference compile seconds over the limits tried ({where}): {ratio}"
        + (f"; {counted(missing, 'pair')} without one of the two trials" if missing else ""),
        f"{describe_seconds(dearest.saved_seconds)} compile seconds less than {dearest.second}",
        f"eviction={best}",
        f'JitCache(eviction="{best}")',
        dearest.saved_seconds.mean,
    )
    checked = (
        f"exact sign-flip test over {dearest.repeats} seeds, paired within limit and seed, Holm's correction for "
        f"{len(comparisons)} pairs here and those of other programs, {LEVEL:.0%}"
    )
    return Advice(program.label, suggestion, suggestion.effect, checked, dearest.saved_seconds.mean, "measured")
