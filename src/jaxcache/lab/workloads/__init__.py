"""Programs that do real numerical work over many shapes, and check their own answer."""

from typing import Annotated

from pydantic import Field

from ._protocol import Answer, Jit, Session
from .gradient_optimization import GradientOptimization
from .iterative_solver import IterativeSolver
from .monte_carlo import MonteCarlo

__all__ = ["Answer", "GradientOptimization", "IterativeSolver", "Jit", "MonteCarlo", "Session", "Workload"]

Workload = Annotated[IterativeSolver | MonteCarlo | GradientOptimization, Field(discriminator="name")]
