"""RecordedFunction: a cached function whose requests are written down."""

import math
from itertools import count
from time import perf_counter
from typing import Any

from . import _jax
from ._function import _SETTLE_AFTER, CachedFunction
from ._recorder import HELD, STARTED, Recorder

_OTHER = _jax.OTHER
_SAMPLED = 256  # one in so many calls is watched until its result is there
_calls = count()


class RecordedFunction(CachedFunction):
    """What ``jit`` of a cache with ``record=`` returns. The way of a hit is that of its base, with times."""

    _recorder: Recorder

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        programs = self._programs
        shortcut, entry = programs.guess
        if entry is not None and not _jax.disable_jit.value:
            started = perf_counter()
            try:
                result = shortcut(*args, **kwargs)
            except BaseException:
                self._log.append(entry.held)
                raise
            if result is not _OTHER:
                ended = perf_counter()
                programs.latest = entry
                programs.guess = entry.next_guess
                log: Any = self._log
                lengths = self._recorder.here.lengths
                noted = len(log)
                if lengths is None and noted % _SAMPLED:
                    log.add((entry.held, started, ended))
                else:
                    log.add(row := [entry.held, started, ended, math.nan, lengths])
                    if not noted % _SAMPLED:
                        self._recorder.watch(row, result)
                if noted >= _SETTLE_AFTER:
                    self._ledger.settle_hits()
                return result
        return self._look_up(args, kwargs)

    def _look_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        recorder = self._recorder
        here = recorder.here
        before, row = here.row, [None, perf_counter(), math.nan, math.nan, here.lengths]
        here.row, here.lengths = row, None  # not those of what it calls in turn
        made = self._programs.variants.misses
        try:
            result = super()._look_up(args, kwargs)
        finally:
            row[STARTED + 1] = perf_counter()
            here.row, here.lengths = before, row[-1]
        if row[HELD] is not None and (made != self._programs.variants.misses or not next(_calls) % _SAMPLED):
            recorder.watch(row, result)
        return result

    def _call_of_lengths(self, lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        here = self._recorder.here
        before, here.lengths = here.lengths, lengths
        try:
            return self(*args, **kwargs)
        finally:
            here.lengths = before
