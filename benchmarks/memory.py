"""What an entry weighs, and whether memory comes back; each measurement in a fresh process.

    python -m benchmarks.memory [--entries 24] [--limit 24MiB]

Weight: the model against the growth of the process. A process compiles a few programs first, so that what JAX needs
once is not counted, then holds many entries of one kind, each of another shape, and divides what its resident memory
has grown by; beside it what the same programs make it grow by under ``jax.jit``.

Return: programs of ten times more signatures than a limit admits, under that limit; what the process has grown by in
the end, and for each further shape once the limit was reached; beside it the same calls under ``jax.jit``.

On a GPU, its memory is told too (see ``benchmarks.gpu``). Linux only. Needs only jax and numpy.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.device_memory import DeviceMemory
from benchmarks.record import record
from jaxcache import JitCache, format_size, parse_size

Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments


def _wave(x: jax.Array) -> jax.Array:
    return jnp.sin(x) * 2 + 1


def elementwise(n: int) -> Call:
    """A few fused operations."""
    return _wave, (np.ones(n, np.float32),)


def _gram(x: jax.Array) -> jax.Array:
    return x @ x.T


def matmul(n: int) -> Call:
    """One product."""
    return _gram, (np.ones((n, n), np.float32),)


def _solve(b: jax.Array) -> jax.Array:
    return jax.scipy.sparse.linalg.cg(lambda x: 4 * x - jnp.roll(x, 1) - jnp.roll(x, -1), b)[0]


def conjugate_gradients(n: int) -> Call:
    """A solver with a loop."""
    return _solve, (np.ones(n, np.float32),)


def _loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for layer in weights:
        x = jnp.tanh(x @ layer)
    return jnp.mean(x**2)


_gradient = jax.grad(_loss)


def mlp_gradient(n: int) -> Call:
    """The gradient of a small network."""
    return _gradient, ([np.ones((16, 16), np.float32)] * 3, np.ones((n, 16), np.float32))


def _power(x: jax.Array) -> jax.Array:
    for _ in range(50):
        x = jnp.tanh(x @ x) + 1
    return x


def unrolled(n: int) -> Call:
    """A hundred operations in a row."""
    return _power, (np.ones((n, n), np.float32),)


def captured_constant(n: int) -> Call:
    """A function of its own for each n, which captures four megabytes of its own."""
    constant = jnp.asarray(np.random.default_rng(n).random((1000, 1000), np.float32))
    return lambda x: x @ constant, (np.ones(1000, np.float32),)


PROGRAMS = {
    one.__name__: one for one in (elementwise, matmul, conjugate_gradients, mlp_gradient, unrolled, captured_constant)
}
OWN_BYTES = {"captured_constant": 4_000_000}  # what the program's author holds, whoever compiles it


def mixed(n: int) -> Call:
    """The programs of which tracing leaves most behind, in turn."""
    return (conjugate_gradients, mlp_gradient, elementwise)[n % 3](n)


class Caller:
    """Calls programs under one ``jit``, each function wrapped once, and keeps what was wrapped."""

    def __init__(self, jit: Callable[..., Any]) -> None:
        self._jit = jit
        self._wrapped: dict[Callable[..., Any], Any] = {}

    def __call__(self, call: Call) -> None:
        function, args = call
        if function not in self._wrapped:
            self._wrapped[function] = self._jit(function)
        jax.block_until_ready(self._wrapped[function](*args))


def resident_bytes() -> int:
    """Return resident memory, with what the allocator can give back given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def mappings() -> int:
    """Return how many memory mappings the process has."""
    return len(Path("/proc/self/maps").read_text().splitlines())


def weigh(name: str, entries: int, peer: bool) -> dict[str, float]:
    """Hold entries of one kind in this process; return bytes and mappings an entry, modelled and grown by.

    With ``peer``, under ``jax.jit`` itself.
    """
    cache = JitCache()
    call = Caller(jax.jit if peer else cache.jit)
    for n in range(3, 9):
        call(PROGRAMS[name](n))
    modelled, grown, maps, device = cache.stats(), resident_bytes(), mappings(), DeviceMemory.now()
    for n in range(9, 9 + entries):
        call(PROGRAMS[name](n))
    stats, own = cache.stats(), OWN_BYTES.get(name, 0)
    on_device = {key: grown / entries for key, grown in device.grown().items()}
    if "grown_in_pool" in on_device:  # the author's arrays are there, and not in the process
        on_device["grown_in_pool"], own = on_device["grown_in_pool"] - own, 0
    return {
        **on_device,
        "modelled": (stats.live_bytes - modelled.live_bytes) / entries,
        "grown": (resident_bytes() - grown) / entries - own,
        "mappings_modelled": (stats.live_mappings - modelled.live_mappings) / entries,
        "mappings": (mappings() - maps) / entries,
    }


def grow(limit_bytes: int, signatures: int) -> dict[str, float]:
    """Compile mixed programs under a limit, until ten times more were seen than it admits; return the growth.

    Given a number of signatures, under ``jax.jit`` itself until that many were seen.
    """
    peer = signatures > 0
    cache = JitCache(limit_bytes, "lru")
    call = Caller(jax.jit if peer else cache.jit)
    for n in range(3, 9):
        call(mixed(n))
    cache.clear()
    before, maps_before, device = resident_bytes(), mappings(), DeviceMemory.now()
    seen, half, admitted, held = 0, 0, 0, []
    while seen < (signatures or 10 * admitted or seen + 1):
        call(mixed(9 + seen))
        seen += 1
        stats = cache.stats()
        if not admitted and stats.evictions:
            admitted = stats.variants
        if admitted:
            held.append(stats.live_bytes)
        if seen == (signatures or 10 * admitted) // 2:
            half = resident_bytes() - before
    grown = resident_bytes() - before
    return {
        **device.grown(),
        "signatures": seen,
        "admitted": admitted,
        "grown": grown,
        "grown_each_further": (grown - half) / (seen - seen // 2),
        "least_held": min(held, default=0),
        "mappings": mappings() - maps_before,
        "mappings_modelled": cache.stats().live_mappings,
    }


def elsewhere(*words: object) -> dict[str, float]:
    """Do one measurement in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare_weights(entries: int) -> dict[str, Any]:
    """Print modelled against grown, a line a kind, beside what ``jax.jit`` grows by."""
    measured = {}
    print(f"{'KiB an entry':20} {'modelled':>9} {'grown':>9} {'ratio':>6} {'under jax.jit':>14} {'mappings':>16}")
    for name in PROGRAMS:
        ours, theirs = (elsewhere("--only", name, "--entries", entries, *peer) for peer in ([], ["--peer"]))
        measured[name] = {**ours, "grown_under_jit": theirs["grown"]}
        print(
            f"{name:20} {ours['modelled'] / 1024:9.0f} {ours['grown'] / 1024:9.0f} "
            f"{ours['modelled'] / ours['grown']:6.2f} {theirs['grown'] / 1024:14.0f} "
            f"{ours['mappings_modelled']:6.0f} for {ours['mappings']:5.0f}"
        )
    return measured


def compare_growth(limit: str) -> dict[str, Any]:
    """Print what comes back under a limit, beside the same calls under ``jax.jit``."""
    limit_bytes = parse_size(limit)
    ours = elsewhere("--grow", limit)
    theirs = elsewhere("--grow", limit, "--signatures", ours["signatures"])
    bound = 1.3 * limit_bytes + 32 * 1024**2
    print(
        f"\n{ours['signatures']:.0f} signatures under a limit of {format_size(limit_bytes)}, which admits "
        f"{ours['admitted']:.0f}; the cache held at least {ours['least_held'] / limit_bytes:.2f} of it\n"
        f"{'':14} {'grown':>10} {'each further shape':>20} {'mappings':>10}"
    )
    for name, run in (("jaxcache", ours), ("jax.jit", theirs)):
        print(
            f"{name:14} {format_size(run['grown']):>10} {format_size(run['grown_each_further']):>20} "
            f"{run['mappings']:10.0f}"
        )
    print(f"{'bound':14} {format_size(bound):>10} {'20 KiB':>20} {ours['mappings_modelled']:10.0f} (modelled)")
    return {"limit": limit_bytes, "bound": bound, "jaxcache": ours, "jax.jit": theirs}


def main() -> None:
    """Print and record both."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=24, help="entries of a kind that are weighed (24)")
    parser.add_argument("--limit", default="24MiB", help="the limit that growth is measured under (24MiB)")
    parser.add_argument("--only", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--grow", help=argparse.SUPPRESS)
    parser.add_argument("--signatures", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(weigh(options.only, options.entries, options.peer)))
        return
    if options.grow:
        print(json.dumps(grow(parse_size(options.grow), options.signatures)))
        return
    measured = {"weight": compare_weights(options.entries), "growth": compare_growth(options.limit)}
    print(f"written to benchmarks/results/{record('memory', measured).name}")


if __name__ == "__main__":
    main()
