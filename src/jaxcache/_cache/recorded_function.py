"""RecordedFunction: a cached function whose requests are written down."""

import math
from time import perf_counter
from typing import Any

from .._jax.fast_dispatch import OTHER, is_reentrant
from .cached_function import _SETTLE_AFTER, CachedFunction, Dispatcher
from .entries import EntryRecord
from .recorder import ENDED, HELD, Recorder

_SAMPLED = 256  # one in so many calls is watched until its result is there


class RecordedDispatcher(Dispatcher):
    """Serves the calls of a function whose requests are written down."""

    _has_lengths = False

    @property
    def _recorder(self) -> Recorder:
        assert self._cache._recorder is not None
        return self._cache._recorder

    def _look_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        started = perf_counter()
        key = self._key_of(args, kwargs)
        try:
            entry = None if key is None else self._programs.entries.get(key)
        except Exception:  # the base knows what to do
            entry = None
        if entry is None:
            return self._look_up_apart(started, args, kwargs)
        try:
            result = self._serve(entry, args, kwargs)
        except BaseException:
            self._log.append(entry.held)  # a hit, whatever became of it
            raise
        ended = perf_counter()
        log: Any = self._log
        noted = len(log)
        if noted % _SAMPLED and not self._has_lengths:
            log.add((entry.held, started, ended))
        else:
            self._note(entry.held, started, ended, result)
        if noted >= _SETTLE_AFTER:
            self._state.flush_hits()
        return result

    def _note(self, held: EntryRecord, started: float, ended: float, result: Any) -> None:
        """Note a hit, and when its result is there if it is one of the sample."""
        log: Any = self._log
        sampled = not len(log) % _SAMPLED
        lengths = self._recorder.here.lengths if self._has_lengths else None
        if not sampled and lengths is None:
            log.add((held, started, ended))
            return
        row = [held, started, ended, math.nan, lengths]
        log.add(row)
        if sampled:
            self._recorder.watch(row, result)

    def _look_up_apart(self, started: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Serve what is no plain hit; what this thread has begun is told to whoever notes it."""
        here = self._recorder.here
        before, row = here.row, [None, started, math.nan, math.nan, here.lengths]
        here.row, here.lengths = row, None  # not those of what it calls in turn
        try:
            result = super()._look_up(args, kwargs)
        finally:
            row[ENDED] = perf_counter()
            here.row, here.lengths = before, row[-1]
        if row[HELD] is not None:
            self._recorder.watch(row, result)
        return result

    def call_of_lengths(
        self, face: CachedFunction, lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._has_lengths = True
        here = self._recorder.here
        before, here.lengths = here.lengths, lengths
        try:
            return face(*args, **kwargs)
        finally:
            here.lengths = before


class RecordedFunction(CachedFunction):
    """What ``jit`` of a cache with ``record=`` returns. The way of a hit is that of its base, with times."""

    __slots__ = ()

    @classmethod
    def _dispatcher_type(cls) -> type[Dispatcher]:
        return RecordedDispatcher

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        dispatcher: Any = self._jaxcache
        started = perf_counter()
        try:
            answer = dispatcher._programs.table.call(*args, **kwargs)
        except BaseException as error:
            if is_reentrant(error):
                return dispatcher._look_up(args, kwargs)
            dispatcher._count_raised(args, kwargs)
            raise
        if answer is OTHER:
            return dispatcher._look_up(args, kwargs)
        ended = perf_counter()
        held, result = answer.popitem()
        log = dispatcher._log
        noted = len(log)
        if noted % _SAMPLED and not dispatcher._has_lengths:
            log.add((held, started, ended))
        else:
            dispatcher._note(held, started, ended, result)
        if noted >= _SETTLE_AFTER:
            dispatcher._state.flush_hits()
        return result
