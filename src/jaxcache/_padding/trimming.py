"""Rules for which axes of an output follow the padded dimensions of the input: proved, declared, applied."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jax.tree_util import GetAttrKey, keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from .._jax import interfaces as _jax

Bucket = tuple[int, ...]  # a length for each dynamic dimension


class PaddingError(ValueError):
    """Error of a function for which padding changes the answer, or whose output cannot be trimmed."""


class Following(NamedTuple):
    """Axis of an output that has the length of a dimension of the input and a constant more, or less."""

    axis: int
    dimension: int
    more: int


Rule = tuple[Following, ...]  # of one leaf of the output


def prove_rules(
    shapes_at: Callable[[Sequence[Any]], Any], lengths: Bucket, bucket: Bucket, name: str
) -> tuple[list[Rule], bool]:
    """Find what follows the input by abstract evaluation at symbolic lengths.

    Where a function cannot be evaluated so, it is at two lengths, and an axis follows if both its sizes do.

    Args:
        shapes_at: Returns the shapes of the output for given lengths.
        lengths: The lengths of the call.
        bucket: The bucket that it is padded to.
        name: Name of the function, for errors.

    Returns:
        The rules, and whether they hold for all lengths, or for these only.

    Raises:
        PaddingError: If an axis depends on the input in another way, such as twice its length.
    """
    try:
        symbols = export.symbolic_shape(", ".join(f"d{number}" for number in range(len(bucket))))
        leaves = tree_flatten_with_path(shapes_at(symbols))[0]
        return [_rule_of_symbols(leaf.shape, symbols, f"{name}'s output{keystr(path)}") for path, leaf in leaves], True
    except PaddingError:
        raise
    except Exception:  # what a function may do with a length that is no number has no end
        unpadded, padded = (tree_flatten_with_path(shapes_at(size))[0] for size in (lengths, bucket))
        return [
            _rule_of_sizes(a.shape, b.shape, lengths, bucket, f"{name}'s output{keystr(path)}")
            for (path, a), (_, b) in zip(unpadded, padded, strict=True)
        ], False


def _rule_of_symbols(shape: Sequence[Any], symbols: Sequence[Any], output: str) -> Rule:
    rule = []
    for axis, size in enumerate(shape):
        if isinstance(size, int):
            continue
        more = [(dimension, size - symbol) for dimension, symbol in enumerate(symbols)]
        constant = [(dimension, by) for dimension, by in more if isinstance(by, int)]
        if not constant:
            raise _not_following(output, axis, str(size))
        rule.append(Following(axis, *constant[0]))
    return tuple(rule)


def _rule_of_sizes(
    unpadded: Sequence[int], padded: Sequence[int], lengths: Bucket, bucket: Bucket, output: str
) -> Rule:
    rule = []
    for axis, (a, b) in enumerate(zip(unpadded, padded, strict=True)):
        if a == b:
            continue
        pairs = enumerate(zip(lengths, bucket, strict=True))
        following = [(dimension, a - length) for dimension, (length, to) in pairs if a - length == b - to]
        if len(following) != 1:
            raise _not_following(output, axis, f"{a} for lengths {lengths} and {b} for {bucket}")
        rule.append(Following(axis, *following[0]))
    return tuple(rule)


def _not_following(output: str, axis: int, size: str) -> PaddingError:
    return PaddingError(
        f"padding cannot be trimmed from {output}: its axis {axis} has the size {size}, which is not the input's "
        "length and a constant; return what follows the input, or declare out_axes="
    )


def declared_rules(out_axes: Any, output: Any, dimensions: int) -> list[Rule]:
    """Return the rules that the caller declared: a tree of axes like the output's, or the beginning of one.

    Raises:
        ValueError: If it does not fit the output.
    """
    rules = []
    for path, leaf in tree_flatten_with_path(output)[0]:
        axes = out_axes
        for step in path:
            if axes is None or isinstance(axes, int) or _is_axes(axes, dimensions):
                break
            try:
                axes = getattr(axes, step.name) if isinstance(step, GetAttrKey) else axes[_index(step)]
            except (AttributeError, KeyError, IndexError, TypeError):
                raise ValueError(
                    f"out_axes={out_axes} does not fit the output: it has nothing at {keystr(path)}"
                ) from None
        each = axes if isinstance(axes, tuple | list) else (axes,)
        for axis in each:
            if axis is not None and not (isinstance(axis, int) and -leaf.ndim <= axis < leaf.ndim):
                raise ValueError(f"out_axes: the output{keystr(path)} of shape {leaf.shape} has no axis {axis}")
        rules.append(tuple(Following(a % leaf.ndim, d, 0) for d, a in enumerate(each) if a is not None))
    return rules


def _index(step: Any) -> Any:
    return getattr(step, "idx", getattr(step, "key", None))


def _is_axes(value: Any, dimensions: int) -> bool:
    return (
        dimensions > 1
        and isinstance(value, tuple | list)
        and len(value) == dimensions
        and all(axis is None or isinstance(axis, int) for axis in value)
    )


def trim(output: Any, rules: Sequence[Rule], lengths: Bucket) -> Any:
    """Cut what follows the input to its own lengths, on the host: a device would compile for each of them."""
    leaves, tree = tree_flatten(output)
    return tree_unflatten(tree, [_trim_leaf(leaf, rule, lengths) for leaf, rule in zip(leaves, rules, strict=True)])


def _trim_leaf(leaf: Any, rule: Rule, lengths: Bucket) -> Any:
    if not rule:
        return leaf
    cut = [slice(None)] * leaf.ndim
    for axis, dimension, more in rule:
        cut[axis] = slice(max(0, lengths[dimension] + more))
    trimmed = on_host(leaf)[tuple(cut)]
    return place_like(leaf, trimmed) if isinstance(leaf, jax.Array) else trimmed


def is_key(leaf: Any) -> bool:
    """Return whether an array is of random keys."""
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def on_host(leaf: Any) -> np.ndarray[Any, Any]:
    """Return an array as NumPy's; of random keys their data, with one axis more."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def place_like(leaf: jax.Array, values: np.ndarray[Any, Any]) -> jax.Array:
    """Put values where an array is, as weakly typed; on all of its devices if they cannot be split in the same way."""
    if is_key(leaf):
        return jax.random.wrap_key_data(jax.device_put(values), impl=jax.random.key_impl(leaf))
    placed = jax.device_put(values, _sharding_for(leaf, values.shape) if leaf.committed else None)
    return _jax.weakly_typed(placed) if leaf.weak_type else placed


def _sharding_for(leaf: jax.Array, shape: tuple[int, ...]) -> Sharding | None:
    sharding = leaf.sharding
    try:
        sharding.shard_shape(shape)
    except ValueError:
        return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else None
    return sharding
