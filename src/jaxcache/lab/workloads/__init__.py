"""Programs that do real numerical work over many shapes, and check their own answer."""

from typing import Annotated

from pydantic import Field

from .compiler import Compiler, Precision
from .gradient_optimization import GradientOptimization
from .iterative_solver import IterativeSolver
from .least_squares import LeastSquares
from .monte_carlo import MonteCarlo
from .optimization_loop import OptimizationLoop
from .program import Program
from .protocol import Answer, Session

__all__ = [
    "Answer",
    "Compiler",
    "GradientOptimization",
    "IterativeSolver",
    "LeastSquares",
    "MonteCarlo",
    "OptimizationLoop",
    "Precision",
    "Program",
    "Session",
    "Workload",
]

Workload = Annotated[
    IterativeSolver | MonteCarlo | GradientOptimization | OptimizationLoop | LeastSquares | Program,
    Field(discriminator="name"),
]
