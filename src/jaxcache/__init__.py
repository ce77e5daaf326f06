"""A bounded, measured, explainable cache for JIT-compiled JAX programs."""

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
from ._describe import Difference
from ._function import CachedFunction
from ._memory import CompileLimitExceeded, JitCache
from ._misses import Explanation, Miss, MissStormWarning
from ._policies import POLICIES, Policy
from ._signature import Call
from ._statistics import CacheStats, FunctionStats
from ._suggest import Suggestion, suggest
from ._trimming import PaddingError

__all__ = [
    "ALPHAFOLD3_BUCKETS",
    "POLICIES",
    "BucketChoice",
    "BucketStats",
    "CacheStats",
    "CachedFunction",
    "Call",
    "CompileLimitExceeded",
    "Cost",
    "CostTable",
    "Difference",
    "Explanation",
    "FunctionStats",
    "JitCache",
    "Miss",
    "MissStormWarning",
    "PaddingError",
    "Policy",
    "Suggestion",
    "bucketed",
    "choose_buckets",
    "format_size",
    "judge_buckets",
    "linear_buckets",
    "parse_size",
    "power_of_two_buckets",
    "suggest",
]
