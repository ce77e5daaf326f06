"""Sessions of the lab's own workloads, by the class of their settings."""

from collections.abc import Callable
from typing import Any

from .compiler import Compiler
from .gradient_optimization import Fitting
from .iterative_solver import Solving
from .least_squares import Curves
from .monte_carlo import Pricing
from .optimization_loop import Regression
from .protocol import Session
from .settings import (
    GradientOptimization,
    IterativeSolver,
    LeastSquares,
    MonteCarlo,
    OptimizationLoop,
    WorkloadConfig,
)

_SESSIONS: dict[type[WorkloadConfig], Callable[[Any, Compiler, int], Session]] = {
    GradientOptimization: Fitting,
    IterativeSolver: Solving,
    LeastSquares: Curves,
    MonteCarlo: Pricing,
    OptimizationLoop: Regression,
}


def start_session(workload: WorkloadConfig, compiler: Compiler, seed: int) -> Session:
    """Return a session of a workload, whose programs are compiled by ``compiler``."""
    return _SESSIONS[type(workload)](workload, compiler, seed)
