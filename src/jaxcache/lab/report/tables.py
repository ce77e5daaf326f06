"""Findings -> ``results.parquet`` and ``results.csv``: tidy, one row a trial, and one for each prediction of the map.

docs/results.md is the schema.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ..analysis.findings import Findings
from ..analysis.policy_map import ProgramMap
from ..analysis.recorded import Prediction
from ..analysis.sweep import Group, Program, Setting, Sweep
from ..files import replacing
from ..layout import RESULTS_CSV, RESULTS_PARQUET
from ..result import TrialResult
from ..trial import Trial
from .markdown_table import markdown_table

SCHEMA_VERSION = 2
PREDICTED = "predicted"
_MOST_PREDICTED = 20_000  # rows


class TrialRow(NamedTuple):
    """A trial beside what the sweep makes of it; the group is None for trials that failed."""

    result: TrialResult
    program: Program
    setting: Setting
    group: Group | None


@dataclass(frozen=True)
class Column:
    """One column of the tables.

    Attributes:
        kind: ``string``, ``int64``, ``double`` or ``bool``.
        meaning: What it holds, with its unit.
        value: From a trial's row. Missing values are None.
    """

    name: str
    kind: str
    meaning: str
    value: Callable[[TrialRow], Any]


@dataclass(frozen=True)
class PredictedRow:
    """One replay of the map: a policy at a limit, of one seed of a program."""

    program_id: str
    config: Trial
    program_map: ProgramMap
    seed: int
    prediction: Prediction


def _of(part: str, field: str) -> Callable[[TrialRow], Any]:
    return lambda row: getattr(getattr(row.result, part), field, None)


def _framed(field: str) -> Callable[[TrialRow], Any]:
    return lambda row: None if row.group is None or row.group.frame is None else getattr(row.group.frame, field)


def _loading(row: TrialRow) -> float | None:
    return None if row.result.course is None else row.result.course.loading_seconds


def _json(row: TrialRow) -> str | None:
    stats = row.result.statistics
    return None if stats is None else json.dumps(stats.misses_by_cause, sort_keys=True)


def _counts(name: str, meaning: str) -> Column:
    return Column(name, "int64", meaning, _of("statistics", name))


def _seconds(part: str, name: str, meaning: str) -> Column:
    return Column(name, "double", meaning + ", s", _of(part, name))


def _hit_rate(row: PredictedRow) -> float | None:
    return row.prediction.hits / row.prediction.requests if row.prediction.requests else None


COLUMNS = (
    Column("trial_id", "string", "hash of the trial's config and of jaxcache's code", lambda row: row.result.trial_id),
    Column("program_id", "string", "hash of what was computed; equal for pairs", lambda row: row.result.program_id),
    Column("status", "string", "`completed` or `failed`; `predicted` for what was replayed and not run",
           lambda row: row.result.status),
    Column("reason", "string", "why it failed", lambda row: row.result.reason),
    Column("workload", "string", "name of the workload", lambda row: row.result.config.workload.name),
    Column("shapes", "string", "name of the stream of shapes", lambda row: row.result.config.shapes.name),
    Column("program", "string", "workload and shapes with the settings that differ in the sweep",
           lambda row: row.program.label),
    Column("eviction", "string", "name of the policy", lambda row: row.setting.eviction),
    Column("memory_limit", "int64", "limit in bytes; missing for no limit", lambda row: row.result.config.memory_limit),
    Column("buckets", "string", "how lengths were padded", lambda row: row.setting.buckets),
    Column("precision", "string", "of the workload's data", lambda row: row.result.config.precision),
    Column("persistent", "string", "`shared`, `fresh` or `off`", lambda row: row.result.config.persistent.mode),
    Column("seed", "int64", "of shapes, data and policies", lambda row: row.result.config.seed),
    Column("hit_rate", "double", "hits over hits and misses", _of("statistics", "hit_rate")),
    _counts("hits", "calls served by a program that was held"),
    _counts("misses", "calls for which a program was compiled or loaded"),
    Column("misses_by_cause", "string", "misses taken apart, a JSON object from cause to count", _json),
    _counts("disk_hits", "programs loaded from the directory of compiled programs"),
    _counts("compiled", "programs that XLA compiled"),
    _counts("evictions", "programs that went to make room"),
    _counts("rejected", "programs that ran but were not kept"),
    _counts("bypassed", "calls handed to jax.jit itself"),
    _counts("variants", "programs held at the end"),
    Column("padding", "double", "elements that padding added over those asked for", _of("statistics", "padding")),
    _counts("live_bytes", "what they weigh, in bytes"),
    _counts("peak_bytes", "the most that was held, in bytes"),
    _seconds("statistics", "cost_seconds", "reference compile seconds of the misses: what compares settings"),
    _seconds("statistics", "repeated_cost_seconds", "the part of it for programs compiled before"),
    _seconds("statistics", "compile_seconds", "really spent on misses: lowering, compiling, loading"),
    _seconds("statistics", "compile_seconds_avoided", "reference compile seconds of the hits"),
    _seconds("timing", "disk_saved_seconds", "compile seconds of the programs loaded, less the reading"),
    Column("loading_seconds", "double", "the part of compile_seconds spent reading executables from disk, s", _loading),
    _seconds("timing", "serve_seconds", "of the requests alone"),
    _seconds("timing", "run_seconds", "the part of serve_seconds not spent on misses"),
    _seconds("timing", "work_seconds", "of the trial, checks included"),
    Column("calls_per_second", "double", "requests over serve_seconds", _of("timing", "calls_per_second")),
    _seconds("timing", "p50_seconds", "median of a request"),
    _seconds("timing", "p99_seconds", "99 % quantile of a request"),
    Column("peak_rss_bytes", "int64", "most resident memory of the process, bytes", _of("memory", "peak_rss_bytes")),
    Column("unbounded_seconds", "double", "each program compiled once, mean over the group's seeds, s",
           _framed("unbounded_seconds")),
    Column("uncached_seconds", "double", "each call compiled anew, mean over the group's seeds, s",
           _framed("uncached_seconds")),
    Column("unbounded_bytes", "double", "what all programs weigh together, mean over the group's seeds, bytes",
           _framed("unbounded_bytes")),
    Column("bound_seconds", "double", "what no policy can go below at this limit, where known, s",
           lambda row: None if row.group is None else row.group.bound_seconds),
    Column("device", "string", "on what it ran", lambda row: row.result.device),
    Column("started_at", "string", "when, UTC", _of("timing", "started_at")),
    Column("code_version", "string", "hash of jaxcache's sources", lambda row: row.result.environment.code_version),
    Column("git_commit", "string", "of the working directory", lambda row: row.result.environment.git_commit),
    Column("jax_version", "string", "of the package", lambda row: row.result.environment.packages.get("jax")),
)  # fmt: skip
_OF_PREDICTIONS: dict[str, Callable[[PredictedRow], Any]] = {
    "program_id": lambda row: row.program_id,
    "status": lambda _: PREDICTED,
    "workload": lambda row: row.config.workload.name,
    "shapes": lambda row: row.config.shapes.name,
    "program": lambda row: row.program_map.program.label,
    "eviction": lambda row: row.prediction.policy,
    "memory_limit": lambda row: row.prediction.limit_bytes,
    "buckets": lambda row: row.program_map.buckets,
    "precision": lambda row: row.config.precision,
    "persistent": lambda row: row.config.persistent.mode,
    "seed": lambda row: row.seed,
    "hit_rate": _hit_rate,
    "hits": lambda row: row.prediction.hits,
    "misses": lambda row: row.prediction.misses,
    "evictions": lambda row: row.prediction.evictions,
    "peak_bytes": lambda row: row.prediction.peak_bytes,
    "cost_seconds": lambda row: row.prediction.compile_seconds,
    "unbounded_seconds": lambda row: row.program_map.unlimited_seconds,
    "uncached_seconds": lambda row: row.program_map.uncached_seconds,
    "unbounded_bytes": lambda row: row.program_map.mean_bytes,
    "bound_seconds": lambda row: row.program_map.bound_seconds(row.prediction.limit_bytes),
}
_KINDS = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}


def groups_by_trial(sweep: Sweep) -> dict[str, Group]:
    """Return the group of each successful trial, by trial id."""
    return {result.trial_id: group for group in sweep.groups for result in group.results}


def results_table(findings: Findings) -> pa.Table:
    """Return the trials in the order in which they were started, one row each, and then the map's predictions."""
    sweep = findings.sweep
    groups, predicted = groups_by_trial(sweep), list(predicted_rows(findings))
    rows = [
        TrialRow(result, sweep.programs[result.program_id], sweep.setting_of(result), groups.get(result.trial_id))
        for result in sweep.results
    ]
    fields = [pa.field(c.name, _KINDS[c.kind], metadata={"meaning": c.meaning}) for c in COLUMNS]
    arrays = [
        pa.array(
            [column.value(row) for row in rows]
            + [_OF_PREDICTIONS.get(column.name, lambda _: None)(row) for row in predicted],
            _KINDS[column.kind],
        )
        for column in COLUMNS
    ]
    schema = pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION), "sweep": sweep.directory.name})
    return pa.Table.from_arrays(arrays, schema=schema)


def predicted_rows(findings: Findings) -> Iterator[PredictedRow]:
    """Yield every replay of the trusted maps, at most ``_MOST_PREDICTED``: policies at limits of each seed."""
    if not findings.maps:
        return
    configs = {
        (findings.sweep.programs[result.program_id], findings.sweep.setting_of(result).buckets, result.config.seed):
        (result.program_id, result.config)
        for result in findings.sweep.results
    }  # fmt: skip
    rows = (
        PredictedRow(*configs[program_map.program, program_map.buckets, seed], program_map, seed, prediction)
        for program_map in findings.maps
        if program_map.is_trusted
        for policy in program_map.policies
        for limit_bytes in program_map.own_limits
        for seed, prediction in program_map.predictions(policy, limit_bytes).items()
    )
    yield from itertools.islice(rows, _MOST_PREDICTED)


def write_results(findings: Findings) -> None:
    """Write trials and predictions as Parquet and CSV beside the sweep's other files."""
    table = results_table(findings)
    with replacing(findings.sweep.directory / RESULTS_PARQUET, durable=False) as file:
        pq.write_table(table, file)
    with replacing(findings.sweep.directory / RESULTS_CSV, durable=False) as file:
        pa_csv.write_csv(table, file)


def schema_lines(columns: Sequence[Column] = COLUMNS) -> list[str]:
    """Return the table of docs/results.md."""
    rows = [(f"`{column.name}`", column.kind, column.meaning) for column in columns]
    return list(markdown_table(("Column", "Type", "What it holds"), rows))[:-1]
