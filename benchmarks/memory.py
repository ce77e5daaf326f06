"""What an entry weighs: the model against the growth of the process, a fresh process for each kind of program.

    python -m benchmarks.memory [--entries 24]

Each process compiles a few programs first, so that what JAX needs once is not counted, then holds many entries of one
kind, each of another shape, and divides what its resident memory has grown by. Linux only. Needs only jax and numpy.
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

from benchmarks.record import record
from jaxcache import JitCache

Program = Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]


def elementwise(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a program of a few fused operations."""
    return lambda x: jnp.sin(x) * 2 + 1, (np.ones(n, np.float32),)


def matmul(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a program around one product."""
    return lambda x: x @ x.T, (np.ones((n, n), np.float32),)


def conjugate_gradients(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a solver with a loop."""

    def solve(b: jax.Array) -> jax.Array:
        return jax.scipy.sparse.linalg.cg(lambda x: 4 * x - jnp.roll(x, 1) - jnp.roll(x, -1), b)[0]

    return solve, (np.ones(n, np.float32),)


def mlp_gradient(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the gradient of a small network."""

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for layer in weights:
            x = jnp.tanh(x @ layer)
        return jnp.mean(x**2)

    return jax.grad(loss), ([np.ones((16, 16), np.float32)] * 3, np.ones((n, 16), np.float32))


def unrolled(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a program of a hundred operations in a row."""

    def power(x: jax.Array) -> jax.Array:
        for _ in range(50):
            x = jnp.tanh(x @ x) + 1
        return x

    return power, (np.ones((n, n), np.float32),)


def captured_constant(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a program that captures four megabytes of its own."""
    constant = jnp.asarray(np.random.default_rng(n).normal(size=(1000, 1000 + n)).astype(np.float32))
    return lambda x: x @ constant, (np.ones(1000, np.float32),)


PROGRAMS: dict[str, Program] = {
    one.__name__: one for one in (elementwise, matmul, conjugate_gradients, mlp_gradient, unrolled, captured_constant)
}


def resident_bytes() -> int:
    """Return resident memory, with what the allocator can give back given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(name: str, entries: int, peer: bool) -> dict[str, float]:
    """Hold entries of one kind in this process; return bytes an entry, modelled and grown by.

    With ``peer``, under ``jax.jit`` itself. What the program's own author holds, a captured constant, is left out.
    """
    cache, program, held = JitCache(), PROGRAMS[name], []
    jit = jax.jit if peer else cache.jit
    own_bytes = 4_000_000 if name == "captured_constant" else 0

    def hold(n: int) -> None:
        function, args = program(n)
        held.append(jit(function))
        jax.block_until_ready(held[-1](*args))

    for n in range(3, 9):
        hold(n)
    before, weight_before = resident_bytes(), cache.stats().live_bytes
    for n in range(9, 9 + entries):
        hold(n)
    grown, weight = resident_bytes() - before, cache.stats().live_bytes - weight_before
    return {"modelled": weight / entries, "grown": grown / entries - own_bytes}


def main() -> None:
    """Print and record modelled against grown, a line a kind, beside what ``jax.jit`` grows by."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--entries", type=int, default=24)
    parser.add_argument("--only", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.entries, options.peer)))
        return
    measured = {}
    print(f"{'KiB an entry':20} {'modelled':>9} {'grown':>9} {'ratio':>6} {'under jax.jit':>14}")
    for name in PROGRAMS:
        words = [sys.executable, "-m", "benchmarks.memory", "--only", name, "--entries", str(options.entries)]
        ours, theirs = (
            json.loads(subprocess.run([*words, *peer], check=True, capture_output=True, text=True).stdout)
            for peer in ([], ["--peer"])
        )
        measured[name] = {**ours, "grown_under_jit": theirs["grown"]}
        print(
            f"{name:20} {ours['modelled'] / 1024:9.0f} {ours['grown'] / 1024:9.0f} "
            f"{ours['modelled'] / ours['grown']:6.2f} {theirs['grown'] / 1024:14.0f}"
        )
    print(f"written to benchmarks/results/{record('memory', measured).name}")


if __name__ == "__main__":
    main()
