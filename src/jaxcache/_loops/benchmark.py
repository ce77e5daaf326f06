"""Benchmark of functions under a cache and under ``jax.jit``: cold and warm times apart, ratios with intervals."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from .._cache.jit_cache import JitCache, cache_or_new
from .._primitives.checks import check_whole_number


@dataclass(frozen=True)
class Interval:
    """Median and the interval that holds it with 95 % confidence.

    The interval is between two order statistics, exact whatever the distribution (a sign test turned round); with
    fewer than 6 rounds it is all that was seen.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Measured:
    """Times of one function.

    Attributes:
        name: Name of the function.
        cold_seconds: The first call of every input under the cache, compiles included.
        jit_cold_seconds: The same under ``jax.jit``.
        warm_seconds: A later call under the cache, median, until its result is there.
        jit_warm_seconds: The same under ``jax.jit``.
        warm_ratio: Ratio of the two within each round.
    """

    name: str
    cold_seconds: float
    jit_cold_seconds: float
    warm_seconds: float
    jit_warm_seconds: float
    warm_ratio: Interval


@dataclass(frozen=True)
class BenchmarkResult:
    """Table of the measured times; ``str`` of it is for people."""

    functions: tuple[Measured, ...]

    def __str__(self) -> str:
        lines = [
            f"{'function':20} {'cold, cache':>12} {'cold, jit':>12} {'warm, cache':>12} {'warm, jit':>12}  warm ratio"
        ]
        for measured in self.functions:
            times = (measured.cold_seconds, measured.jit_cold_seconds, measured.warm_seconds, measured.jit_warm_seconds)
            columns = " ".join(f"{_formatted(seconds):>12}" for seconds in times)
            lines.append(f"{measured.name:20} {columns}  {measured.warm_ratio}")
        return "\n".join(lines)


def benchmark(
    functions: Callable[..., Any] | Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]],
    inputs: Sequence[tuple[Any, ...]],
    *,
    cache: JitCache | None = None,
    rounds: int = 30,
    **options: Any,
) -> BenchmarkResult:
    """Time functions under a cache and under ``jax.jit``.

    JAX returns before the device is done, so each call is waited for. Rounds of the two are interleaved, so that what
    else the machine does strikes both. Their results are not compared.

    Args:
        functions: One, several, or several by name; as ``jax.jit`` takes them, not compiled yet.
        inputs: The arguments of each call, one call an input and round.
        cache: The cache; a new one without a limit if None. If its limit does not hold all, its evictions are
            part of what is measured.
        rounds: Warm rounds.
        **options: What ``jax.jit`` takes. The inputs' arrays are copied before each round, outside of what is timed:
            functions may donate them.

    Raises:
        ValueError: If there are no functions, inputs or rounds.
    """
    named = _by_name(functions)
    rounds = check_whole_number(rounds, "rounds")
    if not named or not len(inputs):
        raise ValueError(f"functions and inputs must be at least one each, but are {len(named)} and {len(inputs)}")
    if not all(isinstance(args, tuple) for args in inputs):
        kinds = ", ".join(sorted({type(args).__name__ for args in inputs}))
        raise ValueError(f"inputs must be tuples of the arguments of a call, such as [(x,), (y,)], but are {kinds}")
    cache = cache_or_new(cache)
    return BenchmarkResult(tuple(_measure(name, fun, inputs, cache, rounds, options) for name, fun in named.items()))


def _by_name(functions: Any) -> dict[str, Callable[..., Any]]:
    if isinstance(functions, Mapping):
        return dict(functions)
    listed = [functions] if callable(functions) else list(functions)
    names = [getattr(function, "__name__", type(function).__name__) for function in listed]
    return {
        name if names.count(name) == 1 else f"{name} {number}": function
        for number, (name, function) in enumerate(zip(names, listed, strict=True), start=1)
    }


def _measure(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[tuple[Any, ...]],
    cache: JitCache,
    rounds: int,
    options: dict[str, Any],
) -> Measured:
    cached, plain = cache.jit(function, **options), jax.jit(function, **options)
    cold, jit_cold = _seconds(cached, inputs), _seconds(plain, inputs)
    ours, theirs = [], []
    for number in range(rounds):
        for call, seconds in ((cached, ours), (plain, theirs))[:: 1 if number % 2 else -1]:
            seconds.append(_seconds(call, inputs) / len(inputs))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Measured(name, cold, jit_cold, statistics.median(ours), statistics.median(theirs), median_interval(ratios))


def _seconds(call: Callable[..., Any], inputs: Sequence[tuple[Any, ...]]) -> float:
    # A call may donate its arguments, and the next round needs the caller's inputs: it gets copies.
    copies = jax.block_until_ready([jax.tree.map(_copied, args) for args in inputs])
    started = time.perf_counter()
    for args in copies:
        jax.block_until_ready(call(*args))
    return time.perf_counter() - started


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its 95 % interval between order statistics."""
    ordered, count = sorted(values), len(values)
    below, tail = -1, 0.0
    while below + 1 < count // 2:
        tail += math.comb(count, below + 1) / 2**count
        if tail > 0.025:
            break
        below += 1
    below = max(below, 0)
    return Interval(statistics.median(ordered), ordered[below], ordered[count - 1 - below])


def _formatted(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.2g} µs"
