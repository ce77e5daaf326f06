"""Suggestions from statistics, each with evidence. The numbers support all of them."""

from dataclasses import dataclass
from typing import Any

from .._cache.stats import CacheStats
from .._calls.misses import NEW_CAUSES, REPEAT_CAUSES
from .._primitives.checks import check_instance
from .._primitives.sizes import format_size
from .program_advice import (
    LOW_HIT_RATE,
    MANY_MISSES,
    avoidable,
    avoidable_seconds,
    buckets,
    of_the_run,
    other_constants_seconds,
    past_the_cache,
)
from .suggestion import WORTH_SECONDS, Suggestion, merge_equal

# Below these thresholds, a rule gives no suggestion.
FEW_CALLS = 20
EXPENSIVE_SECONDS = 0.2
FREQUENT_EVICTIONS = 0.1  # of all calls
FULL = 0.9  # of the limit
COLD_START_SECONDS = 30.0
_DIRECTORY = 'jaxcache.use_directory("…")  # before the first program compiles'


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the persistent cache that is in use: that of ``use_directory``, or JAX's own.

    Attributes:
        in_use: Whether there is a directory, and the cache is on.
        min_compile_seconds: Programs that compiled faster are not written.
        min_entry_bytes: Smaller entries are not written; -1 writes all.
        shared: Whether it is that of ``use_directory``.
    """

    in_use: bool
    min_compile_seconds: float
    min_entry_bytes: int
    shared: bool = False

    @staticmethod
    def now() -> "Thresholds":
        """Return the settings of this process."""
        import jax  # whoever reads the results of other processes needs none

        from .._disk.jax_backend import plugged_cache

        if (cache := plugged_cache()) is not None:
            return Thresholds(True, cache.min_compile_seconds, cache.min_entry_bytes, shared=True)
        config: Any = jax.config  # its settings are attributes that it does not declare
        return Thresholds(
            in_use=bool(config.jax_enable_compilation_cache and config.jax_compilation_cache_dir),
            min_compile_seconds=float(config.jax_persistent_cache_min_compile_time_secs),
            min_entry_bytes=int(config.jax_persistent_cache_min_entry_size_bytes),
        )


def suggest(stats: CacheStats, eviction: str | None = None, thresholds: Thresholds | None = None) -> list[Suggestion]:
    """Return suggestions from the statistics of one cache, most seconds first; an empty list if none would help.

    A directory helps later runs only, so it counts half the seconds that are left after the other suggestions.
    Suggestions of one remedy are merged.

    Args:
        stats: From ``cache.stats()``.
        eviction: The policy that was in use, so that it is not suggested again.
        thresholds: Of the persistent cache that was in use; the settings of this process if not given.

    Raises:
        TypeError: If ``stats`` are no statistics of a cache.
    """
    check_instance(stats, CacheStats, "stats", "cache.stats()")
    rules = merge_equal(all_suggestions(stats, eviction, thresholds or Thresholds.now()))
    return sorted(rules, key=lambda suggestion: -suggestion.saved_seconds)


def all_suggestions(stats: CacheStats, eviction: str | None, thresholds: Thresholds) -> list[Suggestion]:
    """Return the suggestions of each rule; several may have one remedy."""
    padding = list(buckets(stats))
    of_program = [*avoidable(stats), *padding, *past_the_cache(stats)]
    avoided = avoidable_seconds(stats) + sum(suggestion.saved_seconds for suggestion in padding)
    of_disk = _thresholds(stats, thresholds) or _cold_start(stats, thresholds, avoided)
    if stats.hits + stats.misses < FEW_CALLS:
        return [*of_program, *filter(None, [of_disk])]
    of_limit = [_low_hit_rate(stats), _memory_pressure(stats), _frequent_evictions(stats)]
    few_shapes = None if of_program else _many_shapes(stats)
    return [*filter(None, [*of_limit, few_shapes, _expensive(stats, eviction, thresholds)]), *of_program,
            *filter(None, [of_disk])]  # fmt: skip


def _misses(stats: CacheStats, causes: tuple[str, ...]) -> int:
    return sum(stats.misses_by_cause.get(cause, 0) for cause in causes)


def working_set_bytes(stats: CacheStats) -> int:
    """Estimate the weight of all signatures seen so far: their number times the mean weight of those held."""
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
    if stats.hit_rate >= LOW_HIT_RATE or _misses(stats, NEW_CAUSES) > _misses(stats, REPEAT_CAUSES):
        return None
    if stats.limit_bytes is None or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    override, python = _larger_limit(stats)
    return Suggestion(
        "low hit rate", "Most misses are of what was held before: raise the limit", _hit_rate(stats), _up_to(stats),
        override, python, stats.repeated_cost_seconds,
    )  # fmt: skip


def _many_shapes(stats: CacheStats) -> Suggestion | None:
    """Suggest fewer shapes, where most misses are new shapes and no function has its own suggestion."""
    new, shapes = _misses(stats, NEW_CAUSES), _misses(stats, ("new_shape",))
    if stats.hit_rate >= LOW_HIT_RATE or 2 * shapes <= stats.misses:
        return None
    seconds = (stats.cost_seconds - stats.repeated_cost_seconds) * shapes / new
    return Suggestion(
        "low hit rate",
        "Most misses bring a signature that was never seen: call with fewer shapes, padded to a few sizes",
        f"{_hit_rate(stats)}; {shapes} of them new shapes",
        f"at most {seconds:.1f} compile seconds saved, less the padding",
        "buckets=optimal",
        "pad the arguments to a few lengths before the call",
        seconds,
    )


def _hit_rate(stats: CacheStats) -> str:
    new, repeated = _misses(stats, NEW_CAUSES), _misses(stats, REPEAT_CAUSES)
    return f"{stats.hit_rate:.0%} hits; of {stats.misses} misses {new} were new signatures, {repeated} repeats"


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


def _expensive(stats: CacheStats, eviction: str | None, thresholds: Thresholds) -> Suggestion | None:
    each = stats.cost_seconds / stats.misses if stats.misses else 0.0
    if each < EXPENSIVE_SECONDS or stats.repeated_cost_seconds < WORTH_SECONDS:
        return None
    evidence = f"{each:.2f} s a compile on average, {stats.repeated_cost_seconds:.1f} s of them repeated"
    if eviction != "gdsf":
        return Suggestion(
            "expensive compiles",
            "Recompiling is expensive: weigh compile seconds when evicting",
            evidence,
            _up_to(stats),
            "eviction=gdsf",
            'JitCache(eviction="gdsf")',
            stats.repeated_cost_seconds,
        )
    if stats.disk_hits or thresholds.in_use:
        return None
    return Suggestion(
        "expensive compiles",
        "Recompiling is expensive: keep a persistent directory, so that what was evicted is loaded instead",
        evidence,
        f"most of {stats.repeated_cost_seconds:.1f} compile seconds become loading",
        "persistent=shared",
        _DIRECTORY,
        stats.repeated_cost_seconds,
    )


def _cold_start(stats: CacheStats, thresholds: Thresholds, avoided: float) -> Suggestion | None:
    """Suggest a directory, since the next process compiles the same again, less the ``avoided`` seconds."""
    repeated = stats.repeated_cost_seconds / stats.cost_seconds if stats.cost_seconds else 0.0
    once = stats.compile_seconds * (1 - repeated) - other_constants_seconds(stats)
    if stats.disk_hits or thresholds.in_use or once < COLD_START_SECONDS:
        return None
    return Suggestion(
        "persistent directory",
        "The next process compiles all of this again: keep executables in a directory",
        f"{stats.compiled} programs were compiled, {once:.1f} s of it for the first time; none was loaded from disk"
        f"{of_the_run(stats)}",
        f"most of {once:.1f} s at each start of the program",
        "persistent=shared",
        _DIRECTORY,
        max(0.0, once - avoided) / 2,
    )


def _thresholds(stats: CacheStats, thresholds: Thresholds) -> Suggestion | None:
    """Suggest lower thresholds, where a directory is in use, but programs are too quick or too small for it."""
    each = stats.compile_seconds / stats.compiled if stats.compiled else 0.0
    too_quick = each < thresholds.min_compile_seconds
    size = stats.live_bytes // stats.variants if stats.variants else 0
    too_small = bool(stats.variants) and size < thresholds.min_entry_bytes
    if not thresholds.in_use or stats.disk_hits or stats.compiled < MANY_MISSES or not (too_quick or too_small):
        return None
    seconds = stats.compile_seconds - other_constants_seconds(stats)
    if seconds < WORTH_SECONDS:
        return None
    setting, why = (
        ("min_compile_seconds" if thresholds.shared else "jax_persistent_cache_min_compile_time_secs",
         f"{each:.2f} s each, and only what takes {thresholds.min_compile_seconds:g} s is written")
        if too_quick
        else ("min_entry_bytes" if thresholds.shared else "jax_persistent_cache_min_entry_size_bytes",
              f"{format_size(size)} each, and only what has {format_size(thresholds.min_entry_bytes)} is written")
    )  # fmt: skip
    written = f'jax.config.update("{setting}", {0.0 if too_quick else -1})'
    return Suggestion(
        "disk thresholds",
        f"The persistent directory stays empty of these programs: lower {setting}",
        f"{stats.compiled} programs were compiled and none was loaded from disk; they take about {why}",
        f"most of {seconds:.1f} s at each start of the program",
        "",
        f'jaxcache.use_directory("…", {setting}=0)' if thresholds.shared else written,
        seconds,
    )
