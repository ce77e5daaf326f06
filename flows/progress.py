"""What a person at the terminal sees while trials run: one live line, or a plain line a trial."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from jaxcache.lab.trial import TrialResult


class Progress:
    """Counts trials. Its methods may be called from any thread."""

    def __init__(self, trials: int, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._trials, self._done, self._failed = trials, 0, 0
        self._running: dict[str, str] = {}
        self._references = self._known = 0
        self._first_trial_at: float | None = None
        self._lock = threading.Lock()
        self._bar = Bar(
            BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), console=self._console,
            transient=True, disable=quiet or not self._console.is_terminal,
        )  # fmt: skip
        self._line = self._bar.add_task(self._text(), total=trials)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.stop()

    def announce(self, run_url: str | None) -> None:
        """Say where the run can be watched."""
        self.say(f"{self._trials} trials, watch them at {run_url}")

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
            self._update()

    def stopping(self) -> None:
        """Say that the sweep is being stopped."""
        self.say("Stopping: ending the trials that run. Results so far are kept. Once more to leave at once.")

    def reference_done(self) -> None:
        """Count a reference run."""
        with self._lock:
            self._references += 1
            self._update()

    def trial_started(self, name: str, device: str) -> None:
        """Count a trial that runs now, and where."""
        with self._lock:
            self._first_trial_at = self._first_trial_at or time.monotonic()
            self._running[name] = device
            self._update()

    def trial_interrupted(self, name: str) -> None:
        """Count a trial that was ended."""
        with self._lock:
            self._running.pop(name, None)  # it may not have been started
            self._update()

    def trial_done(self, name: str, result: TrialResult) -> None:
        """Count a trial that has a result."""
        with self._lock:
            self._running.pop(name, None)
            self._done += 1
            self._failed += result.status == "failed"
            self._update()
        if result.status == "failed":
            self.say(f"[{self._done}/{self._trials}] failed  {name}: {result.reason}")
        elif not self._console.is_terminal and result.statistics and result.timing:
            self.say(
                f"[{self._done}/{self._trials}] done    {name}: {result.statistics.hit_rate:.1%} hits, "
                f"{result.timing.work_seconds:.1f} s"
            )

    def say(self, text: str) -> None:
        """Print a line above what is live."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _update(self) -> None:
        self._bar.update(self._line, completed=self._done, description=self._text())

    def _text(self) -> str:
        if self._first_trial_at is None:
            return f"measuring what each program costs, {self._references} done; then {self._trials} trials"
        left = self._trials - self._done - len(self._running)
        words = [f"{self._done} done", f"{self._failed} failed", f"{len(self._running)} running", f"{left} left"]
        if self._done > self._known:
            each = (time.monotonic() - self._first_trial_at) / (self._done - self._known)
            words.append(f"about {each * (self._trials - self._done):.0f} s")
        return " · ".join(words)
