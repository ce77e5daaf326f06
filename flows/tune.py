"""``python -m flows.tune workload=gradient_optimization``: record one run, replay every setting, verify the best.

One unbounded run of the program is recorded for each set of buckets. Every policy at every limit is replayed on these;
the best few, and the present setting if one is named, are run for real. The program is described by the overrides of a
sweep.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from .planning.invocation import command_of

HELP = """\
Find the eviction policy, the memory limit and the buckets for a program.

    {tune} workload=gradient_optimization shapes=zipf       record, replay, verify, recommend
    {tune} workload=monte_carlo memory_limit=16MiB present.eviction=lru present.memory_limit=32MiB
    {tune} trace=path/to/trace.parquet                      of your own program: replay, recommend

Everything that `{sweep} --help` lists says what the program is; one value each. memory_limit= is the limit to keep to;
present.memory_limit=, present.eviction= and present.buckets= say what the program has today; --config-dir names a
directory in which configs are looked for first. Besides:

{settings}
Ends with best.yaml, for JitCache.from_file and as a Hydra experiment, and with tune.html and tune.md.
Exit code: 0 found · 1 a run failed · 2 the command is wrong, nothing was started · 130 interrupted.
"""


def main(words: list[str] | None = None) -> int:
    """Tune; return the exit code: 0 found, 1 a run failed, 2 bad command, 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    from .planning.errors import UsageError
    from .tuning.settings import CONFIG, read_settings
    from .tuning.words import as_typed, take_config_dir

    if {"-h", "--help"} & set(words):
        lines = "".join(f"    {line}\n" for line in CONFIG.read_text().splitlines())
        print(HELP.format(tune=command_of("tune"), sweep=command_of("sweep"), settings=lines))
        return 0
    try:
        settings_words, config_dir = take_config_dir(words)
        settings, program = read_settings(settings_words)
        tune = _tune_trace if settings.trace else _tune_program
        return tune(settings, program, _command(words), config_dir)
    except UsageError as error:
        print(f"tune: {as_typed(str(error), words)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was recorded is kept.", file=sys.stderr)
        return 130


def _tune_trace(settings: Any, program: list[str], command: str, config_dir: str | None) -> int:
    from jaxcache.lab.tuning.report import Tuned, Verified

    from .planning.errors import UsageError
    from .planning.plan import make_plan
    from .tuning.recordings import (
        advise_padding,
        derive_recordings,
        find_setting,
        load_trace,
        loaded_share,
        recorded_limit,
        replay_present,
        replay_recorded,
    )
    from .tuning.settings import new_directory
    from .tuning.words import names_present_limit

    plan = make_plan(tuple(program), config_dir=config_dir)  # it names the directory
    trace = load_trace(settings.trace)
    if len({(each.trial.eviction.name, each.trial.memory_limit, each.trial.seed) for each in plan.trials}) > 1:
        raise UsageError("trace= takes one present setting; give one value each, such as eviction=lru")
    present = plan.trials[0].trial
    recordings, lengths, no_buckets_reason = derive_recordings(settings, trace)
    is_named = names_present_limit(program)
    present_limit = present.memory_limit if is_named else recorded_limit(recordings[0].trace)
    tuning = find_setting(settings, recordings, present.seed, present_limit)
    replayed = replay_present(tuning, present) if is_named else replay_recorded(tuning)
    baseline = None if replayed is None else Verified(replayed, None)
    padding = advise_padding(settings, tuning, present.seed) if no_buckets_reason else None
    tuned = Tuned(f"the trace {settings.trace}", command, tuning, (), baseline, None, lengths, padding=padding)
    _finish(tuned, new_directory(plan))
    if share := loaded_share(trace):
        print(
            f"{share:.0%} of the programs were first loaded from a directory, not compiled: they are weighed by what "
            "loading took. Record without one, or with an empty one, to weigh them by what compiling takes."
        )
    if no_buckets_reason and padding is None:
        print(f"Nothing is said of buckets: {no_buckets_reason}.")
    return 0


def _tune_program(settings: Any, program: list[str], command: str, config_dir: str | None) -> int:
    started = time.perf_counter()
    from .planning.errors import UsageError
    from .planning.plan import check_directories, make_plan
    from .prefect_server.connect import find_server
    from .workers.protocol import check_workers

    plan = make_plan(tuple(program), config_dir=config_dir)
    check_directories(plan)
    check_workers(plan)
    if len(plan.trials) != 1:
        raise UsageError(f"tune takes one program and one present setting, but these words say {len(plan.trials)}; "
                         "give one value each, such as workload=monte_carlo")  # fmt: skip
    if plan.trials[0].trial.program is not None and settings.buckets_named and settings.buckets != ["none"]:
        raise UsageError(
            f"tune.buckets={','.join(settings.buckets)} is for the lab's own workloads: nobody knows the lengths of "
            "program.* ahead; leave it out"
        )
    from jaxcache.lab.running import fork_server

    fork_server.start()
    if problem := find_server(plan.server.idle_hours):
        raise UsageError(problem)

    from .tuning.flow import RunFailed, tune_flow
    from .tuning.settings import new_directory

    directory = new_directory(plan)
    try:
        tuned = tune_flow(program, settings, str(directory), command, config_dir)
    except RunFailed as error:
        print(f"tune: {error}", file=sys.stderr)
        return 130 if error.interrupted else 1
    _finish(tuned, directory)
    print(f"The tuning took {time.perf_counter() - started:.0f} s.")
    return 0


def _finish(tuned: Any, directory: Path) -> None:
    from jaxcache.lab.layout import BEST_SETTING
    from jaxcache.lab.report.terminal import terminal
    from jaxcache.lab.tuning.page import write_page
    from jaxcache.lab.tuning.report import print_tuning, write_tuning

    write_tuning(tuned, directory)
    page = write_page(tuned, directory)
    print_tuning(tuned, console := terminal())
    paths = f"Report: {page}\nSetting: {directory / BEST_SETTING}"
    console.print(paths, highlight=False, soft_wrap=True)


def _command(words: list[str]) -> str:
    return f"{command_of('tune')} {shlex.join(words)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
