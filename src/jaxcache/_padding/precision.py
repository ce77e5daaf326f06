"""Traced programs computed in another floating-point precision: its jaxpr, evaluated with other dtypes.

A difference that is rounding shrinks or grows with the precision, one that is not stays as it is. Casting the arguments
alone would not show that: models name the dtypes of casts, carries and accumulators themselves.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

# Primitives that call their inner program once, as it is; it is evaluated in their place.
_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "remat2", "checkpoint"}
)
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class InOtherPrecision:
    """Traced program with all of its floating-point numbers in ``real`` and its complex ones in ``complex``.

    Attributes:
        keeps: Primitives that were computed in their own precision, since they know no other; known once the program
            was called.
    """

    def __init__(self, traced: Any, real: Any) -> None:
        """Take what ``jax.jit(fun).trace`` returned, and the dtype: float64 or float32."""
        self.keeps: set[str] = set()
        self._closed = traced.jaxpr
        self._out_tree = jax.tree.structure(traced.out_info)
        self._real = np.dtype(real)
        self._complex = np.result_type(self._real, np.complex64)
        self._call = jax.jit(self._of_leaves)

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Return the output, on the host, for the leaves of the arguments that are not static.

        Raises:
            Exception: If the program cannot be computed so.
        """
        with jax.enable_x64(True):
            dtypes: list[Any] = [getattr(aval, "dtype", None) for aval in self._closed.in_avals]
            if len(leaves) != len(dtypes):
                raise TypeError(f"the program takes {len(dtypes)} arrays, but there are {len(leaves)}")
            arrays = [self._converted(leaf, dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)]
            return jax.tree.unflatten(self._out_tree, [_fetched(leaf) for leaf in self._call(arrays)])

    def _of_leaves(self, leaves: Sequence[Any]) -> list[Any]:
        return self._evaluate(self._closed, leaves)

    def _dtype(self, dtype: Any) -> Any:
        """Return the dtype that stands for another one."""
        if jax.numpy.issubdtype(dtype, jax.numpy.complexfloating):
            return self._complex
        return self._real if jax.numpy.issubdtype(dtype, jax.numpy.floating) else dtype

    def _converted(self, leaf: Any, dtype: Any) -> Any:
        """Return an argument or a constant in the dtype that stands for its own; keys and what else has none stay."""
        if not jax.numpy.issubdtype(dtype, np.number) and dtype != np.bool_:
            return leaf
        target = self._dtype(dtype)
        return lax.convert_element_type(leaf, target) if isinstance(leaf, jax.Array) else np.asarray(leaf, target)

    def _evaluate(self, closed: Any, args: Sequence[Any]) -> list[Any]:
        jaxpr = getattr(closed, "jaxpr", closed)
        constants = [self._converted(const, var.aval.dtype) for const, var in
                     zip(getattr(closed, "consts", ()), jaxpr.constvars, strict=True)]  # fmt: skip
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *args], strict=True))

        def read(atom: Any) -> Any:
            return self._converted(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]  # a literal

        for equation in jaxpr.eqns:
            results = self._results(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _results(self, equation: Any, args: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in _CALLS:
            inner = next(equation.params[key] for key in _INNER if key in equation.params)
            return self._evaluate(inner, args)
        if name == "reduce_precision":
            return args
        wanted = [(var.aval.shape, self._dtype(var.aval.dtype)) for var in equation.outvars]
        if name != "bitcast_convert_type":
            try:
                results = _bind(
                    equation.primitive, args, {k: self._parameter(k, v) for k, v in equation.params.items()}
                )
                if [(result.shape, result.dtype) for result in results] == wanted:
                    return results
            except Exception:  # a kernel of one dtype, or whatever else knows no other
                pass
        return self._results_in_own_precision(equation, args)

    def _results_in_own_precision(self, equation: Any, args: list[Any]) -> list[Any]:
        native = [_cast(arg, var.aval.dtype) for arg, var in zip(args, equation.invars, strict=True)]
        if any(self._dtype(var.aval.dtype) != var.aval.dtype for var in equation.invars):
            self.keeps.add(equation.primitive.name)
        results = _bind(equation.primitive, native, equation.params)
        return [_cast(result, self._dtype(result.dtype)) for result in results]

    def _parameter(self, name: str, value: Any) -> Any:
        """Return a primitive's parameter for the other precision: dtypes and inner programs have others."""
        if name == "precision":  # of a product: of inputs that it would cut to fewer bits
            return None
        if isinstance(value, np.dtype):
            return self._dtype(value)
        if isinstance(value, tuple):
            parts = [self._parameter("", part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if not hasattr(value, "eqns") and not hasattr(getattr(value, "jaxpr", None), "eqns"):
            return value
        avals = [var.aval for var in getattr(value, "jaxpr", value).invars]
        shapes = [jax.ShapeDtypeStruct(aval.shape, self._dtype(aval.dtype)) for aval in avals]
        closed = jax.make_jaxpr(lambda *args: self._evaluate(value, args))(*shapes)
        if hasattr(value, "consts"):
            return closed
        if closed.consts:
            raise TypeError("an open program has no constants")
        return closed.jaxpr


def _bind(primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    results = primitive.bind(*args, **params)
    return list(results) if primitive.multiple_results else [results]


def _cast(value: Any, dtype: Any) -> Any:
    return value if getattr(value, "dtype", dtype) == dtype else lax.convert_element_type(value, dtype)


def _fetched(leaf: Any) -> Any:
    return np.asarray(leaf) if jax.numpy.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_ else leaf
