"""Functions that are made and wrapped again and again: noticed, whatever they capture and however they are named."""

import functools
import gc
import importlib.util
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache, MissStormWarning, suggest
from jaxcache._cache.stats import MOST_NAMES, CountsByName
from jaxcache._calls.captured import captured_values, differing

x3 = np.ones(3, np.float32)


def causes_of(cache):
    return dict(cache.stats().misses_by_cause)


def last(cache):
    return cache.stats().recent_misses[-1]


# What is captured.


def closure_of_arrays(n):
    robot = np.full(3, n, np.float32)
    return lambda x: x * robot


def closure_of_jax_arrays(n):
    robot = jnp.full(3, n, jnp.float32)
    return lambda x: x * robot


def closure_of_large_arrays(n):
    robot = np.full(600_000, n, np.float32)
    return lambda x: x * robot[:3]


def default_argument(n):
    robot = np.full(3, n, np.float32)

    def solve(x, robot=robot):
        return x * robot

    return solve


def keyword_default(n):
    robot = np.full(3, n, np.float32)

    def solve(x, *, robot=robot):
        return x * robot

    return solve


def scale(robot, x):
    return x * robot


def partial_argument(n):
    return functools.partial(scale, np.full(3, n, np.float32))


def partial_keyword(n):
    return functools.partial(lambda x, robot: x * robot, robot=np.full(3, n, np.float32))


class Robot:
    def __init__(self, n):
        self.robot = np.full(3, n, np.float32)

    def step(self, x):
        return x * self.robot

    def __call__(self, x):
        return x * self.robot


class Arm(NamedTuple):
    mass: np.ndarray


@dataclass
class Config:
    mass: np.ndarray


def closure_of_an_object(n):
    robot = Config(np.full(3, n, np.float32))
    return lambda x: x * robot.mass


def closure_of_a_tuple(n):
    robot = Arm(np.full(3, n, np.float32))
    return lambda x: x * robot.mass


def closure_of_a_dict(n):
    robot = {"mass": [np.full(3, n, np.float32)]}
    return lambda x: x * robot["mass"][0]


def closure_of_a_number(n):
    robot = n
    return lambda x: x * robot


def closure_of_a_closure(n):
    robot = np.full(3, n, np.float32)

    def inner(x):
        return x * robot

    return lambda x: inner(x) + 0


def wrapped_closure(n):
    inner = closure_of_arrays(n)

    @functools.wraps(inner)
    def outer(*args):
        return inner(*args)

    return outer


def global_variable(n):
    namespace = {"robot": np.full(3, n, np.float32)}
    exec("def solve(x):\n    return x * robot", namespace)
    return namespace["solve"]


FACTORIES = [
    closure_of_arrays, closure_of_jax_arrays, closure_of_large_arrays, default_argument, keyword_default,
    partial_argument, partial_keyword, lambda n: Robot(n).step, Robot, closure_of_an_object, closure_of_a_tuple,
    closure_of_a_dict, closure_of_a_number, closure_of_a_closure, wrapped_closure, global_variable,
]  # fmt: skip
factories = pytest.mark.parametrize("make", FACTORIES, ids=lambda make: make.__name__)


@factories
def test_captured_values_that_differ_are_named_to_be_passed_as_arguments(make):
    cache = JitCache()
    results = [cache.jit(make(n))(x3).tolist() for n in (2, 3)]
    assert results == [[2.0] * 3, [3.0] * 3]
    miss = last(cache)
    assert miss.cause == "function_recreated"
    assert "robot" in miss.reason
    assert "robot" in miss.way_out
    assert "as arguments" in miss.way_out
    assert not miss.way_out.startswith("wrap the function once")
    (function,) = cache.stats().by_function.values()
    assert len(function.captured) == 1


@factories
def test_captured_values_that_are_the_same_let_the_function_be_wrapped_once(make):
    cache = JitCache()
    if make is closure_of_large_arrays:  # equal only if it is the same array: it is not read
        robot = np.ones(600_000, np.float32)

        def make(n):
            return lambda x: x * robot[:3]

    for _ in range(2):
        cache.jit(make(2))(x3)
    assert (last(cache).cause, last(cache).captured) == ("function_recreated", ())
    assert last(cache).way_out == "wrap the function once, outside of the loop that calls it"


def test_values_that_take_turns_are_named_each_time():
    cache = JitCache()
    for n in (1, 2, 1, 2, 1):
        cache.jit(closure_of_arrays(n))(x3)
    assert [miss.captured for miss in cache.stats().recent_misses[1:]] == [("robot",)] * 4


def test_an_array_changed_in_place_is_seen_and_an_address_used_again_is_not_taken_for_the_same():
    robot = np.ones(3, np.float32)
    before = captured_values(lambda x: x * robot)
    robot[0] = 5
    assert differing(before, captured_values(lambda x: x * robot)) == ("robot",)

    def of_large():
        robot = np.zeros(600_000, np.float32)  # freed at the end; the next one may lie where it was
        return captured_values(lambda x: x * robot)

    assert differing(of_large(), of_large()) == ("robot",)


def test_nothing_captured_is_kept_alive():
    import weakref

    cache = JitCache()
    robot = jnp.full(3, 2.0)
    gone = weakref.ref(robot)
    for _ in range(2):
        cache.jit(lambda x, robot=robot: x * robot)(x3)
    del robot
    gc.collect()
    cache.stats()
    assert gone() is None


def test_an_array_that_is_not_computed_yet_is_not_waited_for():
    square = jnp.ones((300, 300), jnp.float32)
    pending = jax.jit(lambda x: jax.lax.fori_loop(0, 500, lambda _, product: product @ x / 300, x))(square)
    assert not pending.is_ready()
    captured_values(lambda x: x * pending)
    assert not pending.is_ready()


def test_a_decorator_that_captures_what_it_decorates_makes_other_programs():
    cache = JitCache()

    def logged(fun):
        def wrapper(x):
            return fun(x)

        return cache.jit(wrapper)

    logged(lambda x: x + 1)(x3)
    logged(lambda x: x * 2)(x3)
    assert causes_of(cache) == {"first_call": 2}


def test_objects_that_cannot_be_looked_into_are_no_fault():
    class Slotted:
        __slots__ = ("mass",)

        def __init__(self, mass):
            self.mass = mass

    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError("none of your business")

        @property
        def __dict__(self):
            raise RuntimeError("none of your business")

        def __eq__(self, other):
            raise RuntimeError("none of your business")

        __hash__ = None

    loop = []
    loop.append(loop)
    cache = JitCache()
    for n in range(2):
        slotted, hostile, itself, donated = Slotted(float(n)), Hostile(), loop, jnp.ones(3)
        donated.delete()

        def solve(x, slotted=slotted, hostile=hostile, itself=itself, donated=donated):
            return x * slotted.mass

        assert cache.jit(lambda x, solve=solve: solve(x))(x3).tolist() == [float(n)] * 3
    assert last(cache).cause == "function_recreated"


# Shapes and names.


def test_functions_wrapped_anew_for_each_new_shape_are_recreated_and_make_a_storm():
    cache = JitCache()

    def call(n):  # in no comprehension, which lends functions its name in Python 3.11
        cache.jit(lambda x: x + 1)(np.ones(n, np.float32))

    with pytest.warns(MissStormWarning, match="function recreated.*called with other arguments before"):
        [call(n) for n in range(1, 41)]
    assert causes_of(cache) == {"first_call": 1, "function_recreated": 39}
    stats = cache.stats()
    each = {cause: 1.0 * count for cause, count in stats.misses_by_cause.items()}
    slow = replace(stats.by_function["<lambda>"], seconds_by_cause=each, compile_seconds=40.0)
    found = suggest(replace(stats, by_function={"<lambda>": slow}, compile_seconds=40.0))[0]
    assert (
        "wrap the function once, outside of the loop that calls it; then call it with fewer signatures" in found.title
    )
    assert found.effect == "at most 39.0 of 40.0 compile seconds saved"  # wrapping alone spares nothing here


def under_a_generated_name(n):
    def step(x):
        return x + 1

    step.__name__ = step.__qualname__ = f"step_{n}"
    return step


def from_generated_source(n):
    namespace = {}
    exec(f"def step_{n}(x):\n    return x + 1", namespace)
    return namespace[f"step_{n}"]


def from_a_generated_cell(n):
    namespace = {}
    exec(compile(f"\n{'#' * n}\ndef step_{n}(x):\n    return x + 1", f"<cell {n}>", "exec"), namespace)
    return namespace[f"step_{n}"]


def from_eval(n):
    step = eval("lambda x: x + 1")
    step.__qualname__ = f"step_{n}"
    return step


@pytest.mark.parametrize(
    "make", [under_a_generated_name, from_generated_source, from_a_generated_cell, from_eval], ids=lambda m: m.__name__
)
@pytest.mark.parametrize("kept", [True, False])
def test_generated_names_are_one_source_with_a_storm_and_few_names(make, kept):
    cache, functions = JitCache(), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 41):
            function = cache.jit(make(n))
            assert function(x3).tolist() == [2, 2, 2]
            functions += [function] if kept else []
    stats = cache.stats()
    assert [one.category for one in caught] == [MissStormWarning]
    assert "function recreated" in str(caught[0].message)
    assert causes_of(cache) == {"first_call": 1, "function_recreated": 39}
    assert len(stats.by_function) <= 16
    assert sum(one.misses for one in stats.by_function.values()) == stats.misses == 40


def test_the_same_code_in_two_places_of_a_file_is_two_functions():
    cache = JitCache()
    first = cache.jit(lambda x: x + 1)
    second = cache.jit(lambda x: x + 1)
    first(x3), second(x3)
    assert causes_of(cache) == {"first_call": 2}


def test_one_function_with_other_options_is_not_recreated():
    cache = JitCache()

    def solve(x, n):
        return x * n

    cache.jit(solve)(x3, 2), cache.jit(solve, static_argnums=1)(x3, 2), cache.jit(solve)(x3, 2)
    assert causes_of(cache) == {"first_call": 2}


def test_counts_of_any_number_of_names_are_under_a_bounded_number():
    cache, made = JitCache(), []
    for n in range(MOST_NAMES + 200):
        namespace = {}
        exec(f"def step_{n}(x):\n    return x + {n}", namespace)  # another program each
        made.append(cache.jit(namespace[f"step_{n}"], key=lambda x: 0))
    state = cache._state
    for number, function in enumerate(made):
        state.count_bypass(function._jaxcache.function)
        assert number >= 40 or function(x3) is not None
    stats = cache.stats()
    assert len(stats.by_function) == MOST_NAMES + 1
    assert stats.by_function["(other functions)"].bypassed == 200
    assert sum(one.bypassed for one in stats.by_function.values()) == stats.bypassed == MOST_NAMES + 200
    assert sum(one.hits + one.misses for one in stats.by_function.values()) == 40


def test_what_is_kept_of_sources_and_storms_is_bounded():
    cache = JitCache()
    for n in range(1200):
        namespace = {}
        exec(f"def step_{n}(x):\n    return x + {n}", namespace)
        cache.jit(namespace[f"step_{n}"])
    assert len(cache._state._sources._sources) <= 1024
    counts = CountsByName()
    assert {id(counts.of(str(n))) for n in range(5000)} == {id(counts.of(str(n))) for n in range(MOST_NAMES + 1)}


# Libraries.


def library(tmp_path, text):
    path = tmp_path / "site-packages" / "robotics" / "solver.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("robotics_solver", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text",
    ["def solve(jit, robot, x):\n    return jit(lambda x: x * robot)(x)",
     "def solve(jit, robot, x):\n    def run(fun):\n        return jit(fun)(x)\n    return run(lambda x: x * robot)"],
)  # fmt: skip
def test_a_library_that_wraps_at_each_call_is_named_with_what_its_user_can_do(tmp_path, text):
    module, cache = library(tmp_path, text), JitCache()
    for n in range(2):
        module.solve(cache.jit, np.full(3, n, np.float32), x3)
    assert last(cache).library == "robotics"
    assert "call robotics from a function of your own that is wrapped once" in last(cache).way_out
    assert "pass robot as arguments" in last(cache).way_out


def test_what_is_said_of_a_library_helps(tmp_path):
    module, cache = library(tmp_path, "def solve(jit, robot, x):\n    return jit(lambda x: x * robot)(x)"), JitCache()
    own = cache.jit(lambda robot, x: module.solve(cache.jit, robot, x))
    for n in range(3):
        assert own(np.full(3, n, np.float32), x3).tolist() == [n] * 3
    assert cache.stats().compiled == 1


def test_a_function_of_the_users_wrapped_in_a_library_is_the_librarys(tmp_path):
    module, cache = library(tmp_path, "def run(jit, fun, x):\n    return jit(fun)(x)"), JitCache()
    for _ in range(2):
        module.run(cache.jit, lambda x: x + 1, x3)
    assert last(cache).library == "robotics"


def test_a_storm_of_captured_values_says_to_pass_them():
    cache = JitCache()
    with pytest.warns(MissStormWarning, match="Way out: pass robot as arguments"):
        [cache.jit(closure_of_a_number(n))(x3) for n in range(31)]


def test_slow_compiles_make_a_storm_too():
    from jaxcache._calls.misses import STORM_MISSES, STORM_SECONDS, Miss, StormWatch

    now = [0.0]
    watch = StormWatch(lambda: now[0])
    each, warnings_of = 2 * STORM_SECONDS / STORM_MISSES, []
    for _ in range(STORM_MISSES):
        now[0] += each
        warnings_of.append(watch.record("f", "", Miss("f()", "new_shape", "why"), seconds=each))
    assert [bool(one) for one in warnings_of] == [False] * (STORM_MISSES - 1) + [True]


def test_no_names_of_one_source_are_lost_while_they_are_few():
    cache = JitCache()
    for n in range(3):
        cache.jit(under_a_generated_name(n))(x3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(cache.stats().by_function) == {"step_0", "step_1", "step_2"}
