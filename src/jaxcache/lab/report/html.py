"""One aggregate -> ``report.html``: everything inside, so that it opens from disk and asks nobody for anything."""

from collections.abc import Iterator, Sequence
from html import escape
from statistics import fmean

from ..._primitives.sizes import format_size
from ..analysis.recommendation import Decision, decide
from ..analysis.suggestions import Advice, advise
from ..analysis.sweep import Group, Sweep
from .charts import Figure, figures
from .html_tables import comparisons, embedded, settings, trials
from .images import WEB, themes
from .rows import conditions, damaged_results, headline
from .vega import vega_scripts

PAGE = "report.html"
_MOST_FAILURES = 50
# No address but the page's own is ever asked for; Vega compiles its expressions, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def page(sweep: Sweep) -> str:
    """Return the report as one HTML document."""
    decision, advice = decide(sweep.groups, sweep.failed_settings), advise(sweep.groups)
    drawn = figures(sweep.groups, decision.setting)
    return "\n".join(_document(sweep, decision, advice, drawn))


def _inside_script(text: str) -> str:
    """Return a script that cannot end the element it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _document(sweep: Sweep, decision: Decision, advice: list[Advice], drawn: list[Figure]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<link rel="icon" href="data:,">'
    yield f"<title>{escape(sweep.directory.name)} · jaxcache</title>"
    yield f"<style>\n{(WEB / 'page.css').read_text()}</style>\n</head>\n<body>"
    yield from _head(sweep)
    yield from _navigation(sweep, advice, drawn)
    yield "<main>"
    yield from answer(decision)
    yield from _gaps(sweep)
    for figure in drawn[:1]:
        yield from _figure(figure, drawn)
    yield from _suggestions(sweep, advice)
    for figure in drawn[1:4]:
        yield from _figure(figure, drawn)
    yield from comparisons(sweep.groups, decision)
    for figure in drawn[4:]:
        yield from _figure(figure, drawn)
    yield from settings(sweep.groups)
    yield from trials(sweep)
    yield from _failures(sweep)
    yield from _conditions(sweep)
    yield "<footer>Made by jaxcache; the same numbers are in <code>report.md</code>, <code>results.csv</code> and "
    yield "<code>results.parquet</code>, one row a trial.</footer>\n</main>"
    yield embedded("themes", themes())
    yield embedded("charts", [panel.spec for figure in drawn for panel in figure.panels])
    if drawn:
        yield f"<script>{_inside_script(vega_scripts())}</script>"
    yield f"<script>{_inside_script((WEB / 'page.js').read_text())}</script>\n</body>\n</html>"


def _head(sweep: Sweep) -> Iterator[str]:
    manifest = sweep.manifest
    chips = [escape(headline(sweep))]
    if manifest:
        chips.append(f"started {escape(manifest.started_at.replace('T', ' ')[:16])}")
        if manifest.wall_seconds is not None:
            chips.append(f"trials took {manifest.wall_seconds:.0f} s")
        chips.append(f"persistent cache: {escape(', '.join(manifest.persistent))}")
        if manifest.ended not in ("completed", "failed"):
            chips.append(f'<b class="bad">{escape(manifest.ended or "not ended")}</b>')
    yield f'<header class="top"><h1>Sweep {escape(sweep.directory.name)}</h1><p class="chips">'
    yield "".join(f"<span>{chip}</span>" for chip in chips) + "</p></header>"


def _navigation(sweep: Sweep, advice: list[Advice], drawn: list[Figure]) -> Iterator[str]:
    short = {"tradeoff": "Limit", "pareto": "Bytes", "time": "Time", "policies": "Policy × workload",
             "causes": "Misses", "memory": "Memory", "latency": "Latency", "lengths": "Lengths"}  # fmt: skip
    links = [("answer", "Answer"), *((figure.name, short[figure.name]) for figure in drawn)]
    links.insert(2, ("suggestions", f"Suggestions ({len(advice)})"))
    links += [("settings", "Settings")] * bool(sweep.groups) + [("trials", "Trials")] * bool(sweep.results)
    links += [("failures", f"Failures ({len(sweep.failed)})")] * bool(sweep.failed)
    links += [("conditions", "Reproduce")]
    items = "".join(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in links)
    yield f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def answer(decision: Decision) -> Iterator[str]:
    """Yield the sentence, its notes, the lines to paste, and the figures of the recommended setting."""
    yield f'<div class="answer" id="answer"><p class="sentence">{escape(decision.sentence)}</p>'
    if decision.notes:
        yield f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in decision.notes)}</ul>'
    if decision.setting is not None:
        override, python = decision.override, decision.python
        yield f'<dl class="apply"><dt>in a sweep</dt><dd><code>{escape(override)}</code></dd>'
        yield f"<dt>in a program</dt><dd><code>{escape(python)}</code></dd></dl>"
    yield "</div>"
    yield from _tiles(decision)


def _tiles(decision: Decision) -> Iterator[str]:
    groups, setting = decision.chosen, decision.setting
    if setting is None:
        return
    among = " with these buckets" if setting.buckets != "none" or decision.buckets else ""
    seconds = _mean(groups, "cost_seconds")
    tiles = [
        (f"{seconds:.1f} s", "reference compile seconds a run"),
        (f"{_mean(groups, 'hit_rate'):.0%}", "of calls are hits"),
        (format_size(int(max(group.mean("peak_bytes") for group in groups))), f"held at most, of {setting.limit}"),
    ]
    frames = [group.frame for group in groups if group.frame is not None]
    if len(frames) == len(groups):
        uncached = fmean(frame.uncached_seconds for frame in frames)
        unbounded = fmean(frame.unbounded_seconds for frame in frames)
        tiles.insert(1, (f"{1 - seconds / uncached:.0%}" if uncached else "–", "less than a compile at every call"))
        tiles.append((f"{unbounded:.1f} s", f"with nothing evicted, the least there is{among}"))
    bounds = [group.bound_seconds for group in groups if group.bound_seconds is not None]
    if len(bounds) == len(groups):
        tiles.append((f"{fmean(bounds):.1f} s", f"bound: no policy is lower at this limit{among}"))
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    yield f'<p class="caption">{escape(setting.label)}, means over {escape(_averaged(decision))}:</p>'
    yield f'<div class="tiles">{cells}</div>'


def _averaged(decision: Decision) -> str:
    """Return what the tiles are means over."""
    groups = decision.chosen
    if decision.scope:
        return decision.scope
    where = groups[0].program.label if len(groups) == 1 else f"{len(groups)} programs"
    if len({group.seeds for group in groups}) > 1:
        return f"{where} and their seeds"
    seeds = len(groups[0].seeds)
    return f"{where} and {seeds} seed{'s' * (seeds > 1)}"


def _mean(groups: Sequence[Group], name: str) -> float:
    return fmean(group.mean(name) for group in groups)


def _gaps(sweep: Sweep) -> Iterator[str]:
    """What is not there, and why."""
    lines = [f"<code>{escape(path)}</code> {escape(reason)}" for path, reason in sweep.unreadable[:_MOST_FAILURES]]
    if len(sweep.unreadable) > _MOST_FAILURES:
        lines.append(f"and {len(sweep.unreadable) - _MOST_FAILURES} more files that cannot be read")
    if damaged := damaged_results(sweep):
        lines.append(" ".join(escape(line) for line in damaged))
    planned = len(sweep.manifest.order) if sweep.manifest else 0
    if sweep.manifest is None:
        lines.append("<code>sweep.json</code> cannot be read: the command, the order and the plan are not known")
    if planned > len(sweep.results):
        lines.append(f"{planned - len(sweep.results)} of {planned} trials left no result that can be read")
    if sweep.groups and any(group.frame is None for group in sweep.groups):
        lines.append(
            "some programs have no reference run at the prices of their trials: the frame of no cache and no limit is "
            "not shown for them"
        )
    if sweep.groups and all(result.course is None for group in sweep.groups for result in group.results):
        lines.append(
            "the results are of an older version, without memory over time, latency by source, time by part and lengths"
        )
    if lines:
        items = "".join(f"<li>{one}</li>" for one in lines)
        yield f'<section id="missing"><h2>What is missing</h2><ul>{items}</ul></section>'


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
        yield f'<div class="advice"><h3>{escape(said.title)}</h3><p class="about soft">'
        yield f"{escape(said.rule)} · "
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


def _failures(sweep: Sweep) -> Iterator[str]:
    if not sweep.failed:
        return
    yield '<section id="failures"><h2>Failed trials</h2>'
    for result in sweep.failed[:_MOST_FAILURES]:
        tail = "\n".join(result.stderr_tail.strip().splitlines()[-20:])
        said = f"<details><summary>the end of its output</summary><pre><code>{escape(tail)}</code></pre></details>"
        yield f'<div class="advice"><h3>{escape(result.label)}</h3><p class="about">'
        yield f"{escape(result.reason or 'no reason')} "
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
