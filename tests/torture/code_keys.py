"""Torture code keys: processes that start without tracing, killed at random, of programs whose code is edited between.

``python -m tests.torture.code_keys --seconds 60 --seed 0`` prints what happened and ends with 0 if nothing was wrong:
no program gave another result, to the bit, than ``jax.jit`` gives for the code as it is then, nothing was found stale
afterwards, and no exception came out. All processes share a directory, which is full, and whose files are damaged.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from .._code_key.program import imported
from .._code_key.random_programs import IMPORTS, PARTS, mutate, program_of
from .disk import RAISED, WRONG, damage

PROCESSES = 4
PROGRAMS, EDITS = 6, 8
LIMIT = "1MiB"
UNTRACEABLE = {"branches", "exceptions", "star arguments"}  # they look at the value of an argument
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"


def code_of(seed: int, program: int, edit: int) -> dict[str, str] | None:
    """Return the files of a program after an edit, the same in every process; None where there is no such edit."""
    drawn = random.Random(seed * 1_000 + program)
    kinds, ways = sorted(PARTS.keys() - UNTRACEABLE), sorted(IMPORTS.keys() - {"within"})
    parts = [(drawn.choice(kinds), drawn.choice(ways), drawn.randrange(6), drawn.randrange(6)) for _ in range(3)]
    files, drawn = program_of(parts), random.Random(f"{seed} {program} {edit}")
    return files if edit == 0 else mutate(files, drawn.randrange(10_000), drawn.randrange(10_000))


def results_of(jitted: Any) -> Any:
    """Return what a jitted program computes, with types, or which error it raises as it is traced."""
    import numpy as np

    try:
        results = [np.asarray(jitted(np.int32(x))) for x in (2, 3, 7)]
    except Exception as error:
        return type(error).__name__
    return [(result.dtype.name, result.shape, result.tobytes()) for result in results]


def work(root: Path, seed: int, number: int) -> None:
    """Run a few edits of the programs as one process each would; end with a code of its own if anything is wrong."""
    import jax

    import jaxcache
    from jaxcache._code_key.background import background

    warnings.simplefilter("ignore")
    drawn, counts, lowered = random.Random(f"{seed} {number}"), Counter[str](), [0]

    def count_lowered(event: str, _: float, **__: Any) -> None:
        lowered[0] += event == LOWERED

    jax.monitoring.register_event_duration_secs_listener(count_lowered)
    try:
        shared = jaxcache.use_directory(root / "cache", limit=LIMIT, wait_seconds=2.0)
        for run in range(6):
            files = code_of(seed, drawn.randrange(PROGRAMS), drawn.randrange(EDITS))
            if files is None:
                continue
            with contextlib.ExitStack() as stack:
                try:
                    app = stack.enter_context(imported(root / f"source-{number}-{run}", files))
                except Exception:
                    counts["edits that cannot be imported"] += 1
                    continue
                before = lowered[0]
                served = results_of(jaxcache.JitCache().jit(app.program, code_key=True))
                counts["programs"] += 1
                counts["started without tracing"] += lowered[0] == before and not isinstance(served, str)
                if served != results_of(jax.jit(lambda x, program=app.program: program(x))):
                    os._exit(WRONG)
                background.wait()
        if shared.process_counts().mismatched:
            os._exit(WRONG)
        shared.close()
        (root / f"report-{number}").write_text(json.dumps(counts))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(RAISED)


def torture(seconds: float, seed: int, processes: int = PROCESSES) -> tuple[Counter[str], list[str]]:
    """Return what happened and what was wrong."""
    drawn, happened, wrong = random.Random(seed), Counter[str](), []
    root = Path(tempfile.mkdtemp(prefix="jaxcache-torture-code-keys-"))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["jaxcache"])  # which starts no backend, and no thread
    numbers = iter(range(1_000_000))

    def start() -> Any:
        worker = server.Process(target=work, args=(root, seed, next(numbers)))
        worker.start()
        return worker

    def judge(worker: Any) -> None:
        worker.join()
        happened["processes"] += 1
        happened["killed"] += worker.exitcode == -signal.SIGKILL
        if worker.exitcode == WRONG:
            wrong.append("a program was stale")
        elif worker.exitcode not in (0, -signal.SIGKILL):
            wrong.append(f"a process ended with {worker.exitcode}")

    try:
        workers = [start() for _ in range(processes)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(drawn.uniform(0.02, 0.2))
            if drawn.random() < 0.1 and (kind := damage(root / "cache", drawn)):
                happened[f"damage: {kind}"] += 1
            if drawn.random() < 0.02:
                workers[drawn.randrange(processes)].kill()
            for number, worker in enumerate(workers):
                if not worker.is_alive():
                    judge(worker)
                    workers[number] = start()
        for worker in workers:
            judge(worker)
        for report in root.glob("report-*"):
            happened.update(json.loads(report.read_text()))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if not happened["started without tracing"]:
        wrong.append("no program was started without tracing")
    return happened, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    happened, wrong = torture(given.seconds, given.seed)
    for name, count in sorted(happened.items()):
        print(f"{name:<30} {count}")
    print("\n".join(wrong) if wrong else "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
