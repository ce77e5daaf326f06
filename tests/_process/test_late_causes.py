"""Causes are found when somebody asks, and are those of the time of the compile."""

import collections
import functools
import gc
import threading
import weakref

import jax
import numpy as np
import pytest

from jaxcache import no_compiles, watch
from jaxcache._cache.entries import FunctionRecord
from jaxcache._process import causes, seen_calls
from jaxcache._process.causes import CompileCauses

from .._support.interpreters import run_python
from .._support.trees import Own

X = np.ones(3, np.float32)
Point = collections.namedtuple("Point", "x y")


@pytest.fixture
def described(monkeypatch):
    """Names of the functions whose calls were described so far."""
    names = []

    def describe_call(name, *rest):
        names.append(name)
        return describe(name, *rest)

    describe = seen_calls.describe_call
    monkeypatch.setattr(seen_calls, "describe_call", describe_call)
    return names


def rows(watched):
    return [(record.call, record.cause, record.reason, record.way_out) for record in watched.compiles]


def program():
    """Compile for calls of many kinds, some of functions that come and go, and some for the second time."""
    f = jax.jit(lambda tree, *rest, **named: rest[0] * 2)
    for tree in ({"a": X}, {"a": X, "b": None}, [X, (X,)], Point(X, X), Point(X, [X]), X):
        f(tree, X)
        f(tree, X, X.astype(np.int16), scale=X)
    g = jax.jit(lambda x, n, *, kind: x * n, static_argnums=-1, static_argnames="kind")
    for n, kind in ((1, "a"), (2, "a"), (2, ("b", None)), (True, "a")):
        g(X, n, kind=kind)
    h = jax.jit(lambda x: x * 3)
    h(X)
    h(X.astype(np.int16))
    h(jax.device_put(X, jax.devices()[0]))
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        h(np.ones(3))
    for n in range(3):
        jax.jit(lambda x, n=n: x + n)(X)
    jax.grad(lambda x: h(x).sum())(X)
    jax.numpy.arctan(X) + 1
    jax.clear_caches()
    h(X)


def test_causes_that_are_found_late_are_those_that_are_found_at_once(monkeypatch):
    rows_of = {}
    for most in (0, 5, 1000):
        monkeypatch.setattr(causes, "_MOST_LATER", most)
        monkeypatch.setattr(causes, "_causes", CompileCauses())
        jax.clear_caches()
        with watch() as watched:
            program()
        rows_of[most] = rows(watched)
    assert rows_of[0] == rows_of[5] == rows_of[1000]
    assert {row[1] for row in rows_of[0]} >= {
        "first_call", "tree_structure", "new_dtype", "static_value", "device_or_sharding", "config_context",
        "function_recreated", "eager", "forgotten",
    }  # fmt: skip


def test_a_call_is_described_when_somebody_asks_and_once(described):
    f = jax.jit(lambda x: x * 2)
    with watch() as watched:
        f(X)
        f(np.ones(4, np.float32))
        assert described == []
        assert [record.cause for record in watched.compiles] == ["first_call", "new_shape"]
    assert watched.compiles[0] is watched.compiles[0]
    assert len(described) == 2


def test_nothing_is_left_to_find_when_the_last_watch_ends(described):
    with watch():
        with watch():
            jax.jit(lambda x: x * 2)(X)
        assert described == []
    assert described == ["<lambda>"]


def test_causes_are_found_before_too_many_are_not_known(described, monkeypatch):
    monkeypatch.setattr(causes, "_MOST_LATER", 10)
    f = jax.jit(lambda x: x * 2)
    with watch(), no_compiles(allow=1000):
        for n in range(1, 40):
            f(np.ones(n))
            assert n - len(described) <= 10


class Settings:
    """Static value that is compared by identity, and shown as what it holds at the time."""

    def __init__(self, depth):
        self.depth = depth

    def __repr__(self):
        return f"Settings({self.depth})"


@pytest.mark.parametrize("kind", ["static_argument", "static_data", "order_of_keys"])
def test_values_that_change_after_the_compile_do_not_change_the_words(kind):
    first, second = Settings(1), Settings(2)
    with watch() as watched:
        if kind == "static_argument":
            f = jax.jit(lambda x, settings: x, static_argnums=1)
            f(X, first), f(X, second)
        elif kind == "static_data":
            f = jax.jit(lambda model: model.w)
            f(Own(X, first)), f(Own(X, second))
        else:
            first, second = [X, {"a": X}], [X, {"b": X}]
            f = jax.jit(lambda tree: tree[0])
            f(first), f(second)
            first[1], second[1] = X, {"c": X, "d": X}
        if isinstance(first, Settings):
            first.depth, second.depth = 30, 40
    before, after = ("Settings(1)", "Settings(2)") if kind != "order_of_keys" else ("['a']", "['b']")
    assert before in watched.compiles[1].reason
    assert after in watched.compiles[1].reason


def test_what_a_function_captured_is_compared_as_it_was():
    with watch() as watched:
        for n in range(2):
            captured = [n]
            jax.jit(lambda x, captured=captured: x + captured[0])(X)
            captured[0] = 7
    assert "what it captures differs: captured" in watched.compiles[1].reason


def test_the_lines_of_the_configuration_are_those_of_the_compile():
    f = jax.jit(lambda x: x * 2)
    with watch() as watched:
        f(X)
        with jax.enable_x64(True), jax.default_matmul_precision("float32"):
            f(X)
    assert [record.call for record in watched.compiles] == [
        "<lambda>(float32[3])", "<lambda>(float32[3]) x64 float32",
    ]  # fmt: skip


def test_nothing_of_the_caller_is_kept_alive_by_causes_that_are_not_known_yet(described):
    def compile_once():
        captured = Settings(1)
        function = functools.partial(lambda kept, tree: tree["a"][0] * kept.depth, captured)
        argument = jax.device_put(X)
        jax.jit(function)({"a": [argument]})
        return [weakref.ref(each) for each in (captured, function, argument)]

    with watch() as watched:
        references = compile_once()
        jax.clear_caches()
        gc.collect()
        assert described == []
        assert [reference() for reference in references] == [None, None, None]
        assert watched.compiles[-1].call == "<lambda>(float32[3])"


def test_functions_that_are_gone_are_forgotten():
    def compile_some(watched):
        for n in range(30):
            jax.jit(lambda x, n=n: x + n)(X)
        jax.clear_caches()
        assert len(watched.compiles) >= 30
        gc.collect()
        return sum(isinstance(each, FunctionRecord) for each in gc.get_objects())

    with watch() as watched:
        records = compile_some(watched)
        assert compile_some(watched) <= records


def test_threads_that_compile_and_ask_at_once_get_all_causes():
    f, barrier = jax.jit(lambda x: x * 2), threading.Barrier(3)
    with watch() as watched:

        def compile_and_ask(start):
            barrier.wait()
            for n in range(start, start + 12):
                f(np.ones(n, np.float32))
                assert "other" not in [record.cause for record in watched.compiles]

        threads = [threading.Thread(target=compile_and_ask, args=(100 * k + 1,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = collections.Counter(record.cause for record in watched.compiles)
    assert found.keys() == {"first_call", "new_shape"}
    assert found.total() == 36


HANDLED_BESIDE = """
import faulthandler, itertools, sys, threading
import jax, numpy as np
from jaxcache._calls import identity
from jaxcache._process.causes import begin_causes
from tests._support.handlers import handled_after

faulthandler.dump_traceback_later(100, exit=True)
number, step = map(int, sys.argv[1:])
f = jax.jit(lambda x: x.reshape(1, -1))
described_now = jax.jit(lambda x, value: x.reshape(1, -1), static_argnums=1)  # its value may change
sizes = map(np.ones, itertools.count(2))


def disturbed(calls, causes):
    other = threading.Thread(target=causes.find_out)

    def handle():
        other.start()
        other.join(0.02)  # at most: it may be waiting for this thread
        f(next(sizes))

    def among(frame):
        return frame.f_code.co_filename == identity.__file__

    f(next(sizes))  # whose cause is to be found out
    was_disturbed = handled_after(calls, lambda: described_now(next(sizes), object()), handle, among)
    if was_disturbed:
        other.join()
    return was_disturbed


causes = begin_causes()
while disturbed(number, causes):
    number += 7 * step
print(number)
"""


def test_a_handler_that_comes_while_a_call_is_described_waits_for_nobody_who_finds_causes(points):
    first, second = next(points), next(points)
    done = run_python(HANDLED_BESIDE, first, second - first)
    assert int(done.stdout or 0) > 50, done.stderr
