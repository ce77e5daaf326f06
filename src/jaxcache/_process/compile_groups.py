"""Compiles of a process, grouped by what one change would spare; and that in a few lines."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._calls.misses import STORM_MISSES, STORM_SECONDS
from .._primitives.counted import counted
from .watch import CompileRecord

_SHOWN_SECONDS = 0.05  # what is less would be shown as 0.0 s
_ONE_PLACE = ("eager",)  # causes whose remedy stands at the line of the call, whatever the operations are


@dataclass(frozen=True, slots=True)
class CompileGroup:
    """Compiles that one change to the program would spare, or that are needed.

    Attributes:
        records: In their order.
        title: What was compiled: a function, or the line that calls operations one by one.
        place: File and line of what is to be changed.
        cause: As in :class:`CompileRecord`.
        way_out: What to change; empty if nothing.
    """

    records: tuple[CompileRecord, ...]
    title: str
    place: str
    cause: str
    way_out: str

    @property
    def where(self) -> str:
        """What is to be changed, and where it was called last, if that is another file."""
        called = self.records[-1].call_site
        same_file = os.path.basename(called.rpartition(":")[0]) == os.path.basename(self.place.rpartition(":")[0])
        return self.place if same_file else f"{self.place}, called at {called}"

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return sum(record.seconds for record in self.records)

    @property
    def is_storm(self) -> bool:
        """Whether many came in a short time."""
        starts = sorted(record.started_seconds for record in self.records)
        return any(
            last - first <= STORM_SECONDS for first, last in zip(starts, starts[STORM_MISSES - 1 :], strict=False)
        )


def group_compiles(records: Iterable[CompileRecord]) -> list[CompileGroup]:
    """Return the groups of compiles, the costliest first."""
    by_key: dict[tuple[str, str, str], list[CompileRecord]] = {}
    for record in records:
        at_call = record.cause in _ONE_PLACE
        place = record.call_site if at_call or not record.place else record.place
        title = "operations called one by one" if at_call else record.function
        by_key.setdefault((title, place, record.cause), []).append(record)
    groups = [
        CompileGroup(tuple(group), title, place, cause, group[-1].way_out)
        for (title, place, cause), group in by_key.items()
    ]
    return sorted(groups, key=lambda group: -group.seconds)


def changes(groups: Iterable[CompileGroup]) -> list[CompileGroup]:
    """Return the groups that a change to the program would spare, the costliest first."""
    return [group for group in groups if group.way_out]


def answer(compiles: Sequence[CompileRecord], traced: Sequence[CompileRecord], run_seconds: float) -> str:
    """Return the whole in one or two sentences."""
    spent = sum(record.seconds for record in [*compiles, *traced])
    compiled = sum(record.tier == "compiled" for record in compiles)
    loaded = len(compiles) - compiled
    if not compiles:
        return f"Nothing was compiled in {run_seconds:.1f} s."
    share = f"{spent / run_seconds:.0%} of {run_seconds:.1f} s" if run_seconds > 0 else f"{spent:.1f} s"
    compiling = [f"compiling {counted(compiled, 'program')}"] * bool(compiled)
    loading = [f"loading {loaded}" if compiled else f"loading {counted(loaded, 'program')}"] * bool(loaded)
    programs = " and ".join(compiling + loading)
    spared = changes(group_compiles(compiles))[:3]
    if not spared:
        return f"{share} went into {programs}; nothing in the program would spare much of that."
    number = {1: "one change", 2: "two changes", 3: "three changes"}[len(spared)]
    seconds = sum(group.seconds for group in spared)
    most = f"up to {seconds:.1f} s" if seconds >= _SHOWN_SECONDS else "less than 0.1 s"
    return f"{share} went into {programs}; {number} would spare {most}."


def summary(
    compiles: Sequence[CompileRecord], traced: Sequence[CompileRecord], run_seconds: float, most: int = 5
) -> list[str]:
    """Return the answer, and the costliest groups with why they compile and what would spare that, a line each."""
    lines = [answer(compiles, traced, run_seconds)]
    for group in group_compiles(compiles)[:most]:
        record = group.records[-1]
        number = counted(len(group.records), "program")
        advice = f"; {group.way_out}" if group.way_out else ""
        lines.append(f"{group.seconds:6.1f} s  {group.title} ({group.where}), {number}: {record.reason}{advice}")
    return lines
