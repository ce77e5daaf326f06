"""``python -m flows.tune workload=gradient_optimization``: record one run, replay every setting, verify the best.

One unbounded run of the program for each set of buckets is recorded; every policy at every limit is computed from
these; the best few, and the present setting, are run for real. What is asked of the program is said as in a sweep.
"""

import sys
import time
from pathlib import Path
from typing import Any

HELP = """\
Find the eviction policy, the memory limit and the buckets for a program.

    python -m flows.tune workload=gradient_optimization shapes=zipf       record, replay, verify, recommend
    python -m flows.tune workload=monte_carlo eviction=lru memory_limit=32MiB tune.memory_limit=16MiB
    python -m flows.tune trace=path/to/trace.parquet                      of your own program: replay, recommend

Everything that `python -m flows.sweep --help` lists says what the program and the present setting are; one value each.
Besides:

{settings}
Ends with best.yaml, for JitCache.from_file and as a Hydra experiment, and tune.md.
Exit code: 0 found · 1 a run failed · 2 the command is wrong, nothing was started · 130 interrupted.
"""


def main(words: list[str] | None = None) -> int:
    """Tune; return the exit code."""
    words = sys.argv[1:] if words is None else words
    from .planning.plan import UsageError
    from .tuning.settings import CONFIG, read_settings

    if {"-h", "--help"} & set(words):
        print(HELP.format(settings="".join(f"    {line}\n" for line in CONFIG.read_text().splitlines())))
        return 0
    try:
        settings, program = read_settings(words)
        return (_tune_trace if settings.trace else _tune_program)(settings, program, words)
    except UsageError as error:
        print(f"tune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was recorded is kept.", file=sys.stderr)
        return 130


def _tune_trace(settings: Any, program: list[str], words: list[str]) -> int:
    from jaxcache import Trace
    from jaxcache.lab.tuning.report import Tuned, Verified

    from .planning.plan import UsageError, make_plan
    from .tuning.settings import (
        derive_recordings,
        find_setting,
        loaded_share,
        new_place,
        replay_present,
        replay_recorded,
    )

    plan = make_plan(tuple(program))  # for the directory
    try:
        trace = Trace.load(settings.trace)
    except OSError as error:
        raise UsageError(f"trace={settings.trace} cannot be read ({error.strerror or 'no such file'})") from error
    except ValueError as error:
        raise UsageError(f"trace={settings.trace}: {error}") from error
    if len({(one.trial.eviction.name, one.trial.memory_limit, one.trial.seed) for one in plan.trials}) > 1:
        raise UsageError("trace= takes one present setting; give one value each, such as eviction=lru")
    present = plan.trials[0].trial
    recordings, lengths, silent = derive_recordings(settings, trace)
    tuning = find_setting(settings, recordings, present.seed)
    named = any(word.partition("=")[0] in ("eviction", "memory_limit") for word in program)
    now = replay_present(tuning, present) if named else replay_recorded(tuning)
    place = new_place(plan)
    told = None if now is None else Verified(now, None)
    _finish(Tuned(f"the trace {settings.trace}", _command(words), tuning, (), told, None, lengths), place)
    if share := loaded_share(trace):
        print(
            f"{share:.0%} of the programs were first loaded from a directory, not compiled: they are weighed by what "
            "loading took. Record without one, or with an empty one, to weigh them by what compiling takes."
        )
    if silent:
        print(f"Nothing is said of buckets: {silent}.")
    return 0


def _tune_program(settings: Any, program: list[str], words: list[str]) -> int:
    started = time.perf_counter()
    from .planning.plan import UsageError, check_directories, make_plan
    from .sweep import find_server

    plan = make_plan(tuple(program))
    check_directories(plan)
    if len(plan.trials) != 1:
        raise UsageError(f"tune takes one program and one present setting, but this says {len(plan.trials)}; "
                         "give one value each, such as workload=monte_carlo")  # fmt: skip
    from jaxcache.lab.running import launch as run

    run.warm_up()
    if problem := find_server():
        raise UsageError(problem)

    from .tuning.flow import RunFailed, tune
    from .tuning.settings import new_place

    place = new_place(plan)
    try:
        tuned = tune(program, settings, str(place), _command(words))
    except RunFailed as error:
        print(f"tune: {error}", file=sys.stderr)
        return 130 if error.interrupted else 1
    _finish(tuned, place)
    print(f"{time.perf_counter() - started:.0f} s in all.")
    return 0


def _finish(tuned: Any, place: Path) -> None:
    from jaxcache.lab.report.terminal import terminal
    from jaxcache.lab.tuning.report import BEST, REPORT, print_tuning, write_tuning

    write_tuning(tuned, place)
    print_tuning(tuned, console := terminal())
    console.print(f"Report: {place / REPORT}\nSetting: {place / BEST}", highlight=False, soft_wrap=True)


def _command(words: list[str]) -> str:
    return " ".join(["python -m flows.tune", *words])


if __name__ == "__main__":
    sys.exit(main())
