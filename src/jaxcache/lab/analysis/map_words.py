"""The map in words: what to take, how sure that is, and whether the trials stand where the replay puts them.

Seconds that were measured and seconds that were replayed are told apart, and a comparison is only written where the
figures in it say so.
"""

from collections.abc import Iterator, Sequence

from ... import POLICIES, format_size
from ..counted import counted
from .answer import describe_no_limit, describe_ratio, listed
from .blocks import BLOCKS
from .map_choice import MapChoice, Point
from .policy_map import Check, ProgramMap

_LEAST_SHOWN = 0.05  # seconds; less would be written as 0.0


def limit_text(limit_bytes: int | None) -> str:
    """Return a limit for people."""
    return "no limit" if limit_bytes is None else format_size(limit_bytes)


def agreement_of(maps: Sequence[ProgramMap]) -> str:
    """Return how many of the measured trials equal their prediction; empty if none could be held against it."""
    checks = [check for program_map in maps for check in program_map.checks]
    if not checks:
        return ""
    equal = sum(check.is_equal for check in checks)
    unchecked = sum(program_map.unchecked for program_map in maps)
    was = "was" if unchecked == 1 else "were"
    more = f"; {unchecked} more {was} not replayed, for the time that takes" if unchecked else ""
    verb = "equals its" if 1 in (equal, len(checks)) else "equal their"
    agree = f"{equal} of {counted(len(checks), 'measured trial')} {verb} prediction{more}"
    if equal == len(checks):
        return f"{agree}."
    worst = max(checks, key=_share_off)
    return (
        f"Only {agree}; the furthest is {worst.result.label}, {_difference(worst)}. What is predicted is therefore not "
        "relied on, and the answer rests on the measured trials alone: requests that vary from run to run, as "
        "with threads, cannot be replayed."
    )


def left_out_of(maps: Sequence[ProgramMap]) -> str:
    """Return which policies were not replayed, for the time that takes; empty if all were."""
    missing = [name for name in POLICIES if maps and name not in maps[0].policies]
    if not missing:
        return ""
    verb = "was" if len(missing) == 1 else "were"
    return f"{listed(missing)} {verb} not replayed, for the time that takes."


def _share_off(check: Check) -> float:
    measured = check.result.statistics
    if measured is None or check.is_equal:
        return -1.0
    return abs(measured.cost_seconds - check.prediction.compile_seconds) / max(measured.cost_seconds, _LEAST_SHOWN)


def _difference(check: Check) -> str:
    measured, predicted = check.result.statistics, check.prediction
    assert measured is not None
    if abs(measured.cost_seconds - predicted.compile_seconds) >= _LEAST_SHOWN:
        return f"{measured.cost_seconds:.1f} s measured, {predicted.compile_seconds:.1f} s replayed"
    return f"{measured.misses} misses measured, {predicted.misses} replayed"


def sentence_of(choice: MapChoice) -> str:
    """Return what to take, in place of what, and what no policy could better."""
    point = choice.point
    count = len(choice.joint.maps)
    mean = f", mean of {count} programs," if count > 1 else ""
    buckets = f", buckets {choice.joint.buckets}" if choice.joint.buckets != "none" else ""
    words = f"Take {point.policy} at {limit_text(point.limit_bytes)}{buckets}: {point.seconds:.1f} s of compiling a run"
    words += mean
    words = f"{words}{_against_best_run(choice)}{_against_bound(point)}."
    return words.replace(",,", ",").replace(",;", ";")


def _against_best_run(choice: MapChoice) -> str:
    before, seconds = choice.best_run, choice.best_run_seconds
    if before is None or seconds is None:
        return ""
    label = f"{before.eviction} at {before.limit}" + (f", buckets {before.buckets}" * (before.buckets != "none"))
    ran, fewest = what_was_run(choice)
    if before == choice.setting:
        return f", {fewest}"
    saved = seconds - choice.point.seconds
    if saved >= _LEAST_SHOWN:
        return f" in place of {seconds:.1f} s with {ran} ({label})"
    if saved <= -_LEAST_SHOWN:
        return f", {-saved:.1f} s more than {ran} ({label})"
    return f", as with {ran} ({label})"


def what_was_run(choice: MapChoice) -> tuple[str, str]:
    """Return what the best setting that was run is called, and what it is where it is the one to take."""
    alike = ""
    if choice.others or choice.buckets_apart:
        alike = " without buckets" if choice.joint.buckets == "none" else " with these buckets"
    if choice.settings_tried == 1:
        return f"what you ran{alike}", f"as you ran it{alike}"
    if choice.settings_run == choice.settings_tried:
        return f"the best that was run{alike}", f"the fewest of all settings run{alike}"
    everywhere = f"ran{alike} for every program and seed"
    return f"the best that {everywhere}", f"the fewest of those that {everywhere}"


def _against_bound(point: Point) -> str:
    if point.limit_bytes is None or point.seconds - point.bound_seconds < _LEAST_SHOWN:
        return "; no policy needs less there"
    return f"; no policy needs less than {point.bound_seconds:.1f} s there"


def buckets_note_of(choice: MapChoice) -> str:
    """Return by what the buckets were chosen, and which were not compared; empty where no others were run."""
    notes: list[str] = []
    if choice.others:
        has_running = all(cost.run_seconds is not None for cost in choice.costs)
        figures = [
            f"{cost.compile_seconds:.1f}" + (f" + {cost.run_seconds:.1f}" if has_running else "")
            + (" s without" if cost.buckets == "none" else f" s with {cost.buckets}")
            for cost in choice.costs
        ]  # fmt: skip
        by_what = "by compiling and running together" if has_running else "by compiling alone, since running is unknown"
        notes.append(
            f"Buckets were chosen {by_what}, with the best policy at the limit to take with each: {listed(figures)}."
        )
    if choice.buckets_apart:
        have = "have" if len(choice.buckets_apart) > 1 else "has"
        notes.append(f"{listed(choice.buckets_apart)} {have} not run for every program, and {have} no part in it.")
    return " ".join(notes)


def unlimited_of(choice: MapChoice) -> str:
    """Return what people have without a limit, beside what to take."""
    joint, point = choice.joint, choice.point
    most = " by the program that needs most" if len(joint.maps) > 1 else ""
    words = (
        f"With {describe_no_limit(joint.buckets)}, each program is compiled once and nothing is freed: "
        f"{joint.unlimited_seconds:.1f} s, {format_size(joint.working_set_bytes)} held{most}"
    )
    if point.limit_bytes is None or point.limit_bytes >= joint.working_set_bytes:
        return f"{words}."
    more = point.seconds / joint.unlimited_seconds - 1 if joint.unlimited_seconds else 0.0
    fewer = 1 - point.limit_bytes / joint.working_set_bytes
    compared = "as many seconds" if more < 0.005 else f"{more:.0%} more seconds"
    return f"{words}; {limit_text(point.limit_bytes)} takes {compared} for {fewer:.0%} fewer bytes."


def notes_of(choice: MapChoice) -> Iterator[str]:
    """Yield how the answer is known, how sure it is, and what other limits say, one sentence each."""
    yield unlimited_of(choice)
    if buckets := buckets_note_of(choice):
        yield buckets
    yield _basis(choice)
    if unsure := _unsure(choice):
        yield unsure
    seconds = choice.joint.seconds
    if len(choice.joint.maps) > 1 and point_is_limited(choice):
        apart = {program_map.program: program_map.best(choice.point.limit_bytes) for program_map in choice.joint.maps}
        others = [f"{name} for {program.label}" for program, name in apart.items() if name != choice.point.policy]
        if others:
            yield f"For each program apart, the fewest seconds at that limit are of {listed(others)}."
    least = choice.joint.ranked(choice.point.limit_bytes)[0]
    if seconds(least, choice.point.limit_bytes) < choice.point.seconds - _LEAST_SHOWN:
        yield (
            f"On the recorded requests {least} takes fewer there, {seconds(least, choice.point.limit_bytes):.1f} s; "
            f"{choice.point.policy} was chosen over {'all seeds' if choice.other_seeds else 'blocks of them'}."
        )


def point_is_limited(choice: MapChoice) -> bool:
    """Return whether some program evicts at the limit to take."""
    limit = choice.point.limit_bytes
    return limit is not None and limit < choice.joint.working_set_bytes


def _basis(choice: MapChoice) -> str:
    point = choice.point
    basis = "measured" if point.measured_seconds is not None else "replayed and not run"
    where = f"That setting was {basis}"
    sure = _how_sure(choice, point)
    return f"{where}; {sure}." if sure else f"{where}."


def _unsure(choice: MapChoice) -> str:
    """Return why nothing is said of requests that were not recorded; empty if something is, or nothing is evicted."""
    if choice.other_seeds or not choice.blocks.reason or not point_is_limited(choice):
        return ""
    return f"How far that holds for other requests is not known: {choice.blocks.reason}."


def _how_sure(choice: MapChoice, point: Point) -> str:
    """Return the policy against the baseline over what was replayed; empty where there is nothing to compare."""
    pair = point.against
    if pair is None:
        return ""
    ratio = f"{pair.first} takes {describe_ratio(pair.ratio)} of {pair.second}"
    seeds = f"replayed over {pair.repeats} seeds, of which {_run_of(choice)} run"
    repeats = seeds if choice.other_seeds else f"by a bootstrap over blocks, each {1 / BLOCKS:.0%} of a recording"
    if pair.verdict == "less":
        return f"{ratio}, {repeats}"
    return f"no policy that was held against {pair.second} is shown to take less, {repeats}"


def _run_of(choice: MapChoice) -> str:
    seeds = {seed for each in choice.other_seeds.values() for seed in each.run}
    return f"{len(seeds)} {'was' if len(seeds) == 1 else 'were'}"


def how_chosen(choice: MapChoice) -> str:
    """Return how the policy of each limit was chosen, and of which seeds its seconds are."""
    if not choice.other_seeds:
        or_baseline = (
            f" of those that are shown to take less than {choice.baseline} over blocks of the recording, or "
            f"{choice.baseline} where none of those held against it is" if choice.blocks.recordings else ""
        )  # fmt: skip
        return f"The policy of each limit is the one with the fewest seconds on the recorded requests{or_baseline}."
    seeds = max(len(each.programs) for each in choice.other_seeds.values())
    return (
        f"The policy of each limit is the one with the fewest seconds over {seeds} seeds replayed of those that are "
        f"shown to take less than {choice.baseline}, or {choice.baseline} where none of those held against it is; its "
        "seconds are those of the seeds that were run."
    )


def priced_note(choice: MapChoice) -> str:
    """Return how much of the replayed seeds was priced off neighbouring lengths; empty if nothing was."""
    share = max((each.priced_share for each in choice.other_seeds.values()), default=0.0)
    if not share:
        return ""
    return (
        f"Of the lengths of the seeds that were not run, up to {share:.0%} were compiled by no reference: their "
        "compile seconds are interpolated between neighbouring lengths."
    )
