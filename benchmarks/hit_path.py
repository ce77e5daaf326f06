"""What a hit costs: a cached call over a ``jax.jit`` call, interleaved in one process.

    python -m benchmarks.hit_path [--rounds 60]

Each round times a block of calls of either, in an order that alternates; the ratio is taken within the round. The
functions add their arguments of three numbers each, so that what is timed is dispatch. Needs only jax and numpy.
"""

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.record import quartiles, record
from jaxcache import JitCache

CALLS = 1000


def block_seconds(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Return seconds a call, over one block, waited for at its end."""
    started = time.perf_counter()
    for _ in range(CALLS):
        result = function(*args)
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / CALLS


def compare(name: str, function: Callable[..., Any], args: tuple[Any, ...], rounds: int) -> dict[str, Any]:
    """Time both, interleaved, and print a line."""
    cached, plain = JitCache("64MiB", "lru").jit(function), jax.jit(function)
    for warm in (cached, plain):
        block_seconds(warm, args)
    ratios, ours, theirs = [], [], []
    gc.disable()
    for number in range(rounds):
        pair = [(cached, ours), (plain, theirs)]
        for call, seconds in pair if number % 2 else pair[::-1]:
            seconds.append(block_seconds(call, args))
        ratios.append(ours[-1] / theirs[-1])
    gc.enable()
    ratio = quartiles(ratios)
    microseconds = {
        key: quartiles([1e6 * one for one in seconds]) for key, seconds in (("cached", ours), ("jit", theirs))
    }
    print(
        f"{name:22} cached ÷ jax.jit = {ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f}); "
        f"{microseconds['cached']['median']:.1f} µs against {microseconds['jit']['median']:.1f} µs"
    )
    return {"ratio": ratio, "microseconds": microseconds}


def main() -> None:
    """Print and record the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hit_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    x = jnp.ones(3)
    tree = {f"layer{number}": {"weights": x, "bias": x} for number in range(25)}
    measured = {
        "two_arrays": compare("2 arrays", lambda a, b: a + b, (x, x), rounds),
        "fifty_leaves": compare("a pytree of 50 leaves", lambda t: sum(jax.tree.leaves(t)), (tree,), rounds),
    }
    print(f"written to benchmarks/results/{record('hit_path', measured).name}")


if __name__ == "__main__":
    main()
