"""Trace: the requests of a run, with what each signature weighs and costs."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._primitives.checks import check_instance, check_optional_whole_number
from .costs import name_of_signature

LARGEST_SIZE_BYTES = 2**53  # a float holds every int up to here, and priorities are floats


class Event(IntEnum):
    """Kinds of rows of a trace."""

    REQUEST = 0
    WARM = 1  # made ahead of a request
    CLEAR = 2  # dropped by the program


@dataclass(frozen=True, eq=False)
class Trace:
    """The requests that a cache was asked for, in the order in which its policy was told of them.

    A signature's size and cost are those of its first row: so they are fixed in the cache too.

    Attributes:
        signatures: Of each row, an index into what follows; int64.
        labels: Of each signature, the key as it was given, or the call that was recorded; of two signatures that differ
            in what a call's text does not say, such as static metadata, equal.
        size_bytes: Of each signature; int64.
        compile_seconds: Of each signature, its cost: lowering and compiling; float64.
        mappings: Of each signature, the memory mappings that it takes; int64, 0 where unknown.
        mappings_limit: Of the process that was recorded; None for none.
        events: Of each row, an :class:`Event`; uint8.
        columns: What else is known of each row, by the names of the schema, such as ``time_seconds``.
        setting: What is known of the cache that was recorded, such as ``eviction`` and ``limit_bytes``.
        identities: Of each signature, what it is called in cost tables and recordings of every process; int64. None if
            the trace was not recorded.
    """

    signatures: NDArray[np.int64]
    labels: NDArray[Any]
    size_bytes: NDArray[np.int64]
    compile_seconds: NDArray[np.float64]
    mappings: NDArray[np.int64]
    events: NDArray[np.uint8]
    mappings_limit: int | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    identities: NDArray[np.int64] | None = None

    @classmethod
    def from_arrays(
        cls,
        *,
        keys: ArrayLike | Sequence[Any],
        size_bytes: ArrayLike,
        compile_seconds: ArrayLike,
        time_seconds: ArrayLike | None = None,
        mappings: ArrayLike | None = None,
        mappings_limit: int | None = None,
    ) -> "Trace":
        """Make a trace of one element a request.

        Args:
            keys: What was asked for: numbers, text, or anything hashable.
            size_bytes: Whole numbers, 1 or more; of each key the first counts.
            compile_seconds: 0 or more; of each key the first counts.
            time_seconds: When, never falling; None if that is not known.
            mappings: Memory mappings, 0 or more; of each key the first counts.
            mappings_limit: How many of them may be taken at a time; None for no limit.

        Raises:
            ValueError: If the lengths differ or an element is impossible; the message names argument and row.
        """
        signatures, firsts, labels = _number(keys)
        rows = len(signatures)
        sizes = _whole(size_bytes, "size_bytes", rows, 1, LARGEST_SIZE_BYTES)[firsts]
        if float(sizes.sum(dtype=np.float64)) >= 2.0**62:
            raise ValueError("size_bytes must be less than 2**62 over all keys together")
        costs = _finite(compile_seconds, "compile_seconds", rows)
        _refuse("compile_seconds", costs, costs < 0, "0 or more")
        columns = {}
        if time_seconds is not None:
            columns["time_seconds"] = _never_falling(time_seconds, rows)
        counts = np.zeros(rows, np.int64) if mappings is None else _whole(mappings, "mappings", rows, 0, 2**31)
        mappings_limit = check_optional_whole_number(mappings_limit, "mappings_limit", 0)
        return cls(
            signatures, labels, sizes, costs[firsts], counts[firsts], np.zeros(rows, np.uint8), mappings_limit, columns
        )

    @classmethod
    def from_lengths(
        cls,
        lengths: ArrayLike,
        *,
        size_bytes: int | Callable[[NDArray[np.int64]], ArrayLike],
        compile_seconds: float | Callable[[NDArray[np.int64]], ArrayLike],
        buckets: Iterable[int] | None = None,
        time_seconds: ArrayLike | None = None,
        call_seconds: float | Callable[[NDArray[np.int64]], ArrayLike] | None = None,
    ) -> "Trace":
        """Make a trace of one program a length, such as those of a serving log.

        Args:
            lengths: One a request, 1 or more.
            size_bytes: What a program of a length weighs: a number, or a function from lengths to numbers.
            compile_seconds: What compiling it costs, likewise.
            buckets: Ascending lengths that others are padded up to; longer ones keep their own. None for no padding.
            time_seconds: When, never falling; None if that is not known.
            call_seconds: What a call of a length takes until its result is there, 0 or more, likewise; None if that is
                not known. ``flows.tune`` needs it to weigh buckets.

        Raises:
            ValueError: As for :meth:`from_arrays`.
        """
        exact = _whole(lengths, "lengths", None, 1, 2**62)
        keys = exact
        if buckets is not None:
            edges = np.asarray(list(buckets), np.int64)
            if not len(edges) or edges[0] < 1 or np.any(np.diff(edges) <= 0):
                raise ValueError(f"buckets must be ascending lengths, 1 or more, but is {buckets!r}")
            bucket = np.searchsorted(edges, exact)
            keys = np.where(bucket < len(edges), edges[np.minimum(bucket, len(edges) - 1)], exact)
        distinct, inverse = np.unique(keys, return_inverse=True)
        sizes, costs = (_modelled(model, distinct) for model in (size_bytes, compile_seconds))
        trace = cls.from_arrays(
            keys=keys, size_bytes=np.ceil(sizes)[inverse], compile_seconds=costs[inverse], time_seconds=time_seconds
        )
        columns = {**trace.columns, "lengths": exact[:, np.newaxis]}
        if call_seconds is not None:
            seconds = _modelled(call_seconds, distinct)
            _refuse("call_seconds", seconds, ~(np.isfinite(seconds) & (seconds >= 0)), "finite, 0 or more")
            columns["finished_seconds"] = seconds[inverse]
        return replace(trace, columns=columns)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        key: str = "key",
        size: str = "size",
        cost: str = "cost",
        time: str | None = None,
        lengths: str | None = None,
        size_bytes: int | Callable[[NDArray[np.int64]], ArrayLike] | None = None,
        compile_seconds: float | Callable[[NDArray[np.int64]], ArrayLike] | None = None,
        call_seconds: float | Callable[[NDArray[np.int64]], ArrayLike] | None = None,
    ) -> "Trace":
        """Read a CSV file with a header and a row a request; with ``lengths``, such as a serving log.

        Args:
            path: Of the file.
            key: The column of keys, taken as text.
            size: The column of bytes.
            cost: The column of compile seconds.
            time: The column of times, in seconds or as dates such as ``2023-11-16 18:15:46.68``; None to take ``time``
                if there is one.
            lengths: The column of lengths, in place of those of keys, bytes and compile seconds: programs are priced as
                by :meth:`from_lengths`, from the arguments that follow.
            size_bytes: See :meth:`from_lengths`.
            compile_seconds: Likewise.
            call_seconds: Likewise.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If a column is missing or an element is impossible; the message names file, column and row.
        """
        from .trace_files import read_csv  # a room that builds on this one

        if (lengths is None) != (size_bytes is None or compile_seconds is None):
            raise ValueError("lengths, size_bytes and compile_seconds must be given together, or none of them")
        columns = [key, size, cost] if lengths is None else [lengths]
        texts = read_csv(Path(path), columns, [time or "time"], required_times=time is not None)
        times = _seconds(texts[time or "time"], time or "time", path) if (time or "time") in texts else None
        try:
            if lengths is not None and size_bytes is not None and compile_seconds is not None:
                return cls.from_lengths(
                    _numbers(texts[lengths], lengths, path), size_bytes=size_bytes, compile_seconds=compile_seconds,
                    time_seconds=times, call_seconds=call_seconds,
                )  # fmt: skip
            return cls.from_arrays(
                keys=texts[key], size_bytes=_numbers(texts[size], size, path),
                compile_seconds=_numbers(texts[cost], cost, path), time_seconds=times,
            )  # fmt: skip
        except ValueError as error:
            if os.fspath(path) in str(error):
                raise
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trace":
        """Read what :meth:`save` or ``JitCache(record=…)`` wrote; a path that ends in ``.csv`` as by :meth:`from_csv`.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is no trace, or a file of it is cut off; the message names the file.
            ImportError: If pyarrow is missing; the message names the extra to install.
        """
        from .trace_files import load_trace

        return cls.from_csv(path) if Path(path).suffix.lower() == ".csv" else load_trace(Path(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, of the schema of ``_replay/trace_files.py``. Replaces ``path`` in one step.

        Raises:
            OSError: If it cannot be written, or ``path`` is a directory.
            ImportError: If pyarrow is missing; the message names the extra to install.
        """
        from .trace_files import save_trace

        save_trace(self, Path(path))

    def __len__(self) -> int:
        """Return how many rows there are: requests, and events between them."""
        return len(self.signatures)

    @property
    def requests(self) -> int:
        """How many rows are requests."""
        return int(np.count_nonzero(self.events == Event.REQUEST))

    @property
    def working_set_bytes(self) -> int:
        """What all signatures weigh together: a limit of this many bytes never evicts."""
        return int(self.size_bytes.sum())

    @property
    def names(self) -> list[str]:
        """What each signature is called in a cost table."""
        labels = map(str, self.labels.tolist())
        if self.identities is None:
            return list(labels)
        return [name_of_signature(*both) for both in zip(labels, self.identities.tolist(), strict=True)]

    def __repr__(self) -> str:
        return f"<Trace of {self.requests} requests for {len(self.labels)} signatures>"


def check_trace(trace: object) -> None:
    """Refuse what is no trace with a TypeError."""
    check_instance(trace, Trace, "trace", "Trace.load('trace.parquet')")


def _number(keys: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Return each row's number by first appearance, the row of each first appearance, and the keys there."""
    array = keys if isinstance(keys, np.ndarray) else _as_array(keys)
    if array.ndim != 1:
        raise ValueError(f"keys must have one element a request, but its shape is {array.shape}")
    if array.dtype == object:
        numbers: dict[Any, int] = {}
        signatures = np.fromiter((numbers.setdefault(key, len(numbers)) for key in array), np.int64, len(array))
        firsts = np.unique(signatures, return_index=True)[1]
        return signatures, firsts, array[firsts]
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"keys must be numbers, text or hashable, but row {int(np.argmax(np.isnan(array)))} is nan")
    _, firsts, inverse = np.unique(array, return_index=True, return_inverse=True)
    order = np.argsort(firsts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)], firsts[order], array[firsts[order]]


def _as_array(keys: Any) -> NDArray[Any]:
    listed = keys if isinstance(keys, list | tuple | range) else list(keys)
    plain = all(type(key) is str and "\0" not in key for key in listed)  # NumPy would cut off a NUL at the end
    if plain or all(type(key) is int for key in listed):
        array = np.asarray(listed)
        if array.dtype.kind in "iuU":
            return array
    array = np.empty(len(listed), object)
    for row, key in enumerate(listed):
        try:
            hash(key)
        except TypeError:
            raise ValueError(f"keys must be numbers, text or hashable, but row {row} is {key!r}") from None
        array[row] = key
    return array


def _column(values: Any, name: str, rows: int | None) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have one number a request: {error}") from None
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        wanted = "one number a request" if rows is None else f"as many elements as keys, {rows}"
        raise ValueError(f"{name} must have {wanted}, but its shape is {array.shape}")
    if len(array) == 0:
        return array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers, but its dtype is {array.dtype}")
    return array


def _refuse(name: str, values: NDArray[Any], wrong: NDArray[np.bool_], wanted: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} must be {wanted}, but row {row} is {values[row]}")


def _finite(values: Any, name: str, rows: int | None) -> NDArray[np.float64]:
    array = _column(values, name, rows).astype(np.float64)
    _refuse(name, array, ~np.isfinite(array), "finite")
    return array


def _whole(values: Any, name: str, rows: int | None, least: int, most: int) -> NDArray[np.int64]:
    array = _column(values, name, rows)
    wrong = ~((array >= least) & (array <= most))
    if array.dtype.kind == "f":
        wrong |= array != np.floor(array)
    _refuse(name, array, wrong, f"whole numbers from {least} to {most}")
    return array.astype(np.int64)


def _never_falling(values: Any, rows: int) -> NDArray[np.float64]:
    times = _finite(values, "time_seconds", rows)
    falls = np.concatenate([[False], np.diff(times) < 0]) if rows else np.zeros(0, bool)
    _refuse("time_seconds", times, falls, "in order, never falling; sort the rows by it")
    return times


def _modelled(model: Any, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    values = np.asarray(model(lengths) if callable(model) else model, np.float64)
    return np.broadcast_to(values, lengths.shape)


def _seconds(texts: list[str], column: str, path: Any) -> NDArray[np.float64]:
    """Return times that are numbers as they are, and dates as seconds since the first."""
    try:
        return _numbers(texts, column, path)
    except ValueError:
        try:
            dates = np.array(texts, "datetime64[ns]")
        except ValueError:
            dates = np.array(["NaT"], "datetime64[ns]")
        if np.isnat(dates).any():  # not dates either: the first message says which row
            raise
        return (dates - dates[0]).astype(np.float64) / 1e9


def _numbers(texts: list[str], column: str, path: Any) -> NDArray[np.float64]:
    values = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            values[row] = float(text)
        except (TypeError, ValueError):
            raise ValueError(
                f"column {column!r} of {os.fspath(path)} must be numbers, but row {row} is {text!r}"
            ) from None
    return values
