"""End of a sweep in the terminal: what its flow has come to, and the exit code.

What prints results is imported in the end: while trials run, there is time for it.
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..prefect_server.watchdog import watching
from . import crashed_runs, resume

LEFT = "left; the jobs go on"  # message of a flow run whose sweep goes on without it


def run_watched(run_flow: Callable[[], Any], directory: Path, started: float | None, quiet: bool) -> int:
    """Run the sweep's flow while a watchdog looks after its server; return the exit code."""

    def leave(directory: Path) -> int:
        """End a sweep whose server is gone."""
        from jaxcache.lab.report.write import write_report

        write_report(directory)
        resume.mark_reported(directory)
        return print_outcome(directory, started, quiet)

    logging.raiseExceptions = False  # Prefect would print an error for each record that waits for a server
    try:
        with watching(leave):
            state = run_flow()
    except KeyboardInterrupt:  # outside the trials, where Prefect may have been setting the run's state
        _close_record(directory)
        raise
    except Exception as error:  # Prefect's own, such as a server that went away
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"sweep: Prefect gave up ({reason}); finished trials are kept.", file=sys.stderr)
        print(resume.advice(directory), file=sys.stderr)
        return 1
    if state.is_cancelled() and state.message == LEFT:
        return 130
    broken = not (state.is_completed() or state.is_cancelled())  # trials failed, or the flow did, as on a full disk
    return print_outcome(directory, started, quiet, state.message if broken else None)


def _close_record(directory: Path) -> None:
    """Start a process that closes Prefect's record of this run, since this process is about to end."""
    manifest = resume.read_manifest(directory)
    if manifest is not None and manifest.run_url is not None:
        crashed_runs.close_from_elsewhere(manifest.run_url)


def print_outcome(directory: Path, started: float | None, quiet: bool, problem: str | None = None) -> int:
    """Print a sweep's summary and its problem, if any; return the exit code.

    Args:
        directory: Directory of the sweep.
        started: When this command was started, by ``time.perf_counter``; None for what the sweep itself has taken.
        quiet: Whether to print the last lines alone.
        problem: What went wrong.
    """
    from jaxcache.lab.analysis.findings import Findings
    from jaxcache.lab.analysis.sweep import read_sweep
    from jaxcache.lab.counted import counted
    from jaxcache.lab.layout import MANIFEST, PAGE
    from jaxcache.lab.report.rows import headline
    from jaxcache.lab.report.terminal import print_summary, terminal

    if not (directory / MANIFEST).exists():
        print(f"sweep: {problem}", file=sys.stderr)
        return 1
    results = read_sweep(directory)
    ended = results.manifest.ended if results.manifest else None
    if problem is not None and (ended is None or not results.failed):
        print(f"sweep: {problem}", file=sys.stderr)
    console = terminal()
    if not quiet:
        print_summary(Findings(results), console)
    taken = results.manifest.wall_seconds if results.manifest and started is None else None
    seconds = time.perf_counter() - started if started is not None else taken or 0.0
    console.print(f"{headline(results)} in {seconds:.0f} s.", highlight=False)
    console.print(f"Report: {directory / PAGE}", highlight=False, soft_wrap=True)
    if ended is None:
        print(resume.advice(directory), file=sys.stderr)
    if ended == "failed" and results.failed:
        retry = f"To run the failed trials again: {resume.command(directory, retry_failed=True)}"
        console.print(retry, highlight=False, soft_wrap=True)
    if ended == "interrupted":
        console.print(
            f"Interrupted; the results of {counted(len(results.results), 'trial')} are kept. To go on:", highlight=False
        )
        console.print(resume.command(directory), highlight=False, soft_wrap=True)
        return 130
    return 0 if ended == "completed" and problem is None else 1
