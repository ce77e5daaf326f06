"""Lengths that a trial's programs are compiled for: every length, or a set of buckets that inputs are padded to."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from .. import choose_buckets, linear_buckets, power_of_two_buckets
from .shapes import Shapes
from .workloads import Workload

_OTHER_SEED = 2**32  # a trial's own seed is below this


class _Buckets(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unbucketed(_Buckets):
    """No buckets: every length has its own programs."""

    name: Literal["none"] = "none"

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return None: there are no buckets."""
        return None


class PowersOfTwo(_Buckets):
    """Powers of two, up to the first that is at least the largest length."""

    name: Literal["pow2"]

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return the buckets."""
        return power_of_two_buckets(shapes.values())


class Linear(_Buckets):
    """Buckets in ``count`` equal steps up to the largest length."""

    name: Literal["linear"]
    count: PositiveInt

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return the buckets."""
        return linear_buckets(shapes.values(), self.count)


class Optimal(_Buckets):
    """Set of buckets with the least total cost of calls and compiles, see :func:`jaxcache.choose_buckets`.

    They are chosen on another stream of the same distribution, with another seed, since a program's author knows past
    requests, not those to come.

    Attributes:
        compile_seconds: Compile time of all programs of one length.
        seconds_per_element: Time of a call per element; the workload says how many elements a length has.
        max_buckets: Largest number of buckets; None for no limit.
    """

    name: Literal["optimal"]
    compile_seconds: PositiveFloat
    seconds_per_element: PositiveFloat
    max_buckets: PositiveInt | None

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return the buckets."""
        return choose_buckets(
            shapes.lengths(workload.requests, seed + _OTHER_SEED),
            call_cost=lambda length: self.seconds_per_element * workload.elements(np.asarray(length, float)),
            compile_cost=self.compile_seconds,
            max_buckets=self.max_buckets,
        ).buckets


Buckets = Annotated[Unbucketed | PowersOfTwo | Linear | Optimal, Field(discriminator="name")]
