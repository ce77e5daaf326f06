"""Rows that every form of the report shows, the sweep in a sentence, and the conditions it ran under."""

import shlex
from collections.abc import Sequence

from ... import format_size
from ..analysis.answer import describe_programs
from ..analysis.sweep import Group, Program, Sweep
from ..counted import counted
from ..result import TrialResult
from .commands import command_like

GROUP_COLUMNS = (
    "workload", "shapes", "precision", "disk", "buckets", "limit", "eviction", "seeds", "hit rate", "misses",
    "disk hits", "evictions", "reference compile s", "over bound", "no limit", "every call compiled",
    "spent compiling s", "saved by hits s", "saved by disk s", "running s", "padding", "held at end",
    "peak memory", "calls/s", "p50 ms", "p99 ms",
)  # fmt: skip
TRIAL_COLUMNS = (
    "trial", "status", "hit rate", "misses", "disk hits", "compiled", "evictions", "reference compile s",
    "spent compiling s", "held at end", "limit", "peak memory", "calls/s", "p50 ms", "p99 ms", "device", "id",
)  # fmt: skip


def group_row(group: Group) -> tuple[str, ...]:
    """Return a group's cells in the order of ``GROUP_COLUMNS``: means over its seeds."""
    frame = group.frame
    return (
        group.program.workload,
        group.program.shapes,
        group.program.precision,
        group.program.persistent,
        group.setting.buckets,
        limit(group.setting.memory_limit),
        group.setting.eviction,
        str(len(group.results)),
        f"{group.mean('hit_rate'):.1%}",
        f"{group.mean('misses'):.0f}",
        f"{group.mean('disk_hits'):.0f}",
        f"{group.mean('evictions'):.0f}",
        f"{group.mean('cost_seconds'):.2f}",
        f"{group.mean('cost_seconds') / group.bound_seconds:.2f}" if group.bound_seconds else "–",
        f"{frame.unbounded_seconds:.2f}" if frame else "–",
        f"{frame.uncached_seconds:.2f}" if frame else "–",
        f"{group.mean('compile_seconds'):.2f}",
        f"{group.mean('compile_seconds_avoided'):.2f}",
        f"{group.mean('disk_saved_seconds'):.2f}",
        f"{group.mean('run_seconds'):.2f}",
        f"{group.mean('padding'):.0%}",
        format_size(group.mean("live_bytes")),
        format_size(group.mean("peak_rss_bytes")),
        f"{group.mean('calls_per_second'):.1f}",
        f"{1000 * group.mean('p50_seconds'):.1f}",
        f"{1000 * group.mean('p99_seconds'):.0f}",
    )


def trial_row(result: TrialResult) -> tuple[str, ...]:
    """Return a trial's cells in the order of ``TRIAL_COLUMNS``."""
    stats, timing, memory = result.statistics, result.timing, result.memory
    if stats is None or timing is None or memory is None:
        gap = ("–",) * (len(TRIAL_COLUMNS) - 4)
        return (result.label, result.status, *gap, result.device or "–", result.trial_id)
    return (
        result.label,
        result.status,
        f"{stats.hit_rate:.1%}",
        str(stats.misses),
        str(stats.disk_hits),
        str(stats.compiled),
        str(stats.evictions),
        f"{stats.cost_seconds:.2f}",
        f"{stats.compile_seconds:.2f}",
        format_size(stats.live_bytes),
        limit(result.config.memory_limit),
        format_size(memory.peak_rss_bytes),
        f"{timing.calls_per_second:.1f}",
        f"{1000 * timing.p50_seconds:.1f}",
        f"{1000 * timing.p99_seconds:.0f}",
        result.device or "–",
        result.trial_id,
    )


def limit(limit_bytes: int | None) -> str:
    """Return a limit as a cell."""
    return "none" if limit_bytes is None else format_size(limit_bytes)


def headline(sweep: Sweep) -> str:
    """Return how the sweep went, in a sentence."""
    done = len(sweep.results) - len(sweep.failed)
    planned = len(sweep.manifest.order) if sweep.manifest else len(sweep.results)
    parts = [f"{done:,} of {counted(planned, 'trial')} succeeded"]
    if sweep.failed:
        whole = f" (all of {describe_programs(sweep.failed_programs)})" if done and sweep.failed_programs else ""
        parts.append(f"{len(sweep.failed)} failed{whole}")
    damaged = len(sweep.damaged)
    if damaged:
        parts.append(f"{damaged} ha{'ve' if damaged > 1 else 's'} a damaged result")
    if planned > len(sweep.results) + damaged:
        parts.append(f"{planned - len(sweep.results) - damaged} did not run")
    return ", ".join(parts)


def damaged_results(sweep: Sweep) -> list[str]:
    """Return what to do about results that cannot be used; nothing if there are none."""
    if not sweep.damaged:
        return []
    directory = shlex.quote(str(sweep.directory))
    command = command_like(sweep.manifest and sweep.manifest.command, "sweep")
    return [f"Trials with a damaged result count as not run; {command} sweep.resume={directory} runs them again."]


def unequal_seeds(groups: Sequence[Group]) -> str:
    """Return a word of warning where settings of a program have not run the same seeds; else nothing."""
    seeds: dict[Program, set[tuple[int, ...]]] = {}
    for group in groups:
        seeds.setdefault(group.program, set()).add(group.seeds)
    if all(len(each) == 1 for each in seeds.values()):
        return ""
    return ", which are not the same for all settings: such rows cannot be compared"


def conditions(sweep: Sweep) -> list[str]:
    """Return under which conditions it ran, a line each."""
    lines: list[str] = []
    if sweep.manifest:
        lines.append(f"persistent cache: {', '.join(sweep.manifest.persistent)}")
        lines.append("the trials ran in a shuffled order, which sweep.json records")
        if sweep.manifest.wall_seconds is not None:
            lines.append(f"the trials took {sweep.manifest.wall_seconds:.1f} s, without planning and reporting")
    for seen in list({result.environment.model_dump_json(): result.environment for result in sweep.results}.values())[
        :3
    ]:
        commit = (
            "unknown (no git)"
            if seen.git_commit is None
            else seen.git_commit[:12] + (" with changes" if seen.git_dirty else "")
        )
        packages = ", ".join(f"{name} {version}" for name, version in seen.packages.items())
        lines.append(f"{packages}; Python {seen.python}")
        lines.append(f"{seen.processor}, {counted(seen.cores, 'core')}, {seen.system}")
        lines.append(f"commit {commit}, lock file {(seen.lock_hash or 'none')[:12]}")
    return lines
