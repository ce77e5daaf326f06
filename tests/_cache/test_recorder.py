"""What a running cache writes down, and that its replay decides as it did."""

import gc
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import POLICIES, Cost, CostTable, JitCache, Trace, bucketed, replay
from jaxcache._cache.recorder import PART_ROWS
from jaxcache._replay.decisions import HIT
from jaxcache._replay.trace import Event
from tests._support.interpreters import start_python

PARTS = "part-*.parquet"
LENGTHS = np.random.default_rng(7).zipf(1.4, 90) % 9 + 1
COSTS = CostTable({f"column(float32[{n}])": Cost(1 + n * 7 % 5, (1 + n * 11 % 7) / 4) for n in range(1, 10)})


def column(x):
    """Return the vector as a column, which XLA compiles in a third of the time that arithmetic takes."""
    return x.reshape(-1, 1)


def row(x):
    return x.reshape(1, -1)


def run(cache, lengths=LENGTHS):
    function = cache.jit(column)
    for length in lengths:
        function(np.ones(length, np.float32))
    return cache.stats()


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbounded") / "trace.parquet"
    with JitCache(costs=COSTS, record=path) as cache:
        run(cache)
    return Trace.load(path)


@pytest.mark.filterwarnings("ignore:jaxcache:RuntimeWarning")
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_replay_of_one_recorded_run_is_every_run_with_another_setting(name, unbounded, tmp_path):
    with JitCache(9, name, seed=3, costs=COSTS, record=tmp_path / "t") as cache:
        live = run(cache)
    recorded = Trace.load(tmp_path / "t")
    for trace in (unbounded, recorded):
        predicted = replay(trace, name, 9, seed=3)
        assert (predicted.hits, predicted.misses, predicted.evictions, predicted.rejected) == (
            live.hits, live.misses, live.evictions, live.rejected,
        )  # fmt: skip
        assert predicted.compile_seconds == pytest.approx(live.cost_seconds)
        assert predicted.peak_bytes == live.peak_bytes
        served = recorded.columns["tier"] == "memory"
        assert ((predicted.outcomes == HIT) == served).all()
    assert recorded.setting == {"eviction": name, "limit_bytes": 9, "seed": 3}
    assert live.misses > 9  # of nine signatures


def test_a_part_that_is_closed_in_time_changes_no_decision(tmp_path):
    with JitCache(4, "lru", costs=CostTable({f"{name}(float32[{n}])": Cost(1, 1.0) for name in ("column", "row")
                                             for n in range(9)}), record=tmp_path / "t") as cache:  # fmt: skip
        functions = [cache.jit(column), cache.jit(row)]
        for step, length in enumerate(LENGTHS[:40]):
            functions[step % 2](np.ones(length % 3 + 1, np.float32))
            cache._state._recorder._hand_over_in_time()  # as its thread does now and then
        live = cache.stats()
    trace = Trace.load(tmp_path / "t")
    assert (replay(trace, "lru", 4).outcomes == HIT).tolist() == (trace.columns["tier"] == "memory").tolist()
    assert live.evictions > 0


def test_a_row_says_what_a_call_weighed_and_cost(unbounded):
    assert unbounded.requests == len(LENGTHS)
    assert [f"column(float32[{n}])" for n in LENGTHS] == unbounded.labels[unbounded.signatures].tolist()
    assert unbounded.size_bytes.tolist() == [COSTS[text].size_bytes for text in unbounded.labels]
    assert unbounded.compile_seconds.tolist() == [COSTS[text].seconds for text in unbounded.labels]
    columns = unbounded.columns
    assert set(columns["function"]) == {"column"}
    missed = columns["tier"] == "compiled"
    assert missed.sum() == len(unbounded.labels)
    for name in ("lowering_seconds", "backend_seconds"):
        assert (columns[name][missed] > 0).all()
        assert np.isnan(columns[name][~missed]).all()
    assert (columns["dispatch_seconds"] > 0).all()
    assert (columns["dispatch_seconds"] < 5).all()
    finished = columns["finished_seconds"]
    sampled = ~np.isnan(finished)
    assert sampled.any()
    assert (finished[sampled] >= 0).all()
    assert (np.diff(columns["time_seconds"]) >= 0).all()
    assert (unbounded.mappings > 0).all()


def test_the_replay_of_a_run_of_several_threads_is_that_run(tmp_path):
    with JitCache(costs=COSTS, record=tmp_path / "t") as cache:
        function = cache.jit(column)

        def work(seed):
            draw = np.random.default_rng(seed)
            for length in draw.zipf(1.5, 700) % 4 + 1:
                function(np.ones(length, np.float32))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        live = cache.stats()
    trace = Trace.load(tmp_path / "t")
    assert trace.requests == 2800 == live.hits + live.misses
    predicted = replay(trace, "lru")
    assert (predicted.hits, predicted.misses) == (live.hits, live.misses) == (2796, 4)


def test_what_is_warmed_and_cleared_is_replayed_too(tmp_path):
    with JitCache(9, "lru", costs=COSTS, record=tmp_path / "t") as cache:
        function = cache.jit(column)
        function.warm(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.float32))
        run(cache, [3, 5, 1])
        cache.clear(function)
        live = run(cache, [3, 5, 1, 1, 2, 4, 3])
    trace = Trace.load(tmp_path / "t")
    assert (trace.events == Event.WARM).sum() == 2
    assert (trace.events == Event.CLEAR).sum() > 0
    predicted = replay(trace, "lru", 9)
    assert (predicted.hits, predicted.misses, predicted.evictions) == (live.hits, live.misses, live.evictions)
    assert predicted.compile_seconds == pytest.approx(live.cost_seconds)


def test_equal_calls_of_two_functions_are_two_signatures(tmp_path):
    with JitCache(record=tmp_path / "t") as cache:
        for _ in range(2):
            made = cache.jit(lambda x: x + 1)
            made(np.ones(3))
            made(np.ones(3))
            cache.jit(lambda x: x - 1)(np.ones(3))
    trace = Trace.load(tmp_path / "t")
    asked = trace.signatures[trace.events == Event.REQUEST]
    assert len(set(asked)) == 4


def test_the_lengths_of_bucketed_calls_are_kept(tmp_path):
    with JitCache(record=tmp_path / "t") as cache:
        function = bucketed(column, cache=cache, buckets=[4, 8], check=False)
        for length in (3, 4, 7, 3, 20):
            function(np.ones(length, np.float32))
        cache.jit(column)(np.ones(2, np.float32))
    trace = Trace.load(tmp_path / "t")
    assert trace.columns["lengths"].tolist() == [[3], [4], [7], [3], [20], [0]]


def test_many_hits_are_several_parts_in_order(tmp_path):
    with JitCache(record=tmp_path / "t") as cache:
        function, x = cache.jit(column), jnp.ones(3)
        for _ in range(PART_ROWS + 2000):
            function(x)
        live = cache.stats()
    assert [one.name for one in sorted((tmp_path / "t").iterdir())] == ["part-00000.parquet", "part-00001.parquet"]
    trace = Trace.load(tmp_path / "t")
    assert (len(trace), live.hits) == (PART_ROWS + 2000, PART_ROWS + 1999)
    assert replay(trace, "lru").hits == live.hits


def test_a_call_that_fails_when_it_runs_is_a_row(tmp_path):
    def refuse(x):
        raise RuntimeError("refused")

    def calls_back(x):
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    with JitCache(record=tmp_path / "t") as cache:
        function = cache.jit(calls_back)
        for _ in range(3):
            with pytest.raises(Exception, match="refused"):
                jax.block_until_ready(function(np.ones(2, np.float32)))
        live = cache.stats()
    trace = Trace.load(tmp_path / "t")
    assert trace.requests == live.hits + live.misses == 3


def test_a_cache_that_is_dropped_has_written_everything(tmp_path):
    cache = JitCache(record=tmp_path / "t")
    run(cache)
    del cache
    gc.collect()
    assert Trace.load(tmp_path / "t").requests == len(LENGTHS)


def child(code: str, *args: object) -> "subprocess.Popen[str]":
    return start_python(code, *args, stdout=subprocess.PIPE)


def test_a_program_that_ends_without_closing_has_written_everything(tmp_path):
    ended = child(
        "import sys, numpy as np, jaxcache\n"
        "f = jaxcache.JitCache(record=sys.argv[1]).jit(lambda x: x + 1)\n"
        "for _ in range(100): f(np.ones(3))\n",
        tmp_path / "t",
    )
    ended.communicate(timeout=120)
    assert ended.returncode == 0
    assert Trace.load(tmp_path / "t").requests == 100


def test_a_killed_program_loses_at_most_the_last_part(tmp_path):
    killed = child(
        "import sys, numpy as np, jaxcache, jaxcache._cache.recorder, pathlib\n"
        "jaxcache._cache.recorder.PART_ROWS = 500\n"
        "f = jaxcache.JitCache(record=sys.argv[1]).jit(lambda x: x + 1)\n"
        "while len(list(pathlib.Path(sys.argv[1]).glob('part-*'))) < 3: f(np.ones(3))\n"
        "print('three', flush=True)\n"
        "while True: f(np.ones(3))\n",
        tmp_path / "t",
    )
    with killed:
        try:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "three\n"
        finally:
            killed.send_signal(signal.SIGKILL)
    parts = len(list((tmp_path / "t").glob(PARTS)))
    trace = Trace.load(tmp_path / "t")
    assert len(trace) >= 500 * parts >= 1500  # only the last of a program that ends is smaller
    assert replay(trace, "lru").misses == 1


def test_a_directory_that_cannot_be_written_ends_the_recording_and_not_the_program(tmp_path):
    cache = JitCache(record=tmp_path / "t")
    run(cache)
    shutil.rmtree(tmp_path / "t")
    (tmp_path / "t").write_text("in the way")
    with pytest.warns(RuntimeWarning, match=r"recording to .*t ended after 0 parts"), cache:
        assert cache.jit(column)(np.ones(2, np.float32)).tolist() == [[1], [1]]


def test_what_is_there_already_is_refused(tmp_path):
    with JitCache(record=tmp_path / "t") as cache:
        run(cache, [1])
    with pytest.raises(FileExistsError, match="record must be a directory that is new or empty"):
        JitCache(record=tmp_path / "t")
    (tmp_path / "f").touch()
    with pytest.raises(FileExistsError, match="record must be a directory"):
        JitCache(record=tmp_path / "f")
    (tmp_path / "empty").mkdir()
    with JitCache(record=tmp_path / "empty") as cache:
        run(cache, [1])
    assert Trace.load(tmp_path / "empty").requests == 1


def test_without_pyarrow_recording_is_refused_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcache\[lab\]'"):
        JitCache(record=tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_recording_in_numpys_format_needs_no_pyarrow_and_is_the_same(tmp_path, monkeypatch):
    traces = {}
    for name in ("t.npz", "t.parquet"):
        with monkeypatch.context() as without:
            if name == "t.npz":
                without.setitem(sys.modules, "pyarrow", None)
            with JitCache(costs=COSTS, record=tmp_path / name) as cache:
                run(cache)
                padded = bucketed(column, cache=cache, buckets=(4, 8), axes=0)
                padded(np.ones(3, np.float32))
        traces[name] = Trace.load(tmp_path / name)
    ours, theirs = traces.values()
    assert {path.suffix for path in (tmp_path / "t.npz").iterdir()} == {".npz"}
    assert ours.names == theirs.names
    assert ours.setting == theirs.setting
    for name in ("signatures", "events", "size_bytes", "compile_seconds", "mappings"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    assert set(ours.columns) == set(theirs.columns)
    for name in ("function", "tier", "lengths"):
        assert (ours.columns[name] == theirs.columns[name]).all(), name
    assert (np.isnan(ours.columns["lowering_seconds"]) == np.isnan(theirs.columns["lowering_seconds"])).all()


def test_a_part_in_numpys_format_that_is_cut_off_is_refused(tmp_path):
    with JitCache(record=tmp_path / "t.npz") as cache:
        run(cache, [1])
    (part,) = (tmp_path / "t.npz").iterdir()
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged or cut off"):
        Trace.load(tmp_path / "t.npz")


def test_the_threads_of_a_recording_end_with_it(tmp_path):
    with JitCache(record=tmp_path / "t") as cache:
        run(cache)
    deadline = time.monotonic() + 30
    while any(one.name in ("jaxcache-record", "jaxcache-finish") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(tmp_path / "t").is_dir()
