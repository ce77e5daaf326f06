"""Growth of a process whose programs nobody may change: jitted functions, eager operations and gradients of a library.

    python -m benchmarks.process [--signatures 5000] [--limit 64MiB] [--plain-signatures 500]

A process each: without jaxcache, and with `jaxcache.install(limit)` before the library. The library's functions are
called with ever new shapes: in turn one that is jitted, eager operations, an eager `jax.grad` of a jitted function,
and one that was jitted before `install`. Memory is what the process holds after a collection, with what the allocator
can give back given back. The bound is 1.3 × the limit + 32 MiB. Linux only. Needs only jax and numpy.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from benchmarks.memory import mappings, resident_bytes
from benchmarks.record import record
from jaxcache import format_size, install, parse_size

_POINTS = 20  # at which memory is looked at

before = jax.jit(lambda x: jnp.tanh(x) * 2 + x)


class Library:
    """Functions of somebody's, jitted when it is imported."""

    def __init__(self) -> None:
        self._norm = jax.jit(lambda x: jnp.sqrt(jnp.sum(jnp.sin(x) ** 2)))
        self._loss = jax.jit(lambda x: jnp.mean(jnp.tanh(x) ** 2))
        self._calls = (self._norm, self._eager, jax.grad(self._loss), before)

    def _eager(self, x: ArrayLike) -> jax.Array:
        return jnp.cumsum(x) * 2

    def call(self, number: int) -> None:
        """Make the call of this number, the first of its shape."""
        x = np.ones(number // len(self._calls) + 3, np.float32)
        jax.block_until_ready(self._calls[number % len(self._calls)](x))


def grow(signatures: int, limit: str | None) -> dict[str, Any]:
    """Make so many calls in this process; return what it has grown by, on the way and in the end."""
    cache = None if limit is None else install(limit)
    library = Library()
    for number in range(24):
        library.call(number)
    began, maps, started, points = resident_bytes(), mappings(), time.perf_counter(), []
    for number in range(24, 24 + signatures):
        library.call(number)
        if (number - 23) % max(1, signatures // _POINTS) == 0:
            points.append(resident_bytes() - began)
    measured: dict[str, Any] = {
        "signatures": signatures,
        "grown": points[-1],
        "most": max(points),
        "points": points,
        "mappings": mappings() - maps,
        "seconds": time.perf_counter() - started,
    }
    if cache is not None:
        stats = cache.stats()
        measured |= {
            "live_bytes": stats.live_bytes,
            "evictions": stats.evictions,
            "jax_bytes": stats.jax_bytes,
            "jax_releases": stats.jax_releases,
        }
    return measured


def elsewhere(signatures: int, limit: str | None) -> dict[str, Any]:
    """Do one measurement in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.process", "--signatures", str(signatures), "--child"]
    command += [] if limit is None else ["--limit", limit]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print and record both."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.process", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signatures", type=int, default=5000, help="calls of new shapes (5000)")
    parser.add_argument("--plain-signatures", type=int, default=500, help="the same without jaxcache (500)")
    parser.add_argument("--limit", help="of the process's programs (64MiB)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(grow(options.signatures, options.limit)))
        return
    limit = options.limit or "64MiB"
    bound = 1.3 * parse_size(limit) + 32 * 1024**2
    ours, plain = elsewhere(options.signatures, limit), elsewhere(options.plain_signatures, None)
    print(f"{'':10} {'signatures':>10} {'grown':>10} {'at most':>10} {'each':>10} {'mappings':>9} {'seconds each':>13}")
    for name, run in (("jaxcache", ours), ("jax.jit", plain)):
        each = run["grown"] / run["signatures"]
        print(
            f"{name:10} {run['signatures']:10} {format_size(run['grown']):>10} {format_size(run['most']):>10} "
            f"{format_size(each):>10} {run['mappings']:9} {run['seconds'] / run['signatures']:13.3f}"
        )
    print(f"bound {format_size(bound)} for a limit of {limit}; JAX forgot what it holds {ours['jax_releases']} times")
    measured = {"limit": parse_size(limit), "bound": bound, "jaxcache": ours, "jax.jit": plain}
    print(f"written to benchmarks/results/{record('process', measured).name}")


if __name__ == "__main__":
    main()
