"""Statistics -> suggestions with evidence. Nothing is suggested that the numbers do not carry."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from ._bytesize import format_size
from ._misses import NEW_CAUSES, REPEAT_CAUSES, WAY_OUT
from ._statistics import CacheStats, FunctionStats

# What counts as worth a person's time. Below them, a rule stays silent.
FEW_CALLS = 20
LOW_HIT_RATE = 0.5
WORTH_SECONDS = 1.0
EXPENSIVE_SECONDS = 0.2
FREQUENT_EVICTIONS = 0.1  # of all calls
FULL = 0.9  # of the limit
MANY_MISSES = 10
COLD_START_SECONDS = 30.0
# Causes that a program can be rid of, whatever the cache.
_AVOIDABLE = (
    "function_recreated", "tree_structure", "static_value", "config_context", "device_or_sharding", "new_dtype",
    "weak_type",
)  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """Something to try.

    Attributes:
        rule: Which rule fired, in one or two words.
        title: What is the matter, and what to do.
        evidence: The numbers that it rests on.
        effect: What to expect, at most.
        override: What to add to ``python -m flows.sweep`` to try it; empty if only the program can be changed.
        python: The same in a program.
        saved_seconds: The seconds of ``effect``, by which suggestions are ranked: what was counted, and at most saved.
    """

    rule: str
    title: str
    evidence: str
    effect: str
    override: str
    python: str
    saved_seconds: float = 0.0


@dataclass(frozen=True)
class Thresholds:
    """What JAX's persistent compilation cache keeps.

    Attributes:
        in_use: Whether there is a directory, and the cache is on.
        min_compile_seconds: Programs that compiled faster are not written.
        min_entry_bytes: Nor are smaller ones; -1 writes all.
    """

    in_use: bool
    min_compile_seconds: float
    min_entry_bytes: int

    @staticmethod
    def now() -> "Thresholds":
        """Return what this process is set to."""
        config: Any = jax.config  # its settings are attributes that it does not declare
        return Thresholds(
            in_use=bool(config.jax_enable_compilation_cache and config.jax_compilation_cache_dir),
            min_compile_seconds=float(config.jax_persistent_cache_min_compile_time_secs),
            min_entry_bytes=int(config.jax_persistent_cache_min_entry_size_bytes),
        )


def suggest(stats: CacheStats, eviction: str | None = None, thresholds: Thresholds | None = None) -> list[Suggestion]:
    """Return what the statistics of one cache suggest, most seconds first; an empty list if nothing is to be gained.

    Args:
        stats: From ``cache.stats()``.
        eviction: The policy that was in use, so that it is not suggested again.
        thresholds: Of the persistent cache that was in use; what this process is set to if not given.
    """
    if stats.hits + stats.misses < FEW_CALLS:
        return []
    kept_off = _thresholds(stats, thresholds or Thresholds.now())
    found = [
        _low_hit_rate(stats), _memory_pressure(stats), _frequent_evictions(stats), _expensive(stats, eviction),
        *_storms(stats), *_buckets(stats), kept_off or _cold_start(stats),
    ]  # fmt: skip
    return sorted((one for one in found if one is not None), key=lambda one: -one.saved_seconds)


def _misses(stats: CacheStats, causes: tuple[str, ...]) -> int:
    return sum(stats.misses_by_cause.get(cause, 0) for cause in causes)


def working_set_bytes(stats: CacheStats) -> int:
    """Estimate what all signatures seen so far weigh: their number times the mean weight of those held."""
    if not stats.variants:
        return stats.peak_bytes
    return max(stats.peak_bytes, _misses(stats, NEW_CAUSES) * stats.live_bytes // stats.variants)


def limit_for(size_bytes: int) -> str:
    """Return a limit as people type it, 1, 2, 3, 4, 6, 8, 12 … MiB, that holds ``size_bytes`` with 5 % to spare."""
    mib = 1
    while mib * 1024**2 < size_bytes * 1.05:
        mib = max(mib + 1, mib * 4 // 3 if mib % 3 == 0 else mib * 3 // 2)
    return f"{mib}MiB"


def _larger_limit(stats: CacheStats) -> tuple[str, str]:
    limit = limit_for(working_set_bytes(stats))
    return f"memory_limit={limit}", f'JitCache(limit="{limit}")'


def _up_to(stats: CacheStats) -> str:
    return f"at most {stats.repeated_cost_seconds:.1f} of {stats.cost_seconds:.1f} compile seconds saved"


def _low_hit_rate(stats: CacheStats) -> Suggestion | None:
    if stats.hit_rate >= LOW_HIT_RATE:
        return None
    new, repeated = _misses(stats, NEW_CAUSES), _misses(stats, REPEAT_CAUSES)
    evidence = f"{stats.hit_rate:.0%} hits; of {stats.misses} misses {new} were new signatures, {repeated} repeats"
    if new > repeated or stats.limit_bytes is None:
        return Suggestion(
            "low hit rate",
            "Most misses bring a signature that was never seen: call with fewer shapes, padded to a few sizes",
            evidence,
            f"at most {stats.cost_seconds - stats.repeated_cost_seconds:.1f} compile seconds saved, less the padding",
            "buckets=optimal",
            "pad the arguments to a few lengths before the call",
            stats.cost_seconds - stats.repeated_cost_seconds,
        )
    override, python = _larger_limit(stats)
    return Suggestion(
        "low hit rate", "Most misses are of what was held before: raise the limit", evidence, _up_to(stats),
        override, python, stats.repeated_cost_seconds,
    )  # fmt: skip


def _memory_pressure(stats: CacheStats) -> Suggestion | None:
    limit = stats.limit_bytes
    if limit is None or stats.peak_bytes < FULL * limit or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    override, python = _larger_limit(stats)
    return Suggestion(
        "memory pressure",
        "The signatures in use do not fit the limit: raise it",
        f"{_misses(stats, NEW_CAUSES)} signatures of about {format_size(working_set_bytes(stats))} in all share "
        f"{format_size(limit)}",
        _up_to(stats),
        override,
        python,
        stats.repeated_cost_seconds,
    )


def _frequent_evictions(stats: CacheStats) -> Suggestion | None:
    calls = stats.hits + stats.misses
    if stats.evictions < FREQUENT_EVICTIONS * calls or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    override, python = _larger_limit(stats)
    return Suggestion(
        "frequent evictions",
        "Programs are evicted and soon compiled again: raise the limit or choose a policy that keeps the right ones",
        f"{stats.evictions} evictions in {calls} calls; {stats.misses_by_cause.get('evicted', 0)} misses were for "
        "what had been evicted",
        _up_to(stats),
        override,
        python,
        stats.repeated_cost_seconds,
    )


def _expensive(stats: CacheStats, eviction: str | None) -> Suggestion | None:
    each = stats.cost_seconds / stats.misses if stats.misses else 0.0
    if each < EXPENSIVE_SECONDS or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    evidence = f"{each:.2f} s a compile on average, {stats.repeated_cost_seconds:.1f} s of them repeated"
    if eviction != "gdsf":
        return Suggestion(
            "expensive compiles",
            "Compiling again is dear: weigh compile seconds when evicting",
            evidence,
            _up_to(stats),
            "eviction=gdsf",
            'JitCache(eviction="gdsf")',
            stats.repeated_cost_seconds,
        )
    if stats.disk_hits:
        return None
    return Suggestion(
        "expensive compiles",
        "Compiling again is dear: keep a persistent directory, so that what was evicted is loaded instead",
        evidence,
        f"most of {stats.repeated_cost_seconds:.1f} compile seconds become loading",
        "persistent=shared",
        'jax.config.update("jax_compilation_cache_dir", "…")',
        stats.repeated_cost_seconds,
    )


def _seconds_of(function: FunctionStats, cause: str) -> tuple[int, float]:
    """Return how many misses of a function had a cause, and about what they took."""
    programs = function.misses + function.warmed
    count = function.misses_by_cause.get(cause, 0)
    return count, count * function.compile_seconds / programs if programs else 0.0


def _storms(stats: CacheStats) -> Iterator[Suggestion]:
    """Compiles that a change of the program would spare, by function and cause."""
    for name, function in stats.by_function.items():
        for cause in _AVOIDABLE:
            count, seconds = _seconds_of(function, cause)
            if count >= MANY_MISSES and seconds >= WORTH_SECONDS:
                why = cause.replace("_", " ")
                last = next((one.reason for one in reversed(stats.recent_misses) if one.cause == cause), why)
                yield Suggestion(
                    f"{why} recompiles",
                    f"{name} compiles again and again for one cause, {why}: {WAY_OUT[cause]}",
                    f"{count} of its {function.misses} misses; the last such miss: {last}",
                    f"about {seconds:.1f} of {stats.compile_seconds:.1f} compile seconds saved",
                    "",
                    WAY_OUT[cause],
                    seconds,
                )


def _buckets(stats: CacheStats) -> Iterator[Suggestion]:
    for name, function in stats.by_function.items():
        count, seconds = _seconds_of(function, "new_shape")
        if count >= MANY_MISSES and seconds >= WORTH_SECONDS and function.hits < 4 * count:
            yield Suggestion(
                "buckets",
                f"{name} compiles for many shapes that are called a few times each: pad them to a few buckets",
                f"{count} of its {function.misses} misses were new shapes; it was hit {function.hits} times",
                f"at most {seconds:.1f} of {stats.compile_seconds:.1f} compile seconds saved, less the padding",
                "",
                f"{name} = bucketed({name}, cache=cache, buckets=choose_buckets(lengths, compile_cost=…))",
                seconds,
            )


def _cold_start(stats: CacheStats) -> Suggestion | None:
    repeated = stats.repeated_cost_seconds / stats.cost_seconds if stats.cost_seconds else 0.0
    once = stats.compile_seconds * (1 - repeated)
    if stats.disk_hits or once < COLD_START_SECONDS:
        return None
    return Suggestion(
        "persistent directory",
        "The next process compiles all of this again: keep executables in a directory",
        f"{stats.compiled} programs were compiled, {once:.1f} s of it for the first time; none was loaded from disk",
        f"most of {once:.1f} s at each start of the program",
        "persistent=shared",
        'jax.config.update("jax_compilation_cache_dir", "…")',
        once,
    )


def _thresholds(stats: CacheStats, thresholds: Thresholds) -> Suggestion | None:
    """A directory is in use, and what compiles is too quick or too small to be written to it."""
    each = stats.compile_seconds / stats.compiled if stats.compiled else 0.0
    too_quick = each < thresholds.min_compile_seconds
    size = stats.live_bytes // stats.variants if stats.variants else 0
    too_small = bool(stats.variants) and size < thresholds.min_entry_bytes
    if not thresholds.in_use or stats.disk_hits or stats.compiled < MANY_MISSES or not (too_quick or too_small):
        return None
    if stats.compile_seconds < WORTH_SECONDS:
        return None
    setting, value, why = (
        ("jax_persistent_cache_min_compile_time_secs", 0.0,
         f"{each:.2f} s each, and only what takes {thresholds.min_compile_seconds:g} s is written")
        if too_quick
        else ("jax_persistent_cache_min_entry_size_bytes", -1,
              f"{format_size(size)} each, and only what has {format_size(thresholds.min_entry_bytes)} is written")
    )  # fmt: skip
    return Suggestion(
        "disk thresholds",
        f"The persistent directory stays empty of these programs: lower {setting}",
        f"{stats.compiled} programs were compiled and none was loaded from disk; they take about {why}",
        f"most of {stats.compile_seconds:.1f} s at each start of the program",
        "",
        f'jax.config.update("{setting}", {value})',
        stats.compile_seconds,
    )
