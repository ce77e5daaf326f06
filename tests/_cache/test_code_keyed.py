"""Functions under ``code_key=True``: loaded without tracing, equal to ``jax.jit``, and never stale."""

import importlib
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring
from jax.tree_util import tree_leaves, tree_structure

import jaxcache
from jaxcache import JitCache, StaleProgramWarning
from jaxcache._code_key.background import background
from jaxcache._code_key.keys import program_key
from jaxcache._disk.whole_programs import get_program, put_program

from . import code_keyed_programs as programs
from .code_keyed_programs import CALLS, array, polynomial

LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_lowered: list[str] = []
monitoring.register_event_duration_secs_listener(lambda event, _, **kw: event == LOWERED and _lowered.append(event))


@pytest.fixture
def shared(tmp_path):
    with jaxcache.use_directory(tmp_path / "shared") as directory:
        yield directory
        background.wait()


def first_call(function, args, kwargs=None, options=None, verify=0.0):
    """Return a result of a cache that has nothing yet, how many programs were lowered, and the function."""
    jitted = JitCache().jit(function, code_key=True, verify=verify, **(options or {}))
    before = len(_lowered)
    result = jax.block_until_ready(jitted(*args, **(kwargs or {})))
    return result, len(_lowered) - before, jitted


def described(leaf):
    content = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(content).tobytes(), leaf.aval, leaf.sharding, leaf._committed


@pytest.mark.parametrize("name", CALLS)
def test_a_loaded_program_gives_every_bit_and_type_that_jax_gives(name, shared):
    function, args, kwargs, options = CALLS[name]
    args = tuple(jnp.array(arg) if options.get("donate_argnums") == 0 else arg for arg in args)

    def again():
        return tuple(jnp.array(arg) if options.get("donate_argnums") == 0 else arg for arg in args)

    expected = jax.jit(function, **options)(*again(), **kwargs)
    first_call(function, again(), kwargs, options)
    result, lowered, jitted = first_call(function, again(), kwargs, options)
    background.wait()
    warming = jaxcache.warm_from(shared)
    warming.wait()
    loaded_by_a_thread, lowered_then, _ = first_call(function, again(), kwargs, options)
    assert (lowered, warming.loaded, lowered_then) == (0, 1, 0)
    answers = (jitted(*again(), **kwargs) for _ in range(3))
    for answer in (result, loaded_by_a_thread, *answers):
        assert tree_structure(answer) == tree_structure(expected)
        assert list(map(described, tree_leaves(answer))) == list(map(described, tree_leaves(expected)))


def test_a_donated_argument_is_gone_after_a_loaded_program(shared):
    for _ in range(2):
        state = jnp.ones(1000)
        _, lowered, _ = first_call(programs.update, (state, jnp.ones(1000)), options={"donate_argnums": 0})
    assert lowered == 0
    assert state.is_deleted()


def test_a_loaded_function_can_be_differentiated_and_mapped(shared):
    first_call(programs.unused, (array(3), 1.0))
    _, lowered, jitted = first_call(programs.unused, (array(3), 1.0))
    assert lowered == 0
    assert jax.grad(lambda x: jitted(x, 1.0).sum())(array(3)).tolist() == [1, 1, 1]
    assert jax.vmap(jitted, (0, None))(array(2, 3), 1.0).shape == (2, 3)
    assert jitted.eval_shape(array(3), 1.0).shape == (3,)
    assert jitted.lower(array(3), 1.0).compile()(array(3), 1.0).shape == (3,)


def test_each_entry_is_traced_once_to_compare_and_then_a_share_of_the_hits(shared):
    first_call(polynomial, (array(3),))
    for verified in (1, 1):  # the second hit is of verified files
        first_call(polynomial, (array(3),))
        background.wait()
        assert shared.stats().process.verified == verified
    first_call(polynomial, (array(3),), verify=1.0)
    background.wait()
    counts = shared.stats().process
    assert (counts.verified, counts.mismatched) == (2, 0)


def test_an_entry_is_compared_again_once_files_have_changed(shared, tmp_path, monkeypatch):
    (tmp_path / "written.py").write_text("def f(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Python takes a .pyc for current whose source has the same size and second of change.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def call():
        sys.modules.pop("written", None)
        written = importlib.import_module("written")
        result = first_call(written.f, (array(3),))[1]
        background.wait()
        return result, shared.stats().process.verified

    assert [call(), call(), call()] == [(1, 0), (0, 1), (0, 1)]
    (tmp_path / "written.py").write_text("# A comment.\ndef f(x):\n    return x * 2\n")
    assert [call(), call()] == [(0, 2), (0, 2)]
    (tmp_path / "written.py").write_text("# A comment.\ndef f(x):\n    return x * 3\n")
    assert call() == (1, 2)


def plant(shared, function, args, other):
    """Put the program of another function under the key of this one."""
    other_jitted = first_call(other, args)[2]
    jitted = first_call(function, args)[2]

    def entry_of(face):
        dispatcher = face._jaxcache
        key = dispatcher.key_of(args, {})
        return program_key(dispatcher.fun, dispatcher.function.name, dispatcher.options, key)

    put_program(shared, entry_of(jitted).entry, get_program(shared, entry_of(other_jitted).entry), 1.0)
    return jitted


def test_a_stale_program_is_found_dropped_and_never_served_again(shared):
    args = (array(3), array(3))
    plant(shared, programs.unused, args, programs.update)
    result, lowered, jitted = first_call(programs.unused, args)
    with pytest.warns(StaleProgramWarning, match="unused was served a program"):
        background.wait()
    assert lowered == 0
    assert len(result) == 2  # it was stale
    assert shared.stats().process.mismatched == 1
    np.testing.assert_array_equal(jitted(*args), args[0] + 1)
    result, lowered, jitted = first_call(programs.unused, args)
    assert lowered == 1
    np.testing.assert_array_equal(result, args[0] + 1)
    assert "differed" in jitted._jaxcache._why_traced(jitted._jaxcache.key_of(args, {}))


def rounded(x):
    return x.round(np.get_printoptions()["precision"])


def test_a_program_that_depends_on_a_context_variable_is_compared_under_the_same_value(shared):
    for _ in range(2):
        with np.printoptions(precision=3):
            _, lowered, _ = first_call(rounded, (array(3),))
        background.wait()
    assert lowered == 0
    assert (shared.stats().process.verified, shared.stats().process.mismatched) == (1, 0)


def test_in_a_context_of_one_thread_a_stale_program_is_found_before_it_is_served(shared):
    args = (array(3), array(3))
    with jax.default_matmul_precision("float32"):
        plant(shared, programs.unused, args, programs.update)
        with pytest.warns(StaleProgramWarning):
            result, _, _ = first_call(programs.unused, args)
    np.testing.assert_array_equal(result, args[0] + 1)


def test_a_function_within_is_traced_with_what_it_reaches_now(shared, monkeypatch):
    jax.jit(programs.outer)(array(3))  # JAX remembers the function within, with the former value
    monkeypatch.setattr(programs, "SCALE", 5.0)
    first_call(programs.outer, (array(3),))
    result, lowered, _ = first_call(programs.outer, (array(3),))
    assert lowered == 0
    np.testing.assert_allclose(result, 10 * array(3), rtol=1e-6)


def shown(x):
    jax.debug.print("{}", x.sum())
    return x


def called_back(x):
    return jax.pure_callback(np.sin, x, x)


SEEN = []


def remembering(x):
    SEEN.append(x.shape)
    return x


def of_time(x):
    import time

    return x + time.time()


def counting(x):
    global SEEN
    SEEN = [*SEEN, 1]
    return x


REASONS = {
    shown: "calls back into Python|has side effects",
    called_back: "calls back into Python",
    remembering: "tracing it changes what it reaches",
    of_time: "time may differ from run to run",
    counting: "it writes SEEN while it is traced",
}


@pytest.mark.parametrize("function", REASONS, ids=lambda function: function.__name__)
def test_what_cannot_be_kept_is_traced_and_explained(function, shared, capfd):
    for _ in range(2):
        _, lowered, jitted = first_call(function, (array(3),))
        assert lowered == 1
    cache = JitCache()
    fresh = cache.jit(function, code_key=True)
    key = jitted._jaxcache.key_of((array(3),), {})
    assert re.search(REASONS[function], jitted._jaxcache._why_traced(key))
    if function in (of_time, counting):
        assert REASONS[function] in cache.explain(fresh, array(3)).reason


def test_a_function_traced_before_its_call_is_not_kept(shared):
    jitted = JitCache().jit(polynomial, code_key=True)
    jitted.eval_shape(array(3))
    jitted(array(3))
    assert first_call(polynomial, (array(3),))[1] == 1


def test_without_a_directory_it_is_traced_as_ever():
    cache = JitCache()
    jitted = cache.jit(polynomial, code_key=True)
    np.testing.assert_array_equal(jitted(array(3)), jax.jit(polynomial)(array(3)))
    assert "no shared directory is in use" in cache.explain(jitted, array(4)).reason


def test_a_damaged_entry_is_traced_and_replaced(shared):
    first_call(polynomial, (array(3),))
    for path in (shared.path / "entries").rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[-20] ^= 1
            path.write_bytes(content)
    with pytest.warns(jaxcache.DiskCacheWarning, match="quarantine"):
        assert first_call(polynomial, (array(3),))[1] == 1
    assert first_call(polynomial, (array(3),))[1] == 0


def test_an_entry_that_cannot_be_loaded_is_traced(shared):
    _, _, jitted = first_call(polynomial, (array(3),))
    dispatcher = jitted._jaxcache
    key = dispatcher.key_of((array(3),), {})
    entry = program_key(polynomial, "polynomial", {}, key).entry
    header = {"hash": "", "size_bytes": 1, "mappings": 1, "constants_bytes": 0}
    put_program(shared, entry, json.dumps(header).encode() + b"\nno pickle", 1.0)
    result, lowered, jitted = first_call(polynomial, (array(3),))
    assert lowered == 1
    np.testing.assert_array_equal(result, jax.jit(polynomial)(array(3)))


def test_a_function_can_be_warmed_from_descriptions(shared):
    described = jax.ShapeDtypeStruct((3,), np.float32)
    assert JitCache().jit(polynomial, code_key=True).warm(described) == 1
    cache = JitCache()
    jitted = cache.jit(polynomial, code_key=True)
    before = len(_lowered)
    assert jitted.warm(described) == 1
    jitted(array(3))
    assert len(_lowered) == before
    assert cache.stats().disk_hits == 1


def test_a_recording_has_loaded_programs_too(shared, tmp_path):
    first_call(polynomial, (array(3),))
    with JitCache(record=tmp_path / "trace.npz") as cache:
        jitted = cache.jit(polynomial, code_key=True)
        before = len(_lowered)
        for _ in range(3):
            jitted(array(3))
        assert len(_lowered) == before
    assert cache.stats().disk_hits == 1


def test_loaded_programs_live_through_clear_caches(shared):
    first_call(polynomial, (array(3),))
    result, _, jitted = first_call(polynomial, (array(3),))
    jax.clear_caches()
    np.testing.assert_array_equal(jitted(array(3)), result)


@pytest.mark.parametrize(("options", "words"), [({"verify": 2}, "verify must be"), ({"key": len}, "key must be None")])
def test_bad_arguments_are_refused_at_once(options, words):
    with pytest.raises(ValueError, match=words):
        JitCache().jit(polynomial, code_key=True, **options)


def test_it_works_as_a_decorator_and_on_methods(shared):
    for _ in range(2):
        cache = JitCache()

        class Model:
            def __init__(self, scale):
                self.scale = scale

            @cache.jit(code_key=True, static_argnums=0)
            def apply(self, x):
                return x * self.scale

        np.testing.assert_array_equal(Model(2.0).apply(array(3)), 2 * array(3))
        np.testing.assert_array_equal(Model(3.0).apply(array(3)), 3 * array(3))
    assert cache.stats().disk_hits == 2
