"""Cost of `jaxcache.watch()`: a warm start that is watched over one that is not, and likewise a hit.

    python -m benchmarks.watching [--rounds 40]

Both in one process, interleaved, in an order that alternates. Warm starts are those of `benchmarks.warm_start`: JAX has
forgotten all programs, traces them and loads them from its persistent cache. Their seconds are those that the process
was at work, which a busy machine disturbs least. The share within the watch's own methods stands beside the ratio: it
is less noisy, and leaves out what the watch makes others do. What it takes to find the causes of the compiles when
somebody asks for them, after the warm start, stands beside that. Hits are blocks of calls of one compiled function.
The goals are 1 % of a warm start and nothing of a hit. Needs only jax and numpy.
"""

import argparse
import functools
import gc
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.hit_path import add, block_seconds, two_arrays
from benchmarks.record import quartiles, record
from benchmarks.warm_start import PROGRAMS
from jaxcache import watch
from jaxcache._process.causes import CompileCauses
from jaxcache._process.watch import Watch

_STARTS = 10  # of which the shares are
_EMPTY = ("CompileCauses.on_traced", "CompileCauses.on_lowered")  # methods that do nothing


def warm_start(workload: str) -> float:
    """Trace and load the programs of a workload; return the seconds that the process was at work for it."""
    jax.clear_caches()
    gc.collect()
    began = time.process_time()
    jax.block_until_ready(PROGRAMS[workload](jax.jit))
    return time.process_time() - began


class OwnSeconds:
    """Seconds within what the watch is told, without those of the clock: what a method takes that does nothing."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        for owner in (Watch, CompileCauses):
            for name in [name for name in vars(owner) if name.startswith(("on_", "_on_"))]:
                setattr(owner, name, self._timed(f"{owner.__name__}.{name}", getattr(owner, name)))

    def _timed(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def timed(*args: Any, **options: Any) -> None:
            began = time.thread_time()
            method(*args, **options)
            self._seconds[name] += time.thread_time() - began
            self._calls[name] += 1

        return timed

    def take(self) -> float:
        """Return the seconds since the last time."""
        empty = sum(self._seconds[name] for name in _EMPTY) / sum(self._calls[name] for name in _EMPTY)
        seconds = sum(self._seconds.values()) - empty * self._calls.total()
        self._seconds.clear()
        self._calls.clear()
        return seconds


def own_shares(workload: str, own: OwnSeconds) -> dict[str, Any]:
    """Return the shares of a warm start that a watch takes within it and when it is asked, and likewise by program."""
    seconds, asking, programs = 0.0, 0.0, 0
    for _ in range(_STARTS):
        with watch() as compiles:
            seconds += warm_start(workload)
            began = time.thread_time()
            programs += len(compiles.compiles)
            asking += time.thread_time() - began
    within = own.take()
    return {
        "share_within_the_watch": round(within / seconds, 4),
        "share_when_asked": round(asking / seconds, 4),
        "seconds_of_a_program": seconds / programs,
        "microseconds_of_a_program": {"within": within / programs * 1e6, "when_asked": asking / programs * 1e6},
    }


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
            shares = own_shares(workload, own)
            measured[workload] |= shares
            each = shares["microseconds_of_a_program"]
            print(f"{workload:18} {shares['share_within_the_watch']:.2%} within the watch itself, "
                  f"{shares['share_when_asked']:.2%} when asked; {each['within']:.0f} and {each['when_asked']:.0f} µs "
                  f"of {shares['seconds_of_a_program'] * 1e3:.0f} ms a program")  # fmt: skip
    print(f"written to benchmarks/results/{record('watching', measured).name}")


if __name__ == "__main__":
    main()
