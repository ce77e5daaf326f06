"""Requests of seeds that were not run: a seed changes which lengths are asked for, not what a length compiles.

A workload's stream is drawn from its seed before anything runs, and each request of one length asks for the same
signatures. A recording therefore says what a request of each length asks for, and streams of other seeds can be put
together and replayed without running anything. Lengths that no reference has seen are priced on the straight line
between their neighbours, and counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import Trace
from ..buckets import Buckets
from ..trial import Trial
from .recorded import RecordedProgram

SEEDS = 30
_FEWEST_LENGTHS = 2
_MOST_ROWS = 2_000_000  # of all seeds together: more take longer to put together than a report may
_MOST_PRICED = 0.5  # of the signatures: with more of them unknown, nothing is said


class _Signature(NamedTuple):
    """One signature of a recording: its name in cost tables, bytes and seconds."""

    name: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """Signatures that a run asks for: before the first request, and at each request of a length.

    Attributes:
        first: Asked for once, before the requests.
        by_length: Asked for by each request of a length, in order; as many for every length.
    """

    first: tuple[_Signature, ...]
    by_length: Mapping[int, tuple[_Signature, ...]]

    def merged(self, other: "Recipe") -> "Recipe | None":
        """Return a recipe with the lengths of both; None if they contradict each other."""
        names = [[signature.name for signature in each.first] for each in (self, other)]
        calls = {len(each) for recipe in (self, other) for each in recipe.by_length.values()}
        if names[0] != names[1] or len(calls) > 1:
            return None
        shared = self.by_length.keys() & other.by_length.keys()
        if any(_names(self.by_length[length]) != _names(other.by_length[length]) for length in shared):
            return None
        return Recipe(self.first, {**other.by_length, **self.by_length})


def _names(signatures: tuple[_Signature, ...]) -> tuple[str, ...]:
    return tuple(signature.name for signature in signatures)


@dataclass(frozen=True)
class OtherSeeds:
    """Programs of one workload at many seeds, those that were run among them.

    Attributes:
        programs: By seed; those that were run are as recorded.
        run: The seeds that were run.
        priced_share: Of the signatures of all seeds together, those priced off neighbouring lengths.
    """

    programs: Mapping[int, RecordedProgram]
    run: tuple[int, ...]
    priced_share: float


def find_other_seeds(trials: Mapping[int, Trial], recorded: Mapping[int, RecordedProgram]) -> OtherSeeds | None:
    """Return the programs of ``SEEDS`` seeds; None where a recording does not say what a length asks for.

    Args:
        trials: A trial of each seed that was run, equal but for the cache and the seed.
        recorded: The recording of each.
    """
    if SEEDS * max(len(recording.trace) for recording in recorded.values()) > _MOST_ROWS:
        return None
    recipe: Recipe | None = None
    for seed, recording in recorded.items():
        mine = read_recipe(trials[seed], recording.trace)
        recipe = mine if recipe is None or mine is None else recipe.merged(mine)
        if recipe is None:
            return None
    if recipe is None or len(recipe.by_length) < _FEWEST_LENGTHS:
        return None
    some = next(iter(trials.values()))
    programs, priced, signatures = dict(recorded), 0, 0
    cooked = _Cook(recipe)
    kept_by = next(iter(recorded.values()))
    for seed in _seeds_after(recorded):
        lengths = padded_lengths(some, some.buckets, seed)
        if (seed, len(recorded)) not in kept_by.derived:
            kept_by.derived[seed, len(recorded)] = RecordedProgram(cooked.trace(lengths))
        programs[seed] = kept_by.derived[seed, len(recorded)]
        distinct = set(lengths.tolist())
        priced += len(distinct - recipe.by_length.keys())
        signatures += len(distinct)
    share = priced / signatures if signatures else 0.0
    if share > _MOST_PRICED:
        return None
    return OtherSeeds(programs, tuple(sorted(recorded)), share)


def _seeds_after(recorded: Mapping[int, RecordedProgram]) -> Iterator[int]:
    """Yield seeds that were not run, until there are ``SEEDS`` together."""
    seed, missing = 0, SEEDS - len(recorded)
    while missing > 0:
        if seed not in recorded:
            missing -= 1
            yield seed
        seed += 1


def padded_lengths(trial: Trial, buckets: Buckets, seed: int) -> NDArray[np.int64]:
    """Return the length of each request of a seed, padded to the bucket that holds it."""
    lengths = trial.shapes.lengths(trial.workload.requests, seed)
    edges = buckets.lengths(trial.shapes, trial.workload, seed)
    if edges is None:
        return lengths
    ascending = np.asarray(sorted(edges), np.int64)
    index = np.searchsorted(ascending, lengths)
    return np.where(index < len(ascending), ascending[np.minimum(index, len(ascending) - 1)], lengths)


def read_recipe(trial: Trial, trace: Trace) -> Recipe | None:
    """Return what each length of a recording asks for; None where requests of one length differ in that."""
    lengths = padded_lengths(trial, trial.buckets, trial.seed)
    if not len(lengths):  # a program of the user's, whose lengths nobody has drawn
        return None
    calls = len(trace) // len(lengths)
    before = len(trace) - calls * len(lengths)
    if not calls or before >= len(lengths) or bool(trace.events.any()):
        return None
    signatures = [
        _Signature(*row)
        for row in zip(trace.names, trace.size_bytes.tolist(), trace.compile_seconds.tolist(), strict=True)
    ]
    rows_of_requests = trace.signatures[before:].reshape(len(lengths), calls)
    by_length: dict[int, tuple[_Signature, ...]] = {}
    for length in np.unique(lengths).tolist():
        rows = rows_of_requests[lengths == length]
        if bool((rows != rows[0]).any()):
            return None
        by_length[length] = tuple(signatures[index] for index in rows[0])
    return Recipe(tuple(signatures[index] for index in trace.signatures[:before]), by_length)


class _Cook:
    """Puts traces together by a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._lengths = np.array(sorted(recipe.by_length), np.int64)
        columns = zip(*(recipe.by_length[length] for length in self._lengths.tolist()), strict=True)
        self._columns = [list(column) for column in columns]

    def trace(self, lengths: NDArray[np.int64]) -> Trace:
        """Return the requests of a stream of lengths."""
        by_length = {length: self._signatures(length) for length in set(lengths.tolist())}
        rows = [*self._recipe.first, *(each for length in lengths.tolist() for each in by_length[length])]
        numbers: dict[str, int] = {}
        return Trace.from_arrays(
            keys=[numbers.setdefault(row.name, len(numbers)) for row in rows],
            size_bytes=[row.size_bytes for row in rows],
            compile_seconds=[row.seconds for row in rows],
        )

    def _signatures(self, length: int) -> tuple[_Signature, ...]:
        signatures = self._recipe.by_length.get(length)
        if signatures is not None:
            return signatures
        return tuple(self._priced(number, column, length) for number, column in enumerate(self._columns))

    def _priced(self, number: int, column: list[_Signature], length: int) -> _Signature:
        """Return the signature of one call at a length that no reference has seen."""
        if len({signature.name for signature in column}) == 1:  # of no length's own, such as that of a constant
            return column[0]
        size_bytes = np.interp(length, self._lengths, [signature.size_bytes for signature in column])
        seconds = np.interp(length, self._lengths, [signature.seconds for signature in column])
        return _Signature(f"call {number} of length {length}", round(float(size_bytes)), float(seconds))


def predict_buckets(trial: Trial, recording: RecordedProgram, buckets: Buckets) -> RecordedProgram | None:
    """Return what a recorded program would ask for with buckets; None where lengths do not tell.

    Each bucket compiles for its own length, which is priced off the recorded lengths next to it.
    """
    key = ("buckets", buckets.model_dump_json())
    if key not in recording.derived:
        recipe = read_recipe(trial, recording.trace)
        if recipe is None or len(recipe.by_length) < _FEWEST_LENGTHS:
            return None
        recording.derived[key] = RecordedProgram(_Cook(recipe).trace(padded_lengths(trial, buckets, trial.seed)))
    return recording.derived[key]
