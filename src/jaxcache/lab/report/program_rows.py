"""Runs of users' programs as wholes: under ``jax.jit`` alone, recorded without a limit, and under each setting."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from ... import format_size
from ..analysis.sweep import Sweep
from ..result import ProgramRun, Reference

PROGRAM_COLUMNS = ("program", "run", "runs", "wall s", "compile s", "programs compiled", "peak memory")
PROGRAM_CAPTION = (
    "Means over the runs of the program, each a process of its own: wall time from its first line, with JAX imported, "
    "to its end; lowering, compiling and loading of all that it compiled; resident memory. Runs beside each other slow "
    "each other down, and settings with a shared directory load what earlier ones compiled."
)


_OUTSIDE_BYTES = 16 * 1024**2  # what JAX may hold beside the limit


def program_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """Return the cells of each program's runs, in the order of ``PROGRAM_COLUMNS``; none without users' programs."""
    rows: list[tuple[str, ...]] = []
    for label, references in _references(sweep).items():
        whole = [reference.program for reference in references if reference.program is not None]
        rows.append(_row(label, "jax.jit alone", [each.plain for each in whole]))
        rows.append(_row(label, "recorded, no limit", [each.recorded for each in whole]))
        for group in sweep.groups:
            runs = [result.program for result in group.results if result.program is not None]
            if group.program.label == label and runs:
                rows.append(_row(label, f"{group.setting.label}, {group.program.persistent}", runs))
    return rows


def repeat_sentences(sweep: Sweep) -> list[str]:
    """Return whether the requests of each program repeat, and what else its replays do not know, a sentence each."""
    sentences: list[str] = []
    for label, references in _references(sweep).items():
        whole = [reference.program for reference in references if reference.program is not None]
        notes = [each.repeat_note for each in whole if each.repeats is False]
        if notes:
            sentences.append(
                f"The requests of {label} do not repeat: {notes[0]}. Its replays are of one run; other runs differ."
            )
        elif all(each.repeats is None for each in whole):
            sentences.append(
                f"Whether the requests of {label} repeat is not known; program.repeat=2 records twice, and says."
            )
        else:
            sentences.append(
                f"The requests of {label} repeat: its recordings are equal, so its replays hold for other runs too."
            )
        outside_bytes = max(each.recorded.outside_bytes for each in whole)
        if outside_bytes > _OUTSIDE_BYTES:
            sentences.append(
                f"JAX itself held {format_size(outside_bytes)} of {label} beside the cache, as for eager operations; "
                f"what is over {format_size(_OUTSIDE_BYTES)} takes from the limit, which replays do not know."
            )
    return sentences


def _references(sweep: Sweep) -> dict[str, list[Reference]]:
    """Return the references of users' programs by what the program is called."""
    references: dict[str, list[Reference]] = {}
    for program_id, program in sweep.programs.items():
        reference = sweep.references.get(program_id)
        if reference is not None and reference.program is not None:
            references.setdefault(program.label, []).append(reference)
    return references


def _row(label: str, name: str, runs: Sequence[ProgramRun]) -> tuple[str, ...]:
    return (
        label,
        name,
        str(len(runs)),
        f"{_mean(run.wall_seconds for run in runs):.2f}",
        f"{_mean(run.compile_seconds for run in runs):.2f}",
        f"{_mean(run.programs for run in runs):.0f}",
        format_size(_mean(run.peak_rss_bytes for run in runs)),
    )


def _mean(values: Iterable[float]) -> float:
    return fmean(values)
