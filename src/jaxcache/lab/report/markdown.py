"""One aggregate -> report.md, its plot, and the same tables for the terminal."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..._primitives.atomic_files import write_file
from ..analysis.recommendation import decide
from ..analysis.suggestions import advise
from ..analysis.sweep import Sweep, read_sweep
from .charts import figures
from .html import PAGE, page
from .images import tradeoff_plot, write_plots
from .rows import (
    GROUP_COLUMNS,
    TRIAL_COLUMNS,
    conditions,
    damaged_results,
    group_row,
    headline,
    trial_row,
    unequal_seeds,
)
from .tables import RESULTS_CSV, write_results

REPORT, PLOT_SVG, PLOT_PNG, PLOTS = "report.md", "tradeoff.svg", "tradeoff.png", "plots"
MOST_TRIALS = 100  # a pull request takes 65,536 characters

# The terminal has less room than a page.
TERMINAL_COLUMNS = {
    "workload": "workload", "disk": "directory", "precision": "precision", "buckets": "buckets", "limit": "limit",
    "eviction": "eviction", "seeds": "seeds", "hit rate": "hits", "misses": "misses", "disk hits": "disk",
    "evictions": "evicted", "reference compile s": "compile s", "over bound": "÷ bound", "nothing evicted": "at best",
    "nothing cached": "uncached", "running s": "run s", "calls/s": "calls/s", "p99 ms": "p99 ms",
}  # fmt: skip
_UNLESS_VARIED = {"disk", "precision", "buckets"}  # left out of the terminal's table where all trials have the same


def write_report(directory: Path, plots: bool = False) -> Sweep:
    """Read a sweep's files and write its report, tables and plot beside them; return what was read.

    Args:
        directory: Of the sweep.
        plots: Write every chart as SVG and PNG too.

    Raises:
        FileNotFoundError: If the directory is not a sweep's.
    """
    sweep = read_sweep(directory)
    chart = tradeoff_plot(sweep.groups)
    if chart is not None:
        chart.save(directory / PLOT_SVG)
        chart.save(directory / PLOT_PNG, ppi=144)
    text = "\n".join(markdown(sweep, plotted=chart is not None)) + "\n"
    write_file(directory / REPORT, text, durable=False)
    write_file(directory / PAGE, page(sweep), durable=False)
    write_results(sweep)
    if plots:
        write_plots(figures(sweep.groups, decide(sweep.groups, sweep.failed_settings).setting), directory / PLOTS)
    return sweep


def markdown(sweep: Sweep, plotted: bool) -> Iterator[str]:
    """Yield the lines of ``report.md``."""
    manifest = sweep.manifest
    yield from (f"# Sweep {sweep.directory.name}", "", f"{headline(sweep)}.")
    if manifest and manifest.ended not in (None, "completed", "failed"):
        yield f"The sweep was {manifest.ended}: what follows is what it had done by then."
    if manifest and manifest.run_url:
        yield f"In the Prefect UI: {manifest.run_url}"
    yield ""
    if sweep.groups:
        decision = decide(sweep.groups, sweep.failed_settings)
        yield " ".join([f"**{decision.sentence}**", *decision.notes])
        yield ""
        if decision.setting is not None:
            yield f"In a sweep `{decision.override}`, in a program `{decision.python}`."
            yield ""
    if not sweep.groups:
        yield "No trial succeeded, so there is nothing to compare."
        yield ""
    if plotted:
        yield from (f"![Reference compile seconds against the memory limit]({PLOT_SVG})", "")
    if sweep.groups:
        yield from ("## By setting", "", f"Means over the seeds{unequal_seeds(sweep.groups)}.", "")
        yield from _table(GROUP_COLUMNS, [group_row(group) for group in sweep.groups])
        yield from _how_to_read()
        yield from ("## Suggestions", "")
        yield from suggestions(sweep)
    yield from _profiles(sweep)
    if sweep.failed:
        yield from _failures(sweep)
    if sweep.results:
        yield from ("## Trials, in the order in which they were started", "")
        yield from _table(TRIAL_COLUMNS, [trial_row(result) for result in sweep.results[:MOST_TRIALS]])
        if len(sweep.results) > MOST_TRIALS:
            yield from (f"{len(sweep.results) - MOST_TRIALS} more are in {RESULTS_CSV}.", "")
    if sweep.unreadable:
        yield from ("## Files that cannot be read", "")
        yield from (f"- `{path}` {reason}" for path, reason in sweep.unreadable)
        yield from ("", *damaged_results(sweep), "")
    yield from _conditions(sweep)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    numeric = [all(row[n][:1].isdigit() or row[n] in ("–", "none") for row in rows) for n in range(len(columns))]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join(' ---: ' if right else ' --- ' for right in numeric)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _how_to_read() -> Iterator[str]:
    yield (
        "*Reference compile s* counts each miss at what its program took to lower and compile in full, measured once "
        "a sweep, wherever the miss was served from: it is what compares policies, since trials that share a directory "
        "warm it for each other. *Spent compiling s* is what the misses really took. *Nothing evicted* and *nothing "
        "cached* are the same seconds with no limit, and with a compile at every call: the best and the worst there is."
    )
    yield ""


def suggestions(sweep: Sweep) -> Iterator[str]:
    """Yield what to change, as lines of a list."""
    advice = advise(sweep.groups)
    if not advice:
        yield from ("Nothing to gain: no rule found anything worth a second.", "")
    for one in advice:
        said = one.suggestion
        yield f"- **{said.title}.** *{said.rule}; {one.about}*"
        yield f"  - evidence: {said.evidence}"
        yield f"  - expected: {one.expected}"
        yield f"  - checked: {one.checked}"
        yield f"  - in a program `{said.python}`" + (f", in a sweep `{said.override}`" if said.override else "")
    if advice:
        yield ""


def _profiles(sweep: Sweep) -> Iterator[str]:
    profiled = [result for result in sweep.results if result.profile]
    if not profiled:
        return
    yield from (
        "## What each function took",
        "",
        "Every call waited for; traces are in `trials/<id>/`, for Perfetto.",
        "",
    )
    rows = [
        (result.label, one.name, str(one.calls), str(one.misses), f"{one.compile_seconds:.2f}",
         f"{one.run_seconds:.2f}", f"{1000 * one.run_seconds / one.calls:.2f}", result.trial_id)
        for result in profiled for one in result.profile
    ]  # fmt: skip
    yield from _table(("trial", "function", "calls", "misses", "compile s", "run s", "run ms/call", "id"), rows)


def _failures(sweep: Sweep) -> Iterator[str]:
    yield from ("## Failed trials", "")
    for result in sweep.failed:
        yield f"- **{result.label}** (`{result.trial_id}`): {result.reason}"
        tail = result.stderr_tail.strip().splitlines()[-8:]
        if tail:
            yield from ("", "  ```", *(f"  {line}" for line in tail), "  ```", "")
    yield ""


def _conditions(sweep: Sweep) -> Iterator[str]:
    yield from ("## Conditions", "")
    if sweep.manifest:
        yield f"- command: `{sweep.manifest.command}`"
    yield from (f"- {line}" for line in conditions(sweep))
    if sweep.results:
        yield "- one trial again: `python -m flows.sweep --config-dir <this sweep>/trials/<id> --config-name config`"
    yield ""


def terminal() -> Console:
    """Return where to print: as wide as the terminal, and wide enough for the table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_summary(sweep: Sweep, console: Console) -> None:
    """Print the table of settings and the suggestions in a few lines each."""
    if sweep.groups:
        rows: list[dict[str, str]] = [dict(zip(GROUP_COLUMNS, group_row(group), strict=True)) for group in sweep.groups]
        shown = {
            name: short
            for name, short in TERMINAL_COLUMNS.items()
            if name not in _UNLESS_VARIED or len({row[name] for row in rows}) > 1
        }
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, short in shown.items():
            text = name in ("workload", "disk", "eviction", "buckets", "precision")
            table.add_column(short, no_wrap=True, justify="left" if text else "right")
        for row in rows:
            table.add_row(*(row[name] for name in shown))
        console.print(table)
        console.print()
    if sweep.groups:
        decision = decide(sweep.groups, sweep.failed_settings)
        console.print(decision.sentence, markup=False, highlight=False)
        for note in decision.notes:
            console.print(f"  {note}", markup=False, highlight=False)
    for one in advise(sweep.groups)[:5]:
        said = one.suggestion
        way = f"try {said.override}" if said.override else said.python
        console.print(f"→ {said.title} ({one.about}): {one.expected}; {way}", markup=False, highlight=False)
    for result in sweep.failed:
        console.print(f"✗ {result.label}: {result.reason}", markup=False, highlight=False)
    for path, reason in sweep.unreadable:
        console.print(f"✗ {path} {reason}", markup=False, highlight=False)
    for line in damaged_results(sweep):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
