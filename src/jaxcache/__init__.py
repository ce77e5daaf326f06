"""A bounded, measured, explainable cache for JIT-compiled JAX programs."""

from ._benchmark import BenchmarkResult, benchmark
from ._bucket_choice import (
    ALPHAFOLD3_BUCKETS,
    BucketChoice,
    choose_buckets,
    judge_buckets,
    linear_buckets,
    power_of_two_buckets,
)
from ._buckets import BucketStats, bucketed
from ._bytesize import format_size, parse_size
from ._costs import Cost, CostTable
from ._curves import Curves, LruCurve, curves, find_knee, limits_of, lru_curve, pareto_front
from ._describe import Difference
from ._disk import DiskCache
from ._disk_faults import DiskCacheWarning
from ._disk_stats import DiskCounts, DiskStats, FingerprintStats
from ._environment import use_directory_of_environment
from ._function import CachedFunction
from ._gradient_steps import update_step, value_and_grad_step
from ._least_squares import LeastSquaresResult, least_squares
from ._loops import Ended, LoopResult, SolveResult, iterative_solver, optimization_loop
from ._memory import CompileLimitExceeded, JitCache
from ._misses import Explanation, Miss, MissStormWarning
from ._monte_carlo import MonteCarloResult, monte_carlo
from ._optimum import Optimum, optimum
from ._policies import POLICIES, Policy
from ._replay import Disk, ReplayResult, replay, replay_grid
from ._signature import Call
from ._statistics import CacheStats, FunctionStats
from ._suggest import suggest
from ._suggestion import Suggestion
from ._trace import Trace
from ._trimming import PaddingError
from ._trust import UntrustedDirectoryError
from ._use_directory import use_directory

__version__ = "0.1.0"  # as in pyproject.toml: a checkout on PYTHONPATH has no metadata to read it from

__all__ = [
    "ALPHAFOLD3_BUCKETS",
    "POLICIES",
    "BenchmarkResult",
    "BucketChoice",
    "BucketStats",
    "CacheStats",
    "CachedFunction",
    "Call",
    "CompileLimitExceeded",
    "Cost",
    "CostTable",
    "Curves",
    "Difference",
    "Disk",
    "DiskCache",
    "DiskCacheWarning",
    "DiskCounts",
    "DiskStats",
    "Ended",
    "Explanation",
    "FingerprintStats",
    "FunctionStats",
    "JitCache",
    "LeastSquaresResult",
    "LoopResult",
    "LruCurve",
    "Miss",
    "MissStormWarning",
    "MonteCarloResult",
    "Optimum",
    "PaddingError",
    "Policy",
    "ReplayResult",
    "SolveResult",
    "Suggestion",
    "Trace",
    "UntrustedDirectoryError",
    "__version__",
    "benchmark",
    "bucketed",
    "choose_buckets",
    "curves",
    "find_knee",
    "format_size",
    "iterative_solver",
    "judge_buckets",
    "least_squares",
    "limits_of",
    "linear_buckets",
    "lru_curve",
    "monte_carlo",
    "optimization_loop",
    "optimum",
    "pareto_front",
    "parse_size",
    "power_of_two_buckets",
    "replay",
    "replay_grid",
    "suggest",
    "update_step",
    "use_directory",
    "value_and_grad_step",
]

use_directory_of_environment()
