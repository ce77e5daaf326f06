"""Interface between a workload and the process that runs it."""

from typing import Annotated, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict


class Answer(BaseModel):
    """Largest error of a workload's results, in a measure that the workload defines.

    Attributes:
        measure: Description of ``error``.
        error: Largest error over all requests.
        tolerance: Largest ``error`` of a right answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # JSON has no infinity

    measure: str
    error: Annotated[float, BeforeValidator(lambda error: float("inf") if error is None else error)]  # as once written
    tolerance: float

    @property
    def right(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


class Session(Protocol):
    """Workload that is being run."""

    def serve(self, number: int, length: int) -> np.ndarray:
        """Serve one request, wait for it, and return its result. Only this is timed."""
        ...

    def check(self, result: np.ndarray) -> None:
        """Compare the result of the last request with an independent computation, which is not timed."""
        ...

    def answer(self) -> Answer:
        """Return the largest error of the requests so far."""
        ...
