"""An aggregate -> suggestions: what the statistics of each setting say, and what comparing settings says."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from .._bytesize import format_size
from .._statistics import CacheStats
from .._suggest import WORTH_SECONDS, Suggestion, suggest
from .aggregate import Group, Program

_CLEAR_SHARE = 0.05  # a difference smaller than this is not called one
_SEEDS_FOR_A_CLAIM = 3


def advise(groups: tuple[Group, ...]) -> list[tuple[str, Suggestion]]:
    """Return suggestions with what they are about, comparisons of policies first; empty if there is nothing to gain.

    Of a rule that fires for several settings of one program, the one with the most seconds to gain is kept.
    """
    found = [*_cheaper_policies(groups)]
    best: dict[tuple[Program, str], tuple[float, str, Suggestion]] = {}
    for group in groups:
        counted = group.worst
        stats = CacheStats(limit_bytes=group.setting.memory_limit, **counted.model_dump())
        for suggestion in suggest(stats, group.setting.eviction):
            key = (group.program, suggestion.rule)
            if key not in best or best[key][0] < counted.repeated_cost_seconds:
                best[key] = (counted.repeated_cost_seconds, _name(group), suggestion)
    ranked = sorted(best.values(), key=lambda item: -item[0])
    return found + [(name, suggestion) for _, name, suggestion in ranked]


def _name(group: Group) -> str:
    limit = "no limit" if group.setting.memory_limit is None else format_size(group.setting.memory_limit)
    seeds = len(group.results)
    runs = f", the dearest of {seeds} seeds" if seeds > 1 else ""
    return f"{group.program.workload} ({group.program.shapes}), {group.setting.eviction} at {limit}{runs}"


def _cheaper_policies(groups: tuple[Group, ...]) -> list[tuple[str, Suggestion]]:
    """Compare the policies at each limit; limits with the same winners are told together, most seconds first."""
    rivals: dict[tuple[Program, int | None, str], list[Group]] = defaultdict(list)
    for group in groups:
        rivals[group.program, group.setting.memory_limit, group.setting.buckets].append(group)
    found: dict[tuple[Program, tuple[str, ...]], list[_Comparison]] = defaultdict(list)
    for (program, limit, _), members in rivals.items():
        comparison = _compare(limit, members)
        if comparison is not None:
            found[program, comparison.winners].append(comparison)
    ranked = sorted(found.items(), key=lambda item: -max(one.saved_seconds for one in item[1]))
    return [(f"{p.workload} ({p.shapes})", _cheaper(winners, won)) for (p, winners), won in ranked]


@dataclass(frozen=True)
class _Comparison:
    """One limit's outcome.

    Attributes:
        winners: The cheapest policy, and those that are not clearly dearer.
        saved_seconds: Mean over the seeds, cheapest against dearest.
        table: Every policy's mean, cheapest first.
    """

    limit: int | None
    winners: tuple[str, ...]
    dearest: str
    saved_seconds: float
    share: float
    seeds: int
    table: str

    @property
    def where(self) -> str:
        """The limit, for people."""
        return "no limit" if self.limit is None else format_size(self.limit)


def _compare(limit: int | None, members: list[Group]) -> _Comparison | None:
    """Compare seed by seed: a policy is clearly dearer if it is so for each seed, and by a share worth a name."""
    ranked = sorted(members, key=lambda group: fmean(group.seconds_by_seed.values()))
    best = ranked[0].seconds_by_seed

    def saved(group: Group) -> list[float]:
        return [seconds - best[seed] for seed, seconds in group.seconds_by_seed.items() if seed in best]

    def clearly_dearer(group: Group) -> bool:
        differences = saved(group)
        return bool(differences) and min(differences) > 0 and fmean(differences) > _CLEAR_SHARE * fmean(best.values())

    winners = tuple(group.setting.eviction for group in ranked if not clearly_dearer(group))
    dearest = ranked[-1]
    if dearest.setting.eviction in winners or fmean(saved(dearest)) < WORTH_SECONDS:
        return None
    return _Comparison(
        limit=limit,
        winners=winners,
        dearest=dearest.setting.eviction,
        saved_seconds=fmean(saved(dearest)),
        share=fmean(saved(dearest)) / fmean(dearest.seconds_by_seed.values()),
        seeds=len(saved(dearest)),
        table=", ".join(f"{g.setting.eviction} {fmean(g.seconds_by_seed.values()):.1f} s" for g in ranked),
    )


def _cheaper(winners: tuple[str, ...], won: list[_Comparison]) -> Suggestion:
    first, *also = winners
    seeds = min(one.seeds for one in won)
    if seeds >= _SEEDS_FOR_A_CLAIM:
        sure = f"so for each of {seeds} seeds"
    else:
        sure = f"thin evidence from {seeds} seed{'s' * (seeds > 1)}, seed=0,1,2,3,4 would settle it"
    best = max(won, key=lambda one: one.saved_seconds)
    no_worse = f" ({', '.join(also)}: no clear difference)" if also else ""
    return Suggestion(
        "cheaper policy",
        f"At {', '.join(one.where for one in won)} {first} compiles least{no_worse}",
        "reference compile seconds: " + "; ".join(f"at {one.where} {one.table}" for one in won) + f"; {sure}",
        f"up to {best.saved_seconds:.1f} compile seconds ({best.share:.0%}) less than {best.dearest}, at {best.where}",
        f"eviction={first}",
        f'JitCache(eviction="{first}")',
    )
