"""Rules that need trial and reference beside the statistics of one cache: scans, and one oversized entry."""

from ... import format_size
from ..._advice.suggestion import WORTH_SECONDS, Suggestion
from ..._advice.suggestions import limit_for
from ..._calls.misses import REPEAT_CAUSES
from ..result import TrialResult
from .sweep import Group

_RESISTS_SCANS = frozenset({"gdsf_admit", "lnc_ra", "s3fifo", "sieve"})
_ONCE_SHARE = 0.5  # of the lengths
_FEW_LENGTHS = 20
_GIANT_SHARE = 0.3  # of the limit
_GIANT_TIMES = 5  # the median


def scan_pollution(group: Group, result: TrialResult) -> Suggestion | None:
    """Lengths asked for once push out those that come back, which on their own would fit the limit."""
    stats, course, frame, limit = result.statistics, result.course, group.frame, group.setting.memory_limit
    if stats is None or course is None or frame is None or limit is None or group.setting.eviction in _RESISTS_SCANS:
        return None
    once = sum(count == 1 for count in course.lengths.values())
    distinct = len(course.lengths)
    again_bytes = int(frame.unbounded_bytes * (distinct - once) / distinct) if distinct else 0
    polluted = distinct >= _FEW_LENGTHS and once >= _ONCE_SHARE * distinct and again_bytes <= limit
    if not polluted or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    repeats = sum(stats.misses_by_cause.get(cause, 0) for cause in REPEAT_CAUSES)
    return Suggestion(
        "scan pollution",
        "Programs that are called once push out those that come back: take gdsf_admit, which admits with care",
        f"{once} of {distinct} lengths were asked for once; the others weigh about {format_size(again_bytes)}, which "
        f"fits {format_size(limit)}, and yet {repeats} misses were for what had been compiled before",
        f"at most {stats.repeated_cost_seconds:.1f} of {stats.cost_seconds:.1f} compile seconds saved",
        "eviction=gdsf_admit",
        'JitCache(eviction="gdsf_admit")',
        stats.repeated_cost_seconds,
    )


def giant_entry(group: Group, result: TrialResult) -> Suggestion | None:
    """One program takes much of the limit, and many small ones go to make room for it."""
    stats, frame, limit = result.statistics, group.frame, group.setting.memory_limit
    if stats is None or frame is None or limit is None or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    if frame.largest_bytes < max(_GIANT_SHARE * limit, _GIANT_TIMES * frame.median_bytes):
        return None
    needed = limit_for(limit + frame.largest_bytes)
    name = frame.largest.partition("(")[0]
    return Suggestion(
        "giant entry",
        f"One program, {frame.largest}, is as large as many others together: give {name} a cache of its own, or raise "
        "the limit",
        f"it weighs {format_size(frame.largest_bytes)}, {frame.largest_bytes / limit:.0%} of the limit, the median "
        f"program {format_size(int(frame.median_bytes))}",
        f"at most {stats.repeated_cost_seconds:.1f} of {stats.cost_seconds:.1f} compile seconds saved",
        f"memory_limit={needed}",
        f'JitCache(limit="{needed}"), or {name} = JitCache(None).jit({name})',
        stats.repeated_cost_seconds,
    )
