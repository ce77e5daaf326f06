"""``python -m flows.sweep eviction=lru,size_based``: the command line of a sweep.

Imports at the top are light: flags and mistakes are answered at once, Prefect is imported after its settings are made,
and trials' processes, which import this module again, take nothing from it.
"""

import argparse
import sys
import time
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
        if words[:1] in (["attach"], ["status"], ["cancel"]):
            from .running.slurm_commands import main as follow

            return follow([*words, *(["--quiet"] if quiet else [])])
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

    from .planning.composition import CONFIG_NAME, append_directories, compose
    from .planning.errors import UsageError
    from .planning.locations import config_directories

    if options.cfg or options.info:  # Hydra answers with a traceback where a config cannot be read
        try:
            compose(
                tuple(options.overrides), options.config_name or CONFIG_NAME, options.config_dir or options.config_path
            )
        except UsageError as error:
            return str(error)
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
        from .planning.plan import make_plan

        name, config_dir = options.config_name or CONFIG_NAME, options.config_dir or options.config_path
        try:
            if make_plan(tuple(options.overrides), name, config_dir).runner.name == "slurm":
                from .running.slurm_commands import submit_sweep

                return submit_sweep(tuple(options.overrides), name, config_dir, quiet)
            directory = _prepare(tuple(options.overrides), name, config_dir)
        except UsageError as error:
            print(f"sweep: {error}", file=sys.stderr)
            return 2

        from .running.flow import sweep
        from .running.outcome import run_watched

    def run_flow() -> Any:
        return sweep(options.overrides, str(directory), name, config_dir, quiet=quiet, return_state=True)

    return run_watched(run_flow, directory, started, quiet)


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


if __name__ == "__main__":
    sys.exit(main())
