"""A bounded, measured, explainable cache for JIT-compiled JAX programs."""

from ._bytesize import format_size, parse_size
from ._costs import Cost, CostTable
from ._memory import CachedFunction, JitCache
from ._policies import POLICIES
from ._statistics import CacheStats, FunctionStats
from ._suggest import Suggestion, suggest

__all__ = [
    "POLICIES",
    "CacheStats",
    "CachedFunction",
    "Cost",
    "CostTable",
    "FunctionStats",
    "JitCache",
    "Suggestion",
    "format_size",
    "parse_size",
    "suggest",
]
