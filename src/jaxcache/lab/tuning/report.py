"""Report of a tuning: tune.md and its pictures, the terminal's tables, and best.yaml for programs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ... import format_size
from ..buckets import Optimal
from ..counted import counted
from ..files import write_file
from ..layout import BEST_SETTING, TUNE_REPORT, curves_picture
from ..report.commands import command_like
from ..report.markdown_table import markdown_table
from ..result import Reference, TrialResult
from .answer import COLUMNS, answer, compare, setting_of, short_setting
from .curves_plot import draw
from .padding_advice import PaddingAdvice
from .search import Candidate, Tuning

_AGREES = 0.05  # a run whose compile seconds are further from the prediction refutes it


@dataclass(frozen=True)
class Verified:
    """Setting with its replay and the result of a real run; without a result, it was only replayed."""

    candidate: Candidate
    result: TrialResult | None

    @property
    def compile_seconds(self) -> float | None:
        """Compile seconds of the run at recorded prices; None if nothing ran."""
        stats = None if self.result is None else self.result.statistics
        return None if stats is None else stats.cost_seconds

    @property
    def total_seconds(self) -> float | None:
        """The same with the seconds of running."""
        timing = None if self.result is None else self.result.timing
        return None if self.compile_seconds is None or timing is None else self.compile_seconds + timing.run_seconds

    @property
    def is_as_predicted(self) -> bool:
        """Whether the run compiled for as long as its replay, within a twentieth; also where nothing ran."""
        predicted = self.candidate.replayed.compile_seconds
        return self.compile_seconds is None or abs(self.compile_seconds - predicted) <= _AGREES * max(predicted, 1e-9)


@dataclass(frozen=True)
class Tuned:
    """Tuning with its verification: the content of a report.

    Attributes:
        what: Description of the program.
        command: Command that repeats the tuning.
        tuning: Replays of all settings.
        verified: Settings that were run, the recommended first; empty if nothing was run.
        present: Setting that the command named; None without one.
        reference: Reference of the program without padding; None for a trace from elsewhere.
        lengths: Buckets of each set that has any.
        optimal: Measured prices that the optimal buckets were chosen by; None where nothing was run.
        program: Overrides by key that name the program that was run; empty for a trace from elsewhere.
        padding: Advice to pad what the program does not pad; None if there is none.
    """

    what: str
    command: str
    tuning: Tuning
    verified: tuple[Verified, ...]
    present: Verified | None
    reference: Reference | None
    lengths: dict[str, tuple[int, ...]]
    optimal: Optimal | None = None
    program: Mapping[str, str] = field(default_factory=dict)
    padding: PaddingAdvice | None = None

    @property
    def checked(self) -> list[Verified]:
        """Settings that were to be run, the present one last."""
        return [*self.verified, *([self.present] if self.present else [])]


def refutation(tuned: Tuned) -> str:
    """Return sentences on runs that did not do as predicted, and on what they say themselves; empty if they did."""
    checked = tuned.checked
    off = [each for each in checked if not each.is_as_predicted]
    ran = [(seconds, each) for each in checked if (seconds := each.total_seconds) is not None]
    if not off or not ran:
        return ""
    replayed, compiled = off[0].candidate.replayed.compile_seconds, off[0].compile_seconds
    least, best = min(ran, key=lambda each: each[0])
    others = [f"{setting_of(each.candidate)} {seconds:.1f} s" for seconds, each in ran if each is tuned.present]
    beside = f", {others[0]}" if others and best is not tuned.present else ""
    return (
        f"The runs did not do as predicted: {setting_of(off[0].candidate)} compiled for {compiled:.1f} s, not "
        f"{replayed:.1f} s, so judge by the runs. Of those, {setting_of(best.candidate)} took the fewest seconds of "
        f"compiling and running, {least:.1f} s{beside}."
    )


def write_tuning(tuned: Tuned, directory: Path) -> None:
    """Write the report, its pictures, and the recommended setting into a directory."""
    for name, curves in tuned.tuning.curves.items():
        # The ring marks the present setting: the recorded run had no limit, which is of no interest here.
        now = tuned.present.candidate if tuned.present is not None else None
        ring = now.replayed if now is not None and now.buckets == name else None
        draw(replace(curves, present=ring)).save(directory / curves_picture(name))
    write_file(directory / TUNE_REPORT, "\n".join(_markdown(tuned)) + "\n", durable=False)
    text = "\n".join(_best(tuned)) + "\n"
    write_file(directory / BEST_SETTING, text, durable=False)
    (directory / "experiment").mkdir(exist_ok=True)  # Hydra looks for experiments in this folder
    write_file(directory / "experiment" / BEST_SETTING, text, durable=False)


SETTING_COLUMNS = ("buckets", "eviction", "limit", "compile s", "÷ bound", "run s", "total s", "misses", "most held")


def setting_row(candidate: Candidate) -> tuple[str, ...]:
    """Return the row of a setting, of :data:`SETTING_COLUMNS`."""
    replayed = candidate.replayed
    return (
        candidate.buckets, replayed.policy, format_size(candidate.limit_bytes), f"{replayed.compile_seconds:.2f}",
        f"{candidate.over_bound:.2f}", f"{candidate.run_seconds:.2f}", f"{candidate.total_seconds:.2f}",
        str(replayed.misses),
        format_size(replayed.peak_bytes),
    )  # fmt: skip


CHECKED_COLUMNS = (
    "setting", "misses predicted", "misses as run", "compile s predicted", "÷ bound", "compile s at recorded prices",
    "compile s measured", "total s predicted", "total s as run",
)  # fmt: skip
# Of these, what a terminal of 80 columns has room for; the report has all.
_TERMINAL_COLUMNS = ("buckets", "eviction", "limit", "total s", "compile s", "run s", "misses", "most held")
_TERMINAL_CHECKED = ("setting", "misses predicted", "misses as run", "compile s predicted",
                     "compile s at recorded prices", "total s predicted", "total s as run")  # fmt: skip
CHECKED_NOTE = (
    "The last row is the setting that the program has today, if it has a limit. Compile seconds at recorded prices "
    "count each miss of the run at what its program took to compile in the recording: they equal the prediction where "
    "the misses do. Those measured are what the run itself spent, less where `persistent=` let programs come from the "
    "shared directory. Seconds as run are those at recorded prices, and those of running."
)


def checked_row(verified: Verified) -> tuple[str, ...]:
    """Return the row of a setting that was to be run, of :data:`CHECKED_COLUMNS`."""
    candidate, result = verified.candidate, verified.result
    replayed = candidate.replayed
    stats, timing = (None, None) if result is None else (result.statistics, result.timing)
    if result is None or stats is None or timing is None:
        reason = "not run" if result is None else result.reason or "failed"
        predicted = (f"{replayed.compile_seconds:.2f}", f"{candidate.over_bound:.2f}")
        return (setting_of(candidate), str(replayed.misses), reason, *predicted, "–", "–", "–", "–")
    return (
        setting_of(candidate), str(replayed.misses), str(stats.misses), f"{replayed.compile_seconds:.2f}",
        f"{candidate.over_bound:.2f}",
        f"{stats.cost_seconds:.2f}", f"{stats.compile_seconds:.2f}", f"{candidate.total_seconds:.2f}",
        f"{stats.cost_seconds + timing.run_seconds:.2f}",
    )  # fmt: skip


def _markdown(tuned: Tuned) -> Iterator[str]:
    now = tuned.present.candidate if tuned.present is not None else None
    yield from ("# The setting to take", "", answer(tuned.what, tuned.tuning, now, refutation(tuned)), "")
    yield from markdown_table(COLUMNS, compare(tuned.tuning, now))
    if tuned.padding is not None:
        calls = [each.call for each in tuned.padding.functions]
        yield from (str(tuned.padding), "", "```python", *calls, "```", "")
    yield from ('To take it in a program: `JitCache.from_file("best.yaml")`. To take it in a sweep:', "")
    yield from (f"`{command_like(tuned.command, 'sweep')} --config-dir <this directory> experiment=best`", "")
    if tuned.program:
        yield from ("That runs this program with it; add `workload=` to run another one.", "")
    else:
        yield from ("Add `workload=` and `shapes=` there, since the trace does not name its program.", "")
    yield from ("## The best policy of each set of buckets", "")
    yield from markdown_table(SETTING_COLUMNS, [setting_row(candidate) for candidate in tuned.tuning.ranked])
    checked = tuned.checked
    if checked:
        yield from ("## Predicted and run", "", CHECKED_NOTE, "")
        yield from markdown_table(CHECKED_COLUMNS, [checked_row(each) for each in checked])
    yield from ("## Seconds against bytes", "", "Settings that no other beats in both seconds and bytes.", "")
    yield from markdown_table(SETTING_COLUMNS, [setting_row(candidate) for candidate in tuned.tuning.front()])
    for name in tuned.tuning.curves:
        lengths = tuned.lengths.get(name)
        yield from (f"## Buckets: {name}", "", *([f"Lengths: {', '.join(map(str, lengths))}.", ""] if lengths else []))
        yield from (f"![Compile seconds against the memory limit, a line a policy]({curves_picture(name)})", "")
        yield from ("Dashed: the bound. Dotted: the knee, beyond which more bytes save little.", "")
    yield from ("## Conditions", "", f"- command: `{tuned.command}`")
    yield from (f"- {line}" for line in conditions(tuned))
    yield ""


def conditions(tuned: Tuned) -> Iterator[str]:
    """Yield versions and machine of the runs, if anything was run."""
    if tuned.reference is None:
        return
    seen = tuned.reference.environment
    yield f"{', '.join(f'{name} {version}' for name, version in seen.packages.items())}; Python {seen.python}"
    yield f"{seen.processor}, {counted(seen.cores, 'core')}, {seen.system}"


def _best(tuned: Tuned) -> Iterator[str]:
    best = tuned.tuning.best
    yield "# @package _global_"
    seconds = f"{best.replayed.compile_seconds:.1f} s, {best.over_bound:.2f} × the least that any policy could"
    yield f"# {tuned.what}: by replay, compiles for {seconds}."
    if refuted := refutation(tuned):
        yield f"# {refuted}"
    yield f"# Found by: {tuned.command}"
    for function in () if tuned.padding is None else tuned.padding.functions:
        yield f"# It would compile less with: {function.call}"
    yield "defaults:"
    yield f"  - override /eviction: {best.replayed.policy}"
    if best.buckets in ("pow2", "linear", "optimal"):
        yield f"  - override /buckets: {best.buckets}"
    if best.buckets == "optimal" and tuned.optimal is not None:
        yield "buckets:"
        yield f"  compile_seconds: {tuned.optimal.compile_seconds} # of a length's programs, as measured"
        yield f"  seconds_per_element: {tuned.optimal.seconds_per_element}"
    yield f"memory_limit: {best.limit_bytes} # {format_size(best.limit_bytes)}"
    if lengths := bucket_lengths(tuned):
        yield 'bucket_lengths: # of bucketed(f, cache=JitCache.from_file(…)) by function; "*" is any other function'
        if tuned.padding is not None and "*" not in lengths:
            padded = tuned.padding.padded
            yield (
                f"  # policy and limit above are the best without them; with them {padded.replayed.policy} at "
                f"{format_size(padded.limit_bytes)} compiles for {padded.replayed.compile_seconds:.1f} s"
            )
        yield from (f"  {json.dumps(name)}: {list(each)}" for name, each in lengths.items())
    if tuned.program:
        yield "hydra: # the program that this was found for; a cache does not read it"
        yield "  sweeper:"
        yield "    params:"
        yield from (f"      {key}: {json.dumps(value)}" for key, value in tuned.program.items())


def bucket_lengths(tuned: Tuned) -> dict[str, tuple[int, ...]]:
    """Return the lengths to pad to by function: those of the recommended set for all, or those that padding advises."""
    lengths = tuned.lengths.get(tuned.tuning.best.buckets)
    if lengths is not None:
        return {"*": lengths}
    return {} if tuned.padding is None else {each.name: each.buckets for each in tuned.padding.functions}


def print_tuning(tuned: Tuned, console: Console) -> None:
    """Print the sentence and the short tables."""
    now = tuned.present.candidate if tuned.present is not None else None
    checked = tuned.checked
    for columns, shown, rows in (
        (COLUMNS, COLUMNS, compare(tuned.tuning, now)),
        (SETTING_COLUMNS, _TERMINAL_COLUMNS, [setting_row(candidate) for candidate in tuned.tuning.ranked]),
        (
            CHECKED_COLUMNS,
            _TERMINAL_CHECKED,
            [(short_setting(each.candidate), *checked_row(each)[1:]) for each in checked],
        ),
    ):
        if not rows:
            continue
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in shown:
            table.add_column(name, justify="left" if name in ("", "buckets", "setting") else "right")
        for row in rows:
            table.add_row(*(row[columns.index(name)] for name in shown))
        console.print(table)
        console.print()
    console.print(answer(tuned.what, tuned.tuning, now, refutation(tuned)), markup=False, highlight=False)
    if tuned.padding is not None:
        console.print(str(tuned.padding), markup=False, highlight=False)
        for function in tuned.padding.functions:
            console.print(f"    {function.call}", markup=False, highlight=False, soft_wrap=True)
