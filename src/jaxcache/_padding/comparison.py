"""The padded call of a bucketed function against the exact one: run, compared, and run again more precisely."""

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
    lowered,
    may_be_probed,
    off_by_roundings,
    other_precision,
    raised,
    size_of,
)
from .precision import InOtherPrecision
from .trimming import Bucket, Rule, trim

_SHAKES = 4  # roundings of the input that are tried where an answer is off


class PaddingComparison:
    """One bucket of a function, and lengths that are padded to it."""

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
            rules: What of the output follows the input.
            lengths: The call's own.
            bucket: What they are padded to.
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

        Args:
            result: Of the padded call, trimmed.
            arguments: The call's.
        """
        own = self._own(arguments)
        probed = may_be_probed(self._exact.trace(*own.args, **own.kwargs))
        change = self._change(result, arguments, probed)
        for turned in (raised, lowered) if change is None and probed else ():
            with contextlib.suppress(Exception):  # of a program that is not for such values; they say nothing then
                other = self._dynamic.with_values(arguments, turned)
                if all(map(np.array_equal, self._dynamic.values(other), self._dynamic.values(arguments))):
                    continue  # as whole numbers stay that none is below zero of
                padded = self._call_padded(self._padded(other))
                change = self._change(trim(padded, self._rules, self._lengths), other, probed)
            if change is not None:
                return f"{change} if the values are {turned.__name__}"
        return change

    def _own(self, arguments: Arguments) -> Any:
        return self._dynamic.bound(arguments, self._lengths, self._lengths)

    def _padded(self, arguments: Arguments) -> Any:
        return self._dynamic.bound(self._dynamic.padded(arguments, self._bucket), self._lengths, self._bucket)

    def _answer(self, arguments: Arguments) -> Any:
        own = self._own(arguments)
        return self._exact(*own.args, **own.kwargs)

    def _change(self, padded: Any, arguments: Arguments, probed: bool) -> str | None:
        """Say what padding has changed of the answer for these arguments."""
        wanted, size = self._answer(arguments), size_of(arguments)
        change = find_change(padded, wanted, (), size)
        if change is None:
            return None
        if not probed:
            return find_change(padded, wanted, None, size)
        with contextlib.suppress(Exception):  # of a program that is for no other precision
            says, change = self._change_in_other_precision((padded, wanted), arguments, size)
            if says:
                return change
        nearby = None
        with contextlib.suppress(Exception):  # at the edge of what the program is for
            changes = [functools.partial(_shaken, number) for number in range(_SHAKES)]
            nearby = [self._answer(self._dynamic.with_values(arguments, one)) for one in changes]
        return find_change(padded, wanted, nearby, size)

    def _change_in_other_precision(
        self, own: tuple[Any, Any], arguments: Arguments, size: float
    ) -> tuple[bool, str | None]:
        """Return whether another precision says what a change is, and what it says."""
        real = other_precision(own[1])
        exact, leaves = self._repeat("exact", self._own(arguments), real)
        padded, padded_leaves = self._repeat("padded", self._padded(arguments), real)
        other = (trim(padded(padded_leaves), self._rules, self._lengths), exact(leaves))
        if real is np.float32:
            return find_steady_change(other, own, size) is None, None
        change = find_lasting_change(other, own, (), size)
        if change is not None:
            eps = float(np.finfo(real).eps)
            nearby = [exact([off_by_roundings(number, leaf, eps) for leaf in leaves]) for number in range(_SHAKES)]
            change = find_lasting_change(other, own, nearby, size)
        if change is not None:
            return not exact.keeps | padded.keeps, change
        return find_excess(other, own, size) is None, None

    def _repeat(self, which: str, call: Any, real: Any) -> tuple[InOtherPrecision, list[Any]]:
        """Return the program of a call in another precision, compiled once, and the arrays that it takes."""
        if which not in self._repeated:
            self._repeated[which] = InOtherPrecision(self._exact.trace(*call.args, **call.kwargs), real)
        dynamic = (call.args, call.kwargs) if self._statics is None else self._statics.split(call.args, call.kwargs)[:2]
        return self._repeated[which], tree_leaves(dynamic)


def _shaken(number: int, values: Any, _padding: Any) -> Any:
    return off_by_roundings(number, values)
