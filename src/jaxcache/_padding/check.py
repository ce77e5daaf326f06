"""Comparison of padded with exact answers, for the caller's values and for others that may come later."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves

from .trimming import on_host

_Array = np.ndarray[Any, Any]
Change = Callable[[Any, Any], Any]  # values and what they are padded with -> other values
_LEAVES_JAX = re.compile(r"\b(?:while|\w*callback|debug_print)\[")  # primitives that loop, or are seen outside


def may_be_probed(traced: Any) -> bool:
    """Return whether values that the caller did not give can neither loop for ever nor be seen outside.

    Args:
        traced: What ``jax.jit(fun).trace`` returns.
    """
    return not traced.jaxpr.effects and _LEAVES_JAX.search(str(traced.jaxpr)) is None


def has_negative(values: Any) -> bool:
    """Return whether there is a negative value among whole numbers; numbers without one may be indices."""
    return jax.numpy.issubdtype(values.dtype, jax.numpy.signedinteger) and bool(np.any(np.asarray(values) < 0))


def raised(values: Any, padding: Any) -> Any:
    """Return values above zero in the same order.

    Of whole numbers all are the largest, an index if they are; of truth values all are what the padding is not.
    """
    if values.dtype == np.bool_:
        return np.full_like(values, not padding)
    if _is_inexact(values):
        wide, size = _widened(values), _magnitude(values)
        return wide + (size - np.min(wide.real, where=np.isfinite(wide.real), initial=size))
    if values.size < 2:  # 1 might be no index
        return values
    return np.full_like(values, max(values.astype(object).max(), 1))


def lowered(values: Any, _padding: Any) -> Any:
    """Return values below zero in the same order; truth values, and whole numbers of which none is negative, stay."""
    if _is_inexact(values):
        wide, size = _widened(values), _magnitude(values)
        return wide - (size + np.max(wide.real, where=np.isfinite(wide.real), initial=-size))
    if not has_negative(values):
        return values
    wide = values.astype(np.int64)
    return np.maximum(wide - np.max(wide) - np.max(np.abs(wide)), jax.numpy.iinfo(values.dtype).min)


def in_turn(*shifts: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a shift that is the first of these for one array, the second for the next, and so on."""
    turns = itertools.cycle(shifts)
    return lambda values, padding: next(turns)(values, padding)


def off_by_roundings(number: int, values: Any, eps: float | None = None) -> Any:
    """Return values off by a few roundings; whole numbers, and what is no array, stay.

    Args:
        number: 0 and 1 put all off in one direction, which sums show most; others each in some direction.
        values: An array, or something else that a function takes.
        eps: Of the roundings' precision; None for the one that JAX takes the values in.
    """
    if not hasattr(values, "dtype") or not _is_inexact(values):
        return values
    signs = np.random.default_rng(number).choice([-1.0, 1.0], values.shape) if number > 1 else (1.0, -1.0)[number]
    eps = _eps(jax.dtypes.canonicalize_dtype(values.dtype)) if eps is None else eps
    return _widened(np.asarray(values)) * (1 + _roundings_off(eps) * eps * signs)


def _roundings_off(eps: float) -> int:
    """Return by how many roundings values are put off."""
    return 4 if eps < 1e-4 else 1


def size_of(arguments: Any) -> float:
    """Return how large sums over the arguments may get: their largest finite number times the root of how many."""
    leaves = [leaf for leaf in tree_leaves(arguments) if hasattr(leaf, "dtype") and _is_inexact(leaf)]
    return max((_largest(leaf) * leaf.size**0.5 for leaf in leaves), default=0.0)


def _largest(leaf: Any) -> float:
    values = np.abs(_widened(np.asarray(leaf)))
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def _magnitude(values: Any) -> float:
    return _largest(values) or 1.0


def _is_inexact(values: Any) -> bool:
    return jax.numpy.issubdtype(values.dtype, jax.numpy.inexact)


def _widened(values: Any) -> Any:
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _eps(dtype: Any) -> float:
    return float(jax.numpy.finfo(dtype).eps)


def find_change(
    padded: Any, exact: Any, nearby: Sequence[Any] | None, size: float, floors: Sequence[Any] | None = None
) -> str | None:
    """Say which output padding changes by more than rounding, and by how much; None if none.

    Args:
        padded: The outputs of the padded call, trimmed.
        exact: Those of the exact call.
        nearby: Those of exact calls for inputs off by roundings: how much that matters differs by element. None if
            there cannot be any.
        size: Of what the inputs add up to, as far as roundings do: the largest, times the root of their number.
        floors: For each output how far its elements may be off in any case; None for nothing.
    """
    nearby_leaves = None if nearby is None else [tree_leaves(outputs) for outputs in nearby]
    pairs = zip(tree_flatten_with_path(padded)[0], tree_leaves(exact), strict=True)
    for number, ((path, got), wanted) in enumerate(pairs):
        output = f"output{keystr(path)}"
        if got.shape != wanted.shape:
            return f"the {output} has the shape {got.shape} instead of {wanted.shape}"
        if _type_of(got) != _type_of(wanted):
            return f"the {output} is {_type_of(got)} instead of {_type_of(wanted)}"
        others = None if nearby_leaves is None else [on_host(outputs[number]) for outputs in nearby_leaves]
        floor = 0.0 if floors is None else floors[number]
        if (off := _error(on_host(got), on_host(wanted), others, size, floor)) is not None:
            return f"the {output} differs by {off:.2g} of its size"
    return None


def _type_of(leaf: Any) -> str:
    return f"{'weakly ' if getattr(leaf, 'weak_type', False) else ''}{leaf.dtype}"  # keys have none


def _error(
    got: _Array, wanted: _Array, nearby: Sequence[_Array] | None, size: float, floor: _Array | float
) -> float | None:
    """Return how far an output is off, or None; where a rounding of the input decides, nothing is said."""
    others = nearby or ()
    if not _is_inexact(wanted):
        wrong = (got != wanted) & (np.asarray(floor) < 1)
        for other in others:
            wrong &= other == wanted
        return float(np.mean(wrong)) if np.any(wrong) else None
    a, b, finite = _widened(got), _widened(wanted), np.isfinite(wanted)
    decided, spread = np.ones(b.shape, bool), np.zeros(b.shape)
    for other in others:
        decided &= np.isfinite(other) == finite
        both = finite & decided
        spread = np.maximum(spread, np.abs(np.where(both, _widened(other), 0) - np.where(both, b, 0)))
    if np.any(decided & ~_same(a, b) & ~(finite & np.isfinite(a))):
        return float("inf")
    compared = decided & finite & np.isfinite(a)
    floor = np.broadcast_to(floor, b.shape)[compared]
    a, b, spread = a[compared], b[compared], spread[compared]
    top = np.max(np.abs(b), initial=0.0)
    allowed = _allowed(np.abs(b), None if nearby is None else spread, max(float(top), size), _eps(wanted.dtype))
    off, allowed = np.abs(a - b), np.maximum(allowed, floor)
    if np.all(off <= allowed):
        return None
    at = int(np.argmax(np.where(off > allowed, off - allowed, 0)))
    return float(off[at] / (np.abs(b[at]) or top or 1.0))


def _same(a: _Array, b: _Array) -> _Array:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _allowed(sizes: _Array, spread: _Array | None, top: float, eps: float) -> _Array:
    """Return by how much roundings may put outputs of these sizes off."""
    roundings = _roundings(eps)
    if spread is None:  # a loop may take another turn: half of the digits
        return eps**0.5 * sizes + roundings * eps * top
    half = eps**0.5 * top
    # A sum that cancels is off by roundings of its terms. More than half of the digits is no rounding, unless one of
    # the input does as much, as to what is nothing but rounding.
    return np.where(spread > half, np.inf, np.minimum(roundings * (eps * sizes + spread / _roundings_off(eps)), half))


def _roundings(eps: float) -> int:
    return 64 if eps < 1e-4 else 2  # half precisions are added up in a wider one


# The same program in another precision: what is rounding is so much less in the finer of two.

_SHRINKS = 2.0**-10  # single to double precision is 2 ** -29, bfloat16 to double 2 ** -45


def other_precision(output: Any) -> type[np.floating[Any]]:
    """Return the precision to repeat a comparison in: double, or for outputs that are of it already, single."""
    doubles = (np.float64, np.complex128)
    return np.float32 if any(leaf.dtype in doubles for leaf in tree_leaves(output)) else np.float64


def find_lasting_change(
    other: tuple[Any, Any], native: tuple[Any, Any], nearby: Sequence[Any], size: float
) -> str | None:
    """Say which output padding changes in double precision too; None if in the program's own it is rounding.

    Single elements that cancel, or outputs that are nothing else, are off by any multiple of their size. In double
    precision they are off by as much less as that is finer; what padding changes stays.

    Args:
        other: Outputs of the padded and of the exact call in double precision.
        native: Those in the program's own precision.
        nearby: Outputs of exact calls in double precision for inputs off by its roundings.
        size: As for :func:`find_change`.
    """
    floors = [_shrunk(got, wanted) for got, wanted in _pairs(native)]
    return find_change(*other, nearby, size, floors)


def find_steady_change(other: tuple[Any, Any], native: tuple[Any, Any], size: float) -> str | None:
    """Say which output in double precision padding changes as much as in single; None if it is rounding there.

    Args:
        other: Outputs of the padded and of the exact call in single precision.
        native: Those in the program's own precision.
        size: As for :func:`find_change`.
    """
    floors = [_SHRINKS * np.nan_to_num(_difference(got, wanted), posinf=0.0) for got, wanted in _pairs(other)]
    return find_change(*native, (), size, floors)


def find_excess(other: tuple[Any, Any], native: tuple[Any, Any], size: float) -> str | None:
    """Say which output padding puts off by more than roundings can, though not in double precision.

    Numbers that overflow, or swallow others, may do so in one precision only. What roundings do to an output is seen
    in the exact call: how far it is from that in double precision.

    Args:
        other: Outputs of the padded and of the exact call in double precision.
        native: Those in the program's own precision.
        size: As for :func:`find_change`.
    """
    floors = []
    for (_, precise), (_, wanted) in zip(_pairs(other), _pairs(native), strict=True):
        if not _is_inexact(wanted):
            floors.append(np.inf)
            continue
        eps, far = _eps(wanted.dtype), _difference(wanted, precise)
        rounded = _roundings(eps) * np.max(far, where=np.isfinite(far), initial=0.0)
        floors.append(max(eps**0.5 * max(_largest(wanted), size), rounded))
    return find_change(*native, (), size, floors)


def _pairs(outputs: tuple[Any, Any]) -> list[tuple[_Array, _Array]]:
    a, b = (tree_leaves(output) for output in outputs)
    return [(on_host(got), on_host(wanted)) for got, wanted in zip(a, b, strict=True)]


def _difference(got: _Array, wanted: _Array) -> _Array:
    """Return how far elements are off; infinitely where one of two is not finite."""
    if not _is_inexact(wanted):
        return np.where(got == wanted, 0.0, np.inf)
    a, b = _widened(got), _widened(wanted)
    both = np.isfinite(a) & np.isfinite(b)
    return np.where(both, np.abs(np.where(both, a, 0) - np.where(both, b, 0)), np.where(_same(a, b), 0.0, np.inf))


def _shrunk(got: _Array, wanted: _Array) -> _Array:
    """Return what of a difference may be left in double precision: of what was none before, all."""
    off = _difference(got, wanted)
    if not _is_inexact(wanted):
        return np.where(off > 0, 0.0, np.inf)
    eps = _eps(wanted.dtype)
    sizes = np.abs(np.nan_to_num(_widened(wanted), posinf=0.0, neginf=0.0))
    return np.where(off <= _roundings(eps) * eps * sizes, np.inf, _SHRINKS * off)
