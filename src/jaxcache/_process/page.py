"""The page of a watch: one HTML file with the answer first, then what to change, and everything that it rests on."""

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .._primitives.counted import counted
from .bucket_replay import BucketReplay, replay_buckets
from .compile_groups import CompileGroup, answer, changes, group_compiles
from .watch import CompileRecord

if TYPE_CHECKING:
    from .watch import Watch

_MOST_ROWS = 500
_MOST_BARS = 2_000
_TIERS = {"compiled": "#c2571a", "loaded": "#2a7f62", "traced": "#6b7a90"}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Compiles</title>
<style>
:root {{ color-scheme: light dark; --text: #1c2430; --soft: #5c6878; --line: #d9dee6; --back: #fff; --mark: #fff4e8 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e6eaf0; --soft: #9aa7b8; --line: #333c49; --back: #14181f; --mark: #2a211a }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; line-height: 1.3 }} h2 {{ font-size: 1.1rem; margin-top: 2.2rem }}
p.soft, td.soft, caption {{ color: var(--soft) }}
table {{ border-collapse: collapse; width: 100% }} .wide {{ overflow-x: auto }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
code {{ font-size: .9em; overflow-wrap: anywhere }} pre {{ overflow-x: auto; padding: .8rem; background: var(--mark) }}
ol.changes li {{ background: var(--mark); padding: .6rem .9rem; margin: .5rem 0 }}
svg {{ width: 100%; height: auto }} svg text {{ fill: var(--soft); font-size: 11px }}
</style></head><body>
<h1>{answer}</h1>
{changes}
<h2>Where the seconds went</h2>
{totals}
<h2>What compiled</h2>
{groups}
<h2>When</h2>
{timeline}
<h2>What a shared directory would have saved</h2>
{directory}
<h2>What buckets would have saved</h2>
{buckets}
<h2>Every program</h2>
{programs}
</body></html>
"""


def write_page(watched: "Watch", path: str | os.PathLike[str]) -> None:
    """Write the page of a watch.

    Raises:
        OSError: If it cannot be written.
    """
    text = page_of(watched.compiles, watched.traced, watched.seconds)
    Path(path).write_text(text, encoding="utf-8")


def page_of(compiles: Sequence[CompileRecord], traced: Sequence[CompileRecord], run_seconds: float) -> str:
    """Return the page of what was compiled, and traced alone, in so many seconds."""
    groups = group_compiles(compiles)
    return _PAGE.format(
        answer=escape(answer(compiles, traced, run_seconds)),
        changes=_changes(changes(groups)[:3]),
        totals=_totals(compiles, traced, run_seconds),
        groups=_groups(groups[:_MOST_ROWS]),
        timeline=_timeline(compiles, run_seconds),
        directory=_directory(compiles),
        buckets=_buckets(replay_buckets(compiles)[:_MOST_ROWS]),
        programs=_programs(compiles),
    )


def _changes(groups: Sequence[CompileGroup]) -> str:
    if not groups:
        return ""
    items = [
        f"<li><b>{escape(group.where)}</b>: {escape(group.way_out)}. "
        f"<br>{len(group.records)} × {escape(group.title)}, {group.seconds:.1f} s: {escape(_latest(group))}</li>"
        for group in groups
    ]
    return f'<h2>What to change</h2><ol class="changes">{"".join(items)}</ol>'


def _latest(group: CompileGroup) -> str:
    return group.records[-1].reason


def _totals(compiles: Sequence[CompileRecord], traced: Sequence[CompileRecord], run_seconds: float) -> str:
    everything = [*compiles, *traced]
    rows = [
        ("tracing: running the functions", sum(record.tracing_seconds for record in everything)),
        ("lowering: making modules for the compiler", sum(record.lowering_seconds for record in everything)),
        ("compiling", sum(record.compile_seconds for record in everything)),
        ("loading from the persistent cache", sum(record.load_seconds for record in everything)),
    ]
    rows.append(("all else", max(0.0, run_seconds - sum(seconds for _, seconds in rows))))
    return _table(
        ["", "seconds", "of the run"],
        [[name, f"{seconds:.2f}", f"{seconds / run_seconds:.0%}" if run_seconds else ""] for name, seconds in rows],
        numbers={1, 2},
    )


def _groups(groups: Sequence[CompileGroup]) -> str:
    rows = [
        [
            f"<b>{escape(group.title)}</b><br><code>{escape(group.where)}</code>",
            f"{escape(group.cause.replace('_', ' '))}{' – many in a short time' if group.is_storm else ''}",
            str(len(group.records)),
            f"{group.seconds:.2f}",
            escape(_latest(group)) + (f"<br><b>{escape(group.way_out)}</b>" if group.way_out else ""),
        ]
        for group in groups
    ]
    return _table(["function", "cause", "programs", "seconds", "the last one's reason, and what would spare it"], rows,
                  numbers={2, 3}, is_markup=True)  # fmt: skip


def _timeline(compiles: Sequence[CompileRecord], run_seconds: float) -> str:
    if not compiles:
        return '<p class="soft">Nothing to draw.</p>'
    threads = list(dict.fromkeys(record.thread for record in compiles))[:16]
    end = max(run_seconds, max(record.started_seconds + record.seconds for record in compiles), 1e-9)
    longest = sorted(compiles, key=lambda record: -record.seconds)[:_MOST_BARS]
    bars = [
        f'<rect x="{1000 * record.started_seconds / end:.2f}" y="{24 * threads.index(record.thread) + 4}" '
        f'width="{max(0.6, 1000 * record.seconds / end):.2f}" height="16" fill="{_TIERS[record.tier]}">'
        f"<title>{escape(record.call)}: {record.seconds:.3f} s, {escape(record.call_site)}</title></rect>"
        for record in longest
        if record.thread in threads
    ]
    names = [f'<text x="2" y="{24 * row + 34}">{escape(thread)}</text>' for row, thread in enumerate(threads)]
    height = 24 * len(threads) + 26
    axis = (
        f'<text x="0" y="{height - 4}">0 s</text><text x="1000" y="{height - 4}" text-anchor="end">{end:.1f} s</text>'
    )
    shown = names if len(threads) > 1 else []
    return (
        f'<svg viewBox="0 0 1000 {height}" role="img" aria-label="compiles over time">{"".join(bars + shown)}{axis}'
        "</svg>"
        f'<p class="soft">Compiled: orange; loaded: green. A row for each thread; point at a bar for its call.</p>'
    )


def _directory(compiles: Sequence[CompileRecord]) -> str:
    compiled = [record.compile_seconds for record in compiles if record.tier == "compiled"]
    loaded = [record.load_seconds for record in compiles if record.tier == "loaded"]
    if not compiled:
        return "<p>Nothing: all programs were loaded.</p>" if loaded else "<p>Nothing was compiled.</p>"
    mean = f"; a load took {sum(loaded) / len(loaded):.3f} s here" if loaded else ""
    return (
        f"<p>With a shared directory, the next run would load {counted(len(compiled), 'program')} in place of "
        f"{sum(compiled):.1f} s of compiling{mean}; "
        "tracing and lowering stay.</p><pre>python -m jaxcache run --dir /shared/jax script.py</pre>"
    )


def _buckets(replays: Sequence[BucketReplay]) -> str:
    if not replays:
        return "<p>Nothing: no function has programs that differ in one length alone.</p>"
    rows = [
        [f"<code>{escape(replay.signature)}</code><br>{escape(replay.place)}",
         f"{replay.programs} → {len(replay.buckets)}",
         f"{replay.seconds:.2f} → {replay.seconds_with_buckets:.2f}", f"{replay.padding:.0%}",
         f"<code>buckets={replay.buckets}</code>"]
        for replay in replays
    ]  # fmt: skip
    heads = ["function", "programs", "seconds", "more elements", "for jaxcache.bucketed"]
    return (
        "<p>The same calls, each padded to the next of a few lengths; a bucket is taken to compile for as long as its "
        "own length did. How often each program was called is not known here, but to a recording "
        "(<code>--record</code>, then a tuning). The first calls check whether padding leaves the results right.</p>"
        + _table(heads, rows, numbers={1, 2, 3}, is_markup=True)
    )


def _programs(compiles: Sequence[CompileRecord]) -> str:
    costliest = sorted(compiles, key=lambda record: -record.seconds)[:_MOST_ROWS]
    rows = [
        [record.call, record.call_site, record.reason, record.tier, f"{record.tracing_seconds:.3f}",
         f"{record.lowering_seconds:.3f}", f"{record.compile_seconds + record.load_seconds:.3f}",
         f"{record.size_bytes / 1024:.0f}"]
        for record in costliest
    ]  # fmt: skip
    left = len(compiles) - len(costliest)
    note = f'<p class="soft">The {len(costliest)} costliest; {left} more.</p>' if left else ""
    heads = ["call", "called at", "reason", "tier", "tracing s", "lowering s", "compiling or loading s", "KiB"]
    return _table(heads, rows, numbers={4, 5, 6, 7}) + note


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: set[int], is_markup: bool = False) -> str:
    """Return a table; ``numbers`` are the columns that are aligned to the right, texts are escaped unless markup."""

    def cell(kind: str, column: int, text: str) -> str:
        attribute = ' class="number"' if column in numbers else ""
        return f"<{kind}{attribute}>{text if is_markup and kind == 'td' else escape(text)}</{kind}>"

    head = "".join(cell("th", column, text) for column, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', column, text) for column, text in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
