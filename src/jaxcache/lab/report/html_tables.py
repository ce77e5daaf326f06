"""The tables of ``report.html``: differences, settings, and all trials, which the page's script sorts and filters."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from ..analysis.answer import describe_ratio
from ..analysis.choice import baseline_of, by_policy
from ..analysis.paired_tests import Comparison, compare
from ..analysis.recommendation import Decision
from ..analysis.sweep import Group, Sweep
from ..result import TrialResult
from .rows import GROUP_COLUMNS, group_row, unequal_seeds
from .tables import groups_by_trial

_MOST_SETTINGS = 400
_MIB = 1024**2


def embedded(name: str, value: Any) -> str:
    """Return an element that holds data for the page's script."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def comparisons(groups: Sequence[Group], decision: Decision) -> Iterator[str]:
    """Yield every pair of policies, and each cell against the baseline."""
    if not decision.policies:
        return
    baseline = baseline_of(groups)
    yield '<section id="comparisons"><h2>Differences, and how sure they are</h2>'
    compared = f" ({escape(decision.scope)})" if decision.scope else ""
    yield (
        '<p class="caption">Compile seconds of the first over those of the second, geometric mean over programs and '
        f"limits{compared}, paired by seed, with 95 % intervals of the pair alone. A difference is called one if the "
        f"exact sign-flip test passes Holm’s correction for all {len(decision.policies)} pairs at 5 %.</p>"
    )
    yield from _comparison_table(decision.policies)
    cells = _by_cell(groups, baseline)
    if len(cells) > 1:
        yield f"<details><summary>Each program and limit against {escape(baseline or '')}</summary>"
        yield from _cell_table(cells)
        yield "</details>"
    yield "</section>"


def _by_cell(groups: Sequence[Group], baseline: str | None) -> list[tuple[Group, Comparison]]:
    cells: dict[Any, list[Group]] = {}
    for group in groups:
        cells.setdefault((group.program, group.setting[1:]), []).append(group)
    found = [(members[0], one) for members in cells.values() for one in compare(by_policy(members), baseline)]
    return found[:_MOST_SETTINGS]


def _head(names: Sequence[str], numeric: Sequence[bool]) -> str:
    """Return the opening of a table, up to its body."""
    cells = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{escape(name)}</th>'
        for name, right in zip(names, numeric, strict=True)
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>'


_VERDICT, _VERDICT_NUMERIC = ("ratio", "seeds", "p, corrected", "what may be said"), (True, True, True, False)


def _comparison_table(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield _head(("first", "second", *_VERDICT), (False, False, *_VERDICT_NUMERIC))
    for one in comparisons:
        yield f"<tr><td>{escape(one.first)}</td><td>{escape(one.second)}</td>{_verdict_cells(one)}</tr>"
    yield "</tbody></table></div>"


def _cell_table(cells: list[tuple[Group, Comparison]]) -> Iterator[str]:
    yield _head(("program", "limit", "policy", *_VERDICT), (False, False, False, *_VERDICT_NUMERIC))
    for group, one in cells:
        where = (group.program.label, group.setting.limit, one.first)
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in where)}{_verdict_cells(one)}</tr>"
    yield "</tbody></table></div>"


def _verdict_cells(one: Comparison) -> str:
    style = {"less": "less", "more": "more-than"}.get(one.verdict, "soft")
    said = {"less": f"{one.first} takes less", "more": f"{one.first} takes more"}.get(one.verdict, one.verdict)
    if one.verdict == "too few repeats":
        said += f": {one.repeats_needed} are needed"
    missing = f", {one.missing} pairs missing" if one.missing else ""
    return (
        f'<td class="number">{describe_ratio(one.ratio)}</td><td class="number">{one.repeats}</td>'
        f'<td class="number">{one.adjusted:.3f}</td><td class="{style}">{escape(said + missing)}</td>'
    )


def settings(groups: Sequence[Group]) -> Iterator[str]:
    """Yield the means of each setting."""
    if not groups:
        return
    rows = [group_row(group) for group in groups[:_MOST_SETTINGS]]
    numeric = [all(row[n][:1].isdigit() or row[n] == "–" for row in rows) for n in range(len(GROUP_COLUMNS))]
    style = [' class="number"' if right else "" for right in numeric]
    yield '<section id="settings"><h2>Settings</h2><p class="caption">'
    yield f"Means over the seeds{unequal_seeds(groups)}. Reference compile seconds "
    yield "count each miss at what its program took to compile in full, measured once a sweep; what was really "
    yield "spent stands beside them.</p>" + _head(GROUP_COLUMNS, numeric)
    for row in rows:
        yield "<tr>" + "".join(f"<td{style[n]}>{escape(cell)}</td>" for n, cell in enumerate(row)) + "</tr>"
    yield "</tbody></table></div>"
    if len(groups) > len(rows):
        yield f'<p class="soft">{len(groups) - len(rows)} more settings are in results.csv.</p>'
    yield "</section>"


def _trial_cells(result: TrialResult, group: Group | None, place: int) -> list[tuple[str, int | None, Any]]:
    config, stats, timing, memory = result.config, result.statistics, result.timing, result.memory
    limit = None if config.memory_limit is None else round(config.memory_limit / _MIB, 3)
    setting = group.setting if group else None
    return [
        ("#", 0, place),
        ("status", None, result.status),
        ("eviction", None, setting.eviction if setting else config.eviction.name),
        ("limit MiB", 2, limit),
        ("buckets", None, setting.buckets if setting else "none"),
        ("program", None, group.program.label if group else f"{config.workload.name}, {config.shapes.name}"),
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


def trials(sweep: Sweep) -> Iterator[str]:
    """Yield the table of all trials; its rows are data, which the script fills in as far as they are looked at."""
    if not sweep.results:
        return
    groups = groups_by_trial(sweep)
    table = [_trial_cells(result, groups.get(result.trial_id), n) for n, result in enumerate(sweep.results, 1)]
    columns = [{"name": name, "number": digits is not None, "digits": digits or 0} for name, digits, _ in table[0]]
    heads = "".join(
        f'<th scope="col"{" class=number" if column["number"] else ""}><button type="button">{escape(column["name"])}'
        "</button></th>"
        for column in columns
    )
    yield '<section id="trials"><h2>Trials</h2><p class="caption">In the order in which they were started; a click on '
    yield 'a heading sorts.</p><div class="controls"><label>Filter <input id="trials-filter" type="search" '
    yield 'placeholder="words, such as gdsf monte_carlo"></label><label>Status <select id="trials-status">'
    yield '<option value="">all</option><option>completed</option><option>failed</option></select></label>'
    yield '<span id="trials-count" class="soft" role="status" aria-live="polite"></span></div>'
    yield f'<div class="scroll"><table id="trials-table"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
    yield '<button id="trials-more" class="more" type="button" hidden>Show more</button></section>'
    yield embedded("trials-data", {"columns": columns, "rows": [[value for _, _, value in row] for row in table]})
