"""Settings of the lab's own workloads. Nothing here imports JAX: a mistake in a command does not wait for it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Precision = Literal["float32", "bfloat16", "float64"]


class WorkloadConfig(BaseModel):
    """Base of the workloads' configs.

    Attributes:
        requests: Number of requests that the workload serves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: PositiveInt

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number of array elements that a request of each length computes with; padding adds to it."""
        raise NotImplementedError


class IterativeSolver(WorkloadConfig):
    """Workload that solves ``-laplace(u) + c u = b`` on an n × n grid, n the request's length, and computes ``u A u``.

    Attributes:
        tolerance: Largest residual relative to the norm of ``b``; in bfloat16 as small as that allows.
        max_steps: Largest number of steps of conjugate gradients.
    """

    name: Literal["iterative_solver"]
    tolerance: PositiveFloat
    max_steps: PositiveInt

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the grid's points, times the steps, which grow with its width."""
        return length**3


class MonteCarlo(WorkloadConfig):
    """Workload that prices a book of European and geometric Asian calls, as many as the request's length.

    Attributes:
        paths: Number of paths simulated for each option.
        steps: Time steps of a path, over which the Asian call averages.
        volatility: Volatility per year. Strikes, and the number of each option in the book, are drawn.
    """

    name: Literal["monte_carlo"]
    paths: int = Field(ge=2)
    steps: PositiveInt
    volatility: PositiveFloat

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the random numbers."""
        return length * self.paths * self.steps


class GradientOptimization(WorkloadConfig):
    """Workload that fits a logistic regression; a request is a step on a batch of ``rows_per_length`` × length rows.

    Attributes:
        features: Features of the synthetic data.
        rows: Rows of the synthetic data, from which batches are drawn.
        rows_per_length: Rows for each unit of the request's length.
        learning_rate: Learning rate of Adam.
        tolerance: Largest difference of losses and parameters from the same fit in NumPy's float64.
    """

    name: Literal["gradient_optimization"]
    features: PositiveInt
    rows: PositiveInt
    rows_per_length: PositiveInt
    learning_rate: PositiveFloat
    tolerance: PositiveFloat

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the size of the batch, which goes through the loss, and through its gradient."""
        return 3 * length * self.rows_per_length * self.features


class OptimizationLoop(WorkloadConfig):
    """Workload that fits a Poisson regression to a table of ``rows_per_length`` × length rows.

    Attributes:
        features: Columns of the table.
        rows_per_length: Rows for each unit of the request's length.
        tolerance: Largest gradient component, in float64, that the solution may have.
        max_steps: Largest number of Newton steps.
    """

    name: Literal["optimization_loop"]
    features: PositiveInt
    rows_per_length: PositiveInt
    tolerance: PositiveFloat
    max_steps: PositiveInt

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the table's elements that Newton's method reads in some eight steps."""
        return 8 * length * self.rows_per_length * self.features**2


class LeastSquares(WorkloadConfig):
    """Workload that fits ``a exp(-b t) + c`` to ``rows_per_length`` × length points by Levenberg-Marquardt.

    Attributes:
        rows_per_length: Points for each unit of the request's length.
        noise: Standard deviation of the measurements.
        tolerance: Largest difference of the parameters from SciPy's fit to the same points in float64.
    """

    name: Literal["least_squares"]
    rows_per_length: PositiveInt
    noise: PositiveFloat
    tolerance: PositiveFloat

    def elements(self, length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Jacobians of some eight steps."""
        return 8 * 3 * length * self.rows_per_length
