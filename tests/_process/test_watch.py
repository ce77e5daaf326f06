"""watch tells of every compile of the process: of what, where, why and how long; its page says what to change."""

import collections
import functools
import importlib.util
import inspect
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import JitCache, watch
from jaxcache._process.bucket_replay import replay_buckets
from jaxcache._process.compile_groups import answer, group_compiles, summary

from .._support.compiles import count_compiles

X = np.ones(3, np.float32)


def scalar_changes_type(jit):
    f = jit(lambda x, s: x * s)
    f(X, 1)
    f(X, 1.0)


def static_argument_varies(jit):
    f = jit(lambda x, n: x * n, static_argnums=1)
    f(X, 1)
    f(X, 2)


def fresh_lambda(jit):
    for _ in range(2):
        jit(lambda x: x + 1)(X)


def fresh_partial(jit):
    def add(k, x):
        return x + k

    for _ in range(2):
        jit(functools.partial(add, 1.0))(X)


def new_tree(jit):
    f = jit(lambda tree: tree["a"])
    f({"a": X})
    f({"a": X, "b": X})


def order_of_keys(jit):
    f = jit(lambda tree: tree["a"] - tree["b"])
    f(collections.OrderedDict(a=X, b=X))
    f(collections.OrderedDict(b=X, a=X))


def weak_type(jit):
    f = jit(lambda x: x * 2)
    f(np.float32(2))
    f(2.0)


def dtype_of_numpy(jit):
    f = jit(lambda x: x * 2)
    f(X)
    f(X.astype(np.int16))


def x64_toggled(jit):
    f = jit(lambda x: x * 2)
    f(X)
    with jax.enable_x64(True):
        f(X)


def moved(jit):
    f = jit(lambda x: x * 2)
    f(X)
    f(jax.device_put(X, jax.devices()[0]))


def captured_array_changes(jit):
    for n in range(2):
        array = np.full(3, n, np.float32)
        jit(lambda x, array=array: x + array)(X)


def shapes_from_data(jit):
    f = jit(lambda x: x.sum())
    f(np.ones(5, np.float32))
    f(np.ones(9, np.float32))


PLANTED = {
    scalar_changes_type: ("new_dtype", "s: was int32, is float32"),
    static_argument_varies: ("static_value", "was 1, is 2"),
    fresh_lambda: ("function_recreated", "created again"),
    fresh_partial: ("function_recreated", "created again"),
    new_tree: ("tree_structure", "tree['b']"),
    order_of_keys: ("static_metadata", "was 'a', is 'b'"),
    weak_type: ("weak_type", "was strong, is weak"),
    dtype_of_numpy: ("new_dtype", "was float32, is int16"),
    x64_toggled: ("config_context", "x64: was False, is True"),
    moved: ("device_or_sharding", "x: was "),
    captured_array_changes: ("function_recreated", "array"),
    shapes_from_data: ("new_shape", "was 5, is 9"),
}


@pytest.mark.parametrize("plain", [True, False], ids=["jax", "cache"])
@pytest.mark.parametrize("program", PLANTED, ids=lambda program: program.__name__)
def test_planted_causes_are_named_with_the_lines_of_function_and_call(program, plain):
    lines, first = inspect.getsourcelines(program)
    with watch() as watched:
        program(jax.jit if plain else JitCache().jit)
    record = watched.compiles[-1]
    cause, words = PLANTED[program]
    assert record.cause == cause
    assert words in record.reason
    assert record.way_out
    for place in (record.place, record.call_site):
        file, _, line = place.rpartition(":")
        assert file.endswith("test_watch.py")
        assert first <= int(line) < first + len(lines)


def loss(x):
    return (x * x).sum()


@pytest.mark.parametrize("plain", [True, False], ids=["jax", "cache"])
def test_a_function_and_its_derivative_are_two_functions_each_of_which_may_be_made_again(plain):
    jit = jax.jit if plain else JitCache().jit
    with watch() as watched:
        for _ in range(2):
            jit(loss)(X)
            jit(jax.grad(loss))(X)
            jit(jax.value_and_grad(loss))(X)
    causes = [record.cause for record in watched.compiles if record.function == "loss"]
    assert causes[:3] == ["first_call"] * 3
    assert set(causes[3:]) <= {"function_recreated"}  # JAX itself knows some of them again


def test_an_operation_with_other_parameters_is_not_one_that_was_forgotten():
    with watch() as watched:
        jnp.full(237, 1.5)
        jnp.full(238, 1.5)
    assert [record.cause for record in watched.compiles][-1] == "eager"
    assert "forgotten" not in " ".join(record.reason for record in watched.compiles)


def test_a_first_call_within_a_transformation_has_no_shape_that_nobody_passed():
    f = jax.jit(lambda x: x * 3.5)
    with watch() as watched:
        f(np.ones((4, 5), np.float32))
        jax.vmap(f)(np.ones((4, 5), np.float32))
    assert [record.cause for record in watched.compiles if "lambda" in record.function] == ["first_call"] * 2


MAPPED = {"jax": jax.jit(lambda x: x @ x + 1), "cache": JitCache().jit(lambda x: x @ x + 2)}
MAPPED_LINE = inspect.currentframe().f_lineno - 1


@pytest.mark.parametrize("f", MAPPED.values(), ids=MAPPED)
def test_what_a_transformation_asks_for_is_neither_forgotten_nor_made_again(f):
    with watch() as watched:
        for rows in (2, 3):
            jax.vmap(f)(np.ones((rows, 3), np.float32))
        jax.grad(f)(X)
    assert [record.cause for record in watched.compiles][:2] == ["first_call", "other"]
    assert not {record.cause for record in watched.compiles} & {"forgotten", "function_recreated"}
    assert "within a transformation" in watched.compiles[1].reason
    assert {record.place.rpartition("/")[2] for record in watched.compiles} - {""} == {f"test_watch.py:{MAPPED_LINE}"}


def test_rows_are_what_xla_compiles_whoever_asks():
    f, g = jax.jit(lambda x: x - 1), JitCache().jit(lambda x: x - 2)
    f(X)
    x = jnp.ones(231)
    with count_compiles() as compiled, watch() as watched:
        f(X)  # known
        f(x)
        g(x)
        jnp.arcsinh(x)
        jax.jit(lambda y: y - 3).lower(x).compile()
        thread = threading.Thread(target=lambda: f(np.ones((1, 1))), name="mine")
        thread.start()
        thread.join()
    assert len(watched.compiles) == compiled[0] == 5
    causes = [record.cause for record in watched.compiles]
    assert causes == ["first_call", "first_call", "eager", "other", "new_shape"]
    assert [record.thread for record in watched.compiles][-1] == "mine"
    for record in watched.compiles:
        assert record.tier == "compiled"
        assert record.compile_seconds > 0 == record.load_seconds
        assert record.tracing_seconds + record.lowering_seconds > 0
        assert record.size_bytes > 172 * 1024
        assert 0 <= record.started_seconds <= watched.seconds
    assert sum(record.seconds for record in watched.compiles) <= watched.seconds
    f(np.ones(77))
    assert len(watched.compiles) == 5  # it has ended


def test_seconds_of_operations_within_a_function_are_counted_once():
    def f(x):
        with jax.ensure_compile_time_eval():
            y = jnp.cumsum(jnp.ones(233))
        return x + y[-1]

    with watch() as watched:
        jax.jit(f)(X)
    assert len(watched.compiles) > 1
    assert sum(record.seconds for record in watched.compiles) <= watched.seconds


def test_what_is_traced_alone_is_told_apart():
    with watch() as watched:
        jax.eval_shape(jax.jit(lambda x: jnp.sin(x)), X)
        jax.jit(lambda x: jnp.cos(x)).trace(X)
    assert list(watched.compiles) == []
    assert [record.tier for record in watched.traced] == ["traced", "traced"][: len(watched.traced)]
    assert watched.traced[0].call_site.rpartition(":")[0].endswith("test_watch.py")


def test_programs_of_a_shared_directory_are_loaded(tmp_path):
    with jaxcache.use_directory(tmp_path / "shared"):
        jax.jit(lambda x: jnp.tanh(x) * 5)(X)
        with watch() as watched:
            jax.jit(lambda x: jnp.tanh(x) * 5)(X)
    (record,) = watched.compiles
    assert (record.tier, record.compile_seconds) == ("loaded", 0)
    assert record.load_seconds > 0


def test_programs_compiled_in_threads_have_the_line_that_asked_for_them_or_that_of_the_function():
    def double(x):
        return x * 2

    line = double.__code__.co_firstlineno
    cached, plain = JitCache().jit(double), jax.jit(double)
    with watch() as watched:
        cached.warm(*(jax.ShapeDtypeStruct((n,), np.float32) for n in (3, 4)))
        with ThreadPoolExecutor() as pool:
            list(pool.map(plain, [X]))
    sites = [record.call_site.partition("test_watch.py:")[2] for record in watched.compiles]
    assert sites == [str(line + 6), str(line + 6), str(line)]


def test_the_lines_of_installed_libraries_are_not_the_users_wherever_they_were_installed(tmp_path, monkeypatch):
    (tmp_path / "library_of_others.py").write_text("def call(f, x):\n    return f(x)\n")
    (tmp_path / "library_of_others-1.0.dist-info").mkdir()
    own = importlib.util.spec_from_file_location("library_of_others", tmp_path / "library_of_others.py")
    library = importlib.util.module_from_spec(own)
    own.loader.exec_module(library)
    with watch() as watched:
        library.call(jax.jit(lambda x: x * 17), X)
        monkeypatch.syspath_prepend(tmp_path)
        library.call(jax.jit(lambda x: x * 17), X)
    assert ["library_of_others.py:" in record.call_site for record in watched.compiles] == [True, False]
    assert "test_watch.py:" in watched.compiles[-1].call_site


def test_the_present_folder_may_be_removed(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with watch() as watched:
        jax.jit(lambda x: x * 18)(X)
    assert watched.compiles[-1].call_site.startswith(__file__)


def test_a_watch_may_begin_again_and_others_go_on():
    f = jax.jit(lambda x: x * 11)
    with watch() as outer:
        inner = watch()
        for n in (1, 2):
            with inner:
                f(np.ones(n))
            assert len(inner.compiles) == 1
    assert len(outer.compiles) == 2


def test_the_page_has_the_answer_first_and_nothing_from_elsewhere(tmp_path):
    with watch() as watched:
        for program in PLANTED:
            program(jax.jit)
        jax.jit(lambda x: x * 1, static_argnums=())(np.ones(2))
    path = tmp_path / "compiles.html"
    watched.write(path)
    page = path.read_text()
    first = re.search(r"<body>\s*<h1>(.*?)</h1>", page)[1]
    assert re.fullmatch(r"\d+% of [\d.]+ s went into compiling \d+ programs; three changes would spare .* s\.", first)
    assert not re.search(r"https?:|src=|@import|<script", page)
    assert "&lt;lambda&gt;" in page
    assert "<lambda>" not in page
    assert page.count("<rect") == len(watched.compiles)


def test_buckets_are_replayed_for_a_function_whose_programs_differ_in_one_length(tmp_path):
    f, g = jax.jit(lambda x, y: (x * y).sum()), jax.jit(lambda x: x.sum())
    lengths = (40, 100, 90, 50, 60, 31)
    with watch() as watched:
        for n in lengths:
            f(np.ones((3, n), np.float32), np.ones((3, n), np.float32))
            g(np.ones((n, n + 1), np.float32))  # two lengths
    (replay,) = replay_buckets(watched.compiles)
    mine = {n: record.seconds for n, record in zip(lengths, watched.compiles[::2], strict=True)}
    assert re.fullmatch(r"<lambda>\(float32\[3,n\], float32\[3,n\]\)", replay.signature)
    assert replay.programs == 6
    assert replay.buckets == (60, 100)  # the fewest with at most half of the elements added: one would add 62 %
    assert replay.padding == pytest.approx((4 * 60 + 2 * 100) / sum(lengths) - 1)
    assert replay.spared_seconds == pytest.approx(sum(mine.values()) - mine[60] - mine[100])
    watched.write(tmp_path / "page.html")
    assert "buckets=(60, 100)" in (tmp_path / "page.html").read_text()


def test_the_page_of_nothing_says_so(tmp_path):
    with watch() as watched:
        pass
    watched.write(tmp_path / "page.html")
    assert "Nothing was compiled in 0.0 s." in (tmp_path / "page.html").read_text()
    assert summary(watched.compiles, watched.traced, watched.seconds) == ["Nothing was compiled in 0.0 s."]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        watch().write(tmp_path / "missing" / "page.html")


def test_groups_have_the_seconds_of_their_programs_and_storms_are_seen():
    f = jax.jit(lambda x: x * 13)
    with watch() as watched:
        for n in range(1, 32):
            f(np.ones(n))
    groups = group_compiles(watched.compiles)
    assert sum(group.seconds for group in groups) == pytest.approx(sum(one.seconds for one in watched.compiles))
    assert [(group.cause, group.is_storm) for group in groups] == [("new_shape", True), ("first_call", False)]
    assert "one change would spare" in answer(watched.compiles, [], 10.0)
    none = {"tracing_seconds": 0.0, "lowering_seconds": 0.0, "compile_seconds": 0.0}
    quick = [replace(record, **none, load_seconds=0.001, tier="loaded") for record in watched.compiles]
    said = "0% of 10.0 s went into loading 31 programs; one change would spare less than 0.1 s."
    assert answer(quick, [], 10.0) == said
