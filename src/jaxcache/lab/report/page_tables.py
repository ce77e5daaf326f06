"""Tables of ``report.html`` as its templates take them: columns, rows, cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..analysis.answer import describe_ratio
from ..analysis.choice import baseline_of, by_policy
from ..analysis.findings import Findings
from ..analysis.map_choice import MapChoice
from ..analysis.paired_tests import Comparison, compare
from ..analysis.policy_map import ProgramMap
from ..analysis.recommendation import Decision
from ..analysis.sweep import Group, Setting, Sweep
from ..counted import counted
from ..result import TrialResult
from .map_tables import map_rows, map_title, point_columns, point_rows, seeds_text
from .program_rows import PROGRAM_CAPTION, PROGRAM_COLUMNS, program_rows, repeat_sentences
from .rows import GROUP_COLUMNS, group_row, limit, unequal_seeds

MOST_SETTINGS = 400
MOST_MAPS = 12
_MIB = 1024**2
_NOT_NUMBERS = ("–", "none", "no limit")


@dataclass(frozen=True)
class TableCell:
    """Text of one cell, and its CSS classes."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class TableColumn:
    """Heading of one column."""

    name: str
    is_number: bool


@dataclass(frozen=True)
class TableRow:
    """Cells of one row; a marked one is that of the answer."""

    cells: tuple[TableCell, ...]
    is_marked: bool = False


@dataclass(frozen=True)
class PageTable:
    """Columns and rows of one table."""

    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...] = field(repr=False)


def page_table(names: Sequence[str], rows: Sequence[Sequence[str]], marked: Iterable[int] = ()) -> PageTable:
    """Return a table of texts; columns of numbers are told by their cells."""
    numeric = [
        bool(rows) and all(row[index][:1].isdigit() or row[index] in _NOT_NUMBERS for row in rows)
        for index in range(len(names))
    ]
    columns = tuple(TableColumn(name, right) for name, right in zip(names, numeric, strict=True))
    chosen = set(marked)
    return PageTable(columns, tuple(
        TableRow(tuple(TableCell(text, "number" if right else "") for text, right in zip(row, numeric, strict=True)),
                 number in chosen)
        for number, row in enumerate(rows)
    ))  # fmt: skip


def points_table(choice: MapChoice) -> PageTable:
    """Return one row for each limit of interest; that of the answer is marked."""
    marked = [number for number, point in enumerate(choice.points) if point == choice.point]
    return page_table(point_columns(choice), point_rows(choice), marked)


def map_tables(maps: Sequence[ProgramMap]) -> list[dict[str, Any]]:
    """Return every policy at every limit, one table a program."""
    return [
        {
            "title": f"{map_title(program_map)}, {seeds_text(program_map)}",
            "table": page_table(
                ("policy", *(limit(each) for each in program_map.own_limits)),
                map_rows(program_map, program_map.own_limits),
            ),
        }
        for program_map in maps[:MOST_MAPS]
    ]


_VERDICT = ("ratio", "seeds", "p, corrected", "what may be said")


def comparisons(findings: Findings) -> dict[str, Any] | None:
    """Return every pair of policies that trials have measured, and each cell against the baseline."""
    decision, groups = findings.decision, findings.sweep.groups
    if not decision.policies:
        return None
    baseline = baseline_of(groups)
    compared = f" ({decision.scope})" if decision.scope else ""
    cells = _by_cell(groups, baseline)
    return {
        "sentence": _comparison_sentence(decision, findings.choice is not None),
        "caption": (
            "Compile seconds of the first over those of the second, geometric mean over programs and limits"
            f"{compared}, paired by seed, with 95 % intervals of the pair alone. A difference is called one if the "
            f"exact sign-flip test passes Holm’s correction for all {len(decision.policies)} pairs at 5 %."
        ),
        "table": _comparison_table(decision.policies),
        "by_cell": _cell_table(cells) if len(cells) > 1 else None,
        "baseline": baseline or "",
    }


def _comparison_sentence(decision: Decision, has_map: bool) -> str:
    shown = [pair for pair in decision.policies if pair.verdict in ("less", "more")]
    count = len(decision.policies)
    verb = "differs" if 1 in (len(shown), count) else "differ"
    words = f"{len(shown)} of {counted(count, 'pair')} of policies {verb} by what was measured"
    seeds = min(pair.repeats for pair in decision.policies)
    return f"{words}, over {counted(seeds, 'seed')} alone." if has_map else f"{words}."


def _by_cell(groups: Sequence[Group], baseline: str | None) -> list[tuple[Group, Comparison]]:
    cells: dict[Any, list[Group]] = {}
    for group in groups:
        cells.setdefault((group.program, group.setting[1:]), []).append(group)
    pairs = [(members[0], pair) for members in cells.values() for pair in compare(by_policy(members), baseline)]
    return pairs[:MOST_SETTINGS]


def _verdict_columns(*names: str) -> tuple[TableColumn, ...]:
    words = tuple(TableColumn(name, is_number=False) for name in names)
    return words + tuple(TableColumn(name, name != _VERDICT[-1]) for name in _VERDICT)


def _comparison_table(pairs: Sequence[Comparison]) -> PageTable:
    return PageTable(_verdict_columns("first", "second"), tuple(
        TableRow((TableCell(pair.first), TableCell(pair.second), *_verdict_cells(pair))) for pair in pairs
    ))  # fmt: skip


def _cell_table(cells: list[tuple[Group, Comparison]]) -> PageTable:
    return PageTable(_verdict_columns("program", "limit", "policy"), tuple(
        TableRow((TableCell(group.program.label), TableCell(group.setting.limit), TableCell(pair.first),
                  *_verdict_cells(pair)))
        for group, pair in cells
    ))  # fmt: skip


def _verdict_cells(pair: Comparison) -> tuple[TableCell, ...]:
    style = {"less": "less", "more": "more-than"}.get(pair.verdict, "soft")
    text = {"less": f"{pair.first} takes less", "more": f"{pair.first} takes more"}.get(pair.verdict, pair.verdict)
    if pair.verdict == "too few repeats":
        text += f": {pair.repeats_needed} are needed"
    missing = f", {counted(pair.missing, 'pair')} missing" if pair.missing else ""
    return (
        TableCell(describe_ratio(pair.ratio), "number"),
        TableCell(str(pair.repeats), "number"),
        TableCell(f"{pair.adjusted:.3f}", "number"),
        TableCell(text + missing, style),
    )


def settings(groups: Sequence[Group]) -> dict[str, Any] | None:
    """Return the measured means of each setting."""
    if not groups:
        return None
    least = min(groups, key=lambda group: group.mean("cost_seconds"))
    count = len({group.setting for group in groups})
    programs = len({group.program for group in groups})
    return {
        "sentence": f"{counted(count, 'setting')} ran on {counted(programs, 'program')}; the fewest "
        f"seconds of all rows are {least.mean('cost_seconds'):.1f}, of {least.setting.label} on {least.program.label}.",
        "caption": (
            f"Means over the seeds{unequal_seeds(groups)}. Reference compile seconds count each miss at what its "
            "program took to compile in full, measured once a sweep; what was really spent stands beside them."
        ),
        "table": page_table(GROUP_COLUMNS, [group_row(group) for group in groups[:MOST_SETTINGS]]),
        "left_out": max(0, len(groups) - MOST_SETTINGS),
    }


def programs(sweep: Sweep) -> dict[str, Any] | None:
    """Return the runs of users' programs as wholes; None without such programs."""
    rows = program_rows(sweep)
    if not rows:
        return None
    return {
        "sentence": " ".join(repeat_sentences(sweep)),
        "caption": PROGRAM_CAPTION,
        "table": page_table(PROGRAM_COLUMNS, rows[:MOST_SETTINGS]),
    }


def trials(sweep: Sweep) -> dict[str, Any] | None:
    """Return the table of all trials; its rows are data, which the script fills in as far as they are looked at."""
    if not sweep.results:
        return None
    table = [
        [("#", 0, number), *_trial_cells(result, sweep.setting_of(result), sweep.programs[result.program_id].label)]
        for number, result in enumerate(sweep.results, 1)
    ]
    columns = [{"name": name, "number": digits is not None, "digits": digits or 0} for name, digits, _ in table[0]]
    count, failed = len(sweep.results), len(sweep.failed)
    return {
        "sentence": f"{counted(count, 'trial')}, {failed or 'none'} failed.",
        "data": {"columns": columns, "rows": [[value for _, _, value in row] for row in table]},
    }  # fmt: skip


def _trial_cells(result: TrialResult, setting: Setting, program: str) -> list[tuple[str, int | None, Any]]:
    config, stats, timing, memory = result.config, result.statistics, result.timing, result.memory
    limit_mib = None if config.memory_limit is None else round(config.memory_limit / _MIB, 3)
    return [
        ("status", None, result.status),
        ("eviction", None, setting.eviction),
        ("limit MiB", 2, limit_mib),
        ("buckets", None, setting.buckets),
        ("program", None, program),
        ("seed", 0, config.seed),
        ("hit rate %", 1, round(100 * stats.hit_rate, 2) if stats else None),
        ("misses", 0, stats.misses if stats else None),
        ("disk hits", 0, stats.disk_hits if stats else None),
        ("evictions", 0, stats.evictions if stats else None),
        ("reference compile s", 2, round(stats.cost_seconds, 3) if stats else None),
        ("spent compiling s", 2, round(stats.compile_seconds, 3) if stats else None),
        ("held MiB", 2, round(stats.live_bytes / _MIB, 3) if stats else None),
        ("peak memory MiB", 0, round(memory.peak_rss_bytes / _MIB, 1) if memory else None),
        ("p50 ms", 2, round(1000 * timing.p50_seconds, 3) if timing else None),
        ("p99 ms", 1, round(1000 * timing.p99_seconds, 2) if timing else None),
        ("id", None, result.trial_id),
    ]
