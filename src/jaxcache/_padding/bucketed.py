"""Functions of dynamic shapes: padded up to a bucket, masked, called, and their outputs trimmed."""

import functools
import inspect
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import tree_leaves

from .._cache.cached_function import CachedFunction, dispatcher_of
from .._cache.front import FrontFunction
from .._cache.jit_cache import JitCache, check_cache
from .._cache.settings_file import OF_ANY_FUNCTION
from .._calls.signature import Key
from .._jax import interfaces as _jax
from .._primitives.checks import as_real_number, check_ascending
from .arguments import Arguments, AxesOfArgument, DynamicArguments
from .check import has_negative
from .choose import BucketChoice
from .comparison import PaddingComparison
from .trimming import Bucket, PaddingError, Rule, declared_rules, prove_rules, trim

_OF_THE_CACHE = ("key", "max_compiles")  # options that jax.jit does not know
_MOST_REMEMBERED = 4096  # signatures, or lengths where each has rules of its own: they are proved and compared again


@dataclass(frozen=True)
class BucketStats:
    """Counts of a bucketed function.

    Attributes:
        calls: All calls.
        by_bucket: Calls that were padded, or fitted, by bucket.
        own_size: Calls at their own size since padding would have exceeded ``max_deviation``.
        too_large: Calls at their own size since no bucket holds them.
        own_elements: Elements of the dynamic dimensions that were asked for, added up over calls.
        padded_elements: Elements that padding added to them.
    """

    calls: int = 0
    by_bucket: Mapping[Bucket, int] = field(default_factory=dict)
    own_size: int = 0
    too_large: int = 0
    own_elements: int = 0
    padded_elements: int = 0

    @property
    def padding(self) -> float:
        """Padded elements over own elements; 0 before the first call."""
        return self.padded_elements / self.own_elements if self.own_elements else 0.0


def bucketed(
    fun: Callable[..., Any] | None = None,
    /,
    *,
    cache: JitCache,
    buckets: Sequence[int] | Sequence[Sequence[int]] | BucketChoice | None = None,
    axes: int | Sequence[int] | Mapping[str, AxesOfArgument] = 0,
    out_axes: Any = None,
    max_deviation: float | None = None,
    pad_value: Any = 0,
    check: bool = True,
    **options: Any,
) -> Any:
    """Return ``fun`` compiled for a few lengths only: inputs are padded up to one, outputs trimmed to their own.

    A parameter of ``fun`` called ``mask`` is handed a boolean array, true where the input is the caller's own, of the
    dynamic dimensions' shape; one called ``length`` the own length, an int32 (a tuple of them for several dimensions).
    A function that reduces over a dynamic axis needs one of them: ``jnp.mean(x, where=mask)``. A call that gives one
    itself keeps it, as any other argument: a mask of its own, of truth values, is padded with False.

    Padding and trimming is done on the host, since a device would compile for each length: arguments and the outputs
    that are trimmed are copied, and the call waits for the latter. Under a transformation, and for a length that no
    bucket holds, the call keeps its own size.

    Args:
        fun: A function of arrays. Works as a decorator with arguments too.
        cache: The cache that compiles it.
        buckets: Ascending lengths; for several dimensions, tuples of lengths; or a :class:`BucketChoice`. If not given,
            those of ``cache.buckets`` for a function of this name, such as ``JitCache.from_file`` has them.
        axes: The dynamic axis of every array argument (0-d ones excepted); a tuple of them for several dimensions; or,
            by name of the argument, the axis or axes of some, None where an argument lacks a dimension. Arguments that
            are not named are passed as they are.
        out_axes: Which axes of the outputs follow the input: a tree like the output's, of an axis or a tuple with one
            for each dimension, or None. If not given, abstract evaluation at a symbolic length has to prove it.
        max_deviation: The padding that is accepted, added elements over own elements; None for any.
        pad_value: What is added, as for ``np.full``; or by name of the argument.
        check: On the first call of a bucket that is padded, the first with negative whole numbers, and later if a call
            is padded more than twice as much as any that was compared, compile and run at the own size too, and refuse
            ``fun`` if the answers differ by more than rounding. Values raised above zero and lowered below it are
            compared too, unless ``fun`` fails for them, has a ``while`` loop or calls the host: the largest of positive
            numbers does not change with zeros, that of negative ones does. Whole numbers are lowered only if there is a
            negative one among them, since they may be indices. Each comparison is one more compile, and runs ``fun``
            some six times. Where answers differ by more than roundings of their elements, which those that cancel do,
            both calls are repeated in double precision throughout, two compiles more: what is rounding shrinks.
        **options: What ``cache.jit`` takes.

    Raises:
        ValueError: If an argument is out of range, when called also if arguments have no such axis, disagree on a
            length, or have the length 0; the message says what to write.
        PaddingError: When called, if padding changes the answer, or an output's padding cannot be trimmed.
    """
    settings: dict[str, Any] = {
        "cache": cache, "buckets": buckets, "axes": axes, "out_axes": out_axes, "max_deviation": max_deviation,
        "pad_value": pad_value, "check": check, **options,
    }  # fmt: skip
    if fun is None:
        return lambda function: bucketed(function, **settings)
    return BucketedFunction(fun, **settings)


class BucketedFunction(FrontFunction):
    """Function compiled for a few lengths; made by :func:`bucketed`."""

    def __init__(
        self,
        fun: Callable[..., Any],
        *,
        cache: JitCache,
        buckets: Any,
        axes: Any,
        out_axes: Any,
        max_deviation: float | None,
        pad_value: Any,
        check: bool,
        **options: Any,
    ) -> None:
        self.__name__: str = getattr(fun, "__name__", type(fun).__name__)
        functools.update_wrapper(self, fun, updated=())
        self.__wrapped__ = fun
        self._cached: CachedFunction = check_cache(cache).jit(fun, **options)
        self._dispatcher = dispatcher_of(self._cached)
        self._limit_bytes = cache.limit_bytes
        buckets = _buckets_of(cache, self.__name__) if buckets is None else buckets
        self._settings = {
            "buckets": buckets, "axes": axes, "out_axes": out_axes, "max_deviation": max_deviation,
            "pad_value": pad_value, "check": check, **options,
        }  # fmt: skip
        # The exact call donates nothing: that would be the caller's own arrays.
        of_jit = {name: value for name, value in options.items() if name not in _OF_THE_CACHE}
        self._options = {name: value for name, value in of_jit.items() if not name.startswith("donate")}
        self._donates = len(self._options) < len(of_jit)
        signature, statics = inspect.signature(fun), self._dispatcher.statics
        self._dynamic = DynamicArguments(self.__name__, signature, axes, pad_value, statics)
        self._buckets = _check_buckets(buckets, self._dynamic.dimensions)
        self._out_axes = out_axes
        self._max_deviation = _check_max_deviation(max_deviation)
        self._check = check
        self._checked: dict[tuple[Key, bool], int] = {}  # the most elements of padding that were compared
        self._rules: dict[Key | tuple[Key, Bucket], list[Rule]] = {}
        self._lock = threading.RLock()  # a signal handler may call while this thread holds it
        self._counts: Counter[str] = Counter()
        self._by_bucket: Counter[Bucket] = Counter()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        arguments = self._dynamic.of_call(args, kwargs)
        lengths = self._dynamic.lengths(arguments)
        bucket = lengths
        if not _is_traced(arguments):
            bucket = self._bucket_of(lengths)
            self._count(lengths, bucket)
        if bucket == lengths:
            exact = self._dynamic.bound(arguments, lengths, lengths)
            return self._call(lengths, exact.args, exact.kwargs)
        padded = self._dynamic.bound(self._dynamic.padded(arguments, bucket), lengths, bucket)
        key = self._dispatcher.key_of(padded.args, padded.kwargs)
        rules = self._rules_for(key, arguments, lengths, bucket)
        added = math.prod(bucket) - math.prod(lengths)
        checked_key = None
        if self._check and key is not None:
            checked_key = key, any(map(has_negative, self._dynamic.values(arguments)))
        if not self._check or (checked_key is not None and added <= 2 * self._checked.get(checked_key, 0)):
            return trim(
                self._call(lengths, padded.args, padded.kwargs),
                rules,
                lengths,
            )
        result = trim(self._call_keeping(padded, lengths), rules, lengths)
        self._compare(result, rules, arguments, lengths, bucket)
        if checked_key is not None:
            _remember(self._checked, checked_key, added)
        return result

    def _call(self, lengths: Bucket, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._dispatcher.call_of_lengths(self._cached, lengths, args, kwargs)

    def _cached_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call of a bucket; ``jax.ShapeDtypeStruct`` may stand for arrays."""
        arguments = self._dynamic.of_call(args, kwargs)
        lengths = self._dynamic.lengths(arguments)
        bucket = lengths if _is_traced(arguments) else self._bucket_of(lengths)
        if bucket != lengths:
            arguments = self._dynamic.padded(arguments, bucket)
        call = self._dynamic.bound(arguments, lengths, bucket)
        return call.args, call.kwargs

    def _reduce_elsewhere(self) -> Any:
        return _with_own_cache, (self.__wrapped__, self._settings, self._limit_bytes)

    def stats(self) -> BucketStats:
        """Return what was counted so far."""
        with self._lock:
            counts = self._counts
            return BucketStats(
                calls=counts["own_size"] + counts["too_large"] + self._by_bucket.total(),
                by_bucket=dict(sorted(self._by_bucket.items())),
                own_size=counts["own_size"],
                too_large=counts["too_large"],
                own_elements=counts["own_elements"],
                padded_elements=counts["padded_elements"],
            )

    def _bucket_of(self, lengths: Bucket) -> Bucket:
        """Return the smallest bucket that holds the lengths and is near enough, or the lengths themselves."""
        bucket = min(self._buckets_for(lengths), key=math.prod, default=lengths)
        deviation = math.prod(bucket) / math.prod(lengths) - 1
        return lengths if self._max_deviation is not None and deviation > self._max_deviation else bucket

    def _buckets_for(self, lengths: Bucket) -> list[Bucket]:
        return [bucket for bucket in self._buckets if all(a >= b for a, b in zip(bucket, lengths, strict=True))]

    def _count(self, lengths: Bucket, bucket: Bucket) -> None:
        """Count a call."""
        own_elements = math.prod(lengths)
        added = math.prod(bucket) - own_elements
        with self._lock:
            self._counts["own_elements"] += own_elements
            self._counts["padded_elements"] += added
            if bucket in self._buckets:
                self._by_bucket[bucket] += 1
            else:
                self._counts["own_size" if self._buckets_for(lengths) else "too_large"] += 1
        self._dispatcher.state.count_padding(own_elements, added)

    # Axes of the output that follow the input.

    def _rules_for(self, key: Key | None, arguments: Arguments, lengths: Bucket, bucket: Bucket) -> list[Rule]:
        """Return for each leaf of the output which of its axes follow which dimension; proved once for a key."""
        rules = None if key is None else self._rules.get(key, self._rules.get((key, lengths)))
        if rules is not None:
            return rules

        def shapes_at(size: Sequence[Any]) -> Any:
            bound = self._dynamic.shapes(arguments, size)
            return self._cached.eval_shape(*bound.args, **bound.kwargs)

        rules, for_all = (
            prove_rules(shapes_at, lengths, bucket, self.__name__)
            if self._out_axes is None
            else (declared_rules(self._out_axes, shapes_at(bucket), self._dynamic.dimensions), True)
        )
        if key is not None:
            _remember(self._rules, key if for_all else (key, lengths), rules)
        return rules

    def _call_keeping(self, call: inspect.BoundArguments, lengths: Bucket = ()) -> Any:
        """Call without giving away arrays that the comparison looks at again; lengths are those of a caller's call."""
        args, kwargs = (call.args, call.kwargs) if not self._donates else jax.tree.map(_copy, (call.args, call.kwargs))
        return self._call(lengths, args, kwargs) if lengths else self._cached(*args, **kwargs)

    def _compare(self, result: Any, rules: list[Rule], arguments: Arguments, lengths: Bucket, bucket: Bucket) -> None:
        """Refuse the function if padding has changed the answer, or would for values on either side of zero."""
        exact = _jax.jit(self.__wrapped__, **self._options)
        statics = self._dispatcher.statics
        comparison = PaddingComparison(exact, self._call_keeping, self._dynamic, statics, rules, lengths, bucket)
        change = comparison.find(result, arguments)
        if change is not None:
            raise PaddingError(
                f"padding changes the answer of {self.__name__}: padded from {_formatted(lengths)} to "
                f"{_formatted(bucket)}, {change}. {self._dynamic.advice(arguments)}; or choose a pad_value that does "
                "not count; check=False takes the answer as it is"
            )


def _remember(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Remember a value by its key; before there are too many, forget all."""
    if len(mapping) >= _MOST_REMEMBERED:
        mapping.clear()
    mapping[key] = value


def _is_traced(arguments: Arguments) -> bool:
    return not _jax.is_top_level() or any(isinstance(leaf, Tracer) for leaf in tree_leaves(arguments))


def _with_own_cache(fun: Callable[..., Any], settings: dict[str, Any], limit_bytes: int | None) -> BucketedFunction:
    """Return a bucketed function that has come from another process, with a cache of its own of the same limit."""
    return BucketedFunction(fun, cache=JitCache(limit_bytes), **settings)


def _copy(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf


def _formatted(lengths: Bucket) -> str:
    return str(lengths[0]) if len(lengths) == 1 else str(lengths)


def _buckets_of(cache: JitCache, name: str) -> tuple[int, ...]:
    """Return the buckets that a cache has for a function.

    Raises:
        ValueError: If it has none.
    """
    for key in (name, OF_ANY_FUNCTION):
        if key in cache.buckets:
            return cache.buckets[key]
    known = f"; it has some for {', '.join(cache.buckets)}" if cache.buckets else ""
    raise ValueError(
        f"buckets must be given for {name}, such as (64, 128, 256), or be those of its cache, which has none{known}"
    )


def _check_max_deviation(value: object) -> float | None:
    if value is None:
        return None
    deviation = as_real_number(value)
    if deviation is None or not deviation >= 0:
        raise ValueError(f"max_deviation must be 0 or more, or None, but is {value!r}")
    return deviation


def _check_buckets(buckets: Any, dimensions: int) -> tuple[Bucket, ...]:
    unchecked = buckets.buckets if isinstance(buckets, BucketChoice) else buckets
    if not np.iterable(unchecked):
        raise ValueError(f"buckets must be ascending lengths, such as (64, 128, 256), but is {buckets!r}")
    listed = [bucket if isinstance(bucket, tuple | list) else (bucket,) for bucket in unchecked]
    if {len(bucket) for bucket in listed} - {dimensions}:
        raise ValueError(
            f"buckets must have {dimensions} length{'s'[: dimensions != 1]} each, one for each dynamic dimension of "
            f"axes, but is {buckets!r}"
        )
    if dimensions == 1:
        return tuple((length,) for length in check_ascending([bucket[0] for bucket in listed]))
    for number in range(dimensions):
        check_ascending(sorted({bucket[number] for bucket in listed}))
    if not listed or listed != sorted(map(list if isinstance(listed[0], list) else tuple, listed)):
        raise ValueError(f"buckets must be at least one, and sorted, but is {buckets!r}")
    return tuple(tuple(map(int, bucket)) for bucket in listed)
