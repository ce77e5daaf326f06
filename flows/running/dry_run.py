"""Forecast of a sweep that is not started: its trials, time and disk space, from the results of earlier ones."""

import heapq
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pydantic import ValidationError

from jaxcache import format_size
from jaxcache.lab.counted import counted
from jaxcache.lab.layout import MANIFEST, REFERENCE, REFERENCES, RESULT, TRIALS
from jaxcache.lab.result import Reference
from jaxcache.lab.running.earlier_results import usable_result
from jaxcache.lab.trial import Trial

from ..planning.plan import Plan, PlannedTrial
from . import resume
from .duration import duration_text

_MOST_RESULTS = 500  # the newest; reading them takes about a second
_PROGRAM = {"workload", "shapes", "buckets", "precision"}
_SETTING = {*_PROGRAM, "eviction", "memory_limit", "profiling"}


@dataclass(frozen=True)
class _Measured:
    """Seconds of earlier runs, and bytes of their directories, by what they have in common with a trial to come."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    size_bytes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    reference_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    report_bytes: list[int] = field(default_factory=list)  # of the newest sweep, without its trials


def forecast(plan: Plan) -> list[str]:
    """Return lines that say what a sweep would run, for about how long, and how much disk it would take.

    Raises:
        UsageError: If ``sweep.resume`` names a sweep that cannot be resumed.
    """
    directory = resume.resumed_directory(plan)
    trials, programs = _to_run(plan, directory)
    measured = _measure_earlier(plan.sweep.directory)
    workers = len(plan.devices) or plan.runner.most_at_once
    return [
        *_what(plan, directory, trials, programs, workers),
        f"Time: {_time(measured, trials, programs, workers or 1)}",
        *_disk(measured, plan, trials),
        "Nothing was started. Leave out --dry-run to start it.",
    ]


def _to_run(plan: Plan, directory: Path | None) -> tuple[list[PlannedTrial], list[PlannedTrial]]:
    """Return the trials without a result, and the first trial of each program without a reference."""
    trials = [planned for planned in plan.trials if directory is None or not _is_kept(plan, directory, planned)]
    known = [path for path in (directory and directory / REFERENCES, plan.references) if path is not None]
    programs = {
        planned.program_id: planned
        for planned in reversed(plan.trials)
        if not any((path / planned.program_id / REFERENCE).exists() for path in known)
    }
    return trials, list(programs.values())


def _is_kept(plan: Plan, directory: Path, planned: PlannedTrial) -> bool:
    result = usable_result(directory / TRIALS / planned.trial_id)
    if result is None or not result.attempted:
        return False
    return result.status == "completed" or not plan.sweep.retry_failed


def _what(
    plan: Plan, directory: Path | None, trials: list[PlannedTrial], programs: list[PlannedTrial], workers: int | None
) -> Iterator[str]:
    counts = f"{counted(len(trials), 'trial')} and {counted(len(programs), 'reference run')}"
    at_once = "on the workers that are there" if workers is None else f"{workers} at a time"
    yield f"Would run {counts}, {at_once}."
    if directory is not None:
        kept = len(plan.trials) - len(trials)
        yield f"Would go on in {directory}: {kept:,} of {counted(len(plan.trials), 'trial')} finished."


def _time(measured: _Measured, trials: list[PlannedTrial], programs: list[PlannedTrial], workers: int) -> str:
    """Return about how long trials and references take, and which of them no earlier run tells of."""
    known = [(each, _expected(measured.seconds, each.trial)) for each in trials]
    known += [(each, _expected(measured.reference_seconds, each.trial)) for each in programs]
    unknown = sorted({each.trial.workload.name for each, seconds in known if seconds is None})
    seconds = [seconds for _, seconds in known if seconds is not None]
    gap = f"no earlier sweep in sweep.directory has run {', '.join(unknown)} like this" if unknown else ""
    if not seconds:
        return f"unknown: {gap}" if unknown else "none, all is finished but the report"
    about = f"about {duration_text(max(sum(seconds) / workers, *seconds))}, by earlier sweeps, without start and report"
    return f"{about}; the rest is unknown: {gap}" if unknown else about


def _disk(measured: _Measured, plan: Plan, trials: list[PlannedTrial]) -> Iterator[str]:
    free = format_size(shutil.disk_usage(_existing(plan.sweep.directory)).free)
    sizes = [_expected(measured.size_bytes, each.trial) for each in trials]
    known = [size for size in sizes if size is not None]
    if known:
        total = fmean(known) * len(trials) + sum(measured.report_bytes)
        yield f"Disk: about {format_size(round(total))} in {plan.sweep.directory}, where {free} are free."
    else:
        yield f"Disk: unknown, as no earlier sweep has run the like; {free} are free in {plan.sweep.directory}."
    shared = {planned.trial.persistent.shared_directory: planned.trial.persistent.limit for planned in plan.trials}
    for directory, limit in shared.items():
        if directory is not None:
            most = "has no limit" if limit is None else f"may grow to {format_size(limit)}"
            yield f"The compile cache {directory} holds {format_size(_size(directory))} and {most}."


def _measure_earlier(directory: Path) -> _Measured:
    """Read the newest results in a directory of sweeps."""
    measured = _Measured()
    paths = directory.glob(f"*/{TRIALS}/*/{RESULT}")
    for path in heapq.nlargest(_MOST_RESULTS, paths, key=lambda path: path.parts[-4]):
        result, sweep = usable_result(path.parent), path.parents[2]
        if result is None or result.timing is None:
            continue
        _add(measured.seconds, result.config, result.timing.work_seconds)
        _add(measured.size_bytes, result.config, _size(path.parent))
        reference = _read_reference(sweep / REFERENCES / result.program_id / REFERENCE)
        if reference is not None:
            taken = reference.unbounded_cost_seconds + reference.run_seconds + reference.jit_seconds
            _add(measured.reference_seconds, result.config, taken)
    for manifest in heapq.nlargest(1, directory.glob(f"*/{MANIFEST}")):
        measured.report_bytes.append(_size(manifest.parent) - _size(manifest.parent / TRIALS))
    return measured


def _add(table: dict[str, list[float]], trial: Trial, value: float) -> None:
    for key in _keys(trial):
        table[key].append(value)


def _expected(table: Mapping[str, list[float]], trial: Trial) -> float | None:
    """Return the mean of the earlier runs that have most in common with a trial; None without any."""
    values = next((table[key] for key in _keys(trial) if key in table), None)
    return None if values is None else fmean(values)


def _keys(trial: Trial) -> tuple[str, ...]:
    """Return keys of the same setting, the same program and the same workload; seeds may differ in each."""
    return tuple(trial.model_dump_json(include=fields) for fields in (_SETTING, _PROGRAM, {"workload"}))


def _read_reference(path: Path) -> Reference | None:
    try:
        return Reference.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _existing(directory: Path) -> Path:
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


def _size(directory: Path) -> int:
    """Return the bytes of all files under a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
