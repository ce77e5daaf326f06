"""Replay of a watch's compiles with the lengths of each function padded to a few buckets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._padding.choose import fewest_buckets
from .._padding.varying_lengths import alike, one_length, with_n
from .watch import CompileRecord

_CAUSES = ("first_call", "new_shape")  # of programs that differ from the others of their function in shapes alone


@dataclass(frozen=True)
class BucketReplay:
    """Compiles of a function as they were, and as they would have been with buckets.

    Attributes:
        signature: Its call, with ``n`` for the length.
        place: File and line of the function.
        buckets: Lengths to pad to.
        programs: Number of its programs.
        seconds: Seconds that they took.
        seconds_with_buckets: Seconds that those of the buckets' own lengths took.
        padding: Share by which padding makes the sum of the lengths larger, each taken once.
    """

    signature: str
    place: str
    buckets: tuple[int, ...]
    programs: int
    seconds: float
    seconds_with_buckets: float
    padding: float

    @property
    def spared_seconds(self) -> float:
        """Seconds that the buckets would have spared."""
        return self.seconds - self.seconds_with_buckets


def replay_buckets(records: Iterable[CompileRecord]) -> list[BucketReplay]:
    """Return the functions that buckets would have spared compiles of, those with most to spare first."""
    by_place: dict[tuple[str, str], list[CompileRecord]] = {}
    for record in records:
        if record.cause in _CAUSES and record.place:
            by_place.setdefault((record.function, record.place), []).append(record)
    replays = [replay for group in by_place.values() for replay in _of_function(group)]
    return sorted(replays, key=lambda replay: -replay.spared_seconds)


def _of_function(records: Sequence[CompileRecord]) -> Iterable[BucketReplay]:
    for positions in alike(record.call for record in records):
        group = [records[position] for position in positions]
        calls = [record.call for record in group]
        lengths = one_length(calls)
        if lengths is None:
            continue
        seconds = dict(zip(lengths, (record.seconds for record in group), strict=True))
        choice = fewest_buckets(lengths)
        if len(choice.buckets) < len(lengths):
            yield BucketReplay(
                with_n(calls), group[0].place, choice.buckets, len(group), sum(seconds.values()),
                sum(seconds[bucket] for bucket in choice.buckets), choice.padding,
            )  # fmt: skip
