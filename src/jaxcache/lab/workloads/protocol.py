"""What a workload gives to whoever runs it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt

from .compiler import Compiler


class Answer(BaseModel):
    """How far a workload's result is from what it must be, in the workload's own measure.

    Attributes:
        measure: What ``error`` is, in words.
        error: The worst over all requests.
        tolerance: The largest ``error`` that is right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    error: float
    tolerance: float

    @property
    def right(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


class Session(Protocol):
    """A workload under way."""

    def serve(self, number: int, length: int) -> np.ndarray:
        """Do one request, wait for it, and return its result. This is what is timed."""
        ...

    def check(self, result: np.ndarray) -> None:
        """Compare the result of the last request with an independent computation. Not timed."""
        ...

    def answer(self) -> Answer:
        """Return how right the whole was."""
        ...


class WorkloadConfig(BaseModel):
    """What every workload is told.

    Attributes:
        requests: How many requests it serves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: PositiveInt

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many array elements a request of each length computes with, which padding adds to."""
        raise NotImplementedError

    def start(self, compiler: Compiler, seed: int) -> Session:
        """Return a session whose programs are compiled by ``compiler``."""
        raise NotImplementedError
