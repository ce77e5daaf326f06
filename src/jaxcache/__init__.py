"""A bounded, measured, explainable cache for JIT-compiled JAX programs.

Each name is imported where it is first used, so that commands which never compile do not wait for JAX.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._advice.suggestion import Suggestion
    from ._advice.suggestions import suggest
    from ._cache.cached_function import CachedFunction
    from ._cache.compiler import CompileLimitExceeded
    from ._cache.jit_cache import JitCache
    from ._cache.stats import CacheStats, FunctionStats
    from ._cache.warm_from import Warming, warm_from
    from ._calls.difference import Difference
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

_MODULES = {
    "._advice.suggestion": "Suggestion",
    "._advice.suggestions": "suggest",
    "._cache.cached_function": "CachedFunction",
    "._cache.compiler": "CompileLimitExceeded",
    "._cache.jit_cache": "JitCache",
    "._cache.stats": "CacheStats FunctionStats",
    "._cache.warm_from": "warm_from Warming",
    "._calls.description": "Difference",
    "._calls.misses": "Explanation Miss MissStormWarning",
    "._calls.signature": "Call",
    "._code_key.stale": "StaleProgramWarning",
    "._disk.disk_cache": "DiskCache",
    "._disk.faults": "DiskCacheWarning",
    "._disk.stats": "DiskCounts DiskStats FingerprintStats",
    "._disk.trust": "UntrustedDirectoryError",
    "._disk.use_directory": "use_directory",
    "._disk.would_hit": "WouldHit",
    "._loops.benchmark": "benchmark BenchmarkResult",
    "._loops.gradient_steps": "update_step value_and_grad_step",
    "._loops.least_squares": "least_squares LeastSquaresResult",
    "._loops.loops": "Ended iterative_solver LoopResult optimization_loop SolveResult",
    "._loops.monte_carlo": "monte_carlo MonteCarloResult",
    "._padding.bucketed": "bucketed BucketStats",
    "._padding.choose": (
        "ALPHAFOLD3_BUCKETS BucketChoice choose_buckets judge_buckets linear_buckets power_of_two_buckets"
    ),
    "._padding.trimming": "PaddingError",
    "._policies": "POLICIES Policy",
    "._primitives.sizes": "format_size parse_size",
    "._process.install": "install installed ProcessCache uninstall",
    "._process.ipython": "load_ipython_extension unload_ipython_extension",
    "._process.no_compiles": "CompileGuard no_compiles",
    "._process.watch": "CompileRecord Watch watch",
    "._replay.bound": "Optimum optimum",
    "._replay.costs": "Cost CostTable",
    "._replay.curves": "Curves curves find_knee limits_of lru_curve LruCurve pareto_front",
    "._replay.replay": "Disk replay replay_grid ReplayResult",
    "._replay.trace": "Trace",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if any(name.startswith("JAXCACHE_") for name in os.environ):
    from ._process.at_import import use_environment

    use_environment()
