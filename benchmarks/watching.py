"""Cost of `jaxcache.watch()`: a warm start that is watched over one that is not, and likewise a hit.

    python -m benchmarks.watching [--rounds 40]

Both in one process, interleaved, in an order that alternates. Warm starts are those of `benchmarks.warm_start`: JAX has
forgotten all programs, traces them and loads them from its persistent cache. Their seconds are those that the process
was at work, which a busy machine disturbs least. The share within the watch's own methods stands beside the ratio: it
is less noisy, and leaves out what the watch makes others do. Hits are blocks of calls of one compiled function. The
goals are 1 % of a warm start and nothing of a hit. Needs only jax and numpy.
"""

import argparse
import functools
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.hit_path import add, block_seconds, two_arrays
from benchmarks.record import quartiles, record
from benchmarks.warm_start import PROGRAMS
from jaxcache import watch
from jaxcache._process.causes import CompileCauses
from jaxcache._process.watch import Watch


def warm_start(workload: str) -> float:
    """Trace and load the programs of a workload; return the seconds that the process was at work for it."""
    jax.clear_caches()
    gc.collect()
    began = time.process_time()
    jax.block_until_ready(PROGRAMS[workload](jax.jit))
    return time.process_time() - began


class OwnSeconds:
    """Sum of the seconds within what the watch is told."""

    def __init__(self) -> None:
        self.total = 0.0
        for owner in (Watch, CompileCauses):
            for name in [name for name in vars(owner) if name.startswith(("on_", "_on_"))]:
                setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def timed(*args: Any, **options: Any) -> None:
            began = time.thread_time()
            method(*args, **options)
            self.total += time.thread_time() - began

        return timed


def watched(run: Callable[[], float]) -> float:
    """Return what ``run`` returns, run under a watch."""
    with watch():
        return run()


def interleave(run: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round, watched and not."""
    ours, theirs = [], []
    for number in range(rounds):
        pair = [(functools.partial(watched, run), ours), (run, theirs)]
        for each, seconds in pair if number % 2 else pair[::-1]:
            seconds.append(each())
    return ours, theirs


def compare(name: str, run: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Measure, and print a line."""
    watched(run)
    ours, theirs = interleave(run, rounds)
    ratio = quartiles([mine / its for mine, its in zip(ours, theirs, strict=True)])
    print(f"{name:18} watched ÷ not = {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), "
          f"of the fastest {min(ours) / min(theirs):.3f}")  # fmt: skip
    seconds = {"watched": statistics.median(ours), "plain": statistics.median(theirs)}
    return {"ratio": {**ratio, "of_fastest": round(min(ours) / min(theirs), 4)}, "seconds": seconds}


def main() -> None:
    """Print and record the ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.watching", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="warm starts of each kind (20); ten times more of hits")
    rounds = parser.parse_args().rounds
    hit = functools.partial(block_seconds, jax.jit(add), [two_arrays(3)])
    measured = {"hit": compare("a hit", hit, 10 * rounds)}
    with tempfile.TemporaryDirectory() as directory:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for workload in PROGRAMS:
            warm_start(workload)
            measured[workload] = compare(workload, functools.partial(warm_start, workload), rounds)
        own = OwnSeconds()
        for workload in PROGRAMS:
            before = own.total
            seconds = sum(watched(functools.partial(warm_start, workload)) for _ in range(5))
            share = measured[workload]["share_within_the_watch"] = round((own.total - before) / seconds, 4)
            print(f"{workload:18} {share:.2%} within the watch itself")
    print(f"written to benchmarks/results/{record('watching', measured).name}")


if __name__ == "__main__":
    main()
