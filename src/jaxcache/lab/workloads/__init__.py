"""Workloads: programs that do real numerical work over many shapes, and check their own answer.

Their settings are imported here; ``sessions``, which runs them, imports JAX.
"""

from typing import Annotated

from pydantic import Field

from .program import Program
from .protocol import Answer, Session
from .settings import (
    GradientOptimization,
    IterativeSolver,
    LeastSquares,
    MonteCarlo,
    OptimizationLoop,
    Precision,
    WorkloadConfig,
)

__all__ = [
    "Answer",
    "GradientOptimization",
    "IterativeSolver",
    "LeastSquares",
    "MonteCarlo",
    "OptimizationLoop",
    "Precision",
    "Program",
    "Session",
    "Workload",
    "WorkloadConfig",
]

Workload = Annotated[
    IterativeSolver | MonteCarlo | GradientOptimization | OptimizationLoop | LeastSquares | Program,
    Field(discriminator="name"),
]
