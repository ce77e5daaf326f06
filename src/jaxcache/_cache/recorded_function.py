"""RecordedFunction: a cached function whose requests are written down."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from .._jax.fast_dispatch import NOT_THIS_SIGNATURE, is_reentrant
from .cached_function import FLUSH_AFTER, CachedFunction, Dispatcher
from .compiler import Compiler
from .entries import EntryRecord
from .recorder import Recorder, Row

_SAMPLED = 256  # one in so many calls is watched until its result is there


class RecordedDispatcher(Dispatcher):
    """Server of the calls of a function whose requests are written down.

    Attributes:
        has_lengths: Whether calls come with the lengths of their dynamic dimensions.
    """

    has_lengths = False

    def __init__(
        self,
        compiler: Compiler,
        fun: Callable[..., Any],
        key: Callable[..., Any] | None,
        max_compiles: int | None,
        options: dict[str, Any],
        recorder: Recorder,
    ) -> None:
        super().__init__(compiler, fun, key, max_compiles, options)
        self._recorder = recorder

    def look_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        started = perf_counter()
        key = self.key_of(args, kwargs)
        try:
            entry = None if key is None else self.entries.by_key.get(key)
        except Exception:  # the base class handles it
            entry = None
        if entry is None:
            return self._look_up_apart(started, args, kwargs)
        try:
            result = self._serve(entry, args, kwargs)
        except BaseException:
            self.log.append(entry.record)  # a hit, whatever became of it
            raise
        ended = perf_counter()
        log: Any = self.log
        logged = len(log)
        if logged % _SAMPLED and not self.has_lengths:
            log.add(Row(entry.record, started, ended))
        else:
            self.add_hit(entry.record, started, ended, result)
        if logged >= FLUSH_AFTER:
            self.state.flush_hits()
        return result

    def add_hit(self, record: EntryRecord, started: float, ended: float, result: Any) -> None:
        """Add a hit to the log, and, if it is in the sample, the time at which its result is there."""
        log: Any = self.log
        sampled = not len(log) % _SAMPLED
        lengths = self._recorder.here.lengths if self.has_lengths else None
        if not sampled and lengths is None:
            log.add(Row(record, started, ended))
            return
        row = Row(record, started, ended, lengths)
        log.add(row)
        if sampled:
            self._recorder.watch(row, result)

    def _look_up_apart(self, started: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Serve a call that is no plain hit; the row that it begins is completed by the code that logs it."""
        here = self._recorder.here
        before, row = here.row, Row(None, started, lengths=here.lengths)
        here.row, here.lengths = row, None  # not those of what it calls in turn
        try:
            result = super().look_up(args, kwargs)
        finally:
            row.ended = perf_counter()
            here.row, here.lengths = before, row.lengths
        if row.record is not None:
            self._recorder.watch(row, result)
        return result

    def call_of_lengths(
        self, face: CachedFunction, lengths: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.has_lengths = True
        here = self._recorder.here
        before, here.lengths = here.lengths, lengths
        try:
            return face(*args, **kwargs)
        finally:
            here.lengths = before


class RecordedFunction(CachedFunction):
    """Function that ``jit`` of a cache with ``record=`` returns; its hit path is that of its base, with times."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        dispatcher: Any = self._jaxcache
        started = perf_counter()
        try:
            answer = dispatcher.entries.table.call(*args, **kwargs)
        except BaseException as error:
            if is_reentrant(error):
                return dispatcher.look_up(args, kwargs)
            dispatcher.count_raised(args, kwargs)
            raise
        if answer is NOT_THIS_SIGNATURE:
            return dispatcher.look_up(args, kwargs)
        ended = perf_counter()
        record, result = answer.popitem()
        log = dispatcher.log
        logged = len(log)
        if logged % _SAMPLED and not dispatcher.has_lengths:
            log.add(Row(record, started, ended))
        else:
            dispatcher.add_hit(record, started, ended, result)
        if logged >= FLUSH_AFTER:
            dispatcher.state.flush_hits()
        return result
