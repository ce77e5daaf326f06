"""What a workload's programs are compiled with: the trial's cache, its buckets and its precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax.numpy as jnp
import numpy as np

from ... import JitCache, bucketed

Precision = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True)
class Compiler:
    """Compiles for a trial.

    Attributes:
        cache: What compiles and holds.
        precision: Of the data. Sums, parameters and factorisations are in at least float32.
        buckets: The lengths to pad to; None to compile for every length.
    """

    cache: JitCache
    precision: Precision = "float32"
    buckets: tuple[int, ...] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the data."""
        return jnp.dtype(self.precision)

    @property
    def wide(self) -> np.dtype[Any]:
        """Of sums, parameters and factorisations."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def rounding(self) -> float:
        """The spacing of the data's numbers at 1."""
        return float(jnp.finfo(self.dtype).eps)

    def dynamic(
        self, fun: Callable[..., Any], *, axes: Mapping[str, Any], unit: int = 1, **options: Any
    ) -> Callable[..., Any]:
        """Return ``fun`` compiled for the lengths of some axes of some arguments, ``unit`` elements a unit of length.

        Padding adds zeros; a function that it would be wrong for takes weights, or whatever else is zero there. What
        ``bucketed`` checks by compiling once more is left to the workload's own check of every request.
        """
        if self.buckets is None:
            return self.cache.jit(fun, **options)
        dimensions = max(len(one) if isinstance(one, tuple) else 1 for one in axes.values())
        lengths = [unit * length for length in self.buckets]
        buckets = lengths if dimensions == 1 else [(length,) * dimensions for length in lengths]
        return bucketed(fun, cache=self.cache, buckets=buckets, axes=axes, check=False, **options)

    def cache_for(self, *, axes: Mapping[str, Any], unit: int = 1) -> JitCache:
        """Return what the library's loops take as ``cache``: all that they ask of one is ``jit``."""
        return cast("JitCache", _DynamicCache(self, axes, unit))


@dataclass(frozen=True)
class _DynamicCache:
    compiler: Compiler
    axes: Mapping[str, Any]
    unit: int

    def jit(self, fun: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return self.compiler.dynamic(fun, axes=self.axes, unit=self.unit, **options)
