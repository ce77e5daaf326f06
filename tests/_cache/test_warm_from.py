"""Programs of the last run: loaded by threads before they are asked for, and right whenever that is."""

import importlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import JitCache
from jaxcache._code_key.background import background

from .._support.compiles import count_compiles

SIZES = (2, 3, 4, 5)


def column(x):
    return x.reshape(-1, 1)


def run(function=column, sizes=SIZES):
    """Call a function that has nothing yet; return its results and what its cache has counted."""
    cache = JitCache()
    jitted = cache.jit(function, code_key=True, verify=0.0)
    results = [np.asarray(jitted(np.arange(n, dtype=np.float32))).tolist() for n in sizes]
    background.wait()
    return results, cache.stats()


@pytest.fixture
def shared(tmp_path):
    with jaxcache.use_directory(tmp_path / "shared") as directory:
        yield directory
        background.wait()


def expected(sizes=SIZES):
    return [[[float(each)] for each in range(n)] for n in sizes]


def test_programs_of_the_last_run_are_loaded_before_they_are_asked_for(shared):
    run()
    hits = shared.stats().process.hits
    warming = jaxcache.warm_from(shared)
    warming.wait()
    assert (warming.total, warming.loaded) == (4, 4)
    assert warming.held_bytes > 0
    for path in (shared.path).rglob("*.entry"):
        path.unlink()  # what is in memory needs no file any more
    with count_compiles() as compiles:
        results, stats = run()
    assert compiles == [0]
    assert results == expected()
    assert (stats.disk_hits, stats.compiled) == (4, 0)
    assert shared.stats().process.hits == hits + 4
    assert warming.held_bytes == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_asked_for_while_it_is_loaded_is_right(shared, threads):
    run()
    jaxcache.warm_from(shared, threads=threads)
    results, stats = run()
    assert results == expected()
    assert (stats.disk_hits, stats.compiled) == (4, 0)


def test_a_run_asks_for_what_it_needs_and_not_for_what_the_last_one_needed(shared):
    run(sizes=(2, 3))
    warming = jaxcache.warm_from(shared)
    results, stats = run(sizes=(3, 9))
    assert results == expected((3, 9))
    assert (stats.disk_hits, stats.compiled) == (1, 1)
    warming.wait()
    assert warming.held_bytes > 0
    warming.close()
    assert warming.held_bytes == 0
    assert run(sizes=(2,))[0] == expected((2,))


def test_no_more_is_held_than_the_limit(shared):
    run()
    everything = jaxcache.warm_from(shared)
    everything.wait()
    half = everything.held_bytes // 2
    everything.close()
    warming = jaxcache.warm_from(shared, limit=half)
    warming.wait()
    assert (warming.total, warming.loaded) == (4, 2)
    assert warming.held_bytes <= half
    assert run()[0] == expected()


def test_only_runs_of_the_same_program_count(shared, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    run()
    monkeypatch.setattr(sys, "argv", ["/elsewhere/train.py", "--more"])
    assert jaxcache.warm_from(shared).total == 4
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    assert jaxcache.warm_from(shared).total == 0


def test_a_damaged_entry_is_compiled_where_it_is_asked_for_and_counted_there(shared, logged_warnings):
    run()
    for path in shared.path.rglob("*.entry"):
        content = bytearray(path.read_bytes())
        if b"jaxcache-last-run" not in content:
            content[-40] ^= 1
            path.write_bytes(content)
    warming = jaxcache.warm_from(shared)
    warming.wait()
    assert (warming.total, warming.loaded) == (4, 0)
    assert run()[0] == expected()
    assert shared.stats().process.quarantined == 8  # JAX was asked for the same programs next
    logged_warnings.clear()


MODULE = """
import jax

@jax.tree_util.register_pytree_node_class
class Pair:
    def __init__(self, a): self.a = a
    def tree_flatten(self): return (self.a,), None
    @classmethod
    def tree_unflatten(cls, _, leaves): return cls(*leaves)

def pair(x): return Pair(x.reshape(-1, 1))
"""


def test_modules_are_imported_by_the_program_alone(shared, tmp_path, monkeypatch):
    (tmp_path / "imported_late.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def call():
        cache = JitCache()
        answer = cache.jit(importlib.import_module("imported_late").pair, code_key=True, verify=0.0)(jnp.ones(3))
        background.wait()
        return answer.a.shape, cache.stats().disk_hits

    assert call() == ((3, 1), 0)
    late = sys.modules.pop("imported_late")
    warming = jaxcache.warm_from(shared)
    warming.wait()
    assert "imported_late" not in sys.modules
    assert warming.loaded == warming.total - 1
    sys.modules["imported_late"] = late  # a type may be registered with JAX once
    assert call() == ((3, 1), 1)


PROGRAM = """
import os, sys
import jaxcache
warming = jaxcache.warm_from(sys.argv[1])
print(warming.total, flush=True)
if "work" in sys.argv:
    import numpy, math
    cache = jaxcache.JitCache()
    f = cache.jit(lambda x: x.reshape(-1, 1), code_key=True)
    print(*(f(numpy.ones(n)).shape for n in (1, 2, 3)), cache.stats().disk_hits)
if "fork" in sys.argv:
    from jaxcache._cache.warm_from import plugged_cache, take_warmed

    key = list(warming._futures)[-1]  # the threads that would load it are the parent's
    child = os.fork()
    if child == 0:
        os._exit(0 if take_warmed(plugged_cache(), key) is None else 1)
    print(os.waitpid(child, 0)[1])
"""


def test_a_process_that_ends_at_once_or_forks_or_works_leaves_no_word(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "program.py"), str(tmp_path / "shared")]
    printed = []
    for words in (["work"], ["work"], [], ["fork"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert printed == ["0\n(1, 1) (2, 1) (3, 1) 0\n", "3\n(1, 1) (2, 1) (3, 1) 3\n", "3\n", "3\n0\n"]


def test_what_makes_no_sense_is_refused(shared, tmp_path):
    with pytest.raises(ValueError, match="threads must be a whole number, 1 or more, but is 0"):
        jaxcache.warm_from(shared, threads=0)
    with pytest.raises(ValueError, match="limit must be"):
        jaxcache.warm_from(shared, limit="much")
    with (
        jaxcache.DiskCache(tmp_path / "other") as other,
        pytest.raises(ValueError, match="directory must be in use, but is DiskCache"),
    ):
        jaxcache.warm_from(other)
    assert jaxcache.warm_from(shared.path).total == 0  # it is in use


def test_a_program_of_another_configuration_than_the_threads_is_right(shared):
    def wide(x):
        return x * 2, jnp.arange(3.0)

    def call():
        cache = JitCache()
        with jax.enable_x64(True):
            answers = cache.jit(wide, code_key=True, verify=0.0)(np.float64(1e300))
        background.wait()
        return [(answer.dtype.name, answer.tolist()) for answer in answers], cache.stats().disk_hits

    expected = [("float64", 2e300), ("float64", [0.0, 1.0, 2.0])]
    assert call() == (expected, 0)
    warming = jaxcache.warm_from(shared)
    warming.wait()
    assert (warming.total, warming.loaded) == (1, 1)
    assert call() == (expected, 1)
