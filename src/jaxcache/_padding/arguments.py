"""Arguments of a bucketed function: the lengths of a call, and the same call padded, masked or of other lengths."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves, tree_map

from .._calls.signature import Statics, abstract_leaf
from .trimming import Bucket, is_key, on_host, place_like

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ARRAYS = (np.ndarray, jax.Array, jax.ShapeDtypeStruct)
Arguments = dict[str, Any]
AxesOfArgument = int | None | Sequence[int | None]


_FILLED_IN = ("mask", "length")  # parameters that a call may leave to us


class DynamicArguments:
    """Reader and resizer of one function's calls, which fills in ``mask`` and ``length`` where a call has none."""

    def __init__(
        self, name: str, signature: inspect.Signature, axes: Any, pad_value: Any, statics: Statics | None = None
    ) -> None:
        """Check the arguments of :func:`bucketed`.

        Raises:
            ValueError: If ``axes`` or ``pad_value`` does not fit the signature.
        """
        self._name = name
        self._signature = signature
        self._axes = _check_axes(axes, signature)
        self._pad_value = _check_pad_value(pad_value, signature)
        asked_for = [parameter for parameter in _FILLED_IN if parameter in signature.parameters]
        self._filled_in = [parameter for parameter in asked_for if not self._is_of_every_call(parameter, statics)]
        positional = [key for key, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
        filled_in_positions = [number for number, key in enumerate(positional) if key in self._filled_in]
        self._first_filled_in = filled_in_positions[0] if filled_in_positions else len(signature.parameters)
        self.dimensions = len(self._axes) if isinstance(self._axes, tuple) else len(next(iter(self._axes.values())))

    def _is_of_every_call(self, name: str, statics: Statics | None) -> bool:
        """Return whether a parameter is an argument of every call: one that is static, or has an axis or a padding."""
        position = list(self._signature.parameters).index(name)
        static = statics is not None and (name in statics.names or position in statics.positions)
        by_name = [setting for setting in (self._axes, self._pad_value) if isinstance(setting, Mapping)]
        return static or any(name in setting for setting in by_name)

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """Return the arguments of a call, by name.

        Raises:
            ValueError: If an argument might be meant for ``mask`` or ``length`` as well as for the next parameter.
            TypeError: If the call does not fit the function.
        """
        left = [name for name in self._filled_in if name not in kwargs]
        if len(args) <= self._first_filled_in:
            return dict(self._without(left).bind(*args, **kwargs).arguments)
        readings: list[tuple[list[str], Arguments]] = []  # with the parameters that the arguments' positions give
        misfit = None
        for chosen in itertools.chain.from_iterable(itertools.combinations(left, n) for n in range(len(left) + 1)):
            try:
                bound = self._without([name for name in left if name not in chosen]).bind(*args, **kwargs).arguments
            except TypeError as error:
                misfit = misfit or error
                continue
            if all(name in bound for name in chosen):
                readings.append((list(chosen), dict(bound)))
        if misfit is not None and not readings:
            raise misfit
        if len(readings) > 1:
            readings = [reading for reading in readings if all(_may_be(name, reading[1][name]) for name in reading[0])]
        with_mask = [reading for reading in readings if any(_is_mask(reading[1][name]) for name in reading[0])]
        readings = with_mask or readings
        if len(readings) == 1:
            return readings[0][1]
        name = readings[1][0][0]
        raise ValueError(
            f"{self._name} has a parameter {name}, which bucketed hands to it unless the call does: argument number "
            f"{self._first_filled_in + 1} might be meant for it, or for the next one; give it by name, as in {name}=…"
        )

    def _without(self, names: Sequence[str]) -> inspect.Signature:
        kept = [parameter for name, parameter in self._signature.parameters.items() if name not in names]
        return self._signature.replace(parameters=kept)

    def lengths(self, arguments: Arguments) -> Bucket:
        """Return the length of each dynamic dimension, on which all arguments have to agree."""
        length_of: dict[int, tuple[int, str]] = {}
        for name, argument in arguments.items():
            for path, leaf in tree_flatten_with_path(argument)[0]:
                for dimension, axis in enumerate(self._axes_of(name, leaf) or ()):
                    if axis is None:
                        continue
                    size, here = leaf.shape[axis], name + keystr(path)
                    length, where = length_of.setdefault(dimension, (size, here))
                    if size != length:
                        raise ValueError(
                            f"axes: {where} has the length {length}, but {here} has {size} on axis {axis}; give the "
                            f"axes by name, such as axes={{'{name}': {axis}}}, of those arguments that are dynamic"
                        )
                    if not size:
                        raise ValueError(f"{here} has the length 0 on axis {axis}; a length must be 1 or more")
        if len(length_of) < self.dimensions:
            raise ValueError(f"axes={self._axes} names no axis of an array in the call of {self._name}")
        return tuple(length_of[dimension][0] for dimension in range(self.dimensions))

    def bound(self, arguments: Arguments, lengths: Bucket, size: Bucket) -> inspect.BoundArguments:
        """Return arguments of the lengths ``size``, with ``mask`` and ``length`` filled in, bound to the function."""
        filled_in: Arguments = {}
        if self._fills_in("mask", arguments):
            filled_in["mask"] = np.zeros(size, bool)
            filled_in["mask"][tuple(map(slice, lengths))] = True
        if self._fills_in("length", arguments):
            each = tuple(map(np.int32, lengths))
            filled_in["length"] = each[0] if self.dimensions == 1 else each
        return self._ordered({**arguments, **filled_in})

    def _fills_in(self, name: str, arguments: Arguments) -> bool:
        return name in self._filled_in and name not in arguments

    def padded(self, arguments: Arguments, bucket: Bucket) -> Arguments:
        """Return the arguments filled up to the bucket, on the host unless an array has to stay where it is."""

        def pad(name: str, leaf: Any) -> Any:
            axes = self._axes_of(name, leaf)
            if axes is None:
                return leaf
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return leaf.update(shape=tuple(_resized(leaf.shape, axes, bucket)))
            unpadded = on_host(leaf)
            shape, dtype = _resized(unpadded.shape, axes, bucket), unpadded.dtype
            padded = np.full(shape, _of_dtype(self._padding(name, dtype), dtype, name), dtype)
            padded[tuple(map(slice, unpadded.shape))] = unpadded
            return place_like(leaf, padded) if _is_placed(leaf) else padded

        return _map(pad, arguments)

    def shapes(self, arguments: Arguments, size: Sequence[Any]) -> inspect.BoundArguments:
        """Return the shapes of a call at other lengths, which may be symbols."""

        def resize(name: str, leaf: Any) -> Any:
            axes = self._axes_of(name, leaf)
            if axes is None:
                return leaf
            aval: Any = abstract_leaf(leaf)
            shape = _resized(leaf.shape, axes, size)
            return jax.ShapeDtypeStruct(tuple(shape), aval.dtype, weak_type=aval.weak_type)

        sized = _map(resize, arguments)
        if self._fills_in("mask", arguments):
            sized["mask"] = jax.ShapeDtypeStruct(tuple(size), np.bool_)
        if self._fills_in("length", arguments):
            each = (jax.ShapeDtypeStruct((), np.int32),) * self.dimensions
            sized["length"] = each[0] if self.dimensions == 1 else each
        return self._ordered(sized)

    def advice(self, arguments: Arguments) -> str:
        """Describe how to keep padding out of the answer, by the parameters of the function and of the call."""
        example = "jnp.mean(x, where=mask) or jnp.sum(jnp.where(mask, x, 0))"
        masking = next((name for name in _FILLED_IN if name in self._signature.parameters), None)
        if masking is not None:
            whose = "It is handed its" if self._fills_in(masking, arguments) else "The call gives it a"
            return (
                f"{whose} parameter `{masking}`, but padding gets past it: leave padding out wherever positions "
                f"meet (in each layer, statistic and loss), as in {example}"
            )
        return f"Give it a parameter `mask` (or `length`) and leave the padding out, as in {example}"

    def values(self, arguments: Arguments) -> list[Any]:
        """Return the dynamic arrays; of random keys none."""
        leaves = [(name, leaf) for name, argument in arguments.items() for leaf in tree_leaves(argument)]
        return [leaf for name, leaf in leaves if self._axes_of(name, leaf) is not None and not is_key(leaf)]

    def with_values(self, arguments: Arguments, change: Callable[[Any, Any], Any]) -> Arguments:
        """Return the arguments with the values of the dynamic ones changed: ``change(values, padding)``."""

        def changed(name: str, leaf: Any) -> Any:
            if self._axes_of(name, leaf) is None or is_key(leaf):
                return leaf
            values = np.asarray(change(np.asarray(leaf), self._padding(name, leaf.dtype)), leaf.dtype)
            return place_like(leaf, values) if _is_placed(leaf) else values

        return _map(changed, arguments)

    def _padding(self, name: str, dtype: Any) -> Any:
        if isinstance(self._pad_value, Mapping):
            return self._pad_value.get(name, 0)
        return False if name == "mask" and dtype == np.bool_ else self._pad_value  # a caller's mask leaves padding out

    def _axes_of(self, name: str, leaf: Any) -> tuple[int | None, ...] | None:
        """Return the leaf's axis in each dimension; None if it is passed as it is."""
        axes = self._axes.get(name) if isinstance(self._axes, dict) else self._axes
        if axes is None or not isinstance(leaf, _ARRAYS) or (self._axes is axes and not leaf.ndim):
            return None
        for axis in axes:
            if axis is not None and not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(f"axes: {name} has no axis {axis}, its shape is {leaf.shape}; name others in axes=")
        return tuple(None if axis is None else axis % leaf.ndim for axis in axes)

    def _ordered(self, arguments: Arguments) -> inspect.BoundArguments:
        ordered = {name: arguments[name] for name in self._signature.parameters if name in arguments}
        return inspect.BoundArguments(self._signature, ordered)  # pyright: ignore[reportArgumentType]


def _may_be(name: str, value: Any) -> bool:
    """Return whether a value might be a mask, which is no scalar, or a length, or lengths, which are whole numbers."""
    if name == "mask":
        return np.ndim(value) > 0
    each = value if isinstance(value, tuple) else (value,)
    return all(_is_whole(value) for value in each)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or jax.numpy.issubdtype(getattr(value, "dtype", float), np.integer)


def _is_mask(value: Any) -> bool:
    return np.ndim(value) > 0 and getattr(value, "dtype", None) == np.bool_


def _map(change: Callable[[str, Any], Any], arguments: Arguments) -> Arguments:
    return {name: tree_map(functools.partial(change, name), argument) for name, argument in arguments.items()}


def _resized(shape: Sequence[int], axes: Sequence[int | None], size: Sequence[Any]) -> list[Any]:
    """Return the shape with the lengths of its dynamic axes replaced."""
    resized = list(shape)
    for dimension, axis in enumerate(axes):
        if axis is not None:
            resized[axis] = size[dimension]
    return resized


def _is_placed(leaf: Any) -> bool:
    """Return whether an array has to stay on its devices, or cannot be one of NumPy's."""
    return isinstance(leaf, jax.Array) and (is_key(leaf) or leaf.committed or leaf.weak_type)


def _of_dtype(value: Any, dtype: Any, name: str) -> Any:
    """Return the padding if the dtype holds it: NumPy would cut 0.5 to 0, and minus infinity to some integer."""
    if jax.numpy.issubdtype(dtype, jax.numpy.inexact):
        return value
    try:
        if np.isfinite(value) and bool(np.asarray(value).astype(dtype) == value):
            return value
    except (OverflowError, ValueError, TypeError):
        pass
    raise ValueError(
        f"pad_value {value!r} is none of {name}'s type, {dtype}; give one by name, such as pad_value={{'{name}': 0}}"
    )


def _check_axes(axes: Any, signature: inspect.Signature) -> tuple[int, ...] | dict[str, tuple[int | None, ...]]:
    """Return the axes of every argument, or those of some by name: one for each dimension."""
    if not isinstance(axes, Mapping):
        each = (axes,) if isinstance(axes, int) else tuple(axes)
        if not each or any(isinstance(axis, bool) or not isinstance(axis, int) for axis in each):
            raise ValueError(f"axes must be an axis, a tuple of them, or a dict of them by argument, but is {axes!r}")
        return each
    named = {name: (axis,) if axis is None or isinstance(axis, int) else tuple(axis) for name, axis in axes.items()}
    for name, each in named.items():
        if any(isinstance(axis, bool) or not isinstance(axis, int | None) for axis in each):
            raise ValueError(f"axes must be an axis, a tuple of them, or None for {name!r}, but is {axes[name]!r}")
    for name in named:
        if name not in signature.parameters:
            raise ValueError(f"axes names {name!r}, which is no parameter; there are {', '.join(signature.parameters)}")
    if len({len(each) for each in named.values()}) != 1:
        raise ValueError(f"axes must name as many axes, or None, for each argument, but is {axes!r}")
    return named


def _check_pad_value(pad_value: Any, signature: inspect.Signature) -> Any:
    for name in pad_value if isinstance(pad_value, Mapping) else ():
        if name not in signature.parameters:
            raise ValueError(
                f"pad_value names {name!r}, which is no parameter; there are {', '.join(signature.parameters)}"
            )
    return pad_value
