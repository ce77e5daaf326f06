"""``python -m flows.sweep eviction=lru,size_based``: the command line of a sweep.

Imports at the top are light: flags and mistakes are answered at once, Prefect is imported after its settings are made,
and trials' processes, which import this module again, take nothing from it.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .planning.invocation import command_of
from .running.signals import leave_on_interrupt

_INTERRUPTED = "Interrupted; results that are there are kept."
_NEEDED = ("hydra", "omegaconf", "jax", "jaxcache", "prefect", "pydantic")
_HYDRA_FLAGS = ("help", "hydra_help", "cfg", "info", "shell_completion", "resolve", "package", "version")


def main(words: list[str] | None = None) -> int:
    """Run a sweep; return the exit code: 0 all trials succeeded, 1 some failed, 2 bad command, 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    quiet, dry_run = "--quiet" in words, "--dry-run" in words
    words = [word for word in words if word not in ("--quiet", "--dry-run")]
    sys.path[:0] = [] if (here := str(Path(__file__).resolve().parent.parent)) in sys.path else [here]
    try:
        with leave_on_interrupt(_INTERRUPTED):
            if any(word.startswith("sweep.resume=") for word in words):
                from .running.resume import saved_words

                words = saved_words(words)
            options = _parse(words)
        if isinstance(options, str):
            print(f"sweep: {options}", file=sys.stderr)
            return 2
        if options is None:
            return 0
        return _print_forecast(options) if dry_run else _run(options, quiet)
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        print(f"sweep: {sys.executable} has no {error.name}; run make setup, and use .venv/bin/python", file=sys.stderr)
        return 2


def _parse(words: list[str]) -> argparse.Namespace | str | None:
    """Return the options of a sweep, a line that says what is wrong, or None if Hydra answered its own flag."""
    from hydra._internal.utils import get_args_parser

    options, unknown = get_args_parser().parse_known_args(words)
    if unknown:
        key, equals, value = unknown[0].lstrip("-").partition("=")
        after = words[words.index(unknown[0]) + 1 :]
        given = value if equals else after[0] if after and "=" not in after[0] else "value"
        return f"there is no option {unknown[0]}, see --help; settings are written without dashes, as {key}={given}"
    if not any(getattr(options, flag, None) for flag in _HYDRA_FLAGS):
        return options
    import hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    from .planning.composition import CONFIG_NAME, append_directories
    from .planning.locations import config_directories

    first, *others = config_directories(options.config_dir or options.config_path)

    class OtherDirectories(SearchPathPlugin):
        """Directories beside that of ``hydra.main``, which takes one and puts that of ``--config-dir`` last."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            append_directories(search_path, others)

    Plugins.instance().register(OtherDirectories)
    name = [f"hydra.help.app_name='{command_of('sweep')}'"] if options.help else []
    sys.argv = [sys.argv[0], *words, *name]  # Hydra reads it
    hydra.main(config_path=str(first), config_name=CONFIG_NAME, version_base="1.3")(lambda _: None)()
    return None


def _run(options: argparse.Namespace, quiet: bool) -> int:
    """Prepare the sweep, run its flow, and print its outcome; return the exit code."""
    started = time.perf_counter()
    with leave_on_interrupt(_INTERRUPTED):
        from .planning.composition import CONFIG_NAME
        from .planning.errors import UsageError

        name, config_dir = options.config_name or CONFIG_NAME, options.config_dir or options.config_path
        try:
            directory = _prepare(tuple(options.overrides), name, config_dir)
        except UsageError as error:
            print(f"sweep: {error}", file=sys.stderr)
            return 2

        from .running.flow import sweep

    def run_flow() -> Any:
        return sweep(options.overrides, str(directory), name, config_dir, quiet=quiet, return_state=True)

    return _run_watched(run_flow, directory, started, quiet)


def _run_watched(run_flow: Callable[[], Any], directory: Path, started: float, quiet: bool) -> int:
    """Run the sweep's flow while a watchdog looks after its server; return the exit code."""
    from .prefect_server.watchdog import watching
    from .running import resume

    def leave(directory: Path) -> int:
        """End a sweep whose server is gone."""
        from jaxcache.lab.report.write import write_report

        write_report(directory)
        resume.mark_reported(directory)
        return _print_outcome(directory, started, quiet)

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
    broken = not (state.is_completed() or state.is_cancelled())  # trials failed, or the flow did, as on a full disk
    return _print_outcome(directory, started, quiet, state.message if broken else None)


def _close_record(directory: Path) -> None:
    """Start a process that closes Prefect's record of this run, since this process is about to end."""
    from .running import crashed_runs, resume

    manifest = resume.read_manifest(directory)
    if manifest is not None and manifest.run_url is not None:
        crashed_runs.close_from_elsewhere(manifest.run_url)


def _print_forecast(options: argparse.Namespace) -> int:
    """Print what the sweep would run, and start nothing; return the exit code."""
    with leave_on_interrupt(_INTERRUPTED):
        from .planning.composition import CONFIG_NAME
        from .planning.errors import UsageError
        from .planning.plan import make_plan
        from .running.dry_run import forecast

        name, config_dir = options.config_name or CONFIG_NAME, options.config_dir or options.config_path
        try:
            lines = forecast(make_plan(tuple(options.overrides), name, config_dir))
        except UsageError as error:
            print(f"sweep: {error}", file=sys.stderr)
            return 2
    print("\n".join(lines))
    return 0


def _prepare(overrides: tuple[str, ...], name: str, config_dir: str | None) -> Path:
    """Plan the sweep, start its server and its fork server, and return its directory."""
    from .planning.errors import UsageError
    from .planning.plan import check_directories, make_plan
    from .prefect_server.connect import check_address, find_server
    from .workers.protocol import check_workers

    plan = make_plan(overrides, name, config_dir)
    check_address()
    check_directories(plan)
    check_workers(plan)
    if (warning := plan.memory_warning) is not None:
        print(f"sweep: {warning}", file=sys.stderr)

    from jaxcache.lab.running import fork_server

    from .running import resume

    fork_server.start()
    directory = resume.claim(plan)
    problem = find_server(plan.server.idle_hours)
    if problem is not None:
        raise UsageError(problem)
    return directory


def _print_outcome(directory: Path, started: float, quiet: bool, problem: str | None = None) -> int:
    """Print a sweep's summary and its problem, if any; return the exit code."""
    from jaxcache.lab.analysis.sweep import read_sweep
    from jaxcache.lab.counted import counted
    from jaxcache.lab.layout import MANIFEST, PAGE
    from jaxcache.lab.report.rows import headline
    from jaxcache.lab.report.terminal import print_summary, terminal

    from .running import resume

    if not (directory / MANIFEST).exists():
        print(f"sweep: {problem}", file=sys.stderr)
        return 1
    results = read_sweep(directory)
    ended = results.manifest.ended if results.manifest else None
    if problem is not None and (ended is None or not results.failed):
        print(f"sweep: {problem}", file=sys.stderr)
    console = terminal()
    if not quiet:
        print_summary(results, console)
    console.print(f"{headline(results)} in {time.perf_counter() - started:.0f} s.", highlight=False)
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


if __name__ == "__main__":
    sys.exit(main())
