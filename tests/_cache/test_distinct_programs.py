"""Programs that differ in what their text does not say: told apart live, in recordings, in prices and in weights."""

import dataclasses
import functools
import operator
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import register_dataclass

from jaxcache import POLICIES, Cost, CostTable, JitCache, Trace, replay
from jaxcache._cache.executable import Program
from jaxcache._replay.decisions import HIT
from jaxcache._replay.trace import Event

from .._support.compiles import count_compiles
from .._support.trees import Own

X = np.ones(3, np.float32)


@functools.partial(register_dataclass, data_fields=["w"], meta_fields=["depth", "name"])
@dataclasses.dataclass
class Model:
    w: object
    depth: object
    name: object = "m"


class Restless:
    """A value whose repr changes with every look, and whose hash says little."""

    looks = 0

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Restless) and self.number == other.number

    def __hash__(self):
        return self.number % 2

    def __repr__(self):
        Restless.looks += 1
        return f"look {Restless.looks}"


class Lines:
    """Has a repr of several lines."""

    def __init__(self, depth):
        self.depth = depth

    def __repr__(self):
        return f"Lines(\n    depth={self.depth}\n)"


def graph(layers, act=jnp.sinh):
    """Return a module's attributes as the graphs of ``flax.nnx`` hold them: in pairs, its layers' after its own."""
    of_layers = [pair for _ in range(layers) for pair in (("kernel", ("param", {"sharded": False})), ("bias", True))]
    return (("act", act), ("depth", layers), (0, None), *of_layers)


def apply(m, x):
    return x * jax.tree_util.tree_leaves(m)[0]


def deep(m, x):
    for _ in range(m.depth):
        x = jnp.tanh(x * m.w)
    return x


def test_models_of_other_metadata_are_new_and_not_evicted():
    cache = JitCache("1MiB")
    f = cache.jit(apply)
    with count_compiles() as compiled:
        for depth in range(20):
            f(Model(X, depth), X)
    assert compiled == [20]
    stats = cache.stats()
    assert stats.misses_by_cause == {"first_call": 1, "static_metadata": 19}
    assert stats.recent_misses[-1].reason == "static metadata: m.depth: was 18, is 19"
    assert str(cache.explain(f, Model(X, 99), X)).endswith("misses: static metadata: m.depth: was 19, is 99")
    evicted = cache.explain(f, Model(X, 0), X).miss
    assert evicted.cause == "evicted"
    assert evicted.reason.endswith("to make room for another apply(float32[3], float32[3])")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (Model(X, 3), Model(X, 4), r"m.depth: was 3, is 4"),
        (Model(X, 3), Model(X, 3, ("a", 1)), r"m.name: was 'm', is \('a', 1\)"),
        (Model(X, {"n": (1, 2)}), Model(X, {"n": (1, 3)}), r"m.depth\['n'\]\[1\]: was 2, is 3"),
        (Model(X, Restless(1)), Model(X, Restless(3)), r"m.depth: was look \d+, is look \d+"),
        (Model(X, jnp.tanh), Model(X, jnp.sinh), r"m.depth: was tanh, is sinh"),
        (Own(X, 3), Own(X, 4), r"m \(static data\): was 3, is 4"),
        (Own(X, ("relu", 2)), Own(X, ("relu", 3)), r"m \(static data\)\[1\]: was 2, is 3"),
        (Model(X, 3), Own(X, 3), r"m: was Model, is Own"),
        ({"a": X}, {"b": X}, r"^tree structure: was 2 arrays \(with m\['a'\]\), is 2 arrays \(with m\['b'\]\)$"),
        (Own(X, graph(2)), Own(X, graph(3)), r"m \(static data\)\['depth'\]: was 2, is 3"),
        (Own(X, graph(30, act=jnp.tanh)), Own(X, graph(30)), r"^[^;]* \(static data\)\['act'\]: was tanh, is sinh$"),
        (Own(X, (*graph(2), ("act", 1))), Own(X, (*graph(2), ("act", 2))), r"\['act'\]#2: was 1, is 2$"),
        (Own(X, (("a", 1), ("b", 1))), Own(X, (("b", 1), ("a", 1))), r"order: was 'a', 'b', is 'b', 'a'$"),
        (Own(X, graph(500)), Own(X, graph(500, act=jnp.tanh)), r"^[^;]*\['act'\]: was sinh, is tanh$"),
        (Own(X, graph(500)), Own(X, (*graph(500)[:-1], ("bias", False))), r"^[^;]*\[200:\]: was \[.*, is \[.*$"),
        (Model(X, graph(2), 1), Model(X, graph(9), 2), r"^[^;]*m.depth\['depth'\]: [^;]*; [^;]*m.name: was 1, is 2;"),
        (Own(X, Lines(1)), Own(X, Lines(2)), r": was Lines\( depth=1 \), is Lines\( depth=2 \)$"),
    ],
)  # fmt: skip
def test_what_changed_in_static_metadata_is_named(first, second, words):
    cache = JitCache()
    f = cache.jit(apply)
    f(first, X)
    miss = cache.explain(f, second, X).miss
    assert re.search(words, miss.reason), miss.reason
    assert miss.cause in ("static_metadata", "tree_structure")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((1, (2, 3)), (1, (2, 4)), "fixed[1][1]: was 3, is 4"),
        ((1, 2), (1, 2, 3), "fixed[2]: was not given, is 3"),
        ((jnp.tanh, 2), (jnp.sinh, 2), "fixed[0]: was tanh, is sinh"),
        (frozenset("ab"), frozenset("abc"), "fixed: was frozenset({'a', 'b'}), is frozenset({'a', 'b', 'c'})"),
        (functools.partial(operator.add, 1), functools.partial(operator.add, 2), "was partial(add, 1), is partial("),
        (JitCache().jit(apply), JitCache().jit(deep), "fixed: was apply, is deep"),
    ],
)  # fmt: skip
def test_what_changed_in_a_static_argument_is_named(first, second, words):
    cache = JitCache()
    f = cache.jit(lambda fixed, x: x, static_argnums=0)
    f(first, X)
    miss = cache.explain(f, second, X).miss
    assert miss.cause == "static_value"
    assert words in miss.reason


def test_a_cached_function_as_a_static_argument_is_one_signature_whatever_the_cache_holds(tmp_path):
    with JitCache("1MiB", record=tmp_path / "t") as cache:
        inner = cache.jit(lambda x: x + 1)
        outer = cache.jit(lambda call, x: call(x), static_argnums=0)
        for length in (1, 2, 3, 1, 2, 3, 1):
            outer(inner, np.ones(length, np.float32))
        assert set(cache.stats().misses_by_cause) <= {"first_call", "new_shape", "evicted"}
        assert len(cache.costs()) == 3
    assert len(Trace.load(tmp_path / "t").labels) == 3


@pytest.mark.filterwarnings("ignore:jaxcache")
def test_a_recording_of_models_of_other_metadata_is_replayed_as_it_ran(tmp_path):
    for number, limit in enumerate((None, "1MiB")):
        with JitCache(limit, record=tmp_path / str(number)) as cache:
            f = cache.jit(apply)
            for _ in range(4):
                for depth in range(10):
                    f(Model(X, depth), X)
        live, trace = cache.stats(), Trace.load(tmp_path / str(number))
        predicted = replay(trace, "lru", trace.setting["limit_bytes"])
        assert (predicted.hits, predicted.misses) == (live.hits, live.misses) == ((30, 10), (0, 40))[number]


def test_weights_are_those_of_each_program_itself():
    cache = JitCache()
    f = cache.jit(deep)
    depths = [1] * 5 + [2, 60, 61]
    for number, depth in enumerate(depths):
        f(Model(X, depth, name=number), X)
    alone = [Program(deep, {}, (Model(X, depth), X), {}).compile().weight.size_bytes for depth in sorted(set(depths))]
    weighed = sorted(cost.size_bytes for cost in cache.costs().values())
    assert weighed == pytest.approx(sorted(alone[sorted(set(depths)).index(depth)] for depth in depths), rel=0.02)
    assert cache.stats().live_bytes == sum(weighed)


def test_functions_of_one_name_have_rows_of_their_own():
    def make(times):
        def step(x):
            for _ in range(times):
                x = jnp.sin(x) @ x
            return x

        return step

    square = np.ones((3, 3), np.float32)
    cache, functions = JitCache(), [make(1), make(40)]
    for function in functions:
        cache.jit(function)(square)
    costs = cache.costs()
    assert len(costs) == 2
    assert {name.partition(" #")[0] for name in costs} == {"step(float32[3,3])"}
    light, heavy = sorted(cost.size_bytes for cost in costs.values())
    assert heavy > 1.5 * light
    later = JitCache(costs={name: Cost(cost.size_bytes, cost.size_bytes / 1e6) for name, cost in costs.items()})
    for function in reversed([make(1), make(40)]):  # in another order, as in another process
        later.jit(function)(square)
    assert later.stats().cost_seconds == pytest.approx((light + heavy) / 1e6)


def test_a_row_without_an_identity_is_for_every_signature_of_its_text():
    table = CostTable({"f(float32[3])": Cost(7, 1.0), "f(float32[3]) #00000000000000ff": Cost(9, 2.0)})
    assert table["f(float32[3]) #00000000000000ff"] == table["g() #00000000000000ff"] == Cost(9, 2.0)
    assert table["f(float32[3]) #0000000000000001"] == table["f(float32[3])"] == Cost(7, 1.0)
    assert "f(float32[4]) #0000000000000001" not in table
    assert CostTable({"f() #00000000000000ff": Cost(9, 2.0)})["f()"] == Cost(9, 2.0)
    other = CostTable({"h() #00000000000000ff": Cost(1, 1.0), "f(float32[3]) #0000000000000002": Cost(2, 1.0)})
    assert len(table.merge(other)) == 3


def test_each_signature_of_a_loaded_table_is_found_again(tmp_path):
    def run(costs):
        cache = JitCache(costs=costs)
        f, g = cache.jit(apply), cache.jit(lambda n, x: x, static_argnums=0)
        for number in (1, 2, 3):
            f(Model(X, Restless(number)), X)
            g(frozenset(["a", "b", str(number)]), X)
            g((number, jnp.tanh), X)
        return cache

    first = run(None).costs()
    made_up = CostTable({name: Cost(4096 * (number + 1), 1.0 + number) for number, name in enumerate(first)})
    made_up.save(tmp_path / "costs.json")
    again = run(tmp_path / "costs.json")
    assert {name.rpartition(" #")[2]: cost for name, cost in again.costs().items()} == {
        name.rpartition(" #")[2]: cost for name, cost in made_up.items()
    }


POOL = [
    *(("model", Model(X, depth, name)) for depth in (0, 1) for name in ("a", Restless(1), Restless(3))),
    *(("own", Own(X, static)) for static in (0, -1, -2, ("a", 1))),
    *(("static", value) for value in (1, True, (1, 2), (1, 3), frozenset("ab"), Restless(1), Restless(3), jnp.tanh)),
    *(("name", number) for number in range(3)),
]


def drive(cache, requests):
    """Call what the pool's numbers name, with objects made anew where they are equal to others."""

    def same(x):
        return x + 1

    functions = {"model": cache.jit(apply), "static": cache.jit(lambda n, x: x, static_argnums=0)}
    functions["own"] = functions["model"]
    names = [cache.jit(lambda x, number=number: x + number) for number in range(2)] + [cache.jit(same)]
    for number in requests:
        kind, value = POOL[number]
        if kind == "name":
            names[value](X)
        else:
            again = dataclasses.replace(value) if isinstance(value, Model) else value
            functions[kind](Restless(value.number) if isinstance(value, Restless) else again, X)


@pytest.mark.filterwarnings("ignore:jaxcache")
@pytest.mark.parametrize("policy", sorted(POLICIES))
@settings(max_examples=4)
@given(requests=st.lists(st.integers(0, len(POOL) - 1), min_size=5, max_size=18), entries=st.integers(1, 4))
def test_what_runs_decides_as_the_replay_of_its_recording(policy, requests, entries, tmp_path_factory):
    limit = entries * 300 * 1024
    path = tmp_path_factory.mktemp("recorded") / "t"
    with JitCache(limit, policy, seed=3, record=path) as cache:
        drive(cache, requests)
        live = cache.stats()
    trace = Trace.load(path)
    predicted = replay(trace, policy, limit, seed=3)
    assert len(trace.labels) == len(set(requests))
    assert ((predicted.outcomes == HIT) == (trace.columns["tier"] == "memory")).all()
    assert (predicted.hits, predicted.misses, predicted.evictions) == (live.hits, live.misses, live.evictions)
    counted = Counter(requests)
    asked = trace.signatures[trace.events == Event.REQUEST]
    assert np.bincount(asked).tolist() == [counted[number] for number in dict.fromkeys(requests)]


def test_jit_itself_compiles_each_of_the_pool_once():
    """The pool's oracle: what ``jax.jit`` takes for different programs is just what the pool's numbers tell apart."""

    class Plain:
        jit = staticmethod(jax.jit)

    with count_compiles() as compiled:
        drive(Plain, [*range(len(POOL))])
    assert compiled == [len(POOL)]
