"""What a person at the terminal sees while trials run: a live table, or a plain line a trial."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxcache.lab.running.launch import scratch
from jaxcache.lab.running.progress_file import read_advance
from jaxcache.lab.trial import TrialResult

_MOST_ROWS = 16
_REFRESHES_PER_SECOND = 2


@dataclass(frozen=True)
class _Running:
    """A trial that runs now: since when, where, and where its files are."""

    since: float
    device: str
    directory: Path


class Progress:
    """Counts trials. Its methods may be called from any thread."""

    def __init__(self, trials: int, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._trials, self._done, self._failed = trials, 0, 0
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
        """Take away what is live: all trials have ended."""
        self._live.stop()

    @property
    def percent(self) -> float:
        """How much is done."""
        return 100 * self._done / self._trials if self._trials else 0.0

    def announce(self, run_url: str | None) -> None:
        """Say where the run can be watched."""
        what = f"{self._trials} trials, watch them" if self._trials else "Recording, watch it"
        self.say(f"{what} at {run_url}")

    def resuming(self, directory: Path, finished: int) -> None:
        """Say that an unfinished sweep goes on, and count what it has done."""
        with self._lock:
            self._known = finished
        self.say(f"Going on in {directory}: {finished} of {self._trials} trials are finished.")

    def trial_known(self, result: TrialResult) -> None:
        """Count a trial that an earlier run finished."""
        with self._lock:
            self._done += 1
            self._failed += result.status == "failed"

    def stopping(self) -> None:
        """Say that the sweep is being stopped."""
        self.say("Stopping: ending the trials that run. Results so far are kept. Once more to leave at once.")

    def abandon(self, advice: str) -> None:
        """Leave the terminal as it was, with a last word, in the middle of whatever is being printed."""
        cursor = "\x1b[?25h" if self._console.is_terminal else ""
        os.write(2, f"{cursor}\nLeft at once; finished trials are kept. To go on:\n{advice}\n".encode())

    def reference_done(self) -> None:
        """Count a reference run."""
        with self._lock:
            self._references += 1

    def trial_started(self, name: str, directory: Path, device: str) -> None:
        """Count a trial that runs now, with its directory and its device."""
        with self._lock:
            self._first_trial_at = self._first_trial_at or time.monotonic()
            self._running[name] = _Running(time.monotonic(), device, directory)

    def trial_interrupted(self, name: str) -> None:
        """Count a trial that was ended, if it had been started."""
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
        """Print a line above what is live."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """Return what is live: a row for each trial that runs, and the totals."""
        with self._lock:
            running = dict(self._running)
            totals = self._totals()
        bar = ProgressBar(total=self._trials, completed=self._done, width=24)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, Text(totals))
        return Group(_table(running), line) if running else line

    def _totals(self) -> str:
        if self._first_trial_at is None:
            then = f"; then {self._trials} trials" if self._trials else ""
            return f"measuring what each program costs, {self._references} done{then}"
        left = self._trials - self._done - len(self._running)
        words = [f"{self._done} done", f"{self._failed} failed", f"{len(self._running)} running", f"{left} left"]
        if self._done > self._known:
            each = (time.monotonic() - self._first_trial_at) / (self._done - self._known)
            words.append(f"about {each * (self._trials - self._done):.0f} s")
        return " · ".join(words)


def _table(running: dict[str, _Running]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("running", overflow="ellipsis", no_wrap=True)
    table.add_column("device", no_wrap=True)
    for name in ("elapsed", "requests", "hits so far"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in list(running.items())[:_MOST_ROWS]:
        advance = read_advance(scratch(one.directory))
        served, hits = ("–", "–") if advance is None else (
            f"{advance.served}/{advance.requests}", f"{advance.hit_rate:.1%}",
        )  # fmt: skip
        elapsed = f"{time.monotonic() - one.since:.0f} s"
        table.add_row(Text(name), Text(one.device), elapsed, served, hits)
    if len(running) > _MOST_ROWS:
        table.add_row(f"and {len(running) - _MOST_ROWS} more")
    return table
