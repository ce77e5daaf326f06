"""One aggregate -> report.md, its plot, and the same tables for the terminal."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .._bytesize import format_size
from .._suggest import Suggestion
from .advice import advise
from .aggregate import Group, Sweep, read_sweep
from .plot import tradeoff
from .trial import TrialResult

REPORT, PLOT_SVG, PLOT_PNG = "report.md", "tradeoff.svg", "tradeoff.png"

GROUP_COLUMNS = (
    "workload", "shapes", "precision", "disk", "buckets", "limit", "eviction", "seeds", "hit rate", "misses",
    "disk hits", "evictions", "reference compile s", "nothing evicted", "nothing cached", "spent compiling s",
    "running s", "padding", "held at end", "peak memory", "calls/s", "p50 ms", "p99 ms",
)  # fmt: skip
TRIAL_COLUMNS = (
    "trial", "status", "hit rate", "misses", "disk hits", "compiled", "evictions", "reference compile s",
    "spent compiling s", "held at end", "limit", "peak memory", "calls/s", "p50 ms", "p99 ms", "device", "id",
)  # fmt: skip
# The terminal has less room than a page.
TERMINAL_COLUMNS = {
    "workload": "workload", "precision": "precision", "buckets": "buckets", "limit": "limit",
    "eviction": "eviction", "seeds": "seeds", "hit rate": "hits", "misses": "misses", "disk hits": "disk",
    "evictions": "evicted", "reference compile s": "compile s", "nothing evicted": "at best",
    "nothing cached": "uncached", "running s": "run s", "calls/s": "calls/s", "p99 ms": "p99 ms",
}  # fmt: skip
_UNLESS_VARIED = {"precision", "buckets"}  # left out of the terminal's table where all trials have the same


def write_report(directory: Path) -> Sweep:
    """Read a sweep's files and write its report and plot beside them; return what was read.

    Raises:
        FileNotFoundError: If the directory is not a sweep's.
    """
    sweep = read_sweep(directory)
    chart = tradeoff(sweep.groups)
    if chart is not None:
        chart.save(directory / PLOT_SVG)
        chart.save(directory / PLOT_PNG, ppi=144)
    (directory / REPORT).write_text("\n".join(markdown(sweep, plotted=chart is not None)) + "\n")
    return sweep


def group_row(group: Group) -> tuple[str, ...]:
    """Return a group's cells in the order of ``GROUP_COLUMNS``: means over its seeds."""
    frame = group.frame
    return (
        group.program.workload,
        group.program.shapes,
        group.program.precision,
        group.program.persistent,
        group.setting.buckets,
        _limit(group.setting.memory_limit),
        group.setting.eviction,
        str(len(group.results)),
        f"{group.mean('hit_rate'):.1%}",
        f"{group.mean('misses'):.0f}",
        f"{group.mean('disk_hits'):.0f}",
        f"{group.mean('evictions'):.0f}",
        f"{group.mean('cost_seconds'):.2f}",
        f"{frame.unbounded_seconds:.2f}" if frame else "–",
        f"{frame.uncached_seconds:.2f}" if frame else "–",
        f"{group.mean('compile_seconds'):.2f}",
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
        _limit(result.config.memory_limit),
        format_size(memory.peak_rss_bytes),
        f"{timing.calls_per_second:.1f}",
        f"{1000 * timing.p50_seconds:.1f}",
        f"{1000 * timing.p99_seconds:.0f}",
        result.device or "–",
        result.trial_id,
    )


def _limit(limit_bytes: int | None) -> str:
    return "none" if limit_bytes is None else format_size(limit_bytes)


def headline(sweep: Sweep) -> str:
    """Return how the sweep went, in a sentence."""
    done = len(sweep.results) - len(sweep.failed)
    planned = len(sweep.manifest.order) if sweep.manifest else len(sweep.results)
    parts = [f"{done} of {planned} trials succeeded"]
    if sweep.failed:
        parts.append(f"{len(sweep.failed)} failed")
    if planned > len(sweep.results):
        parts.append(f"{planned - len(sweep.results)} did not run")
    return ", ".join(parts)


def markdown(sweep: Sweep, plotted: bool) -> Iterator[str]:
    """Yield the lines of ``report.md``."""
    manifest = sweep.manifest
    yield from (f"# Sweep {sweep.directory.name}", "", f"{headline(sweep)}.")
    if manifest and manifest.ended not in (None, "completed", "failed"):
        yield f"The sweep was {manifest.ended}: what follows is what it had done by then."
    if manifest and manifest.run_url:
        yield f"In the Prefect UI: {manifest.run_url}"
    yield ""
    if not sweep.groups:
        yield "No trial succeeded, so there is nothing to compare."
        yield ""
    if plotted:
        yield from (f"![Reference compile seconds against the memory limit]({PLOT_SVG})", "")
    if sweep.groups:
        yield from ("## By setting", "", "Means over the seeds.", "")
        yield from _table(GROUP_COLUMNS, [group_row(group) for group in sweep.groups])
        yield from _how_to_read()
        yield from _suggestions(advise(sweep.groups))
    yield from _profiles(sweep)
    if sweep.failed:
        yield from _failures(sweep)
    if sweep.results:
        yield from ("## Trials, in the order in which they were started", "")
        yield from _table(TRIAL_COLUMNS, [trial_row(result) for result in sweep.results])
    if sweep.unreadable:
        yield from ("## Files that cannot be read", "", *(f"- `{name}`" for name in sweep.unreadable), "")
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


def _suggestions(advice: list[tuple[str, Suggestion]]) -> Iterator[str]:
    yield from ("## Suggestions", "")
    if not advice:
        yield from ("Nothing to gain: no rule found anything worth a second.", "")
    for about, one in advice:
        yield f"- **{one.title}.** *{one.rule}; {about}*"
        yield f"  - evidence: {one.evidence}"
        yield f"  - to expect: {one.effect}"
        yield f"  - try `{one.override}`, in a program `{one.python}`"
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
        yield f"- persistent cache: {', '.join(sweep.manifest.persistent)}"
        if sweep.manifest.wall_seconds is not None:
            yield f"- wall time: {sweep.manifest.wall_seconds:.1f} s"
    if sweep.results:
        seen = sweep.results[0].environment
        commit = (
            "no git" if seen.git_commit is None else seen.git_commit[:12] + (" with changes" if seen.git_dirty else "")
        )
        yield f"- {', '.join(f'{name} {version}' for name, version in seen.packages.items())}; Python {seen.python}"
        yield f"- {seen.processor}, {seen.cores} cores, {seen.system}"
        yield f"- commit {commit}, lock file {(seen.lock_hash or 'none')[:12]}"
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
            text = name in ("workload", "eviction", "buckets", "precision")
            table.add_column(short, no_wrap=True, justify="left" if text else "right")
        for row in rows:
            table.add_row(*(row[name] for name in shown))
        console.print(table)
        console.print()
    for about, one in advise(sweep.groups)[:5]:
        console.print(f"→ {one.title} ({about}): {one.effect}; try {one.override}", markup=False, highlight=False)
    for result in sweep.failed:
        console.print(f"✗ {result.label}: {result.reason}", markup=False, highlight=False)
