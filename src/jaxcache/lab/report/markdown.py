"""Findings of a sweep -> ``report.md``, for a pull request, and the parts of it that Prefect shows."""

from collections.abc import Iterator

from ..analysis.findings import Findings
from ..analysis.map_words import how_chosen
from ..analysis.policy_map import ProgramMap
from ..analysis.sweep import Sweep
from ..counted import counted
from ..layout import MAP_SVG, RESULTS_CSV
from .commands import command_like
from .map_tables import map_rows, map_title, point_columns, point_rows, seeds_text, spread
from .markdown_table import markdown_table
from .program_rows import PROGRAM_CAPTION, PROGRAM_COLUMNS, program_rows, repeat_sentences
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
from .rows import limit as limit_cell

MOST_TRIALS = 100  # a pull request takes 65,536 characters
_MOST_MAPS, _MOST_LIMITS = 12, 14
_NOTHING = "No trial succeeded, so there is nothing to compare."
NOTHING_TO_CHANGE = "Nothing to change: no single change would save a second and 5 % of the compile seconds of a run."


def markdown(findings: Findings, plotted: bool) -> Iterator[str]:
    """Yield the lines of ``report.md``; ``plotted`` says whether the map was drawn beside it."""
    sweep = findings.sweep
    yield from (f"# Sweep {sweep.directory.name}", "")
    yield from answer(findings)
    if plotted:
        yield from (f"![Compile seconds of every policy over the memory limit]({MAP_SVG})", "")
    yield from maps(findings)
    if sweep.groups:
        yield from ("## What to change", "")
        yield from suggestions(findings)
        yield from ("## By setting, measured", "", f"Means over the seeds{unequal_seeds(sweep.groups)}.", "")
        yield from markdown_table(GROUP_COLUMNS, [group_row(group) for group in sweep.groups])
        yield from _how_to_read()
    yield from _programs(sweep)
    yield from _profiles(sweep)
    if sweep.failed:
        yield from failures(sweep)
    if sweep.results:
        yield from ("## Trials, in the order in which they were started", "")
        yield from markdown_table(TRIAL_COLUMNS, [trial_row(result) for result in sweep.results[:MOST_TRIALS]])
        if len(sweep.results) > MOST_TRIALS:
            yield from (f"{counted(len(sweep.results) - MOST_TRIALS, 'more trial')}: see {RESULTS_CSV}.", "")
    if sweep.unreadable:
        yield from ("## Files that cannot be read", "")
        yield from (f"- `{path}` {reason}" for path, reason in sweep.unreadable)
        yield from ("", *damaged_results(sweep), "")
    yield from _conditions(sweep)


def answer(findings: Findings) -> Iterator[str]:
    """Yield the answer, how sure it is, how to apply it, and how the sweep went."""
    sweep, manifest = findings.sweep, findings.sweep.manifest
    if findings.is_contradicted:
        yield from (f"**{findings.agreement}**", "")
    if sweep.groups:
        yield " ".join([f"**{findings.sentence}**", *(note for note in findings.notes if note != findings.agreement)])
        yield ""
        if findings.setting is not None:
            yield f"In a sweep `{findings.override}`, in a program `{findings.python}`."
            yield ""
    else:
        yield from (_NOTHING, "")
    if findings.agreement and not findings.is_contradicted:
        yield from (findings.agreement, "")
    yield f"{headline(sweep)}."
    if manifest and manifest.ended not in (None, "completed", "failed"):
        yield f"The sweep was {manifest.ended}: what follows is what it had done by then."
    if manifest and manifest.run_url:
        yield f"In the Prefect UI: {manifest.run_url}"
    yield ""


def maps(findings: Findings) -> Iterator[str]:
    """Yield the limits of interest, and the map of each program."""
    if findings.choice is not None:
        yield from ("## Which limit", "")
        yield from markdown_table(point_columns(findings.choice), point_rows(findings.choice))
        yield from (how_chosen(findings.choice), "")
    if not findings.maps:
        return
    yield from ("## The map", "")
    yield (
        "Reference compile seconds a run at each memory limit, replayed from the recorded requests; a `*` marks what "
        f"trials have measured. {findings.agreement} {findings.left_out}".rstrip()
    )
    yield ""
    for program_map in findings.maps[:_MOST_MAPS]:
        yield from _map(program_map)
    if len(findings.maps) > _MOST_MAPS:
        left_out = counted(len(findings.maps) - _MOST_MAPS, "more program")
        yield from (f"{left_out}: see {RESULTS_CSV}, in rows of status `predicted`.", "")


def _map(program_map: ProgramMap) -> Iterator[str]:
    tried = [check.result.config.memory_limit for check in program_map.checks]
    limits = spread(program_map.own_limits, _MOST_LIMITS, tried)
    yield from (f"**{map_title(program_map)}**, {seeds_text(program_map)}:", "")
    yield from markdown_table(("policy", *(limit_cell(limit) for limit in limits)), map_rows(program_map, limits))


def suggestions(findings: Findings) -> Iterator[str]:
    """Yield what to change, as lines of a list."""
    if not findings.advice:
        yield from (NOTHING_TO_CHANGE, "")
        return
    for advice in findings.advice:
        suggestion = advice.suggestion
        yield f"- **{suggestion.title}.** *{suggestion.rule}; {advice.about}*"
        yield f"  - expected: {advice.expected}"
        yield f"  - evidence: {suggestion.evidence}"
        yield f"  - checked: {advice.checked}"
        override = f", in a sweep `{suggestion.override}`" if suggestion.override else ""
        yield f"  - in a program `{suggestion.python}`{override}"
    yield ""


def _how_to_read() -> Iterator[str]:
    yield (
        "*Reference compile s* counts each miss at what its program took to lower and compile in full, measured once "
        "a sweep, wherever the miss was served from: it is what compares policies, since trials that share a directory "
        "warm it for each other. *Spent compiling s* is what the misses really took. *No limit* and *every call "
        "compiled* are the same seconds with each program compiled once, as under `jax.jit` itself, and with a compile "
        "at every call: the best and the worst there is."
    )
    yield ""


def _programs(sweep: Sweep) -> Iterator[str]:
    """Yield the runs of users' programs as wholes."""
    rows = program_rows(sweep)
    if rows:
        yield from ("## Whole runs of your programs", "", PROGRAM_CAPTION, "")
        yield from markdown_table(PROGRAM_COLUMNS, rows)
        yield from (" ".join(repeat_sentences(sweep)), "")


def _profiles(sweep: Sweep) -> Iterator[str]:
    profiled = [result for result in sweep.results if result.profile]
    if not profiled:
        return
    yield from ("## Functions, profiled", "", "Every call waited for; traces are in `trials/<id>/`, for Perfetto.", "")
    columns = ("trial", "function", "calls", "misses", "compile s", "run s", "run ms/call", "id")
    rows = [
        (result.label, row.name, str(row.calls), str(row.misses), f"{row.compile_seconds:.2f}",
         f"{row.run_seconds:.2f}", f"{1000 * row.run_seconds / row.calls:.2f}", result.trial_id)
        for result in profiled for row in result.profile
    ]  # fmt: skip
    yield from markdown_table(columns, rows)


def failures(sweep: Sweep) -> Iterator[str]:
    """Yield each failed trial with its reason and the end of its output."""
    yield from ("## Failed trials", "")
    for result in sweep.failed[:MOST_TRIALS]:
        yield f"- **{result.label}** (`{result.trial_id}`): {result.reason}"
        tail = result.stderr_tail.strip().splitlines()[-8:]
        if tail:
            yield from ("", "  ```", *(f"  {line}" for line in tail), "  ```", "")
    if len(sweep.failed) > MOST_TRIALS:
        yield f"- {counted(len(sweep.failed) - MOST_TRIALS, 'more failed trial')}: see {RESULTS_CSV}, column `reason`."
    yield ""


def _conditions(sweep: Sweep) -> Iterator[str]:
    yield from ("## Conditions", "")
    if sweep.manifest:
        yield f"- command: `{sweep.manifest.command}`"
    yield from (f"- {line}" for line in conditions(sweep))
    if sweep.results:
        command = command_like(sweep.manifest and sweep.manifest.command, "sweep")
        yield f"- one trial again: `{command} --config-dir <this sweep>/trials/<id> --config-name config`"
    yield ""
