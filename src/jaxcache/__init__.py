"""A bounded, measured, explainable cache for JIT-compiled JAX programs."""

from ._advice.suggestion import Suggestion
from ._advice.suggestions import suggest
from ._cache.cached_function import CachedFunction
from ._cache.compiler import CompileLimitExceeded
from ._cache.jit_cache import JitCache
from ._cache.stats import CacheStats, FunctionStats
from ._cache.warm_from import Warming, warm_from
from ._calls.description import Difference
from ._calls.misses import Explanation, Miss, MissStormWarning
from ._calls.signature import Call
from ._code_key.stale import StaleProgramWarning
from ._disk.disk_cache import DiskCache
from ._disk.faults import DiskCacheWarning
from ._disk.stats import DiskCounts, DiskStats, FingerprintStats
from ._disk.trust import UntrustedDirectoryError
from ._disk.use_directory import use_directory
from ._disk.would_hit import WouldHit
from ._loops.benchmark import BenchmarkResult, benchmark
from ._loops.gradient_steps import update_step, value_and_grad_step
from ._loops.least_squares import LeastSquaresResult, least_squares
from ._loops.loops import Ended, LoopResult, SolveResult, iterative_solver, optimization_loop
from ._loops.monte_carlo import MonteCarloResult, monte_carlo
from ._padding.bucketed import BucketStats, bucketed
from ._padding.choose import (
    ALPHAFOLD3_BUCKETS,
    BucketChoice,
    choose_buckets,
    judge_buckets,
    linear_buckets,
    power_of_two_buckets,
)
from ._padding.trimming import PaddingError
from ._policies import POLICIES, Policy
from ._primitives.sizes import format_size, parse_size
from ._process.environment import use_environment
from ._process.install import ProcessCache, install, installed, uninstall
from ._process.ipython import load_ipython_extension, unload_ipython_extension
from ._process.no_compiles import CompileGuard, no_compiles
from ._process.watch import CompileRecord, Watch, watch
from ._replay.bound import Optimum, optimum
from ._replay.costs import Cost, CostTable
from ._replay.curves import Curves, LruCurve, curves, find_knee, limits_of, lru_curve, pareto_front
from ._replay.replay import Disk, ReplayResult, replay, replay_grid
from ._replay.trace import Trace

__version__ = "0.2.0"  # the only place; pyproject.toml reads it here

__all__ = [
    "ALPHAFOLD3_BUCKETS",
    "POLICIES",
    "BenchmarkResult",
    "BucketChoice",
    "BucketStats",
    "CacheStats",
    "CachedFunction",
    "Call",
    "CompileGuard",
    "CompileLimitExceeded",
    "CompileRecord",
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
    "ProcessCache",
    "ReplayResult",
    "SolveResult",
    "StaleProgramWarning",
    "Suggestion",
    "Trace",
    "UntrustedDirectoryError",
    "Warming",
    "Watch",
    "WouldHit",
    "__version__",
    "benchmark",
    "bucketed",
    "choose_buckets",
    "curves",
    "find_knee",
    "format_size",
    "install",
    "installed",
    "iterative_solver",
    "judge_buckets",
    "least_squares",
    "limits_of",
    "linear_buckets",
    "load_ipython_extension",
    "lru_curve",
    "monte_carlo",
    "no_compiles",
    "optimization_loop",
    "optimum",
    "pareto_front",
    "parse_size",
    "power_of_two_buckets",
    "replay",
    "replay_grid",
    "suggest",
    "uninstall",
    "unload_ipython_extension",
    "update_step",
    "use_directory",
    "value_and_grad_step",
    "warm_from",
    "watch",
]

use_environment()
