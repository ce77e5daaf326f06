"""Traces on disk: Parquet in, Parquet out, CSV in.

A trace is one Parquet file, or a directory of them named ``part-00000.parquet`` and so on, which are read in that
order. A row is a request, or an event between two, in the order in which the policy was told:

================== ========== =================================================================================
column             type       meaning
================== ========== =================================================================================
event              string     ``request``; ``warm``: made ahead of one; ``clear``: dropped by the program
time_seconds       double     since the recording began, never falling; null if not known
function           string     name of the function
signature          any        the call, such as ``solve(float32[512])``, or the key given to ``Trace.from_arrays``
signature_id       int64      equal for the same program, within one trace; as recorded, in every process
size_bytes         int64      what it weighs, as first measured
mappings           int64      memory mappings that it takes
compile_seconds    double     its cost, as first measured: lowering and compiling
lowering_seconds   double     spent at this row on tracing and lowering; null for hits
backend_seconds    double     spent at this row on compiling, or on loading from disk; null for hits
tier               string     who served it: ``memory``, ``disk`` or ``compiled``
dispatch_seconds   double     until the call returned, without lowering and compiling
finished_seconds   double     until the result was there, on a sample of calls; null for others
lengths            list       of the dynamic dimensions, for calls of ``bucketed`` functions
================== ========== =================================================================================

A recording into a directory whose name ends in ``.npz`` has parts of NumPy's format in place of Parquet's, for
interpreters without pyarrow: the same columns, each text as ``<column>_words`` and the index of each row's word.

Only ``signature_id``, ``size_bytes`` and ``compile_seconds`` must be there. The file's metadata has, under
``jaxcache``, a JSON object: the format, ``mappings_limit``, and what is known of the recorded cache.
"""

import csv
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._primitives.atomic_files import replacing
from .trace import Event, Trace

FORMAT = 1
PART = "part-{:05d}{}"
PARQUET, NPZ = ".parquet", ".npz"
EVENTS = tuple(event.name.lower() for event in Event)
TIERS = ("memory", "disk", "compiled")
_NUMBERS = ("time_seconds", "lowering_seconds", "backend_seconds", "dispatch_seconds", "finished_seconds")
_TEXTS = ("function", "tier")
_WORDS, _METADATA = "_words", "jaxcache"


class Coded(NamedTuple):
    """Column of few different values: the index of each row's value; negative indices are null."""

    codes: NDArray[Any]
    words: Sequence[Any]


class Nested(NamedTuple):
    """Column of lists of whole numbers."""

    lengths: Sequence[Sequence[int] | None]


def import_pyarrow() -> tuple[Any, Any]:
    """Return ``pyarrow`` and ``pyarrow.parquet``; ImportError that says what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("traces are kept as Parquet, which needs pyarrow: pip install 'jaxcache[lab]'") from error
    return pyarrow, pyarrow.parquet


def write_part(columns: Mapping[str, Any], setting: Mapping[str, Any], path: Path) -> None:
    """Write one file of a trace in one step: NumPy's format where the name ends in ``.npz``, Parquet otherwise."""
    metadata = json.dumps({"format": FORMAT, **setting})
    if path.suffix == NPZ:
        with replacing(path, durable=False) as file:
            named: dict[str, Any] = {**_plain(columns), _METADATA: np.array(metadata)}
            np.savez_compressed(file, **named)
        return
    _, parquet = import_pyarrow()
    table = _table(columns).replace_schema_metadata({_METADATA: metadata})
    with replacing(path, durable=False) as file:
        parquet.write_table(table, file, compression="zstd")


def _plain(columns: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return columns as NumPy's format has them; lists of lengths as rows that end in zeros."""
    plain: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        if isinstance(column, Coded):
            plain[name] = np.asarray(column.codes, np.int32)
            plain[name + _WORDS] = np.array(list(map(str, column.words)), np.str_)
        elif isinstance(column, Nested):
            widest = max((len(row or ()) for row in column.lengths), default=0)
            padded = [[*(row or ()), *(0,) * (widest - len(row or ()))] for row in column.lengths]
            plain[name] = np.array(padded, np.int64).reshape(len(column.lengths), widest)
        else:
            plain[name] = np.asarray(column)
    return plain


def _read_plain(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return the table and the metadata of a part in NumPy's format."""
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:  # it leaves a damaged one open
        plain = {name: stored[name] for name in stored.files}
    metadata = json.loads(str(plain.pop(_METADATA)))
    columns: dict[str, Any] = {}
    for name, values in plain.items():
        words = plain.get(name + _WORDS)
        if words is not None:
            columns[name] = Coded(values, words.tolist())
        elif values.ndim == 2:
            columns[name] = Nested([[length for length in row if length] or None for row in values.tolist()])
        elif not name.endswith(_WORDS):
            columns[name] = values
    return _table(columns), metadata


def _table(columns: Mapping[str, Any]) -> Any:
    pyarrow, _ = import_pyarrow()
    return pyarrow.table({name: _array(column) for name, column in columns.items()})


def _array(column: Any) -> Any:
    """Return a column as Arrow has it; numbers are null where they are NaN."""
    pyarrow, _ = import_pyarrow()
    if isinstance(column, Coded):
        codes, words = np.asarray(column.codes), list(column.words)
        values = pyarrow.array(words) if words else pyarrow.array([], pyarrow.string())
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes.astype(np.int32), mask=codes < 0), values)
    if isinstance(column, Nested):
        return pyarrow.array(column.lengths, pyarrow.list_(pyarrow.int64()))
    if isinstance(column, np.ndarray) and column.dtype == np.float64:
        return pyarrow.array(column, pyarrow.float64(), from_pandas=True)
    return column


def save_trace(trace: Trace, path: Path) -> None:
    """Do what :meth:`Trace.save` promises."""
    if path.is_dir():
        raise IsADirectoryError(f"path must be that of a file to write, but {path} is a directory")
    pyarrow, _ = import_pyarrow()
    rows = trace.signatures
    labels = [_stored(label) for label in trace.labels]
    if len({type(label) for label in labels}) > 1:
        labels = [str(label) for label in labels]
    columns: dict[str, Any] = {
        "event": Coded(trace.events, EVENTS),
        "signature": Coded(rows, labels),
        "signature_id": rows if trace.identities is None else trace.identities[rows],
        "size_bytes": trace.size_bytes[rows],
        "mappings": trace.mappings[rows],
        "compile_seconds": trace.compile_seconds[rows],
    }
    for name, values in trace.columns.items():
        if name == "lengths":
            columns[name] = _lists(values)
        else:
            columns[name] = (
                values.astype(np.float64) if name in _NUMBERS else pyarrow.array(values.tolist(), pyarrow.string())
            )
    setting = {**trace.setting, "mappings_limit": trace.mappings_limit}
    write_part(columns, setting, path)


def _stored(label: Any) -> int | str:
    """Return a label as a column can hold it: text, unless it is a number of 64 bits with a sign."""
    if isinstance(label, int | np.integer) and -(2**63) <= label < 2**63:
        return int(label)
    return str(label)


def _lists(lengths: NDArray[np.int64]) -> Any:
    pyarrow, _ = import_pyarrow()
    counts = np.count_nonzero(lengths, axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    flat = lengths[lengths > 0]
    return pyarrow.ListArray.from_arrays(
        pyarrow.array(offsets, mask=np.append(counts == 0, False)), pyarrow.array(flat, pyarrow.int64())
    )


def load_trace(path: Path) -> Trace:
    """Do what :meth:`Trace.load` promises for Parquet."""
    pyarrow, parquet = import_pyarrow()
    files = sorted(path.glob("part-*")) if path.is_dir() else [path]
    files = [file for file in files if not path.is_dir() or file.suffix in (PARQUET, NPZ)]
    if not files:
        raise ValueError(f"path must be a trace, but {path} has no part-*.parquet in it: no request was recorded")
    tables, setting = [], {}
    for file in files:
        try:
            if file.suffix == NPZ:
                table, recorded = _read_plain(file)
            else:
                table = parquet.read_table(file, partitioning=None)
                recorded = json.loads((table.schema.metadata or {}).get(_METADATA.encode(), b"{}"))
        except OSError:
            if not file.is_file():
                raise
            raise ValueError(f"path must be a trace, but {file} is damaged or cut off") from None
        except (pyarrow.ArrowInvalid, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"path must be a trace, but {file} is damaged or cut off: {error}") from error
        for name in ("signature_id", "size_bytes", "compile_seconds"):
            if name not in table.column_names:
                raise ValueError(f"path must be a trace, but {file} has no column {name}")
        tables.append(table)
        setting = recorded or setting
    try:
        table = pyarrow.concat_tables(tables, promote_options="permissive").unify_dictionaries()
        return _from_table(table, setting)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path must be a trace, but {path} is not one: {error}") from error


def _from_table(table: Any, setting: dict[str, Any]) -> Trace:
    def column(name: str) -> NDArray[Any]:
        return table.column(name).to_numpy(zero_copy_only=False)

    there = set(table.column_names)
    trace = Trace.from_arrays(
        keys=column("signature_id"),
        size_bytes=column("size_bytes"),
        compile_seconds=column("compile_seconds"),
        mappings=column("mappings") if "mappings" in there else None,
        mappings_limit=setting.get("mappings_limit"),
        time_seconds=_times(column("time_seconds")) if "time_seconds" in there else None,
    )
    events = trace.events
    if "event" in there:
        words, codes = _decode(table.column("event"))
        if not set(words) <= set(EVENTS):
            raise ValueError(f"its events must be {', '.join(EVENTS)}, but there are {words}")
        events = np.array([EVENTS.index(word) for word in words], np.uint8)[codes] if len(words) else events
    labels, identities = trace.labels, trace.labels if "eviction" in setting else None
    if "signature" in there:
        words, codes = _decode(table.column("signature"))
        firsts = np.unique(trace.signatures, return_index=True)[1]
        kinds = {type(word) for word in words}
        array = np.array(words) if kinds == {int} else np.array(words, object)
        labels = array[codes[firsts]] if len(words) else labels
    columns = dict(trace.columns)
    columns |= {name: column(name).astype(np.float64) for name in _NUMBERS[1:] if name in there}
    for name in _TEXTS:
        if name in there:
            words, codes = _decode(table.column(name))
            columns[name] = np.array([*words, None], object)[codes]
    if "lengths" in there:
        columns["lengths"] = _matrix(table.column("lengths"))
    setting = {name: value for name, value in setting.items() if name not in ("format", "mappings_limit")}
    return replace(trace, events=events, labels=labels, columns=columns, setting=setting, identities=identities)


def _times(values: NDArray[Any]) -> NDArray[np.float64] | None:
    times = values.astype(np.float64)
    return None if np.isnan(times).all() and len(times) else times


def _decode(column: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the different values of a column, and the index of each row's among them, -1 for null."""
    pyarrow, _ = import_pyarrow()
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if not pyarrow.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return whole.dictionary.to_pylist(), codes


def _matrix(column: Any) -> NDArray[np.int64]:
    """Return lists of lengths as rows, with 0 where there is none."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    counts = whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    matrix = np.zeros((len(counts), max(1, int(counts.max(initial=0)))), np.int64)
    matrix[np.arange(matrix.shape[1]) < counts[:, np.newaxis]] = whole.flatten().to_numpy(zero_copy_only=False)
    return matrix


def read_csv(path: Path, names: list[str], optional: list[str], *, required_times: bool) -> dict[str, list[str]]:
    """Return columns of a CSV file as text; ``optional`` ones if they are there, or must be."""
    try:
        return _columns(path, names, optional, required_times)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8, but cannot be read as one: {error}") from error


def _columns(path: Path, names: list[str], optional: list[str], required_times: bool) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:  # some programs put a byte order mark first
        rows = csv.DictReader(file)
        header = rows.fieldnames or []
        wanted = names + [name for name in optional if required_times or name in header]
        missing = [name for name in wanted if name not in header]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]!r}; it has {', '.join(header) or 'none'}: name the one to take, as "
                "in Trace.from_csv(path, key='…'), or lengths='…' for a log of lengths, and save() the trace"
            )
        texts: dict[str, list[str]] = {name: [] for name in wanted}
        for row in rows:
            for name in wanted:
                texts[name].append(row[name])
    return texts
