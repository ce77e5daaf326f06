"""Which lengths a trial's programs are compiled for: every one, or a set of buckets that inputs are padded up to."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from .._padding.choose import choose_buckets, linear_buckets, power_of_two_buckets
from .shapes import Shapes
from .workloads import Workload

_OTHER_SEED = 2**32  # a trial's own seed is below this


class _Buckets(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unbucketed(_Buckets):
    """Every length has programs of its own."""

    name: Literal["none"] = "none"

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return None: there are no buckets."""
        return None


class PowersOfTwo(_Buckets):
    """Powers of two, up to the one that holds the largest length."""

    name: Literal["pow2"]

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return the buckets."""
        return power_of_two_buckets(shapes.values())


class Linear(_Buckets):
    """``count`` equal steps up to the largest length."""

    name: Literal["linear"]
    count: PositiveInt

    def lengths(self, shapes: Shapes, workload: Workload, seed: int) -> tuple[int, ...] | None:
        """Return the buckets."""
        return linear_buckets(shapes.values(), self.count)


class Optimal(_Buckets):
    """The set for which calls and compiles cost least, see :func:`jaxcache.choose_buckets`.

    Chosen on another stream of the same kind, drawn with another seed: who chooses buckets knows the past, not what
    is to come.

    Attributes:
        compile_seconds: Of all programs of one length.
        seconds_per_element: Of a call; elements are what the workload computes at a length.
        max_buckets: At most so many; None for no bound.
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
