"""What a trace takes, refuses, and gives back from disk."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import Trace, replay

ROWS = {"keys": ["a", "b", "a"], "size_bytes": [5, 6, 7], "compile_seconds": [1.0, 2.0, 3.0]}


def same(one, other):
    assert one.signatures.tolist() == other.signatures.tolist()
    assert one.labels.tolist() == other.labels.tolist()
    assert one.size_bytes.tolist() == other.size_bytes.tolist()
    assert one.compile_seconds.tolist() == other.compile_seconds.tolist()
    assert one.mappings.tolist() == other.mappings.tolist()
    assert one.mappings_limit == other.mappings_limit
    assert one.events.tolist() == other.events.tolist()
    assert set(one.columns) == set(other.columns)
    for name, column in one.columns.items():
        assert column.tolist() == other.columns[name].tolist()


def test_signatures_are_numbered_as_they_appear_and_weigh_and_cost_what_their_first_row_says():
    trace = Trace.from_arrays(**ROWS)
    assert trace.signatures.tolist() == [0, 1, 0]
    assert trace.labels.tolist() == ["a", "b"]
    assert trace.size_bytes.tolist() == [5, 6]
    assert trace.compile_seconds.tolist() == [1.0, 2.0]
    assert (len(trace), trace.requests, trace.working_set_bytes) == (3, 3, 11)


@given(st.lists(st.integers(-5, 5) | st.text("ab", max_size=2) | st.tuples(st.integers(0, 2)), max_size=30))
def test_keys_of_any_kind_are_told_apart_as_python_does(keys):
    trace = Trace.from_arrays(keys=keys, size_bytes=np.ones(len(keys)), compile_seconds=np.ones(len(keys)))
    distinct = list(dict.fromkeys(keys))
    assert [distinct[number] for number in trace.signatures] == keys
    assert list(trace.labels) == distinct


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_bytes": [5, -6, 7]}, "size_bytes must be whole numbers from 1 to .*, but row 1 is -6"),
        ({"size_bytes": [5, 6, 0]}, "size_bytes must be .* row 2 is 0"),
        ({"size_bytes": [5, 6.5, 7]}, "size_bytes must be .* row 1 is 6.5"),
        ({"size_bytes": [5, float("nan"), 7]}, "size_bytes must be .* row 1 is nan"),
        ({"size_bytes": [5, 6]}, "size_bytes must have as many elements as keys, 3, but its shape is"),
        ({"size_bytes": ["5", "6", "7"]}, "size_bytes must be numbers"),
        ({"size_bytes": [2**60] * 3}, "size_bytes must be whole numbers"),
        ({"compile_seconds": [1, float("nan"), 1]}, "compile_seconds must be finite, but row 1 is nan"),
        ({"compile_seconds": [1, 1, float("inf")]}, "compile_seconds must be finite, but row 2 is inf"),
        ({"compile_seconds": [1, -1, 1]}, "compile_seconds must be 0 or more, but row 1 is -1"),
        ({"time_seconds": [0, 2, 1]}, "time_seconds must be in order, never falling.*, but row 2 is 1"),
        ({"time_seconds": [0, 1]}, "time_seconds must have as many"),
        ({"keys": [[1], [2], [3]]}, "keys must be numbers, text or hashable, but row 0 is"),
        ({"keys": np.ones((3, 2))}, "keys must have one element a request"),
        ({"keys": np.array([1.0, np.nan, 2.0])}, "keys must be .* row 1 is nan"),
        ({"mappings": [1, -1, 1]}, "mappings must be whole numbers"),
        ({"mappings_limit": -1}, "mappings_limit must be a whole number, 0 or more, or None, but is -1"),
        ({"mappings_limit": 1.5}, "mappings_limit must be a whole number, 0 or more, or None, but is 1.5"),
    ],
)
def test_impossible_rows_are_refused_with_argument_and_row(change, message):
    with pytest.raises(ValueError, match=message):
        Trace.from_arrays(**{**ROWS, **change})


@given(
    keys=st.lists(st.integers(0, 9), max_size=40) | st.lists(st.text(max_size=3), max_size=40),
    timed=st.booleans(),
    limit=st.none() | st.integers(0, 9),
)
def test_a_saved_trace_is_loaded_as_it_was(tmp_path_factory, keys, timed, limit):
    rows = len(keys)
    trace = Trace.from_arrays(
        keys=keys, size_bytes=np.arange(1, rows + 1), compile_seconds=np.arange(rows) / 7,
        time_seconds=np.arange(rows) / 3 if timed else None, mappings=np.arange(rows), mappings_limit=limit,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("trace") / "trace.parquet"
    trace.save(path)
    same(Trace.load(path), trace)
    assert [one.name for one in path.parent.iterdir()] == ["trace.parquet"]


def test_lengths_become_programs_by_bucket_and_are_kept(tmp_path):
    trace = Trace.from_lengths(
        [3, 9, 4, 100], size_bytes=lambda n: 10 * n, compile_seconds=0.5, buckets=[4, 16], time_seconds=[0, 1, 2, 3]
    )
    assert trace.labels.tolist() == [4, 16, 100]
    assert trace.size_bytes.tolist() == [40, 160, 1000]
    assert trace.columns["lengths"].tolist() == [[3], [9], [4], [100]]
    trace.save(tmp_path / "t.parquet")
    same(Trace.load(tmp_path / "t.parquet"), trace)


@pytest.mark.parametrize("buckets", [[], [0, 3], [4, 4], [5, 3]])
def test_buckets_that_do_not_ascend_are_refused(buckets):
    with pytest.raises(ValueError, match="buckets must be ascending lengths"):
        Trace.from_lengths([1], size_bytes=1, compile_seconds=1.0, buckets=buckets)


def test_a_csv_is_read_by_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time,key,size,cost\n0,x,10,1.5\n1,y,20,2\n2,x,10,1.5\n")
    trace = Trace.load(path)
    same(
        trace,
        Trace.from_arrays(
            keys=["x", "y", "x"], size_bytes=[10, 20, 10], compile_seconds=[1.5, 2, 1.5], time_seconds=[0, 1, 2]
        ),
    )
    path.write_text("program,bytes,seconds\n1,10,1\n")
    assert Trace.from_csv(path, key="program", size="bytes", cost="seconds").labels.tolist() == ["1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'key'; it has none"),
        ("key,size\n", "has no column 'cost'; it has key, size"),
        ("key,size,cost\na,b,1\n", "column 'size' of .* must be numbers, but row 0 is 'b'"),
        ("key,size,cost\na,1\n", "column 'cost' of .* must be numbers, but row 0 is None"),
        ("key,size,cost\na,-1,1\n", "size_bytes must be whole numbers"),
        ("key,size,cost,time\na,1,1,5\na,1,1,4\n", "time_seconds must be in order"),
    ],
)
def test_a_csv_that_is_no_trace_is_refused(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Trace.load(path)


def test_a_log_of_lengths_is_priced_as_it_is_read(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("when,tokens\n2023-11-16 18:15:46.6805900,374\n2023-11-16 18:15:50,396\n2023-11-16 18:16:46,374\n")
    trace = Trace.from_csv(
        path, lengths="tokens", time="when", size_bytes=lambda n: 100 * n, compile_seconds=0.5, call_seconds=0.1
    )
    assert trace.size_bytes.tolist() == [37_400, 39_600]
    assert trace.columns["time_seconds"] == pytest.approx([0, 3.31941, 59.31941])
    assert trace.columns["lengths"].tolist() == [[374], [396], [374]]


def test_a_log_of_lengths_without_prices_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lengths, size_bytes and compile_seconds must be given together"):
        Trace.from_csv(tmp_path / "log.csv", lengths="tokens")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key,size,cost\n\xff,1,2\n", "t.csv must be a CSV file in UTF-8"),
        (b'key,size,cost\n"a,1,2\n' + b"x" * 200_000, "t.csv must be a CSV file .* field larger"),
        (b"key,size,cost\na,1,2\nb,-3,1\n", "t.csv: size_bytes must be whole numbers from 1 .* row 1 is -3"),
        (b"key,size,cost,time\na,1,2,yesterday\n", "column 'time' of .*t.csv must be numbers, but row 0"),
    ],
)
def test_a_damaged_csv_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Trace.from_csv(tmp_path / "t.csv")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfkey,size,cost\na,1,2\n")
    assert Trace.from_csv(tmp_path / "t.csv").labels.tolist() == ["a"]


def test_keys_that_no_column_of_numbers_holds_are_saved_as_text(tmp_path):
    keys = np.array([2**63 + 5, 1], np.uint64)
    Trace.from_arrays(keys=keys, size_bytes=[1, 2], compile_seconds=[1, 1]).save(tmp_path / "t.parquet")
    assert Trace.load(tmp_path / "t.parquet").labels.tolist() == [str(2**63 + 5), "1"]


def test_keys_that_differ_in_a_nul_are_different():
    assert len(Trace.from_arrays(keys=["a", "a\0"], size_bytes=[1, 2], compile_seconds=[1, 1]).labels) == 2


def test_an_empty_trace_is_a_trace(tmp_path):
    trace = Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])
    trace.save(tmp_path / "t.parquet")
    loaded = Trace.load(tmp_path / "t.parquet")
    assert len(loaded) == 0
    assert replay(loaded, "gdsf", 10).requests == 0


def test_a_file_that_is_cut_off_is_refused_by_name(tmp_path):
    path = tmp_path / "t.parquet"
    Trace.from_arrays(**ROWS).save(path)
    whole = path.read_bytes()
    for kept in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"path must be a trace, but .*t\.parquet is damaged or cut off"):
            Trace.load(path)


def test_what_is_no_trace_is_refused_by_name(tmp_path):
    import pyarrow
    import pyarrow.parquet

    with pytest.raises(ValueError, match=r"has no part-\*\.parquet in it"):
        Trace.load(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="has no column signature_id"):
        Trace.load(tmp_path / "t.parquet")
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "nowhere.parquet")
    with pytest.raises(IsADirectoryError, match="path must be that of a file"):
        Trace.from_arrays(**ROWS).save(tmp_path)


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcache\[lab\]'"):
        Trace.from_arrays(**ROWS).save(tmp_path / "t.parquet")
