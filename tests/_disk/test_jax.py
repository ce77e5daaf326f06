"""Behind jax.jit: programs are read instead of compiled, by one process and by many."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jaxcache
from jaxcache._disk import jax_backend as _disk_plug
from jaxcache._disk.doctor import examine
from jaxcache._jax import interfaces as _jax
from tests._support.interpreters import run_python, start_python


@pytest.fixture
def shared(tmp_path):
    made = []

    def use(**options):
        made.append(jaxcache.use_directory(tmp_path / "shared", **options))
        return made[-1]

    yield use
    for cache in made:
        cache.close()


def compiled_or_read(fun, *args):
    """Return how many programs came from the directory."""
    before = _jax.persistent_hits()
    jax.jit(lambda *given: fun(*given)).lower(*args).compile()
    return _jax.persistent_hits() - before


def run(program, *args, **options):
    return run_python(program, *args, check=True, **options).stdout


def test_what_a_program_costs_leaves_out_writing_it_down(shared, monkeypatch):
    disk = shared()
    put, waited = disk.put, 0.5
    monkeypatch.setattr(disk, "put", lambda *args: (time.sleep(waited), put(*args)))
    with jaxcache.JitCache() as cache:
        cache.jit(lambda x: x * 5 - 2)(np.ones(11, np.float32))
        (cost,) = cache.costs().values()
        assert cost.seconds <= cache.stats().compile_seconds - waited
    assert disk.stats().process.puts == 1


def test_a_program_is_read_instead_of_compiled(shared):
    cache = shared()
    x = np.ones(7, np.float32)
    assert compiled_or_read(lambda x: x * 3 + 1, x) == 0
    assert compiled_or_read(lambda x: x * 3 + 1, x) == 1
    stats = cache.stats()
    assert (stats.process.hits, stats.process.misses, stats.process.puts) == (1, 1, 1)
    (row,) = cache.index.rows()
    assert 0 < row.compile_seconds < 60
    assert row.compile_seconds != int(row.compile_seconds)
    assert 0 < stats.seconds_saved <= row.compile_seconds <= stats.seconds_spent


def test_what_memory_has_evicted_comes_back_from_the_directory(shared):
    shared()
    memory = jaxcache.JitCache("500KiB")  # holds one of the two
    double, triple = memory.jit(lambda x: x * 2 + 5), memory.jit(lambda x: x * 3 + 5)
    for _ in range(3):
        assert double(np.ones(3, np.float32)).tolist() == [7, 7, 7]
        assert triple(np.ones(3, np.float32)).tolist() == [8, 8, 8]
    stats = memory.stats()
    assert (stats.misses, stats.evictions, stats.compiled, stats.disk_hits) == (6, 5, 2, 4)


def test_close_gives_jax_its_own_cache_and_settings_back(shared):
    from jax._src import compilation_cache

    before = jax.config.jax_persistent_cache_min_compile_time_secs
    cache = shared()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    cache.close()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before
    assert compilation_cache._cache is None
    assert compiled_or_read(lambda x: x * 3 + 2, np.ones(7)) == 0


def test_an_entry_that_jax_cannot_load_is_replaced(shared):
    cache = shared()
    x = np.ones(9, np.float32)
    compiled_or_read(lambda x: x * 4 + 1, x)
    (row,) = cache.index.rows()
    cache.put(row.key, b"whole, and no program", 1.0)
    with (
        pytest.warns(jaxcache.DiskCacheWarning, match="JAX could not load it"),
        pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"),
    ):
        assert compiled_or_read(lambda x: x * 4 + 1, x) == 0
    assert compiled_or_read(lambda x: x * 4 + 1, x) == 1
    assert cache.stats().quarantined == 1


def test_a_program_that_xla_refuses_holds_nobody_up(shared):
    shared(wait_seconds=60.0)

    def refused(x):
        return jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    def attempt(_):
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_target"):
            jax.jit(refused)(np.ones(5, np.float32))

    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attempt, range(6)))
    assert time.monotonic() - started < 30


def test_a_thread_that_keeps_nothing_holds_nobody_up(shared):
    shared(wait_seconds=60.0)

    def with_callback(x):
        return jax.pure_callback(lambda y: np.asarray(y), jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1

    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:  # not kept by JAX, so each compiles
        list(pool.map(lambda _: compiled_or_read(with_callback, np.ones(5, np.float32)), range(6)))
    assert time.monotonic() - started < 30


def test_verify_finds_equal_programs_equal(shared, recwarn):
    cache = shared(verify=True)
    assert compiled_or_read(lambda x: x @ x + 1, np.ones((4, 4), np.float32)) == 0
    assert compiled_or_read(lambda x: x @ x + 1, np.ones((4, 4), np.float32)) == 0  # on another line
    assert compiled_or_read(lambda y: y @ y + 1, np.ones((4, 4), np.float32)) == 0  # of another argument
    assert (cache.stats().verified, cache.stats().mismatched) == (2, 0)
    assert not recwarn.list


@pytest.mark.parametrize(
    "other", [lambda x: x @ x + 2, lambda x: x @ x - 1, lambda x: x @ x.T + 1, lambda x: (x + 1) @ x]
)
def test_verify_finds_another_program_under_the_same_key(shared, other):
    cache = shared()
    x = np.ones((4, 4), np.float32)
    compiled_or_read(lambda x: x @ x + 1, x)
    (right,) = cache.index.rows()
    compiled_or_read(other, x)
    (wrong,) = [row for row in cache.index.rows() if row.key != right.key]
    cache.put(right.key, cache.get(wrong.key), 1.0)
    cache.close()
    cache = shared(verify=True)
    with pytest.warns(jaxcache.DiskCacheWarning, match="differs from what was compiled now"):
        assert compiled_or_read(lambda x: x @ x + 1, x) == 0
    assert (cache.stats().verified, cache.stats().mismatched) == (1, 1)


COLD = """
import sys, time
import numpy as np, jax, jaxcache
cache = jaxcache.use_directory(sys.argv[1])
jax.devices()
print("ready", flush=True)
sys.stdin.readline()
f = jax.jit(lambda x: [x := jax.numpy.tanh(x @ x + k) for k in range(30)][-1])
f(np.ones((16, 16), np.float32))
print(cache.stats().process.puts, cache.stats().process.hits)
"""


def test_of_processes_that_start_at_once_one_compiles(tmp_path):
    processes = [
        start_python(COLD, tmp_path / "shared", stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)
    ]
    for one in processes:
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        one.stdin.write("go\n")
        one.stdin.flush()
    told = [tuple(map(int, one.communicate(timeout=120)[0].split())) for one in processes]
    assert sum(puts for puts, _ in told) == 1
    assert sum(hits for _, hits in told) == 2


@pytest.mark.parametrize(
    "sabotage",
    ["import jax._src.compilation_cache as m; del m._cache_initialized",
     "import jax._src.compilation_cache as m; del m.put_executable_and_time",
     "import jax._src.compilation_cache_interface as m; m.CacheInterface.__abstractmethods__ |= {'touch'}"],
)  # fmt: skip
def test_an_unknown_jax_keeps_its_own_cache_with_one_warning(sabotage, tmp_path):
    program = f"""
import sys, warnings
import numpy as np, jax
import jax._src.compiler
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import jaxcache
    {sabotage}
    cache = jaxcache.use_directory(sys.argv[1])
assert ["cannot take the place" in str(one.message) for one in caught] == [True], caught
assert jax.config.jax_compilation_cache_dir.startswith(sys.argv[1])
cache.close()
"""
    run(program, tmp_path / "shared")


def test_parts_of_keys_are_told_where_two_runs_differ(tmp_path):
    program = """
import sys, numpy as np, jax, jaxcache
cache = jaxcache.use_directory(sys.argv[1], explain=True)
def solve(x): return x * float(len(sys.argv[2]))
jax.jit(solve)(np.ones(3, np.float32))
"""
    run(program, tmp_path / "shared", "a")
    cache = jaxcache.DiskCache(tmp_path / "shared", eviction=None)
    run(program, tmp_path / "shared", "a", env={**os.environ, "XLA_FLAGS": "--xla_cpu_enable_fast_math=true"})
    texts = [one.text for one in examine(cache, [])]
    assert any("jit_solve was asked for under another key" in one and "XLA_FLAGS" in one for one in texts), texts
    cache.close()


def test_a_program_that_is_distributed_waits_for_nobody(shared, monkeypatch):
    from jax._src import distributed

    cache = shared()
    assert not cache.hooks.is_distributed()
    monkeypatch.setattr(distributed.global_state, "client", object())
    assert _disk_plug.is_distributed()


def test_jax_makes_no_cache_of_its_own_when_somebody_resets_it(shared):
    from jax._src import compilation_cache

    cache = shared()
    compiled_or_read(lambda x: x * 3 + 7, np.ones(7, np.float32))
    compilation_cache.reset_cache()
    assert compiled_or_read(lambda x: x * 3 + 7, np.ones(7, np.float32)) == 1
    assert cache.stats().process.hits == 1
    assert not list(cache.path.glob("*-cache"))


PROBING = """
import sys, warnings
import numpy as np, jax, jaxcache
jax.config.update("jax_enable_pgle", True)
jax.config.update("jax_pgle_profiling_runs", 3)
jax.config.update("jax_compilation_cache_expect_pgle", sys.argv[2] == "expected")
warnings.simplefilter("ignore")
cache = jaxcache.use_directory(sys.argv[1])
jax.jit(lambda x: x * 3 + 7)(np.ones(7, np.float32))
counts = cache.stats().process
print(counts.hits, counts.misses, counts.puts, counts.waited)
"""


@pytest.mark.parametrize("expected", ["expected", "not"])
def test_probes_for_profiled_programs_are_no_requests(tmp_path, expected):
    assert run(PROBING, tmp_path / "shared", expected) == "0 1 1 0\n"
    assert run(PROBING, tmp_path / "shared", expected) == "1 0 0 0\n"


def test_a_probe_tells_of_whole_entries_alone_and_counts_nothing(shared):
    from jax._src import compilation_cache

    cache = shared()
    compiled_or_read(lambda x: x * 3 + 9, np.ones(7, np.float32))
    (row,) = cache.index.rows()
    before = cache.stats()
    backend = jax.devices()[0].client
    asked = [compilation_cache.is_executable_in_cache(backend, key) for key in (row.key, "no-such-key")]
    assert asked == [cache.contains(row.key), cache.contains("no-such-key")] == [True, False]
    assert cache.stats() == before
    path = cache.files.path(row.entry_id)
    path.write_bytes(path.read_bytes()[:-1])
    assert not cache.contains(row.key)
    with pytest.raises(ValueError, match="key must not be empty"):
        cache.contains("")


@pytest.mark.parametrize("names", ["exists", "contains", "exists contains"])
def test_a_jax_that_asks_whether_a_key_is_there_is_served(names, tmp_path):
    program = f"""
import sys, warnings
import numpy as np, jax
import jax._src.compilation_cache_interface as m
import jax._src.compilation_cache as c
import jaxcache
for name in {names.split()}:
    setattr(m.CacheInterface, name, lambda self, key: None)
    m.CacheInterface.__abstractmethods__ |= {{name}}
warnings.simplefilter("error", jaxcache.DiskCacheWarning)
cache = jaxcache.use_directory(sys.argv[1])
jax.jit(lambda x: x + 3)(np.ones(3))
(row,) = cache.index.rows()
for name in {names.split()}:
    assert getattr(c._cache, name)(row.key) is True and getattr(c._cache, name)("no-such") is False
assert cache.stats().process.misses == 1
"""
    run(program, tmp_path / "shared")


CALLBACK = """
import sys
import numpy as np, jax, jaxcache
from jaxcache._disk.doctor import examine
cache = jaxcache.use_directory(sys.argv[1])
def f(x): return jax.pure_callback(lambda y: np.asarray(y) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1
assert jax.jit(f)(np.ones(3, np.float32)).tolist() == [3, 3, 3]
print(cache.stats().process.puts, cache.stats().process.hits)
"""


def test_what_is_said_of_host_callbacks_is_so_for_this_jax(tmp_path):
    kept = jax.__version_info__ >= (0, 11)
    assert run(CALLBACK, tmp_path / "shared") == ("1 0\n" if kept else "0 0\n")
    assert run(CALLBACK, tmp_path / "shared") == ("0 1\n" if kept else "0 0\n")
    with jaxcache.DiskCache(tmp_path / "shared", eviction=None) as cache:
        said = [one for one in examine(cache, []) if one.severity == "note" and "not stored" in one.text]
    assert [("host callbacks" in one.advice) for one in said] == ([] if kept else [True])


CONSTANT = """
import sys, numpy as np, jax, jaxcache
cache = jaxcache.use_directory(sys.argv[1])
sys.argv = ["program.py", *sys.argv[2:]]
rate, size = float(sys.argv[1]), int(sys.argv[2])
table = np.arange(100, dtype=np.float32) * rate
def step(x): return x * rate + 3
def looked_up(x): return x + table[:x.shape[0]].sum() + jax.numpy.asarray(table).max()
for f in (step, looked_up): jax.jit(f)(np.ones(size, np.float32))
"""


def findings(path):
    with jaxcache.DiskCache(path, eviction=None) as cache:
        return [f"{one.text} -> {one.advice}" for one in examine(cache, [])]


def test_doctor_names_the_constant_that_the_command_line_has_changed(tmp_path):
    shared = tmp_path / "shared"
    run(CONSTANT, shared, 1.0, 4)
    run(CONSTANT, shared, 1.0, 4)  # hits: what is in the programs is known of the run before
    assert not any("another key" in one for one in findings(shared))
    run(CONSTANT, shared, 1.5, 4)
    texts = findings(shared)
    assert any("new to 'program.py 1.5 4' after 'program.py 1.0 4'" in one for one in texts), texts
    (step,) = [one for one in texts if one.startswith("jit_step was asked for under another key")]
    assert "a constant in it was 1 (f32), and is 1.5 (f32)" in step
    assert "not compiled again if it is an argument of the function" in step
    assert any(one.startswith("jit_looked_up was asked for under another key") for one in texts)


def test_doctor_names_the_shapes_that_the_command_line_has_changed(tmp_path):
    run(CONSTANT, tmp_path / "shared", 1.0, 4)
    run(CONSTANT, tmp_path / "shared", 1.0, 5)
    (step,) = [one for one in findings(tmp_path / "shared") if one.startswith("jit_step was asked for")]
    assert "its arguments were (tensor<4xf32>) -> tensor<4xf32>, and are (tensor<5xf32>) -> tensor<5xf32>" in step


def test_doctor_compares_with_the_run_that_was_called_alike(tmp_path):
    for rate in (1.0, 1.5, 1.0):
        run(CONSTANT, tmp_path / "shared", rate, 4)
    assert not any("another key" in one for one in findings(tmp_path / "shared"))
