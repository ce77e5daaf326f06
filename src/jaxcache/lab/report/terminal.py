"""The answer, the map and the suggestions, for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..analysis.findings import Findings
from ..analysis.map_choice import MapChoice
from ..analysis.map_words import how_chosen, limit_text
from ..analysis.sweep import Sweep
from ..counted import counted
from .map_tables import joint_rows, point_rows, spread
from .program_rows import PROGRAM_COLUMNS, program_rows, repeat_sentences
from .rows import GROUP_COLUMNS, damaged_results, group_row

MOST_SUGGESTIONS = 3
_MOST_POLICIES = 6
_MOST_LIMITS = 8
_NAME_WIDTH, _CELL_WIDTH = 11, 8
_MOST_LINES = 20  # of settings and of failures; the report has them all

# Column of the report: its name here. What decides comes first.
TERMINAL_COLUMNS = {
    "workload": "workload", "shapes": "shapes", "disk": "directory", "precision": "precision", "buckets": "buckets",
    "limit": "limit", "eviction": "eviction", "reference compile s": "compile s", "over bound": "÷ bound",
    "seeds": "seeds", "hit rate": "hits", "misses": "misses", "evictions": "evicted", "running s": "run s",
    "p99 ms": "p99 ms",
}  # fmt: skip
_ALWAYS = {"limit", "eviction", "reference compile s", "hit rate", "misses"}
_TEXT = {"workload", "shapes", "disk", "eviction", "buckets", "precision"}


def terminal() -> Console:
    """Return where to print: as wide as the terminal, and wide enough for the tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_summary(findings: Findings, console: Console) -> None:
    """Print what to do, the map or the settings, what to change, and what failed."""
    sweep = findings.sweep
    if sweep.groups:
        _print_answer(findings, console)
    programs = program_rows(sweep)[:_MOST_LINES]
    if programs:
        _print_table(console, PROGRAM_COLUMNS, programs, text={0, 1})
        for sentence in repeat_sentences(sweep):
            _say(console, sentence)
    for advice in findings.advice[:MOST_SUGGESTIONS]:
        suggestion = advice.suggestion
        way = f"try {suggestion.override}" if suggestion.override else suggestion.python
        _say(console, f"→ {suggestion.title}: {advice.expected}; {way}")
    for result in sweep.failed[:_MOST_LINES]:
        _say(console, f"✗ {result.label}: {result.reason}")
    if len(sweep.failed) > _MOST_LINES:
        _say(console, f"✗ {counted(len(sweep.failed) - _MOST_LINES, 'more failed trial')}: see the report")
    for path, reason in sweep.unreadable:
        _say(console, f"✗ {path} {reason}")
    for line in damaged_results(sweep):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _print_answer(findings: Findings, console: Console) -> None:
    choice = findings.choice
    if findings.is_contradicted:
        console.print(findings.agreement, markup=False, highlight=False, style="bold")
        console.print()
    console.print(findings.sentence, markup=False, highlight=False, style="bold")
    if choice is None:
        for note in (note for note in findings.notes if note != findings.agreement):
            _say(console, f"  {note}")
        console.print()
        _print_settings(findings.sweep, console)
        return
    for note in findings.notes[:2]:
        _say(console, f"  {note}")
    console.print()
    _print_points(choice, console)
    _print_map(choice, console)
    _say(console, f"{findings.agreement} Cells with * were measured, the others replayed. {findings.left_out}".rstrip())
    console.print()


def _print_points(choice: MapChoice, console: Console) -> None:
    rows = point_rows(choice)
    header = ("limit", "take", "compile s", choice.baseline, "bound", "why this limit")
    _print_table(console, header, [(row[0], row[1], row[2], row[4], row[5], row[7]) for row in rows], text={1, 5})
    _say(console, f"{how_chosen(choice)}\n")


def _print_map(choice: MapChoice, console: Console) -> None:
    """Print the seconds of the policies worth a look at as many limits as there is room for."""
    joint = choice.joint
    room = max(2, min(_MOST_LIMITS, (console.width - _NAME_WIDTH) // _CELL_WIDTH))
    of_interest = [point.limit_bytes for point in choice.points]
    limits = spread(joint.limits_bytes, room, of_interest)
    run = sorted({check.prediction.policy for program_map in joint.maps for check in program_map.checks})
    wanted = dict.fromkeys([choice.baseline, *(point.policy for point in choice.points), *run])
    by_seconds = sorted(joint.policies, key=lambda name: sum(joint.seconds(name, limit) for limit in limits))
    others = [name for name in by_seconds if name not in wanted]
    shown = [*wanted, *others][: max(_MOST_POLICIES, min(len(wanted), 2 * _MOST_POLICIES))]
    shown.sort(key=by_seconds.index)
    _say(console, "Compile seconds a run, by policy and limit (all policies are in the report):")
    header = ("", *(limit_text(limit) for limit in limits))
    _print_table(console, header, joint_rows(joint, limits, shown), text={0})


def _print_settings(sweep: Sweep, console: Console) -> None:
    """Print the measured settings, without the columns in which all of them are the same."""
    rows: list[dict[str, str]] = [dict(zip(GROUP_COLUMNS, group_row(group), strict=True)) for group in sweep.groups]
    shown = {
        name: short
        for name, short in TERMINAL_COLUMNS.items()
        if name in _ALWAYS or len({row[name] for row in rows}) > 1
    }
    table = [[row[name] for name in shown] for row in rows[:_MOST_LINES]]
    _print_table(console, list(shown.values()), table, text={n for n, name in enumerate(shown) if name in _TEXT})
    if len(rows) > _MOST_LINES:
        _say(console, f"{counted(len(rows) - _MOST_LINES, 'more setting')}: see the report.")


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], text: set[int]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(header):
        table.add_column(name, no_wrap=number < len(header) - 1, justify="left" if number in text else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)
    console.print()
