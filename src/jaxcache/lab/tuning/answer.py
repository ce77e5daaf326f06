"""Answer of a tuning: the recommended setting beside today's and ``jax.jit`` alone, and whether it is worth it."""

from ... import Trace, format_size
from .search import HEADROOM, Candidate, Tuning

KEEP = "Keep what you have"
_LEAST_SHOWN = 0.05  # seconds; less would be written as 0.0
_WORTH = 0.05  # a smaller share of the seconds or the bytes is no reason to change anything

COLUMNS = ("", "setting", "compile s", "run s", "total s", "compiles", "most held")


def setting_of(candidate: Candidate) -> str:
    """Return a setting as it is written on the command line."""
    buckets = "" if candidate.buckets == "none" else f", buckets={candidate.buckets}"
    return f"eviction={candidate.replayed.policy}, memory_limit={format_size(candidate.limit_bytes)}{buckets}"


def short_setting(candidate: Candidate) -> str:
    """Return a setting without its keys, for a narrow table."""
    buckets = "" if candidate.buckets == "none" else f" {candidate.buckets}"
    return f"{candidate.replayed.policy} {format_size(candidate.limit_bytes)}{buckets}"


def answer(what: str, tuning: Tuning, present: Candidate | None, refuted: str = "") -> str:
    """Return the recommended setting and whether it is worth it, in a few sentences.

    Args:
        what: Description of the program.
        tuning: Replays of all settings.
        present: Setting that the program has today; None if unknown or without a limit.
        refuted: Sentences on runs that did not do as predicted; empty if they did, or nothing ran.
    """
    if refuted:
        return f"For {what}, by prediction: {setting_of(tuning.best)}. {refuted} {of_jax_alone(tuning)}"
    judged = "" if present is None else f" {verdict(tuning, present)}."
    return f"For {what}: {setting_of(tuning.best)}. {of_the_best(tuning)}{judged} {of_jax_alone(tuning)}"


def of_the_best(tuning: Tuning) -> str:
    """Return what the recommended setting compiles, in a sentence."""
    best = tuning.best
    text = (
        f"It compiles for {best.replayed.compile_seconds:.1f} s, {best.over_bound:.2f} × the least that any policy "
        "could with these buckets at this limit"
    )
    return (
        f"{text}; the limit is {HEADROOM - 1:.0%} above what the replay needed." if tuning.has_headroom else f"{text}."
    )


def of_jax_alone(tuning: Tuning) -> str:
    """Return what the program does without jaxcache, in a sentence."""
    seconds, held = _without_a_limit(tuning.recordings[0].trace)
    return f"jax.jit alone would compile for {seconds:.1f} s and hold {format_size(held)} without a limit."


def compare(tuning: Tuning, present: Candidate | None) -> list[tuple[str, ...]]:
    """Return rows of :data:`COLUMNS`: the present setting, the recommended one, and ``jax.jit`` alone, as replayed."""
    recording = tuning.recordings[0]
    seconds, held = _without_a_limit(recording.trace)
    alone = (
        "jax.jit alone", "no limit", f"{seconds:.2f}", f"{recording.run_seconds:.2f}",
        f"{seconds + recording.run_seconds:.2f}", str(len(recording.trace.labels)), format_size(held),
    )  # fmt: skip
    now = [] if present is None else [_row("now", present)]
    return [*now, _row("recommended", tuning.best), alone]


def _row(name: str, candidate: Candidate) -> tuple[str, ...]:
    replayed = candidate.replayed
    return (
        name, short_setting(candidate), f"{replayed.compile_seconds:.2f}", f"{candidate.run_seconds:.2f}",
        f"{candidate.total_seconds:.2f}", str(replayed.misses), format_size(replayed.peak_bytes),
    )  # fmt: skip


def verdict(tuning: Tuning, present: Candidate) -> str:
    """Return a sentence whether to change from the present setting to the recommended one; one to keep begins so."""
    best = tuning.best
    if best.setting == present.setting:
        return f"{KEEP}: it is the best setting that was replayed"
    saved = present.total_seconds - best.total_seconds
    held = present.replayed.peak_bytes
    spared = held - best.replayed.peak_bytes  # a limit that is never reached takes no memory
    if saved >= _WORTH * present.total_seconds:
        more = f", and holds {format_size(-spared)} more" if spared < 0 else ""
        share = f"{saved / present.total_seconds:.0%}"
        return f"Worth it: it takes {saved:.1f} s ({share}) less than with {setting_of(present)}{more}"
    if saved > -_WORTH * present.total_seconds and spared < _WORTH * held:
        gain = f"{saved:.1f} s of {present.total_seconds:.1f} s" if saved >= _LEAST_SHOWN else "nothing"
        return f"{KEEP}, {setting_of(present)}: a change would gain {gain}"
    if spared <= 0:
        return f"{KEEP}: {setting_of(present)} takes {-saved:.1f} s less"
    if saved >= 0:
        return (
            f"Worth it for the memory: it holds {format_size(spared)} less than {setting_of(present)}, in no more time"
        )
    return (
        f"It spares memory, not time: {setting_of(present)} takes {-saved:.1f} s less, and holds "
        f"{format_size(spared)} more"
    )


def _without_a_limit(trace: Trace) -> tuple[float, int]:
    """Return the seconds to compile each program once, and the bytes of all of them together."""
    return float(trace.compile_seconds.sum()), trace.working_set_bytes
