"""Suggestions to change the program, by function: avoidable recompiles, buckets, calls past the cache."""

from collections.abc import Iterator
from dataclasses import dataclass

from .._cache.bypass_description import MANY_PROGRAMS, in_cache, most_called, remedy
from .._cache.stats import CacheStats, FunctionStats
from .._calls.misses import NEW_CAUSES, Miss, listed, way_out
from .._primitives.counted import counted
from .bucket_lengths import bucket_proposal
from .suggestion import WORTH_SECONDS, Suggestion

MANY_MISSES = 10
LOW_HIT_RATE = 0.5
_MUCH = 0.1  # of all compile seconds, or of the run: worth a suggestion however few the misses
_RARE_HITS = 10  # for each new shape: a program that is hit more often is worth its compile
_NOT_AVOIDABLE = ("first_call", "new_shape")  # the latter has its own rule
AVOIDABLE = tuple(cause for cause in NEW_CAUSES if cause not in _NOT_AVOIDABLE)  # whatever the cache


def seconds_of(function: FunctionStats, cause: str) -> tuple[int, float]:
    """Return the number of a function's misses of a cause, and their seconds, estimated where not counted."""
    count = function.misses_by_cause.get(cause, 0)
    if function.seconds_by_cause or not count:
        return count, function.seconds_by_cause.get(cause, 0.0)
    return count, count * function.compile_seconds / (function.misses + function.warmed)


def of_the_run(stats: CacheStats) -> str:
    """Return the share of the run spent on compiling, in words; empty if the run's length is unknown."""
    if stats.run_seconds < WORTH_SECONDS:
        return ""
    share = min(1.0, stats.compile_seconds / stats.run_seconds)
    return f"; compiling was {share:.0%} of the {stats.run_seconds:.1f} s since the cache was made"


def other_constants_seconds(stats: CacheStats) -> float:
    """Return the seconds of programs that no later run loads from a directory, since their constants change."""
    functions = [function for function in stats.by_function.values() if function.captured]
    return sum(seconds_of(function, "function_recreated")[1] for function in functions)


def avoidable_seconds(stats: CacheStats) -> float:
    """Return the seconds of all misses that a change of the program would avoid."""
    return sum(seconds_of(function, cause)[1] for function in stats.by_function.values() for cause in AVOIDABLE)


def _is_worth_a_suggestion(stats: CacheStats, count: int, seconds: float) -> bool:
    """Return whether misses took a large share of all compile seconds; if these are few, the hit rate must be low."""
    if seconds < WORTH_SECONDS:
        return count >= MANY_MISSES and stats.hit_rate < LOW_HIT_RATE and 2 * seconds >= stats.compile_seconds
    return count >= MANY_MISSES or seconds >= _MUCH * stats.compile_seconds


@dataclass(frozen=True)
class _Storm:
    """Misses of one function for one avoidable cause."""

    name: str
    cause: str
    count: int
    misses: int
    seconds: float
    last: Miss | None
    remedy: str


def avoidable(stats: CacheStats) -> Iterator[Suggestion]:
    """Suggest how to avoid misses of avoidable causes; functions of one remedy together."""
    by_remedy: dict[tuple[str, str], list[_Storm]] = {}
    for name, function in stats.by_function.items():
        for cause in AVOIDABLE:
            count, seconds = seconds_of(function, cause)
            if count:
                last = _last_miss(stats, name, cause)
                called_so = last is None or last.called_so
                avoided_by = way_out(cause, function.captured, function.library, called_so)
                storm = _Storm(name, cause, count, function.misses, seconds, last, avoided_by)
                by_remedy.setdefault((cause, avoided_by), []).append(storm)
    for storms in by_remedy.values():
        count, seconds = sum(storm.count for storm in storms), sum(storm.seconds for storm in storms)
        if _is_worth_a_suggestion(stats, count, seconds):
            yield _avoid(sorted(storms, key=lambda storm: -storm.seconds), count, seconds, stats)


def _last_miss(stats: CacheStats, name: str, cause: str) -> Miss | None:
    """Return the last remembered miss of a function for a cause."""
    of_cause = [miss for miss in reversed(stats.recent_misses) if miss.cause == cause]
    return next((miss for miss in of_cause if miss.call.startswith(f"{name}(")), None)


def _avoid(storms: list[_Storm], count: int, seconds: float, stats: CacheStats) -> Suggestion:
    cause, remedy_text = storms[0].cause, storms[0].remedy
    why = cause.replace("_", " ")
    last = next((storm.last for storm in storms if storm.last is not None), None)
    at_most = "about" if last is None or last.called_so else "at most"
    compile_word = "compiles" if len(storms) == 1 else "compile"
    often = "again and again" if count >= MANY_MISSES else "again"
    each = [f"{storm.count} of its {storm.misses} misses, {storm.seconds:.1f} s" for storm in storms]
    if len(storms) > 1:
        each = [f"{storm.name}: {text}" for storm, text in zip(storms, each, strict=True)]
    return Suggestion(
        f"{why} recompiles",
        f"{listed(storm.name for storm in storms)} {compile_word} {often} for one cause, {why}: {remedy_text}",
        f"{'; '.join(each[:4])}{of_the_run(stats)}; the last such miss: {last.reason if last else why}",
        f"{at_most} {seconds:.1f} of {stats.compile_seconds:.1f} compile seconds saved",
        "",
        remedy_text,
        seconds,
    )


def buckets(stats: CacheStats) -> Iterator[Suggestion]:
    """Suggest to pad, where shapes are called so seldom that compiling for each is much of the run."""
    for name, function in stats.by_function.items():
        count, seconds = seconds_of(function, "new_shape")
        seldom = function.hits < _RARE_HITS * count or seconds >= _MUCH * stats.run_seconds > 0
        if _is_worth_a_suggestion(stats, count, seconds) and seldom:
            yield _pad(name, function, count, seconds, stats)


def _pad(name: str, function: FunctionStats, count: int, seconds: float, stats: CacheStats) -> Suggestion:
    proposal = bucket_proposal(name, stats.recent_misses)
    called = name if name.isidentifier() else "f"
    evidence = (
        f"{count} of its {function.misses} misses were new shapes, {seconds:.1f} s of compiling; it was hit "
        f"{counted(function.hits, 'time')}{of_the_run(stats)}"
    )
    title = f"{name} compiles for many shapes that are called a few times each: pad them to a few buckets"
    if proposal is None or proposal.count >= count:
        return Suggestion(
            "buckets", title, evidence,
            f"at most {seconds:.1f} of {stats.compile_seconds:.1f} compile seconds saved, less the padding", "",
            f"{called} = bucketed({called}, cache=cache, buckets=choose_buckets(lengths, compile_cost=…))", seconds,
        )  # fmt: skip
    saved = seconds * (1 - proposal.count / count)
    return Suggestion(
        "buckets", title, f"{evidence}; {proposal.evidence}",
        f"about {saved:.1f} of {stats.compile_seconds:.1f} compile seconds saved, for {proposal.padding:.0%} more "
        "elements where each length is called alike", "",
        f"{called} = bucketed({called}, cache=cache, {proposal.arguments})", saved,
    )  # fmt: skip


def past_the_cache(stats: CacheStats) -> Iterator[Suggestion]:
    """Suggest to wrap the transformation of a function, where that is compiled past the cache."""
    for name, function in stats.by_function.items():
        programs, seconds = sum(function.bypassed_programs.values()), function.bypassed_seconds
        if not programs or (seconds < WORTH_SECONDS and programs < MANY_PROGRAMS):
            continue
        called = most_called(function.bypassed_programs)
        yield Suggestion(
            "bypassed",
            f"{called} is compiled by jax.jit itself, past the cache: {remedy(name, called)}",
            f"{counted(function.bypassed, 'call')} of {name} bypassed the cache, and {counted(programs, 'program')} "
            f"compiled for that in {seconds:.1f} s, which the cache does not hold and its limit does not bound",
            "one program a signature instead of one for each step of the transformation, held within the limit",
            "",
            in_cache(name, called) if called != name else remedy(name, called),
            seconds,
        )
