"""Streams of call shapes: the length of each request.

A stream is drawn from its seed before anything runs, so that every policy sees the same requests. Lengths are from
``distinct`` values spread evenly (in logarithm) from ``smallest`` to ``largest``.
"""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Lengths = np.ndarray[tuple[int], np.dtype[np.int64]]


class _Stream(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: PositiveInt
    largest: PositiveInt
    distinct: PositiveInt

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest must be at most largest, {self.largest}, but is {self.smallest}")
        if self.distinct > (room := self.largest - self.smallest + 1):
            raise ValueError(
                f"distinct must be at most {room}, the lengths from {self.smallest} to {self.largest}, "
                f"but is {self.distinct}"
            )
        return self

    def values(self) -> Lengths:
        """Return the distinct lengths, ascending."""
        lengths = np.unique(np.geomspace(self.smallest, self.largest, self.distinct).round().astype(np.int64))
        unused = np.setdiff1d(np.arange(self.smallest, self.largest + 1), lengths)  # rounding made some equal
        return np.sort(np.concatenate([lengths, unused[: self.distinct - len(lengths)]]))


class Uniform(_Stream):
    """Stream in which every length is equally likely: only sizes and costs tell entries apart."""

    name: Literal["uniform"]

    def lengths(self, count: int, seed: int) -> Lengths:
        """Return ``count`` lengths."""
        return np.random.default_rng(seed).choice(self.values(), size=count)


class Zipf(_Stream):
    """Stream of a few frequent lengths and many rare: rank r has probability proportional to ``r ** -exponent``."""

    name: Literal["zipf"]
    exponent: PositiveFloat

    def lengths(self, count: int, seed: int) -> Lengths:
        """Return ``count`` lengths; the rank of each length is drawn too."""
        draw = np.random.default_rng(seed)
        ranked = draw.permutation(self.values())
        weights = np.arange(1, len(ranked) + 1, dtype=np.float64) ** -self.exponent
        return draw.choice(ranked, size=count, p=weights / weights.sum())


class Phased(_Stream):
    """Stream whose working set changes: ``phases`` equal stretches, each uniform over its own share of lengths.

    One request in ten is for a length of any phase, as in a program that sometimes returns to earlier work.
    """

    name: Literal["phased"]
    phases: PositiveInt

    def lengths(self, count: int, seed: int) -> Lengths:
        """Return ``count`` lengths."""
        draw = np.random.default_rng(seed)
        shares = np.array_split(draw.permutation(self.values()), self.phases)
        shares = [share for share in shares if len(share)]
        phase = np.arange(count) * len(shares) // count
        here = np.array([draw.choice(shares[index]) for index in phase], dtype=np.int64)
        return np.where(draw.random(count) < 0.1, draw.choice(self.values(), size=count), here)


class Own(BaseModel):
    """Shapes that a program of the user's brings itself: nothing is drawn, and no length is known ahead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["own"]

    def values(self) -> Lengths:
        """Return no lengths."""
        return np.zeros(0, np.int64)

    def lengths(self, count: int, seed: int) -> Lengths:
        """Return no lengths."""
        return np.zeros(0, np.int64)


Shapes = Annotated[Uniform | Zipf | Phased | Own, Field(discriminator="name")]
