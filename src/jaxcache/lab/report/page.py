"""Findings of a sweep -> ``report.html``: everything inside, so that it opens from disk and asks nobody for anything.

The page is made from Jinja2 templates with autoescape; this module says what goes into them.
"""

import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
from markupsafe import Markup

from ... import format_size
from ..analysis.answer import describe_no_limit
from ..analysis.findings import Findings
from ..analysis.map_choice import MapChoice
from ..analysis.map_words import how_chosen, limit_text, what_was_run
from ..analysis.recommendation import Decision
from ..analysis.sweep import Group, Sweep
from ..counted import counted
from . import page_tables
from .charts import Figure, figures
from .commands import command_like
from .images import WEB, themes
from .markdown import NOTHING_TO_CHANGE
from .program_rows import program_rows
from .rows import conditions, damaged_results, headline
from .vega import vega_scripts

_TEMPLATES = Path(__file__).with_name("templates")
_MOST_FAILURES = 50
_TAIL_LINES = 20
_DIRECTORY = "sweep.directory="  # as a command names it
# No address but the page's own is ever asked for; Vega compiles its expressions, hence unsafe-eval.
SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_SHORT = {
    "policies": "Policy × workload", "time": "Time", "causes": "Misses", "memory": "Memory", "latency": "Latency",
    "lengths": "Lengths",
}  # fmt: skip


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["embedded"] = _embedded
    environment.filters["script"] = _inside_script
    environment.filters["counted"] = counted
    return environment


def _embedded(value: Any) -> Markup:
    """Return data for the page's script, as JSON that cannot end the element it stands in."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _inside_script(text: str) -> Markup:
    """Return a script that cannot end the element it stands in."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def render(template: str, **content: Any) -> str:
    """Return a template of the pages with its content, which is escaped."""
    return _environment().get_template(template).render(content)


def page(findings: Findings) -> str:
    """Return the report as one HTML document."""
    return render("page.html.j2", **_context(findings))


def answer(findings: Findings) -> str:
    """Return the part of the page with the sentence, its notes, the lines to paste, and the figures beside them."""
    return render("answer.html.j2", **_answer(findings))


def _context(findings: Findings) -> dict[str, Any]:
    sweep, every_figure = findings.sweep, figures(findings)
    numbered, charts = _numbered(every_figure)
    trials, comparisons = page_tables.trials(sweep), page_tables.comparisons(findings)
    settings = page_tables.settings(sweep.groups)
    has_map = bool(every_figure) and every_figure[0].name == "map"
    evidence = numbered[1:] if has_map else numbered
    return {
        **_answer(findings),
        "security_policy": SECURITY_POLICY,
        "name": sweep.directory.name,
        "style": Markup((WEB / "page.css").read_text()),
        "chips": list(_chips(sweep)),
        "sections": list(_sections(findings, evidence, comparisons is not None, has_map)),
        "missing": list(_gaps(sweep)),
        "map": numbered[0] if has_map else None,
        "points": None if findings.choice is None else page_tables.points_table(findings.choice),
        "how_chosen": "" if findings.choice is None else how_chosen(findings.choice),
        "maps": page_tables.map_tables(findings.maps),
        "has_trials": bool(sweep.groups),
        "nothing_to_change": NOTHING_TO_CHANGE,
        "advice": findings.advice,
        "figures": evidence,
        "comparisons": comparisons,
        "settings": settings,
        "programs": page_tables.programs(sweep),
        "trials": trials,
        "failures": _failures(sweep),
        "failures_left_out": max(0, len(sweep.failed) - _MOST_FAILURES),
        "commands": _commands(sweep),
        "conditions": conditions(sweep),
        "themes": themes(),
        "charts": charts,
        "vega": vega_scripts() if charts else "",
        "behaviour": (WEB / "page.js").read_text(),
    }


def _numbered(every_figure: Sequence[Figure]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the figures as the templates take them, and the specifications that their panels number."""
    charts: list[dict[str, Any]] = []
    numbered: list[dict[str, Any]] = []
    for figure in every_figure:
        panels = []
        for panel in figure.panels:
            panels.append({"number": len(charts), "title": panel.title, "alternative": panel.alternative})
            charts.append({**panel.spec, "description": panel.alternative})  # Vega makes it the chart's label
        numbered.append({
            "name": figure.name, "title": figure.title, "sentence": figure.sentence, "caption": figure.caption,
            "panels": panels, "left_out": figure.left_out,
        })  # fmt: skip
    return numbered, charts


def _chips(sweep: Sweep) -> Iterator[dict[str, Any]]:
    manifest = sweep.manifest
    yield {"text": headline(sweep), "is_bad": False}
    if manifest is None:
        return
    yield {"text": f"started {manifest.started_at.replace('T', ' ')[:16]} UTC", "is_bad": False}
    if manifest.wall_seconds is not None:
        yield {"text": f"trials took {manifest.wall_seconds:.0f} s", "is_bad": False}
    yield {"text": f"persistent cache: {', '.join(manifest.persistent)}", "is_bad": False}
    if manifest.ended not in ("completed", "failed"):
        yield {"text": manifest.ended or "not finished", "is_bad": True}


def _sections(
    findings: Findings, evidence: list[dict[str, Any]], compared: bool, has_map: bool
) -> Iterator[tuple[str, str]]:
    """Yield what the navigation leads to."""
    sweep = findings.sweep
    yield ("answer", "Answer")
    if has_map:
        yield ("map", "Map")
    yield ("suggestions", f"What to change ({len(findings.advice)})")
    yield from ((figure["name"], _SHORT[figure["name"]]) for figure in evidence)
    if compared:
        yield ("comparisons", "Differences")
    if sweep.groups:
        yield ("settings", "Settings")
    if program_rows(sweep):
        yield ("programs", "Whole runs")
    if sweep.results:
        yield ("trials", "Trials")
    if sweep.failed:
        yield ("failures", f"Failures ({len(sweep.failed)})")
    yield ("conditions", "Reproduce")


def _answer(findings: Findings) -> dict[str, Any]:
    """Return what the part with the answer takes."""
    choice = findings.choice
    warning = findings.agreement if findings.is_contradicted else ""
    notes = [note for note in findings.notes if note != warning]
    lead = ""
    if choice is not None:
        lead, *notes = notes
    caption, tiles = ("", []) if findings.setting is None else _tiles(findings)
    return {
        "warning": warning,
        "sentence": findings.sentence,
        "lead": lead,
        "notes": notes,
        "override": "" if findings.setting is None else findings.override,
        "python": "" if findings.setting is None else findings.python,
        "tiles": tiles,
        "tiles_caption": caption,
    }


def _tiles(findings: Findings) -> tuple[str, list[tuple[str, str]]]:
    return _measured_tiles(findings.decision) if findings.choice is None else _map_tiles(findings.choice)


def _map_tiles(choice: MapChoice) -> tuple[str, list[tuple[str, str]]]:
    """Return the figures of the setting to take, by the map."""
    point, joint = choice.point, choice.joint
    basis = "measured" if point.measured_seconds is not None else "replayed"
    tiles = [(f"{point.seconds:.1f} s", f"of compiling a run, {basis}")]
    if choice.best_run is not None and choice.best_run != choice.setting:
        tiles.append(
            (f"{choice.best_run_seconds:.1f} s", f"{what_was_run(choice)[0]}: {choice.best_run.label}, measured")
        )
    tiles += [
        (f"{point.bound_seconds:.1f} s", "bound: no policy is lower at this limit"),
        (f"{joint.unlimited_seconds:.1f} s", describe_no_limit(joint.buckets)),
    ]
    if point.limit_bytes is not None:
        limit = format_size(point.limit_bytes)
        tiles.append((f"{limit} / {format_size(joint.working_set_bytes)}", "limit / working set"))
    programs = joint.maps[0].program.label if len(joint.maps) == 1 else f"{len(joint.maps)} programs"
    seeds = len(joint.maps[0].seeds)
    where = f"{programs} and {counted(seeds, 'seed')}"
    return f"{point.policy} at {limit_text(point.limit_bytes)}, means over {where}:", tiles


def _measured_tiles(decision: Decision) -> tuple[str, list[tuple[str, str]]]:
    """Return the figures of the recommended setting, as trials have measured it."""
    groups, setting = decision.chosen, decision.setting
    assert setting is not None
    among = " with these buckets" if setting.buckets != "none" else " without buckets" if decision.buckets else ""
    seconds = _mean(groups, "cost_seconds")
    held = format_size(int(max(group.mean("peak_bytes") for group in groups)))
    tiles = [
        (f"{seconds:.1f} s", "reference compile seconds a run"),
        (f"{_mean(groups, 'hit_rate'):.0%}", "of calls are hits"),
    ]
    frames = [group.frame for group in groups if group.frame is not None]
    if len(frames) == len(groups):
        unbounded = fmean(frame.unbounded_seconds for frame in frames)
        working_set = format_size(int(max(frame.unbounded_bytes for frame in frames)))
        tiles.append((f"{unbounded:.1f} s", describe_no_limit(setting.buckets)))
        tiles.append((f"{held} / {working_set}", "bytes held / working set"))
    else:
        tiles.append((held, f"bytes held, limit {setting.limit}"))
    bounds = [group.bound_seconds for group in groups if group.bound_seconds is not None]
    if len(bounds) == len(groups):
        tiles.append((f"{fmean(bounds):.1f} s", f"bound: no policy is lower at this limit{among}"))
    return f"{setting.label}, means over {_averaged(decision)}:", tiles


def _averaged(decision: Decision) -> str:
    """Return what the tiles are means over."""
    groups = decision.chosen
    if decision.scope:
        return decision.scope
    where = groups[0].program.label if len(groups) == 1 else f"{len(groups)} programs"
    if len({group.seeds for group in groups}) > 1:
        return f"{where} and their seeds"
    seeds = len(groups[0].seeds)
    return f"{where} and {counted(seeds, 'seed')}"


def _mean(groups: Sequence[Group], name: str) -> float:
    return fmean(group.mean(name) for group in groups)


def _gaps(sweep: Sweep) -> Iterator[dict[str, str]]:
    """Yield what is not there, and why."""
    yield from ({"path": path, "text": reason} for path, reason in sweep.unreadable[:_MOST_FAILURES])
    lines: list[str] = []
    if len(sweep.unreadable) > _MOST_FAILURES:
        lines.append(f"{counted(len(sweep.unreadable) - _MOST_FAILURES, 'more file')} cannot be read: see report.md")
    if damaged := damaged_results(sweep):
        lines.append(" ".join(damaged))
    planned = len(sweep.manifest.order) if sweep.manifest else 0
    if sweep.manifest is None:
        lines.append("sweep.json cannot be read: the command, the order and the plan are not known")
    if planned > len(sweep.results):
        lines.append(f"{planned - len(sweep.results)} of {counted(planned, 'trial')} left no result that can be read")
    lines += _missing_frames(sweep)
    lines += _missing_requests(sweep)
    if sweep.groups and all(result.course is None for group in sweep.groups for result in group.results):
        lines.append(
            "the results were written by an older version of jaxcache: they have no charts of memory, latency, "
            "time and lengths"
        )
    yield from ({"path": "", "text": line} for line in lines)


def _missing_frames(sweep: Sweep) -> Iterator[str]:
    """Yield why some programs have neither their best nor their worst beside what was measured."""
    without = {result.program_id for group in sweep.groups if group.frame is None for result in group.results}
    what = '"no limit" and "every call compiled" are not shown beside them'
    if without & sweep.varying:
        yield f"the requests of some trials are not those that their reference run recorded: {what}, nor is a bound"
    if without - sweep.varying:
        yield f"some programs have no reference run priced by the costs.json of their trials: {what}"


def _missing_requests(sweep: Sweep) -> list[str]:
    """Return which programs have no recorded requests, so that nothing is replayed for them."""
    without = {
        group.program.label for group in sweep.groups for result in group.results
        if result.program_id not in sweep.recorded
    }  # fmt: skip
    if not without:
        return []
    names = ", ".join(sorted(without)[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
    return [
        f"the requests of {names} were not recorded (by an older version, or because a reference run failed): other "
        "limits and policies cannot be replayed, and only what was measured is shown"
    ]


def _failures(sweep: Sweep) -> list[dict[str, str]]:
    return [
        {
            "label": result.label, "reason": result.reason or "the reason is not known", "trial_id": result.trial_id,
            "tail": "\n".join(result.stderr_tail.strip().splitlines()[-_TAIL_LINES:]),
        }
        for result in sweep.failed[:_MOST_FAILURES]
    ]  # fmt: skip


def _commands(sweep: Sweep) -> list[str]:
    started = sweep.manifest and sweep.manifest.command
    place = shlex.quote(f"{_outputs_of(started or '')}/{sweep.directory.name}")
    report, again = command_like(started, "report"), command_like(started, "sweep")
    return [
        *([started] if started else []),
        f"{report} {place}  # this report again, without running anything",
        f"{again} --config-dir {place}/trials/<id> --config-name config  # one trial again",
    ]


def _outputs_of(command: str) -> str:
    """Return the directory for sweeps that a command has named, or the one that is meant where it names none."""
    words = (word.strip("'\"") for word in command.split())
    named = [word.removeprefix(_DIRECTORY) for word in words if word.startswith(_DIRECTORY)]
    return named[-1].rstrip("/") if named else "outputs"
