"""What of an output follows the padded dimensions of the input: proved, trimmed, compared."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

Bucket = tuple[int, ...]  # a length for each dynamic dimension


class PaddingError(ValueError):
    """A function for which padding changes the answer, or whose output cannot be trimmed."""


class Following(NamedTuple):
    """An axis of an output that has the length of a dimension of the input and a constant more, or less."""

    axis: int
    dimension: int
    more: int


Rule = tuple[Following, ...]  # of one leaf of the output


def prove_rules(shapes_at: Callable[[Sequence[Any]], Any], lengths: Bucket, bucket: Bucket, name: str) -> list[Rule]:
    """Find what follows the input by abstract evaluation at symbolic lengths.

    Where a function cannot be evaluated so, it is at two lengths, and an axis follows if both its sizes do.

    Args:
        shapes_at: Returns the shapes of the output for given lengths.
        lengths: The call's own.
        bucket: What it is padded to.
        name: Of the function, for errors.

    Raises:
        PaddingError: If an axis depends on the input in another way, such as twice its length.
    """
    try:
        symbols = export.symbolic_shape(", ".join(f"d{number}" for number in range(len(bucket))))
        leaves = tree_flatten_with_path(shapes_at(symbols))[0]
        return [_rule_of_symbols(leaf.shape, symbols, f"{name}'s output{keystr(path)}") for path, leaf in leaves]
    except PaddingError:
        raise
    except Exception:  # what a function may do with a length that is no number has no end
        own, padded = (tree_flatten_with_path(shapes_at(size))[0] for size in (lengths, bucket))
        return [
            _rule_of_sizes(a.shape, b.shape, lengths, bucket, f"{name}'s output{keystr(path)}")
            for (path, a), (_, b) in zip(own, padded, strict=True)
        ]


def _rule_of_symbols(shape: Sequence[Any], symbols: Sequence[Any], place: str) -> Rule:
    rule = []
    for axis, size in enumerate(shape):
        if isinstance(size, int):
            continue
        more = [(dimension, size - symbol) for dimension, symbol in enumerate(symbols)]
        constant = [(dimension, by) for dimension, by in more if isinstance(by, int)]
        if not constant:
            raise _not_following(place, axis, str(size))
        rule.append(Following(axis, *constant[0]))
    return tuple(rule)


def _rule_of_sizes(own: Sequence[int], padded: Sequence[int], lengths: Bucket, bucket: Bucket, place: str) -> Rule:
    rule = []
    for axis, (a, b) in enumerate(zip(own, padded, strict=True)):
        if a == b:
            continue
        pairs = enumerate(zip(lengths, bucket, strict=True))
        following = [(dimension, a - length) for dimension, (length, to) in pairs if a - length == b - to]
        if len(following) != 1:
            raise _not_following(place, axis, f"{a} for lengths {lengths} and {b} for {bucket}")
        rule.append(Following(axis, *following[0]))
    return tuple(rule)


def _not_following(place: str, axis: int, size: str) -> PaddingError:
    return PaddingError(
        f"padding cannot be trimmed from {place}: its axis {axis} has the size {size}, which is not the input's length "
        "and a constant; return what follows the input, or declare out_axes="
    )


def declared_rules(out_axes: Any, output: Any, dimensions: int) -> list[Rule]:
    """Return what the caller declared: a tree like the output's, or its beginning, of axes.

    Raises:
        ValueError: If it does not fit the output.
    """
    rules = []
    for path, leaf in tree_flatten_with_path(output)[0]:
        axes = out_axes
        for step in path:
            if not isinstance(axes, dict | list | tuple) or _is_axes(axes, dimensions):
                break
            at: Any = getattr(step, "idx", getattr(step, "key", None))
            try:
                axes = axes[at]  # pyright: ignore[reportCallIssue, reportArgumentType]
            except (KeyError, IndexError, TypeError):
                raise ValueError(
                    f"out_axes={out_axes} does not fit the output: it has nothing at {keystr(path)}"
                ) from None
        each = axes if isinstance(axes, tuple | list) else (axes,)
        for axis in each:
            if axis is not None and not (isinstance(axis, int) and -leaf.ndim <= axis < leaf.ndim):
                raise ValueError(f"out_axes: the output{keystr(path)} of shape {leaf.shape} has no axis {axis}")
        rules.append(tuple(Following(a % leaf.ndim, d, 0) for d, a in enumerate(each) if a is not None))
    return rules


def _is_axes(value: Any, dimensions: int) -> bool:
    return dimensions > 1 and len(value) == dimensions and all(one is None or isinstance(one, int) for one in value)


def trim(output: Any, rules: Sequence[Rule], lengths: Bucket) -> Any:
    """Cut what follows the input to its own lengths, on the host: a device would compile for each of them."""
    leaves, tree = tree_flatten(output)
    return tree_unflatten(tree, [_trim_leaf(leaf, rule, lengths) for leaf, rule in zip(leaves, rules, strict=True)])


def _trim_leaf(leaf: jax.Array, rule: Rule, lengths: Bucket) -> jax.Array:
    if not rule:
        return leaf
    cut = [slice(None)] * leaf.ndim
    for axis, dimension, more in rule:
        cut[axis] = slice(max(0, lengths[dimension] + more))
    return jax.device_put(np.asarray(leaf)[tuple(cut)], leaf.sharding if leaf.committed else None)


def find_change(padded: Any, exact: Any) -> str | None:
    """Say which output padding changes by more than rounding, and by how much; None if none."""
    exact_leaves = tree_flatten(exact)[0]
    for (path, got), wanted in zip(tree_flatten_with_path(padded)[0], exact_leaves, strict=True):
        place = f"output{keystr(path)}"
        if got.shape != wanted.shape:
            return f"the {place} has the shape {got.shape} instead of {wanted.shape}"
        if (off := _error(np.asarray(got), np.asarray(wanted))) is not None:
            return f"the {place} differs by {off:.2g} of its size"
    return None


def _error(got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float | None:
    if not jax.numpy.issubdtype(wanted.dtype, jax.numpy.inexact):
        return None if np.array_equal(got, wanted) else float(np.mean(got != wanted))
    wide = np.complex128 if np.iscomplexobj(wanted) else np.float64
    a, b = got.astype(wide), wanted.astype(wide)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    finite = np.isfinite(b)
    scale = np.max(np.abs(b[finite]), initial=0.0)
    off = np.max(np.abs(a[finite] - b[finite]), initial=0.0) / (scale or 1.0)
    # Another order of additions is off by some roundings of the largest term; half of the digits are far from that.
    return float(off) if off > float(jax.numpy.finfo(wanted.dtype).eps) ** 0.5 else None
