"""``python -m flows.sweep eviction=lru,size_based``: the command line of a sweep.

What is imported at the top is light on purpose: flags and mistakes are answered at once, Prefect is imported after its
settings are made, and trials' processes, which import this module again, take nothing from it.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from .running.signals import leave_on_interrupt

_INTERRUPTED = "Interrupted; results that are there are kept."
_HYDRA_FLAGS = ("help", "hydra_help", "cfg", "info", "shell_completion", "resolve", "package", "version")


def main(words: list[str] | None = None) -> int:
    """Run a sweep; return the exit code: 0 all trials succeeded, 1 some failed, 2 bad command, 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    quiet = "--quiet" in words
    words = [word for word in words if word != "--quiet"]
    sys.path[:0] = [] if (here := str(Path(__file__).resolve().parent.parent)) in sys.path else [here]
    try:
        with leave_on_interrupt(_INTERRUPTED):
            if any(word.startswith("sweep.resume=") for word in words):
                from .running.resume import saved_words

                words = saved_words(words)
            options = _parse(words)
        return _run(options, quiet) if options else 0
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        return 130


def _parse(words: list[str]) -> argparse.Namespace | None:
    """Return the options of a sweep, or None if Hydra answered one of its own flags."""
    from hydra._internal.utils import get_args_parser

    options = get_args_parser().parse_args(words)
    if not any(getattr(options, flag, None) for flag in _HYDRA_FLAGS):
        return options
    import hydra

    from .planning.plan import CONF, CONFIG_NAME

    sys.argv = [sys.argv[0], *words]  # what Hydra reads
    hydra.main(config_path=str(CONF), config_name=CONFIG_NAME, version_base="1.3")(lambda _: None)()
    return None


def _run(options: argparse.Namespace, quiet: bool) -> int:
    started = time.perf_counter()
    with leave_on_interrupt(_INTERRUPTED):
        from .running import fork_server

        fork_server.start()
        from .planning.plan import CONFIG_NAME, UsageError

        name, directory = options.config_name or CONFIG_NAME, options.config_dir or options.config_path
        try:
            place = _prepare(tuple(options.overrides), name, directory)
        except UsageError as error:
            print(f"sweep: {error}", file=sys.stderr)
            return 2

        from .prefect_server.watchdog import keeping
        from .running import resume
        from .running.flow import sweep

    def leave(place: Path) -> int:
        """End a sweep whose server is gone."""
        from jaxcache.lab.report.write import write_report

        write_report(place)
        resume.mark_reported(place)
        return _tell(place, started, quiet)

    logging.raiseExceptions = False  # Prefect would tell the terminal of each record that waits for a server
    try:
        with keeping(leave):
            state = sweep(options.overrides, str(place), name, directory, quiet=quiet, return_state=True)
    except Exception as error:  # Prefect's own, such as a server that went away
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"sweep: Prefect gave up ({reason}); finished trials are kept.", file=sys.stderr)
        print(resume.advice(place), file=sys.stderr)
        return 1
    broken = not (state.is_completed() or state.is_cancelled())  # trials failed, or the flow did, as on a full disk
    return _tell(place, started, quiet, state.message if broken else None)


def _prepare(overrides: tuple[str, ...], name: str, directory: str | None) -> Path:
    """Plan the sweep, start what it needs, and return its directory."""
    from .planning.plan import UsageError, check_directories, make_plan
    from .workers.protocol import check_workers

    plan = make_plan(overrides, name, directory)
    check_address()
    check_directories(plan)
    check_workers(plan)
    if (warning := plan.memory_warning) is not None:
        print(f"sweep: {warning}", file=sys.stderr)

    from jaxcache.lab.running import launch as run

    from .running import resume

    run.warm_up()
    place = resume.claim(plan)
    problem = find_server()
    if problem is not None:
        raise UsageError(problem)
    return place


def _tell(place: Path, started: float, quiet: bool, problem: str | None = None) -> int:
    """Print what came of a sweep; return the exit code."""
    from jaxcache.lab.analysis.sweep import MANIFEST, read_sweep
    from jaxcache.lab.report.page import PAGE
    from jaxcache.lab.report.rows import headline
    from jaxcache.lab.report.terminal import print_summary, terminal

    from .running import resume

    if not (place / MANIFEST).exists():
        print(f"sweep: {problem}", file=sys.stderr)
        return 1
    results = read_sweep(place)
    ended = results.manifest.ended if results.manifest else None
    if problem is not None and (ended is None or not results.failed):
        print(f"sweep: {problem}", file=sys.stderr)
    console = terminal()
    if not quiet:
        print_summary(results, console)
    console.print(f"{headline(results)} in {time.perf_counter() - started:.0f} s.", highlight=False)
    console.print(f"Report: {place / PAGE}", highlight=False, soft_wrap=True)
    if ended is None:
        print(resume.advice(place), file=sys.stderr)
    if ended == "interrupted":
        console.print(f"Interrupted; the results of {len(results.results)} trials are kept. To go on:", highlight=False)
        console.print(resume.command(place), highlight=False, soft_wrap=True)
        return 130
    return 0 if ended == "completed" and problem is None else 1


def check_address() -> None:
    """Refuse a ``PREFECT_API_URL`` at which nobody answers; it need not be set.

    Raises:
        UsageError: If nobody answers there.
    """
    from . import server
    from .planning.plan import UsageError

    server.configure()
    given = os.environ.get("PREFECT_API_URL")
    if given and not server.healthy(given, timeout_seconds=10):
        raise UsageError(
            f"PREFECT_API_URL={given} does not answer; start that server, or unset it to use the project's own"
        )


def find_server() -> str | None:
    """Make ``PREFECT_API_URL`` name a server that answers; return what is wrong, or None."""
    from . import server
    from .planning.plan import UsageError

    try:
        check_address()
    except UsageError as error:
        return str(error)
    if os.environ.get("PREFECT_API_URL"):
        return None
    try:
        ours, new = server.start()
    except (OSError, server.ServerError) as error:
        return f"the Prefect server cannot be started: {error}"
    if new:
        print("Starting the project's Prefect server; later sweeps use it too (make stop ends it) …", file=sys.stderr)
    ours.use()
    import prefect  # noqa: F401  takes a second, which the server needs as well

    try:
        server.wait(ours)
    except server.ServerError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
