"""Progress of a sweep in the terminal: a live table, or a plain line for each trial."""

import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxcache.lab.counted import counted
from jaxcache.lab.layout import scratch
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.running.progress_file import TrialProgress, read_progress

from .duration import duration_text

_MOST_ROWS = 16
_REFRESHES_PER_SECOND = 2
_LEAST_DONE = 0.2  # of a trial, before the time that is left is guessed


@dataclass(frozen=True)
class _Running:
    """Trial or reference that runs now, with its start, its device and its directory."""

    since: float
    device: str
    directory: Path
    is_reference: bool = False

    @property
    def progress(self) -> TrialProgress | None:
        """How far it is; None if that is not known."""
        return read_progress(scratch(self.directory))

    @property
    def share(self) -> float:
        """Share of its requests that are served."""
        progress = self.progress
        return 0.0 if progress is None else progress.share


class Progress:
    """Counts of a sweep's trials, and their display. Its methods may be called from any thread."""

    def __init__(self, trials: int, references: int = 0, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._trials, self._done, self._failed = trials, 0, 0
        self._programs = references
        self._running: dict[str, _Running] = {}
        self._references = self._known = 0
        self._first_trial_at: float | None = None
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self.render, console=self._console, transient=True,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )  # fmt: skip

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.finish()

    def finish(self) -> None:
        """Remove the live display, since all trials have ended."""
        self._live.stop()

    @property
    def percent(self) -> float:
        """Share of trials that are done, in percent."""
        return 100 * self._done / self._trials if self._trials else 0.0

    def announce(self, run_url: str | None) -> None:
        """Print the address at which the run can be watched."""
        trials = f"{counted(self._trials, 'trial')}, watch {'it' if self._trials == 1 else 'them'}"
        start = trials if self._trials else "Recording the program without a limit, watch it"
        self.say(f"{start} at {run_url}")

    def resuming(self, directory: Path, finished: Collection[TrialResult]) -> None:
        """Print that an unfinished sweep is resumed, and count the trials that an earlier run finished."""
        with self._lock:
            self._known = self._done = len(finished)
            self._failed = sum(result.status == "failed" for result in finished)
        self.say(f"Going on in {directory}: {len(finished):,} of {counted(self._trials, 'trial')} finished already.")

    def stopping(self) -> None:
        """Print that the sweep is being stopped."""
        self.say("Stopping: ending the trials that run. Results so far are kept. Ctrl-C once more leaves at once.")

    def abandon(self, advice: str) -> None:
        """Restore the terminal and print how to go on, even in the middle of other output."""
        cursor = "\x1b[?25h" if self._console.is_terminal else ""
        os.write(2, f"{cursor}\nLeft at once; finished trials are kept. To go on:\n{advice}\n".encode())

    def reference_started(self, name: str, directory: Path) -> None:
        """Show a reference run, with its directory; its worker is not known yet."""
        with self._lock:
            self._running[name] = _Running(time.monotonic(), "–", directory, is_reference=True)

    def reference_ended(self, name: str) -> None:
        """Remove a reference run, however it ended."""
        with self._lock:
            self._running.pop(name, None)

    def reference_done(self, name: str, reference: Reference, first_look: str = "") -> None:
        """Count a reference run that gave its measurements, and print what they predict of its trials, if anything."""
        with self._lock:
            self._references += 1
            done = self._references
        predicted = f"; {first_look}" if first_look else ""
        self.say(
            f"[{done}/{self._programs}] {name}: {counted(reference.requests, 'request')}, "
            f"{counted(reference.distinct, 'program')}, {reference.unbounded_cost_seconds:.1f} s to compile "
            f"each once{predicted}"
        )

    def trial_started(self, name: str, directory: Path, device: str) -> None:
        """Count a trial that was started, with its directory and its device."""
        with self._lock:
            self._first_trial_at = self._first_trial_at or time.monotonic()
            self._running[name] = _Running(time.monotonic(), device, directory)

    def trial_interrupted(self, name: str) -> None:
        """Remove a trial that was interrupted, if it had been started."""
        with self._lock:
            self._running.pop(name, None)

    def trial_done(self, name: str, result: TrialResult) -> None:
        """Count a trial that has a result."""
        with self._lock:
            self._running.pop(name, None)
            self._done += 1
            self._failed += result.status == "failed"
            done = self._done
        if result.status == "failed":
            self.say(f"[{done}/{self._trials}] failed  {name}: {result.reason}")
        elif not self._console.is_terminal and result.statistics and result.timing:
            self.say(
                f"[{done}/{self._trials}] done    {name}: {result.statistics.hit_rate:.1%} hits, "
                f"{result.timing.work_seconds:.1f} s"
            )

    def say(self, text: str) -> None:
        """Print a line above the live display."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """Return the live display: a row for each trial that runs, and the totals."""
        with self._lock:
            running = dict(self._running)
            totals = self._totals()
        bar = ProgressBar(total=self._trials, completed=self._done, width=24)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, Text(totals))
        return Group(_table(running), line) if running else line

    def _totals(self) -> str:
        if self._first_trial_at is None:
            then = f"; then {counted(self._trials, 'trial')}" if self._trials else ""
            return f"measuring what each program costs, {self._references} of {self._programs} done{then}"
        running = [trial for trial in self._running.values() if not trial.is_reference]
        left = self._trials - self._done - len(running)
        words = [f"{self._done} done", f"{self._failed} failed", f"{len(running)} running", f"{left} left"]
        if self._references < self._programs:
            words.append(f"{self._references} of {counted(self._programs, 'reference run')}")
        done = self._done - self._known + sum(trial.share for trial in running)
        if done >= _LEAST_DONE:
            each = (time.monotonic() - self._first_trial_at) / done
            words.append(f"about {duration_text(each * (self._trials - self._known - done))} left")
        return " · ".join(words)


def _table(running: dict[str, _Running]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("running", overflow="ellipsis", no_wrap=True)
    table.add_column("device", no_wrap=True)
    for name in ("elapsed", "requests", "hits so far"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, trial in list(running.items())[:_MOST_ROWS]:
        progress = trial.progress
        served, hits = ("–", "–") if progress is None else (progress.text, f"{progress.hit_rate:.1%}")
        elapsed = f"{time.monotonic() - trial.since:.0f} s"
        table.add_row(Text(name), Text(trial.device), elapsed, served, hits)
    if len(running) > _MOST_ROWS:
        table.add_row(f"and {len(running) - _MOST_ROWS} more")
    return table
