"""What a hit costs: a cached call over a ``jax.jit`` call, interleaved in one process.

    python -m benchmarks.hit_path [--rounds 300] [--installed]

Each round times a block of calls of either, in an order that alternates; the ratio is taken within the round, and
beside it that of the fastest blocks, which a busy machine disturbs least. The functions add their arguments of a few
numbers each, so that what is timed is dispatch. Programs call one shape again and again, or several in turn, or at
random; with NumPy arrays after JAX arrays, weak after strong types, Python numbers after arrays, arrays committed to a
device after others, and with several static values. With `--installed`, the cached function is what `jax.jit` makes
after `jaxcache.install`. Needs only jax and numpy.
"""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import quartiles, record
from jaxcache import JitCache, install

PLAIN = (jax.jit,)  # in a tuple: install replaces what a module has bound
CALLS = 200  # a millisecond of them: what disturbs a block seldom disturbs the next


def block_seconds(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> float:
    """Return seconds a call, over one block of the calls in turn, waited for at its end."""
    arrays = len(jax.tree.leaves(calls[0]))
    rounds = max(1, CALLS // len(calls) // (1 if arrays < 100 else 10))
    result = None
    started = time.perf_counter()
    for _ in range(rounds):
        for args in calls:
            result = function(*args)
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / (rounds * len(calls))


def compare(
    name: str, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], rounds: int, **options: Any
) -> dict[str, Any]:
    """Time both, interleaved, and print a line."""
    jit = JitCache("64MiB", "lru").jit if jax.jit is PLAIN[0] else jax.jit
    cached, plain = jit(function, **options), PLAIN[0](function, **options)
    for warm in (cached, plain):
        block_seconds(warm, calls)
    ratios, ours, theirs = [], [], []
    gc.disable()
    for number in range(rounds):
        pair = [(cached, ours), (plain, theirs)]
        for call, seconds in pair if number % 2 else pair[::-1]:
            seconds.append(block_seconds(call, calls))
        ratios.append(ours[-1] / theirs[-1])
    gc.enable()
    ratio = {**quartiles(ratios), "of_fastest": round(min(ours) / min(theirs), 3)}
    microseconds = {
        key: quartiles([1e6 * one for one in seconds]) for key, seconds in (("cached", ours), ("jit", theirs))
    }
    print(
        f"{name:34} cached ÷ jax.jit = {ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f}), "
        f"of the fastest {ratio['of_fastest']:.2f}; "
        f"{microseconds['cached']['median']:.1f} µs against {microseconds['jit']['median']:.1f} µs"
    )
    return {"ratio": ratio, "microseconds": microseconds}


def add(x: jax.Array, y: jax.Array) -> jax.Array:
    """Do next to nothing."""
    return x + y


def two_arrays(n: int) -> tuple[jax.Array, jax.Array]:
    """Return its arguments."""
    return jnp.ones(n), jnp.ones(n)


def add_leaves(tree: dict[str, dict[str, jax.Array]]) -> jax.Array:
    """Do next to nothing with many arrays."""
    return sum(jax.tree.leaves(tree))  # pyright: ignore[reportReturnType]  # there are some


def fifty_leaves(n: int) -> tuple[dict[str, dict[str, jax.Array]]]:
    """Return its argument, as the parameters of a network are put together."""
    return ({f"layer{number}": {"weights": jnp.ones(n + 1), "bias": jnp.ones(n + 1)} for number in range(25)},)


def layers(n: int) -> dict[str, jax.Array]:
    """Return the parameters of a network as 205 arrays."""
    return {f"layer{number}": jnp.ones(n) for number in range(205)}


def scale(x: jax.Array, n: int) -> jax.Array:
    """Do next to nothing, for a static value."""
    return x * n


def alternations() -> dict[str, list[tuple[Any, ...]]]:
    """Return calls of ``add`` that differ in the kind of their arguments."""
    x, host = jnp.ones(3), np.ones(3, np.float32)
    placed = jax.device_put(x, jax.devices()[0])
    strong, weak = jnp.float32(1), jax.jit(lambda: 1.0)()
    return {
        "numpy_and_jax_arrays": [(x, x), (host, host)],
        "weak_and_strong_types": [(x, weak), (x, strong)],
        "python_numbers_and_arrays": [(x, 1), (x, x), (x, 1.0), (x, np.float32(1))],
        "committed_and_uncommitted": [(x, x), (placed, placed), (x, placed)],
    }


def main() -> None:
    """Print and record the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hit_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--installed", action="store_true", help="functions that jax.jit makes after install")
    given = parser.parse_args()
    rounds, benchmark = given.rounds, "hit_path"
    if given.installed:
        install("64MiB", "lru")
        benchmark = "hit_path_installed"
    at_random = np.random.default_rng(0).integers(8, size=CALLS)
    measured = {
        "two_arrays": compare("2 arrays", add, [two_arrays(3)], rounds),
        "fifty_leaves": compare("a pytree of 50 leaves", add_leaves, [fifty_leaves(3)], rounds),
        "two_arrays_in_turn": compare("2 arrays, 8 in turn", add, [two_arrays(3 + n) for n in range(8)], rounds),
        "two_arrays_at_random": compare("2 arrays, 8 at random", add, [two_arrays(3 + n) for n in at_random], rounds),
        "fifty_leaves_in_turn": compare(
            "50 leaves, 4 in turn", add_leaves, [fifty_leaves(n) for n in range(4)], rounds
        ),
    }
    for name, calls in alternations().items():
        measured[name] = compare(name.replace("_", " "), add, calls, rounds)
        mixed = [calls[number % len(calls)] for number in at_random]
        measured[f"{name}_at_random"] = compare(f"{name.replace('_', ' ')}, random", add, mixed, rounds)
    leaves = layers(3)
    on_host = jax.tree.map(np.asarray, leaves)
    measured["numpy_and_jax_leaves"] = compare(
        "205 leaves, numpy and jax", lambda tree: add_leaves({"all": tree}), [(leaves,), (on_host,)], rounds
    )
    values = [(jnp.ones(3), int(number)) for number in at_random]
    for name, options in (("by_position", {"static_argnums": 1}), ("by_name", {"static_argnames": "n"})):
        measured[f"static_values_{name}"] = compare(
            f"8 static values at random, {name}", scale, values, rounds, **options
        )
    print(f"written to benchmarks/results/{record(benchmark, measured).name}")


if __name__ == "__main__":
    main()
