"""An aggregate -> suggestions: what the statistics of each setting say, and what comparing settings says."""

from collections import defaultdict
from statistics import fmean

from .._bytesize import format_size
from .._statistics import CacheStats
from .._suggest import WORTH_SECONDS, Suggestion, suggest
from .aggregate import Group, Program

_CLEAR_SHARE = 0.05  # a difference smaller than this is not called one
_SEEDS_FOR_A_CLAIM = 3


def advise(groups: tuple[Group, ...]) -> list[tuple[str, Suggestion]]:
    """Return suggestions with what they are about, comparisons first; empty if there is nothing to gain.

    Of a rule that fires for several settings of one program, the one with the most seconds to gain is kept.
    """
    found = [*_cheaper_policies(groups)]
    best: dict[tuple[Program, str], tuple[float, str, Suggestion]] = {}
    for group in groups:
        total = group.total()
        stats = CacheStats(limit_bytes=group.setting.memory_limit, **total.model_dump())
        for suggestion in suggest(stats, group.setting.eviction):
            key = (group.program, suggestion.rule)
            if key not in best or best[key][0] < total.repeated_cost_seconds:
                best[key] = (total.repeated_cost_seconds, _name(group), suggestion)
    ranked = sorted(best.values(), key=lambda item: -item[0])
    return found + [(name, suggestion) for _, name, suggestion in ranked]


def _name(group: Group) -> str:
    limit = "no limit" if group.setting.memory_limit is None else format_size(group.setting.memory_limit)
    seeds = len(group.results)
    runs = f", {seeds} seeds added up" if seeds > 1 else ""
    return f"{group.program.workload} ({group.program.shapes}), {group.setting.eviction} at {limit}{runs}"


def _cheaper_policies(groups: tuple[Group, ...]) -> list[tuple[str, Suggestion]]:
    rivals: dict[tuple[Program, int | None], list[Group]] = defaultdict(list)
    for group in groups:
        rivals[group.program, group.setting.memory_limit].append(group)
    found: list[tuple[float, str, Suggestion]] = []
    for (program, limit), members in rivals.items():
        compared = _cheaper_policy(members)
        if compared is not None:
            saved, suggestion = compared
            where = "without a limit" if limit is None else f"at {format_size(limit)}"
            found.append((saved, f"{program.workload} ({program.shapes}) {where}", suggestion))
    return [(name, suggestion) for _, name, suggestion in sorted(found, key=lambda item: -item[0])]


def _cheaper_policy(members: list[Group]) -> tuple[float, Suggestion] | None:
    """Compare the cheapest policy with the dearest, seed by seed: it must be cheaper for each."""
    if len(members) < 2:
        return None
    ranked = sorted(members, key=lambda group: fmean(group.seconds_by_seed.values()))
    best, worst = ranked[0].seconds_by_seed, ranked[-1].seconds_by_seed
    seeds = sorted(best.keys() & worst.keys())
    if not seeds:
        return None
    saved = [worst[seed] - best[seed] for seed in seeds]
    if min(saved) <= 0 or fmean(saved) < max(WORTH_SECONDS, _CLEAR_SHARE * fmean(worst[seed] for seed in seeds)):
        return None
    policy = ranked[0].setting.eviction
    table = ", ".join(f"{g.setting.eviction} {fmean(g.seconds_by_seed.values()):.1f} s" for g in ranked)
    if len(seeds) >= _SEEDS_FOR_A_CLAIM:
        sure = f"cheaper for each of {len(seeds)} seeds"
    else:
        sure = f"thin evidence, {len(seeds)} seed{'s' * (len(seeds) > 1)}: seed=0,1,2,3,4 would settle it"
    share = fmean(saved) / fmean(worst[seed] for seed in seeds)
    return fmean(saved), Suggestion(
        "cheaper policy",
        f"At this limit {policy} compiles least",
        f"reference compile seconds: {table}; {sure}",
        f"{fmean(saved):.1f} compile seconds ({share:.0%}) less than {ranked[-1].setting.eviction}",
        f"eviction={policy}",
        f'JitCache(eviction="{policy}")',
    )
