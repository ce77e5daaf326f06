"""Comparison of the padded call of a bucketed function with the exact call, in other precisions where they differ."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.tree_util import tree_leaves

from .._calls.signature import Statics
from .arguments import Arguments, DynamicArguments
from .check import (
    find_change,
    find_excess,
    find_lasting_change,
    find_steady_change,
    in_turn,
    lowered,
    may_be_probed,
    off_by_roundings,
    other_precision,
    raised,
    size_of,
)
from .precision import InOtherPrecision
from .trimming import Bucket, Rule, trim

_ROUNDINGS_TRIED = 4  # roundings of the input that are tried where an answer is off


class PaddingComparison:
    """Comparison of the two calls for one bucket of a function and lengths that are padded to it."""

    def __init__(
        self,
        exact: Any,
        call_padded: Callable[..., Any],
        dynamic: DynamicArguments,
        statics: Statics | None,
        rules: Sequence[Rule],
        lengths: Bucket,
        bucket: Bucket,
    ) -> None:
        """Describe what is to be compared; nothing is run.

        Args:
            exact: The function's ``jax.jit``, which donates nothing.
            call_padded: Takes the arguments at the bucket's size, bound; runs the function, and keeps them.
            dynamic: The function's arguments.
            statics: Which of them are static.
            rules: The axes of the output that follow the input.
            lengths: The lengths of the exact call.
            bucket: The bucket that they are padded to.
        """
        self._exact = exact
        self._call_padded = call_padded
        self._dynamic = dynamic
        self._statics = statics
        self._rules = rules
        self._lengths = lengths
        self._bucket = bucket
        self._repeated: dict[str, InOtherPrecision] = {}

    def find(self, result: Any, arguments: Arguments) -> str | None:
        """Say what padding has changed of the answer, or would for values on either side of zero; None if nothing.

        Where there are several arrays, they are moved together, and each other one the other way.

        Args:
            result: The result of the padded call, trimmed.
            arguments: The arguments of the call.
        """
        exact = self._unpadded(arguments)
        probed = may_be_probed(self._exact.trace(*exact.args, **exact.kwargs))
        change = self._change(result, arguments, probed)
        shifts: list[tuple[Callable[[Any, Any], Any], str]] = [(raised, "raised"), (lowered, "lowered")]
        if len(self._dynamic.values(arguments)) > 1:  # what compares one array with another sees no common shift
            shifts += [(in_turn(raised, lowered), "moved apart"), (in_turn(lowered, raised), "moved apart")]
        for shift, how in shifts if change is None and probed else ():
            with contextlib.suppress(Exception):  # a program that does not take such values: nothing is compared
                other = self._dynamic.with_values(arguments, shift)
                if all(map(np.array_equal, self._dynamic.values(other), self._dynamic.values(arguments))):
                    continue  # whole numbers stay as they are if none of them is below zero
                padded = self._call_padded(self._padded(other))
                change = self._change(trim(padded, self._rules, self._lengths), other, probed)
            if change is not None:
                return f"{change} if the values are {how}"
        return change

    def _unpadded(self, arguments: Arguments) -> Any:
        return self._dynamic.bound(arguments, self._lengths, self._lengths)

    def _padded(self, arguments: Arguments) -> Any:
        return self._dynamic.bound(self._dynamic.padded(arguments, self._bucket), self._lengths, self._bucket)

    def _answer(self, arguments: Arguments) -> Any:
        exact = self._unpadded(arguments)
        return self._exact(*exact.args, **exact.kwargs)

    def _change(self, padded: Any, arguments: Arguments, probed: bool) -> str | None:
        """Say what padding has changed of the answer for these arguments."""
        wanted, size = self._answer(arguments), size_of(arguments)
        change = find_change(padded, wanted, (), size)
        if change is None:
            return None
        if not probed:
            return find_change(padded, wanted, None, size)
        with contextlib.suppress(Exception):  # a program that takes no other precision
            is_decided, change = self._change_in_other_precision((padded, wanted), arguments, size)
            if is_decided:
                return change
        nearby = None
        with contextlib.suppress(Exception):  # values at the edge of the program's domain
            shifts = [functools.partial(_off_by_roundings, number) for number in range(_ROUNDINGS_TRIED)]
            nearby = [self._answer(self._dynamic.with_values(arguments, shift)) for shift in shifts]
        return find_change(padded, wanted, nearby, size)

    def _change_in_other_precision(
        self, native: tuple[Any, Any], arguments: Arguments, size: float
    ) -> tuple[bool, str | None]:
        """Return whether another precision decides what a difference is, and the change or None."""
        real = other_precision(native[1])
        exact, leaves = self._repeat("exact", self._unpadded(arguments), real)
        padded, padded_leaves = self._repeat("padded", self._padded(arguments), real)
        other = (trim(padded(padded_leaves), self._rules, self._lengths), exact(leaves))
        if real is np.float32:
            return find_steady_change(other, native, size) is None, None
        change = find_lasting_change(other, native, (), size)
        if change is not None:
            eps = float(np.finfo(real).eps)
            shifted = ([off_by_roundings(number, leaf, eps) for leaf in leaves] for number in range(_ROUNDINGS_TRIED))
            nearby = [exact(arrays) for arrays in shifted]
            change = find_lasting_change(other, native, nearby, size)
        if change is not None:
            return not exact.keeps | padded.keeps, change
        return find_excess(other, native, size) is None, None

    def _repeat(self, which: str, call: Any, real: Any) -> tuple[InOtherPrecision, list[Any]]:
        """Return the program of a call in another precision, compiled once, and the arrays that it takes."""
        if which not in self._repeated:
            self._repeated[which] = InOtherPrecision(self._exact.trace(*call.args, **call.kwargs), real)
        dynamic = (call.args, call.kwargs) if self._statics is None else self._statics.split(call.args, call.kwargs)[:2]
        return self._repeated[which], tree_leaves(dynamic)


def _off_by_roundings(number: int, values: Any, _padding: Any) -> Any:
    return off_by_roundings(number, values)
