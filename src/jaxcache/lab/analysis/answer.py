"""The answer of a sweep in words: its sentence, and the notes that say how sure it is.

Every superlative is checked against the seconds that it stands on before it is written.
"""

from collections.abc import Collection, Iterator, Sequence
from statistics import fmean

from ..counted import counted
from .choice import Choice, baseline_of, by_policy, told_by
from .paired_tests import Interval
from .ranking import Cell, cells_of, limit_order
from .sweep import Group, Program, Setting

_MOST_NAMED, _MOST_SEEDS = 3, 8
_LEAST_SHOWN = 0.05  # seconds; less would be written as 0.0


def sentence_of(choice: Choice, tried: Collection[Setting], is_all: bool) -> str:
    """Return what to take, and what it was compared with.

    Args:
        choice: Of the block that is recommended from.
        tried: The settings of the sweep, also those without a successful trial.
        is_all: Whether the block holds every successful trial of the sweep.
    """
    if is_all:
        return _body(choice, tried)
    compared = len(choice.block.by_setting)
    which = f"{compared} of {len(tried)} settings" if compared < len(tried) else "all settings"
    return f"Compared on {describe_cells(choice.block.cells)}, which {which} have run: {_body(choice, tried)}"


def nothing_shared(groups: Sequence[Group]) -> str:
    """Return why nothing can be ranked: no two settings have a cell in common."""
    ran: dict[Setting, list[Cell]] = {}
    for group in groups:
        ran.setdefault(group.setting, []).extend(cells_of([group]))
    parts = [f"{setting.label} ran {describe_cells(cells)}" for setting, cells in ran.items()]
    return (
        f"No two settings have run the same program and seed, so nothing is ranked: {_shortened(parts, '; ')}. To "
        "compare settings, run each with the same workload, shapes and seeds."
    )


def notes_of(choices: Sequence[Choice], tried: Collection[Setting], failed: Collection[Setting]) -> Iterator[str]:
    """Yield how sure the answer is, and what is not in it, a sentence each; the first choice is the answer.

    ``failed`` are those of the settings tried that have no successful trial.
    """
    main = choices[0]
    for note in (_policy_note(main, tried), _buckets_note(main), _limit_note(main, tried)):
        if note:
            yield note
    apart = [_apart(choice, tried) for choice in choices[1:]]
    yield from _limited(apart, "more set of settings is compared apart", "more sets of settings are compared apart")
    ranked = {setting for choice in choices for setting in choice.block.by_setting}
    alone = [
        f"{setting.label} is not compared: no other setting has run the same program and seed."
        for setting in tried if setting not in ranked and setting not in failed
    ]  # fmt: skip
    yield from _limited(alone, "more setting has run what no other has", "more settings have run what no other has")
    unknown = [f"{setting.label} has no successful trial, so nothing is said of it." for setting in failed]
    yield from _limited(unknown, "more setting has no successful trial", "more settings have no successful trial")


def _limited(notes: list[str], one_more: str, many_more: str) -> list[str]:
    more = len(notes) - _MOST_NAMED
    return notes if more <= 0 else [*notes[:_MOST_NAMED], f"{counted(more, one_more, many_more)}."]


# The sentence.


def _body(choice: Choice, tried: Collection[Setting]) -> str:
    """Return the sentence without what was compared."""
    words = f"{_lead(choice, tried)}: {choice.seconds:.1f} compile seconds a run{_against_rival(choice)}"
    frames = [group.frame for group in choice.groups if group.frame is not None]
    if len(frames) == len(choice.groups):
        unlimited = fmean(frame.unbounded_seconds for frame in frames)
        words += f"; with {describe_no_limit(choice.setting.buckets)}, {unlimited:.1f}"
    return f"{words}."


def _against_rival(choice: Choice) -> str:
    """Return what the setting saves over the one that it is held against; empty where that is nothing to speak of."""
    rival = _rival(choice)
    saved = None if rival is None else choice.saved_over(rival)
    if rival is None or saved is None or abs(saved.mean) < _LEAST_SHOWN:
        return ""
    sign = "less" if saved.mean >= 0 else "more"
    whom = f"{rival.eviction} at the same limit" if rival in choice.rivals else _what(rival, choice)
    return f", {abs(saved.mean):.1f} {sign} than {whom}{_range(saved)}"


def _lead(choice: Choice, tried: Collection[Setting]) -> str:
    what, settings = _what(choice.setting, choice), choice.block.by_setting
    if len(settings) == 1:
        return f"One setting {'was tried' if len(tried) == 1 else 'has succeeded'}, {what}"
    if len({setting.eviction for setting in settings}) == 1:
        compared = "tried" if len({setting.eviction for setting in tried}) == 1 else "compared"
        return f"One policy was {compared}: {what}"
    if choice.claimed:
        return f"Take {what}"
    if not choice.rivals:
        return f"Of {len(settings)} settings {what} {_why(choice)}"
    equal = [rival.eviction for rival in choice.rivals if choice.block.seconds[rival] == choice.seconds]
    least = f"{what} took the fewest seconds{_where(choice)}" + (f", as did {listed(equal)}" if equal else "")
    if any(rival.verdict == "more" for rival in choice.against):
        return least
    return f"No policy is shown to be better than the rest; {least}"


def _why(choice: Choice) -> str:
    """Return what a setting has before others of other limits or buckets."""
    if choice.is_least:
        return "took the fewest seconds"
    if choice.is_least_with_running:
        return "took the fewest seconds of compiling and running together"
    if choice.lost_share is not None and len({setting.buckets for setting in choice.block.by_setting}) == 1:
        return "has the smallest limit that is large enough"
    return "is suggested"


def _where(choice: Choice) -> str:
    """Return among which settings none took fewer seconds; empty for all that were compared."""
    if choice.is_least:
        return ""
    at_limit = [setting for setting in choice.block.by_setting if setting.memory_limit == choice.setting.memory_limit]
    return " at this limit" + (" with these buckets" if len({setting.buckets for setting in at_limit}) > 1 else "")


def _what(setting: Setting, choice: Choice) -> str:
    limit = "no limit" if setting.memory_limit is None else f"a limit of {setting.limit}"
    shows_buckets = len({setting.buckets for setting in choice.block.by_setting}) > 1 or setting.buckets != "none"
    return f"{setting.eviction} with {limit}" + (f", buckets {setting.buckets}" if shows_buckets else "")


def _rival(choice: Choice) -> Setting | None:
    """Return the setting that the chosen one is held against: at its limit ``lru``, else the next best; else of all."""
    if len(choice.block.by_setting) == 1 or len({setting.eviction for setting in choice.block.by_setting}) == 1:
        return None
    if choice.rivals:
        baseline = baseline_of(choice.block.groups)
        if baseline == choice.setting.eviction:
            return None
        return next((setting for setting in choice.rivals if setting.eviction == baseline), choice.rivals[0])
    others = [setting for setting in choice.block.by_setting if setting != choice.setting]
    return min(
        others, key=lambda setting: (choice.block.seconds[setting], limit_order(setting.memory_limit), setting.eviction)
    )


def _range(saved: Interval) -> str:
    if saved.low is None or saved.high is None:
        return f" ({counted(saved.repeats, 'repeat')}: too few for an interval)"
    return f" ({saved.confidence:.0%} interval {saved.low:.1f} to {saved.high:.1f}, {saved.repeats} repeats)"


# The notes.


def _policy_note(choice: Choice, tried: Collection[Setting]) -> str:
    eviction = choice.setting.eviction
    compared = {setting.eviction for setting in choice.block.by_setting}
    if len({setting.eviction for setting in tried}) == 1:
        return "One policy was tried, so the sweep says nothing of others."
    if len(compared) == 1:
        return "One policy was compared, so nothing is said of others."
    measured = by_policy(choice.block.groups)
    if all(measured[name] == measured[eviction] for name in measured):
        return _alike(choice, tried)
    if not choice.against:
        rivals = ",".join(sorted(compared))
        return (
            f"No other policy was run at a limit of {eviction}{_same_buckets(choice)}, so policies are not compared: "
            f"eviction={rivals} at one memory_limit would compare them."
        )
    return " ".join(part for part in (_evidence(choice), _not_at_one_limit(choice, compared)) if part)


def _alike(choice: Choice, tried: Collection[Setting]) -> str:
    """Say of policies that took the same seconds in every trial why, and what would tell them apart."""
    if not any(group.mean("evictions") for group in choice.block.groups):
        return "Nothing was evicted, so policies cannot differ: a smaller memory_limit would tell them apart."
    who = "All policies" if len(choice.block.by_setting) == len(tried) else "The policies compared"
    return f"{who} took the same seconds in every trial: more seeds will hardly tell them apart, other limits may."


def _evidence(choice: Choice) -> str:
    eviction, mine = choice.setting.eviction, choice.against
    repeats = min(pair.repeats for pair in mine)
    if all(pair.verdict == "too few repeats" for pair in mine):
        needed = mine[0].repeats_needed
        seeds = ",".join(map(str, range(needed)))
        least = f"{eviction} took the fewest seconds{_where(choice)}, which" if choice.rivals else "That"
        return (
            f"{least} is no claim: there {'are' if repeats > 1 else 'is'} {counted(repeats, 'repeat')}, and "
            f"{needed} are needed before a difference can be shown; seed={seeds} would settle it."
        )
    shown = [pair for pair in mine if pair.verdict in ("less", "more")]
    parts = [f"{eviction} takes {describe_ratio(pair.ratio)} of the compile seconds of {pair.second}" for pair in shown]
    evidence = "; ".join(parts) + f" (paired over {repeats} seeds, Holm's correction)." if parts else ""
    if any(pair.verdict == "more" for pair in shown) and choice.rivals:
        evidence += " That is the geometric mean over programs and limits; the fewest seconds are a mean at one limit."
    level = [pair.second for pair in mine if pair.verdict == "no difference seen"]
    if level:
        evidence += (" " if evidence else "") + f"Between {eviction} and {listed(level)} no difference was seen."
    return evidence


def _not_at_one_limit(choice: Choice, compared: set[str]) -> str:
    apart = sorted(compared - {pair.second for pair in choice.against} - {choice.setting.eviction})
    if not apart:
        return ""
    where = f"at a limit of {choice.setting.eviction}{_same_buckets(choice)}"
    return f"{listed(apart)} {'were' if len(apart) > 1 else 'was'} not run {where}, and as policies not compared."


def _same_buckets(choice: Choice) -> str:
    return " with the same buckets" if len({setting.buckets for setting in choice.block.by_setting}) > 1 else ""


def _buckets_note(choice: Choice) -> str:
    compared = told_by(choice.setting.buckets, choice.buckets)
    if not compared:
        return ""
    ratios = [f"{describe_ratio(pair.ratio)} of {pair.second} ({pair.verdict})" for pair in compared]
    return f"Buckets {choice.setting.buckets}: compiling and running take {', '.join(ratios)}."


def _limit_note(choice: Choice, tried: Collection[Setting]) -> str:
    limit, buckets = choice.setting.memory_limit, choice.setting.buckets
    same_buckets = [setting for setting in choice.block.by_setting if setting.buckets == buckets]
    if len({setting.memory_limit for setting in tried}) == 1:
        return "One limit was tried, so the sweep says nothing of others."
    if len({setting.memory_limit for setting in same_buckets}) == 1:
        with_these = " with these buckets" if len(same_buckets) < len(choice.block.by_setting) else ""
        return f"One limit was compared{with_these}, so nothing is said of others."
    if choice.lost_share is not None:
        return (
            f"With it all but {choice.lost_share:.0%} of what a cache without a limit saves is saved; a larger limit "
            "gains no more than that."
        )
    if any(group.frame is None for group in choice.groups):
        return "Without a reference run that speaks for these trials, it is not known what a larger limit would gain."
    if any(limit_order(setting.memory_limit) > limit_order(limit) for setting in same_buckets):
        return "No larger limit that was compared took fewer seconds."
    largest = max(limit_order(setting.memory_limit) for setting in tried) <= limit_order(limit)
    which = f"It is the largest limit {'tried' if largest else 'compared'}"
    if any(setting.eviction == choice.setting.eviction and setting != choice.setting for setting in same_buckets):
        return f"{which}, and compile seconds still fall there: try a larger one."
    return f"{which}, and a cache without a limit would save more: try a larger one."


def _apart(choice: Choice, tried: Collection[Setting]) -> str:
    """Say what another set of settings says of its own cells."""
    return f"Compared apart, on {describe_cells(choice.block.cells)}: {_body(choice, tried)}"


# Words.


def describe_cells(cells: Sequence[Cell]) -> str:
    """Return ``monte_carlo, zipf with seeds 0 and 1``, in short where there are many programs."""
    seeds: dict[Program, list[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.program, []).append(cell.seed)
    disks = len({program.persistent for program in seeds}) > 1
    names = {program: _named(program, disks) for program in seeds}
    if len({tuple(sorted(each)) for each in seeds.values()}) == 1:
        return f"{_shortened([*names.values()], ' and ')} with {_seeds(next(iter(seeds.values())))}"
    return _shortened([f"{names[program]} with {_seeds(each)}" for program, each in seeds.items()], "; ")


def describe_programs(programs: Sequence[Program]) -> str:
    """Return ``monte_carlo, zipf and cg, uniform``, in short where there are many."""
    disks = len({program.persistent for program in programs}) > 1
    return _shortened([_named(program, disks) for program in programs], " and ")


def _named(program: Program, disks: bool) -> str:
    return program.label + (f", disk {program.persistent}" if disks else "")


def _seeds(seeds: Sequence[int]) -> str:
    ordered = sorted(seeds)
    if len(ordered) == 1:
        return f"seed {ordered[0]}"
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"seeds {ordered[0]} to {ordered[-1]}"
    if len(ordered) > _MOST_SEEDS:
        return f"{len(ordered)} of the seeds {ordered[0]} to {ordered[-1]}"
    return f"seeds {listed([str(seed) for seed in ordered])}"


def _shortened(names: Sequence[str], separator: str) -> str:
    more = len(names) - _MOST_NAMED
    shown = names if more <= 0 else [*names[:_MOST_NAMED], f"{more} more"]
    return separator.join(shown)


def listed(names: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def describe_no_limit(buckets: str) -> str:
    """Return what a cache without a limit is: what people have under ``jax.jit``, which pads nothing."""
    return "no limit, as under jax.jit alone" if buckets == "none" else "no limit and these buckets"


def describe_ratio(ratio: Interval) -> str:
    """Return ``0.82 (0.78–0.86)``."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.mean:.2f}"
    return f"{ratio.mean:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
