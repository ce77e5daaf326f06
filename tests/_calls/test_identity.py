"""Identities: equal for equal values, in every process; different for all others."""

import dataclasses
import enum
import fractions
import functools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import register_dataclass, tree_structure

from jaxcache._calls.identity import Identifier


@dataclasses.dataclass(frozen=True)
class Frozen:
    depth: int
    name: object = "a"


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Mode(enum.Flag):
    FAST = 1
    EXACT = 2


class ByDepth:
    """Equal by one attribute of two, with a repr that is never the same and a hash that is always the same."""

    calls = 0

    def __init__(self, depth, note=""):
        self.depth, self.note = depth, note

    def __eq__(self, other):
        return isinstance(other, ByDepth) and self.depth == other.depth

    def __hash__(self):
        return 0

    def __repr__(self):
        ByDepth.calls += 1
        return f"call {ByDepth.calls}"


class Slotted:
    __slots__ = ("__private", "depth")

    def __init__(self, depth, private):
        self.depth, self.__private = depth, private

    def __eq__(self, other):
        same = isinstance(other, Slotted)
        return same and (self.depth, self.__private) == (other.depth, other._Slotted__private)

    def __hash__(self):
        return hash(self.depth)


class Lazy:
    """Computes and keeps something that is not what it is."""

    def __init__(self, depth):
        self.depth = depth

    def __eq__(self, other):
        return isinstance(other, Lazy) and self.depth == other.depth

    def __hash__(self):
        return hash(self.depth)

    @functools.cached_property
    def kept(self):
        return object()


@functools.partial(register_dataclass, data_fields=["w"], meta_fields=["depth", "name"])
@dataclasses.dataclass
class Model:
    w: object
    depth: object
    name: object = "a"


SMALL = [
    0, 1, -1, -2, 2**61, True, False, 1.0, -1.0, 0.5, -0.0, math.inf, 1 + 0j, 1 + 1j, np.float64(0.5), np.int64(1),
    "", "1", "a", b"a", b"", None, ..., int, bool, Color.RED, Color.BLUE, fractions.Fraction(1, 3), Path("a"),
    Mode(0), Mode.FAST, Mode.FAST | Mode.EXACT, re.compile("a"), re.compile("b"), re.compile("a", re.I),
    math.sin, math.cos, dict.fromkeys,
    np.dtype("float32"), np.dtype("int32"), jax.devices()[0], jax.sharding.PartitionSpec("x", None),
]  # fmt: skip
small = st.sampled_from(SMALL)
hashable = st.recursive(
    small | st.integers() | st.floats(allow_nan=False, width=32) | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Frozen, st.integers(0, 2), inner)
        | st.builds(ByDepth, inner, inner)
        | st.builds(Slotted, inner, inner)
        | st.builds(Lazy, inner)
    ),
    max_leaves=5,
)


def equal(a, b):
    try:
        return bool(a == b)
    except (TypeError, ValueError):  # of a dtype with what is none, of a NumPy number with a sequence
        return False


@given(hashable, hashable)
def test_identities_are_equal_just_where_the_values_are(a, b):
    identifier = Identifier()
    assert (identifier.of(a) == identifier.of(b)) == equal(a, b)
    assert identifier.of(a) == identifier.of(a)


def test_identities_of_plain_values_are_equal_just_where_the_values_are():
    of = Identifier().of
    assert not [(a, b) for a in SMALL for b in SMALL if (of(a) == of(b)) != equal(a, b)]


def test_times_of_other_units_are_told_apart():
    times = [*(np.timedelta64(1, unit) for unit in ("Y", "M", "D", "ns", "ps")), np.datetime64(1, "ns"), 1]
    assert len(set(map(Identifier().of, times))) == len(times)
    assert Identifier().of(np.timedelta64(1, "D")) == Identifier().of(np.timedelta64(1, "D"))


tree = st.recursive(
    st.just(1.0) | st.just(None),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
        | st.builds(Model, inner, hashable, st.sampled_from("ab"))
    ),
    max_leaves=5,
)


@given(tree, tree)
def test_identities_of_trees_are_equal_just_where_the_trees_are_whatever_their_hashes(a, b):
    identifier, structures = Identifier(), (tree_structure(a), tree_structure(b))
    assert (identifier.of(structures[0]) == identifier.of(structures[1])) == (structures[0] == structures[1])


def test_trees_of_other_metadata_hash_alike_and_are_told_apart():
    structures = [tree_structure(Model(1.0, depth)) for depth in range(40)]
    assert len(set(map(hash, structures))) == 1
    assert len(set(map(Identifier().of, structures))) == 40


def test_an_object_that_is_equal_to_itself_alone_is_never_taken_for_a_dead_one():
    identifier = Identifier()
    assert len({identifier.of(object()) for _ in range(3000)}) == 3000
    assert len({identifier.of(lambda: 1) for _ in range(1000)}) == 1000
    assert len({identifier.of(float("nan")) for _ in range(100)}) == 100


def test_what_an_object_says_of_itself_and_what_it_counts_does_not_change_its_identity():
    class Counting:
        count = 0

    identifier, counting = Identifier(), Counting()
    first = identifier.of(counting)
    counting.count, counting.more = 5, "text"
    assert identifier.of(counting) == first != identifier.of(Counting())


def test_values_that_are_equal_but_hold_something_else_have_one_identity_while_one_of_them_lives():
    identifier, first = Identifier(), ByDepth(3, "first")
    assert identifier.of(first) == identifier.of(ByDepth(3, "second")) != identifier.of(ByDepth(4, "first"))


def test_values_that_compare_by_what_cannot_be_read_are_told_apart():
    class Opaque:
        def __init__(self, hidden):
            self._get = lambda: hidden

        def __eq__(self, other):
            return self._get() == other._get()

        def __hash__(self):
            return 0

        def __reduce_ex__(self, protocol):
            return "global name"

    identifier, kept = Identifier(), [Opaque(1), Opaque(2), Opaque(1)]
    of = list(map(identifier.of, kept))
    assert of[0] == of[2] != of[1]


class Handle:
    """Equal to itself alone, by an equality of its own; all handles hold the same."""

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


@pytest.mark.parametrize(
    "make",
    [
        Handle,
        lambda: {}.get,  # a method of a built-in object
        lambda: np.timedelta64("NaT", "s"),
        lambda: np.zeros(1, np.dtype([("".join(map(str, os.urandom(4))), "i4")]))[0],
    ],
    ids=["handle", "built-in method", "not a time", "other fields"],
)
def test_objects_of_equal_content_that_are_not_equal_are_told_apart_while_they_live(make):
    identifier, kept = Identifier(), [make() for _ in range(100)]
    assert len(set(map(identifier.of, kept))) == 100


def test_what_a_type_in_c_compares_but_does_not_show_is_read_as_it_is_pickled():
    first, second = Identifier(), Identifier()  # as in two processes
    assert first.of(re.compile("a")) == second.of(re.compile("a")) != second.of(re.compile("b"))
    assert first.of(np.add) == first.of(np.add) == second.of(np.add) != first.of(np.multiply)


def test_tuples_of_any_length_and_numbers_of_any_size_have_identities():
    of, large = Identifier().of, 10**5000
    assert of((large,) * 300) == of((large,) * 300) != of((large + 1,) * 300)


def test_trees_as_deep_as_jax_takes_them_have_identities():
    def nested(depth, leaf):
        return leaf if depth == 0 else [nested(depth - 1, leaf)]

    of = Identifier().of
    deep, other, deeper = (tree_structure(nested(*each)) for each in ((600, 1.0), (600, None), (601, 1.0)))
    assert of(deep) == of(tree_structure(nested(600, 2.0)))
    assert len({of(deep), of(other), of(deeper)}) == 3


def test_functions_are_labelled_by_name_code_and_captures():
    def make(scale):
        def scaled(x):
            return x * scale

        return scaled

    label = Identifier().label
    assert label(make(2)) == label(make(2)) != label(make(3))
    assert label(lambda x: x + 1) != label(lambda x: x + 2)
    assert label(make(np.ones(3))) == label(make(np.zeros(3))) != label(make(np.ones(4)))  # their number tells these


def test_a_label_is_read_in_bounds(monkeypatch):
    endless = {"self": None, "many": [object() for _ in range(200_000)]}
    endless["self"] = endless

    class Holder:
        def __reduce_ex__(self, protocol):
            raise AssertionError("an object that is equal to itself alone needs no pickling")

    holder = Holder()
    reads = []
    monkeypatch.setattr(Identifier, "of", lambda self, value, of=Identifier.of: reads.append(1) or of(self, value))
    label = Identifier().label
    assert label(lambda: (endless, holder)) != label(lambda: endless)
    assert len(reads) < 20_000


PROGRAM = """
import sys, json, dataclasses, enum
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jaxcache._calls.identity import Identifier
from tests._calls.test_identity import Color, Frozen, Lazy, Model, Slotted
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec as P
from jax.tree_util import tree_structure
lazy = Lazy(3)
if len(sys.argv) > 1:
    lazy.kept, jax.jit(lambda x: x + 1)(jnp.ones(3))
mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
hash(mesh.abstract_mesh), mesh.abstract_mesh.size
values = [1, "text", frozenset("abcdef"), Frozen(1, Color.RED), Path("a/b"), lazy, Slotted(1, "b"), len, jnp.tanh,
    jax.nn.relu, lambda x: x, jax.jit(lambda x: x), int, tree_structure(Model([1.0, {"a": 2.0}], 3)),
    np.arange(3).dtype, jax.typeof(jnp.ones((2, 3))), jax.typeof(jax.random.key(0)), NamedSharding(mesh, P("x")),
    mesh.abstract_mesh, jax.devices()[0], object(), object()]
of = Identifier().of
print(json.dumps([of(value).hex() for value in values]))
"""


def test_identities_are_the_same_in_every_process():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed, arguments in (("1", []), ("2", ["more"]))
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split(", "))) == 22


@pytest.mark.parametrize("value", [np.ones(3), jnp.ones(3), [1, 2], {"a": {1}}, slice(3), range(3), NotImplemented])
def test_what_has_no_hash_or_no_plain_comparison_has_an_identity_too(value):
    identifier = Identifier()
    assert identifier.of(value) == identifier.of(value)
