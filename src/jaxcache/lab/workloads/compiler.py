"""Compiler of a workload's programs: the trial's cache, its buckets and its precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from ... import JitCache, bucketed
from .settings import Precision


@dataclass(frozen=True)
class Compiler:
    """Compiler of a trial's functions.

    Attributes:
        cache: Cache that compiles the programs and holds them.
        precision: Dtype of the data. Sums, parameters and factorisations are in at least float32.
        buckets: Lengths to pad to; None to compile for every length.
    """

    cache: JitCache
    precision: Precision = "float32"
    buckets: tuple[int, ...] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the data."""
        return jnp.dtype(self.precision)

    @property
    def wide(self) -> np.dtype[Any]:
        """Dtype of sums, parameters and factorisations."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def rounding(self) -> float:
        """Spacing of the data's numbers at 1."""
        return float(jnp.finfo(self.dtype).eps)

    def dynamic(
        self, fun: Callable[..., Any], *, axes: Mapping[str, Any], unit: int = 1, **options: Any
    ) -> Callable[..., Any]:
        """Return ``fun`` compiled for the lengths of some arguments' axes, ``unit`` elements for each unit of length.

        Padding adds zeros. A function that they would make wrong takes weights, which are zero there. ``bucketed``'s
        check, which compiles once more, is off: the workload checks every request itself.
        """
        if self.buckets is None:
            return self.cache.jit(fun, **options)
        dimensions = max(len(axis) if isinstance(axis, tuple) else 1 for axis in axes.values())
        lengths = [unit * length for length in self.buckets]
        buckets = lengths if dimensions == 1 else [(length,) * dimensions for length in lengths]
        return bucketed(fun, cache=self.cache, buckets=buckets, axes=axes, check=False, **options)

    def cache_for(self, *, axes: Mapping[str, Any], unit: int = 1) -> JitCache:
        """Return a ``cache`` argument for the library's loops, which use nothing of it but ``jit``."""
        return cast("JitCache", _DynamicCache(self, axes, unit))


@dataclass(frozen=True)
class _DynamicCache:
    compiler: Compiler
    axes: Mapping[str, Any]
    unit: int

    def jit(self, fun: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return self.compiler.dynamic(fun, axes=self.axes, unit=self.unit, **options)
