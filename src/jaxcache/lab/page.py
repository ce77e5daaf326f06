"""One aggregate -> ``report.html``: everything inside, so that it opens from disk and asks nobody for anything."""

import functools
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from .._bytesize import format_size
from .advice import Advice, advise
from .aggregate import Group, Sweep
from .charts import Figure, figures
from .comparison import Comparison, compare
from .decision import Decision, baseline_of, by_policy, decide, describe_ratio
from .export import groups_by_trial
from .tables import GROUP_COLUMNS, conditions, group_row, headline
from .trial import TrialResult

PAGE = "report.html"
_WEB = Path(__file__).with_name("web")
_MOST_FAILURES, _MOST_SETTINGS = 50, 400
# No address but the page's own is ever asked for; Vega compiles its expressions, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
# Of the table of trials: heading, digits behind the point (None for text), value.
_MIB = 1024**2


def page(sweep: Sweep) -> str:
    """Return the report as one HTML document."""
    decision, advice = decide(sweep.groups), advise(sweep.groups)
    drawn = figures(sweep.groups, decision.setting)
    return "\n".join(_document(sweep, decision, advice, drawn))


@functools.cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed in one script."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def _inside_script(text: str) -> str:
    """Return a script that cannot end the element it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _data(name: str, value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _document(sweep: Sweep, decision: Decision, advice: list[Advice], drawn: list[Figure]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<link rel="icon" href="data:,">'
    yield f"<title>{escape(sweep.directory.name)} · jaxcache</title>"
    yield f"<style>\n{(_WEB / 'page.css').read_text()}</style>\n</head>\n<body>"
    yield from _head(sweep)
    yield from _navigation(sweep, advice, drawn)
    yield "<main>"
    yield from _answer(decision)
    yield from _tiles(decision)
    yield from _gaps(sweep)
    yield from _suggestions(sweep, advice)
    for figure in drawn[:4]:
        yield from _figure(figure, drawn)
    yield from _comparisons(sweep.groups, decision)
    for figure in drawn[4:]:
        yield from _figure(figure, drawn)
    yield from _settings(sweep.groups)
    yield from _trials(sweep)
    yield from _failures(sweep)
    yield from _conditions(sweep)
    yield "<footer>Made by jaxcache; the same numbers are in <code>report.md</code>, <code>results.csv</code> and "
    yield "<code>results.parquet</code>, one row a trial.</footer>\n</main>"
    yield _data("charts", [panel.spec for figure in drawn for panel in figure.panels])
    if drawn:
        yield f"<script>{_inside_script(_vega())}</script>"
    yield f"<script>{_inside_script((_WEB / 'page.js').read_text())}</script>\n</body>\n</html>"


def _head(sweep: Sweep) -> Iterator[str]:
    manifest = sweep.manifest
    chips = [escape(headline(sweep))]
    if manifest:
        chips.append(f"started {escape(manifest.started_at.replace('T', ' ')[:16])}")
        if manifest.wall_seconds is not None:
            chips.append(f"{manifest.wall_seconds:.0f} s")
        chips.append(f"persistent cache: {escape(', '.join(manifest.persistent))}")
        if manifest.ended not in ("completed", "failed"):
            chips.append(f'<b class="bad">{escape(manifest.ended or "not ended")}</b>')
    yield f'<header class="top"><h1>Sweep {escape(sweep.directory.name)}</h1><p class="chips">'
    yield "".join(f"<span>{chip}</span>" for chip in chips) + "</p></header>"


def _navigation(sweep: Sweep, advice: list[Advice], drawn: list[Figure]) -> Iterator[str]:
    short = {"tradeoff": "Limit", "pareto": "Bytes", "time": "Time", "policies": "Policy × workload", "causes": "Misses",
             "memory": "Memory", "latency": "Latency", "lengths": "Lengths"}  # fmt: skip
    links = [("answer", "Answer"), ("suggestions", f"Suggestions ({len(advice)})")]
    links += [(figure.name, short[figure.name]) for figure in drawn]
    links += [("settings", "Settings")] * bool(sweep.groups) + [("trials", "Trials")] * bool(sweep.results)
    links += [("failures", f"Failures ({len(sweep.failed)})")] * bool(sweep.failed)
    links += [("conditions", "Reproduce")]
    items = "".join(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in links)
    yield f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def _answer(decision: Decision) -> Iterator[str]:
    yield f'<div class="answer" id="answer"><p class="sentence">{escape(decision.sentence)}</p>'
    if decision.notes:
        yield f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in decision.notes)}</ul>'
    if decision.setting is not None:
        override, python = decision.override, decision.python
        yield f'<dl class="apply"><dt>in a sweep</dt><dd><code>{escape(override)}</code></dd>'
        yield f"<dt>in a program</dt><dd><code>{escape(python)}</code></dd></dl>"
    yield "</div>"


def _tiles(decision: Decision) -> Iterator[str]:
    group = decision.setting
    if group is None:
        return
    tiles = [
        (f"{group.mean('cost_seconds'):.1f} s", "reference compile seconds a run"),
        (f"{group.mean('hit_rate'):.0%}", "of calls are hits"),
        (format_size(int(group.mean("peak_bytes"))), f"held at most, of {group.setting.limit}"),
    ]
    if group.frame:
        share = 1 - group.mean("cost_seconds") / group.frame.uncached_seconds if group.frame.uncached_seconds else 0.0
        tiles.insert(1, (f"{share:.0%}", "less than a compile at every call"))
        tiles.append((f"{group.frame.unbounded_seconds:.1f} s", "with nothing evicted, the least there is"))
    if group.bound_seconds is not None:
        tiles.append((f"{group.bound_seconds:.1f} s", "bound: no policy is lower at this limit"))
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    yield f'<p class="caption">{escape(group.program.label)}, {escape(group.setting.label)}, means over '
    yield f'{len(group.results)} seed{"s" * (len(group.results) > 1)}:</p><div class="tiles">{cells}</div>'


def _gaps(sweep: Sweep) -> Iterator[str]:
    """What is not there, and why."""
    lines = [f"<code>{escape(path)}</code> {escape(reason)}" for path, reason in sweep.unreadable[:_MOST_FAILURES]]
    if len(sweep.unreadable) > _MOST_FAILURES:
        lines.append(f"and {len(sweep.unreadable) - _MOST_FAILURES} more files that cannot be read")
    planned = len(sweep.manifest.order) if sweep.manifest else 0
    if sweep.manifest is None:
        lines.append("<code>sweep.json</code> cannot be read: the command, the order and the plan are not known")
    if planned > len(sweep.results):
        lines.append(f"{planned - len(sweep.results)} of {planned} trials left no result that can be read")
    if sweep.groups and any(group.frame is None for group in sweep.groups):
        lines.append("some programs have no reference run: their charts lack the frame of no cache and no limit")
    if sweep.groups and all(result.course is None for group in sweep.groups for result in group.results):
        lines.append(
            "the results are of an older version, without memory over time, latency by source, time by part and lengths"
        )
    if lines:
        yield f'<section id="missing"><h2>What is missing</h2><ul>{"".join(f"<li>{one}</li>" for one in lines)}</ul></section>'


def _suggestions(sweep: Sweep, advice: list[Advice]) -> Iterator[str]:
    yield '<section id="suggestions"><h2>Suggestions</h2>'
    if not sweep.groups:
        yield '<p class="caption">Without a successful trial there is no evidence for any.</p>'
    elif not advice:
        yield '<p class="caption">Nothing to gain: no rule found anything worth a second.</p>'
    for one in advice:
        said = one.suggestion
        rows = [
            ("evidence", escape(said.evidence)),
            ("expected", escape(one.expected)),
            ("checked", escape(one.checked)),
        ]
        if said.override:
            rows.append(("try", f"<code>{escape(said.override)}</code>"))
        rows.append(("in a program", f"<code>{escape(said.python)}</code>"))
        cells = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows)
        yield f'<div class="advice"><h3>{escape(said.title)}</h3><p class="soft" style="margin:0">{escape(said.rule)} · '
        yield f"{escape(one.about)}</p><dl>{cells}</dl></div>"
    yield "</section>"


def _figure(figure: Figure, drawn: list[Figure]) -> Iterator[str]:
    first = sum(len(one.panels) for one in drawn[: drawn.index(figure)])
    yield f'<section id="{figure.name}"><h2>{escape(figure.title)}</h2><p class="caption">{escape(figure.caption)}</p>'
    yield '<div class="panels">'
    for place, panel in enumerate(figure.panels, first):
        title = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
        label = escape(f"{figure.title}: {panel.title}" if panel.title else figure.title, quote=True)
        yield f'<figure>{title}<div class="chart" data-chart="{place}" role="img" aria-label="{label}">'
        yield "<noscript>Charts need JavaScript; the tables below hold the same numbers.</noscript></div></figure>"
    yield "</div>"
    if figure.left_out:
        yield f'<p class="soft">{figure.left_out} more programs are in the tables.</p>'
    yield "</section>"


def _comparisons(groups: Sequence[Group], decision: Decision) -> Iterator[str]:
    if not decision.policies:
        return
    baseline = baseline_of(groups)
    yield '<section id="comparisons"><h2>Differences, and how sure they are</h2>'
    yield (
        '<p class="caption">Compile seconds of the first over those of the second, geometric mean over programs and '
        "limits, paired by seed, with 95 % intervals of the pair alone. A difference is called one if the exact sign-flip "
        f"test passes Holm’s correction for all {len(decision.policies)} pairs at 5 %.</p>"
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


def _comparison_table(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr><th>first</th><th>second</th><th class="number">ratio</th>'
    yield '<th class="number">seeds</th><th class="number">p, corrected</th><th>what may be said</th></tr></thead><tbody>'
    for one in comparisons:
        yield f"<tr><td>{escape(one.first)}</td><td>{escape(one.second)}</td>{_verdict_cells(one)}</tr>"
    yield "</tbody></table></div>"


def _cell_table(cells: list[tuple[Group, Comparison]]) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr><th>program</th><th>limit</th><th>policy</th><th class="number">ratio</th>'
    yield '<th class="number">seeds</th><th class="number">p, corrected</th><th>what may be said</th></tr></thead><tbody>'
    for group, one in cells:
        where = (
            f"<td>{escape(group.program.label)}</td><td>{escape(group.setting.limit)}</td><td>{escape(one.first)}</td>"
        )
        yield f"<tr>{where}{_verdict_cells(one)}</tr>"
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


def _settings(groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        return
    rows = [group_row(group) for group in groups[:_MOST_SETTINGS]]
    numeric = [all(row[n][:1].isdigit() or row[n] == "–" for row in rows) for n in range(len(GROUP_COLUMNS))]
    style = [' class="number"' if right else "" for right in numeric]
    yield '<section id="settings"><h2>Settings</h2><p class="caption">Means over the seeds. Reference compile seconds count '
    yield "each miss at what its program took to compile in full, measured once a sweep; what was really spent stands "
    yield 'beside them.</p><div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{style[n]}>{escape(name)}</th>" for n, name in enumerate(GROUP_COLUMNS)) + "</tr></thead><tbody>"
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


def _trials(sweep: Sweep) -> Iterator[str]:
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
    yield '<section id="trials"><h2>Trials</h2><p class="caption">In the order in which they were started; a click on a '
    yield 'heading sorts.</p><div class="controls"><label>Filter <input id="trials-filter" type="search" '
    yield 'placeholder="words, such as gdsf monte_carlo"></label><label>Status <select id="trials-status">'
    yield '<option value="">all</option><option>completed</option><option>failed</option></select></label>'
    yield '<span id="trials-count" class="soft" role="status" aria-live="polite"></span></div>'
    yield f'<div class="scroll"><table id="trials-table"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
    yield '<button id="trials-more" class="more" type="button" hidden>Show more</button></section>'
    yield _data("trials-data", {"columns": columns, "rows": [[value for _, _, value in row] for row in table]})


def _failures(sweep: Sweep) -> Iterator[str]:
    if not sweep.failed:
        return
    yield '<section id="failures"><h2>Failed trials</h2>'
    for result in sweep.failed[:_MOST_FAILURES]:
        tail = "\n".join(result.stderr_tail.strip().splitlines()[-20:])
        said = f"<details><summary>the end of its output</summary><pre><code>{escape(tail)}</code></pre></details>"
        yield f'<div class="advice"><h3>{escape(result.label)}</h3><p style="margin:0">{escape(result.reason or "no reason")} '
        yield f'<span class="soft">(<code>{escape(result.trial_id)}</code>)</span></p>{said if tail else ""}</div>'
    if len(sweep.failed) > _MOST_FAILURES:
        yield f'<p class="soft">{len(sweep.failed) - _MOST_FAILURES} more are in results.csv with their reasons.</p>'
    yield "</section>"


def _conditions(sweep: Sweep) -> Iterator[str]:
    yield '<section id="conditions"><h2>Environment, and how to run it again</h2>'
    name = escape(sweep.directory.name)
    commands = [escape(sweep.manifest.command)] if sweep.manifest else []
    commands += [
        f"python -m flows.report outputs/{name}  # this report again, without running anything",
        f"python -m flows.sweep --config-dir outputs/{name}/trials/&lt;id&gt; --config-name config  # one trial again",
    ]
    yield "<pre><code>" + "\n".join(commands) + "</code></pre>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in conditions(sweep)) + "</ul></section>"
