"""Several sweeps -> what changed from the first to each other, paired by config and seed, with intervals."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.answer import describe_ratio
from ..analysis.findings import Findings
from ..analysis.paired_tests import Comparison, compare, correct
from ..analysis.recommendation import typed_size
from ..analysis.sweep import Sweep
from ..counted import counted
from ..result import TrialResult
from .markdown_table import markdown_table
from .rows import damaged_results, headline

_DIRECTORY = "persistent.directory"
_SIZES = ("memory_limit", "persistent.limit")
_NO_PART_OF_A_CELL = ("seed", _DIRECTORY)
_MEASURES: dict[str, Callable[[TrialResult], float | None]] = {
    "reference compile s": lambda r: r.statistics and r.statistics.cost_seconds,
    "misses": lambda r: r.statistics and float(r.statistics.misses),
    "spent compiling s": lambda r: r.statistics and r.statistics.compile_seconds,
    "request p99 s": lambda r: r.timing and r.timing.p99_seconds,
    "peak memory": lambda r: r.memory and float(r.memory.peak_rss_bytes),
}


@dataclass(frozen=True)
class Change:
    """A measure of one sweep, held against the first sweep's.

    Attributes:
        where: The config of a cell in short; empty for all cells together.
        comparison: ``first`` is the later sweep: a ratio below 1 is less than before.
    """

    measure: str
    where: str
    comparison: Comparison


def changes(before: Sweep, after: Sweep) -> tuple[list[Change], list[Change]]:
    """Return the changes of each measure over all cells, and of reference compile seconds cell by cell.

    Where the sweeps have other prices, all seeds of each share one measurement of them, whose noise no test over seeds
    sees: misses are compared then in the place of their reference compile seconds.

    Each of the two is corrected as one family. Cells are configs without their seed, and without where the persistent
    directory lies: the code may have changed between the sweeps, so ids do not tell.
    """
    overall: list[tuple[str, str, Comparison]] = []
    name, other = list(_MEASURES)[:2]
    if _prices(before) != _prices(after):
        name = other
    for measure, value in list(_MEASURES.items())[name == other :]:
        measured = {"after": _measured(after, value), "before": _measured(before, value)}
        overall += [(measure, "", pair) for pair in compare(measured)]
    old, new = _measured(before, _MEASURES[name]), _measured(after, _MEASURES[name])
    labels = _labels((before, after))
    by_cell: list[tuple[str, str, Comparison]] = []
    for cell in sorted({cell for cell, _ in old} & {cell for cell, _ in new}, key=str):
        of_cell = {
            "after": {key: seconds for key, seconds in new.items() if key[0] == cell},
            "before": {key: seconds for key, seconds in old.items() if key[0] == cell},
        }
        by_cell += [(name, labels[cell], pair) for pair in compare(of_cell)]
    return _corrected(overall), _corrected(by_cell)


def _prices(sweep: Sweep) -> set[str | None]:
    return {result.costs_hash for result in sweep.results if result.status == "completed"}


def _corrected(changed: list[tuple[str, str, Comparison]]) -> list[Change]:
    family = correct([pair for _, _, pair in changed])
    return [Change(measure, where, pair) for (measure, where, _), pair in zip(changed, family, strict=True)]


def _cell(result: TrialResult) -> str:
    config = result.config.model_dump(mode="json", exclude={"seed": True, "persistent": {"directory"}})
    return json.dumps(config, sort_keys=True)


def _labels(sweeps: Sequence[Sweep]) -> dict[str, str]:
    """Return the name of each cell: its config in short, with the settings that tell it from others of that name."""
    results = {_cell(result): result for sweep in sweeps for result in sweep.results}
    called: dict[str, list[str]] = defaultdict(list)
    for cell, result in results.items():
        called[result.label.rpartition(" seed ")[0]].append(cell)
    labels: dict[str, str] = {}
    for name, cells in called.items():
        settings = {cell: _settings(results[cell]) for cell in cells}
        keys = sorted({key for each in settings.values() for key in each if key not in _NO_PART_OF_A_CELL})
        differing = [key for key in keys if len({str(each.get(key)) for each in settings.values()}) > 1]
        for cell, each in settings.items():
            labels[cell] = " ".join([name, *(f"{key}={each.get(key)}" for key in differing)])
    return labels


def _settings(result: TrialResult) -> dict[str, Any]:
    """Return a trial's config by key as it is typed, such as ``workload.requests``."""
    settings: dict[str, Any] = {}
    for key, value in result.config.model_dump(mode="json").items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        settings |= {f"{key}.{name}" if name else key: part for name, part in parts}
    sizes = {key: typed_size(settings[key]) for key in _SIZES if settings.get(key) is not None}
    return settings | sizes


def _measured(sweep: Sweep, value: Callable[[TrialResult], float | None]) -> dict[tuple[str, int], float]:
    done = [(result, value(result)) for result in sweep.results if result.status == "completed"]
    return {(_cell(result), result.config.seed): number for result, number in done if number is not None}


def side_by_side(sweeps: Sequence[Sweep]) -> Iterator[str]:
    """Yield a comparison of several sweeps as markdown; the first is what the others are held against."""
    names = _names([sweep.directory for sweep in sweeps])
    yield from (f"# {' against '.join([' and '.join(names[1:]), names[0]])}", "")
    rows = [
        (name, headline(sweep), Findings(sweep).sentence) for name, sweep in zip(names, sweeps, strict=True)
    ]  # fmt: skip
    yield from markdown_table(("sweep", "trials", "what it says"), rows)
    for name, sweep in zip(names[1:], sweeps[1:], strict=True):
        yield from _against(names[0], sweeps[0], name, sweep)


def _names(directories: Sequence[Path]) -> list[str]:
    """Return the directories' own names, with their parents' where two are equal."""
    short = [directory.resolve().name for directory in directories]
    return short if len(set(short)) == len(short) else [str(directory) for directory in directories]


def _against(first: str, before: Sweep, name: str, after: Sweep) -> Iterator[str]:
    overall, by_cell = changes(before, after)
    yield from (f"## {name} against {first}", "")
    if not overall:
        yield from ("They have no successful trial of the same config and seed in common, so nothing is paired.", "")
    else:
        yield (
            f"{counted(overall[0].comparison.repeats, 'seed')} in common, paired by config and seed. Below 1 is less "
            "than before: later ÷ earlier, geometric mean, a 95 % interval of that line alone. The last column "
            "says what is shown at 5 % for the table as a whole (exact sign-flip test, Holm's correction)."
        )
        yield ""
        yield from _table("measure", [(change.measure, change.comparison) for change in overall])
        yield from (f"{by_cell[0].measure.capitalize()} by setting:", "")
        yield from _table("setting", [(change.where, change.comparison) for change in by_cell])
    yield from (f"- {line}" for line in _differences(before, after))
    yield ""


def _table(heading: str, rows: list[tuple[str, Comparison]]) -> Iterator[str]:
    columns = (heading, "later ÷ earlier", "seeds", "p, corrected", "what may be said")
    yield from markdown_table(columns, [_row(name, pair) for name, pair in rows])


def _row(name: str, pair: Comparison) -> tuple[str, ...]:
    few = f"too few repeats: {pair.repeats_needed} are needed"
    verdict = few if pair.verdict == "too few repeats" else pair.verdict
    missing = f", {counted(pair.missing, 'pair')} missing" if pair.missing else ""
    return (name, describe_ratio(pair.ratio), str(pair.repeats), f"{pair.adjusted:.3f}", verdict + missing)


def _differences(before: Sweep, after: Sweep) -> Iterator[str]:
    """Yield what else is not the same, which may be why."""
    labels = _labels((before, after))
    yield from _differing_settings(before, after)
    for sweep, word in ((before, "earlier"), (after, "later")):
        other = after if sweep is before else before
        cells = {_cell(result) for result in other.results}
        alone = sorted({labels[_cell(r)] for r in sweep.results if _cell(r) not in cells})
        if alone:
            shown = ", ".join(alone[:8]) + (f" and {len(alone) - 8} more" if len(alone) > 8 else "")
            yield f"only the {word} has: {shown}"
        if sweep.failed:
            yield f"{counted(len(sweep.failed), 'trial')} of the {word} failed"
        yield from (f"of the {word}, `{path}` {reason}" for path, reason in sweep.unreadable)
        yield from damaged_results(sweep)
    if before.results and after.results:
        yield from _environments(before.results[0], after.results[0])


def _differing_settings(before: Sweep, after: Sweep) -> Iterator[str]:
    """Yield each setting of which the sweeps have not tried the same values."""
    values: tuple[dict[str, set[str]], ...] = ({}, {})
    for seen, sweep in zip(values, (before, after), strict=True):
        for result in sweep.results:
            for key, value in _settings(result).items():
                seen.setdefault(key, set()).add("none" if value is None else str(value))
    old, new = values
    for key in sorted(old.keys() & new.keys() - {_DIRECTORY}):
        if old[key] != new[key]:
            yield f"`{key}` was {_few(old[key])}, is {_few(new[key])}"


def _few(values: set[str]) -> str:
    ordered = sorted(values, key=lambda value: (len(value), value))
    return ", ".join(ordered[:8]) + (f" and {len(ordered) - 8} more" if len(ordered) > 8 else "")


def _environments(before: TrialResult, after: TrialResult) -> Iterator[str]:
    old, new = before.environment, after.environment
    for name in sorted(old.packages.keys() | new.packages.keys()):
        if old.packages.get(name) != new.packages.get(name):
            yield f"{name} was {old.packages.get(name, 'absent')}, is {new.packages.get(name, 'absent')}"
    for field in ("python", "processor", "cores", "code_version"):
        if getattr(old, field) != getattr(new, field):
            yield f"{field.replace('_', ' ')} was {getattr(old, field)}, is {getattr(new, field)}"
    if before.costs_hash != after.costs_hash:
        yield (
            "their cost tables differ, so reference compile seconds were measured anew, and vary by that too; "
            "`costs=<first>/costs.json` makes the second use the first's"
        )
