"""What ``jax.jit`` has wrapped before is wrapped again with its options, and looks as what ``jax.jit`` returns."""

import functools
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache
from tests._support.interpreters import run_python

x3 = np.arange(3, dtype=np.float32)


def tiled(x, n):
    return jnp.tile(x, n)


@pytest.mark.parametrize(
    ("options", "args", "kwargs"),
    [
        ({"static_argnames": "n"}, (x3,), {"n": 2}), ({"static_argnames": ("n",)}, (x3, 2), {}),
        ({"static_argnums": 1}, (x3, 2), {}), ({"static_argnums": -1}, (x3, 2), {}),
        ({"static_argnums": 1, "keep_unused": True, "inline": True}, (x3, 3), {}),
        ({"static_argnums": 1, "compiler_options": {"xla_embed_ir_in_executable": True}}, (x3, 3), {}),
    ],
)  # fmt: skip
def test_static_arguments_of_the_inner_jit_are_static(options, args, kwargs):
    cache, inner = JitCache(), jax.jit(tiled, **options)
    for f in (cache.jit(inner), cache.jit(cache.jit(tiled, **options)), cache.jit(JitCache().jit(tiled, **options))):
        assert f(*args, **kwargs).tolist() == inner(*args, **kwargs).tolist()
        assert f(*args, **kwargs).tolist() == inner(*args, **kwargs).tolist()
    assert (cache.stats().misses, cache.stats().hits, cache.stats().bypassed) == (1, 5, 0)


def test_options_of_ones_own_add_to_those_of_the_inner_jit():
    def f(x, a, b):
        return (x if a == 1 else -x) * b

    cache = JitCache()
    more = cache.jit(jax.jit(f, static_argnames="a"), static_argnames=("a", "b"))
    assert more(x3, a=1, b=2).tolist() == [0, 2, 4]
    donating = cache.jit(jax.jit(f, static_argnames="a"), donate_argnums=0)
    given = jnp.ones(3)
    assert donating(given, a=2, b=3.0).tolist() == [-3, -3, -3]
    assert given.is_deleted()
    both = cache.jit(jax.jit(lambda x, y: (x + 1, y + 1), donate_argnums=0), donate_argnames="y")
    given = jnp.ones(3), jnp.zeros(3)
    both(*given)
    assert [one.is_deleted() for one in given] == [True, True]
    kept = jnp.ones(3)
    cache.jit(jax.jit(lambda x: x + 1, donate_argnums=0), donate_argnums=())(kept)
    assert not kept.is_deleted()
    alone = jnp.ones(3)
    cache.jit(jax.jit(lambda x: x + 1, donate_argnums=0))(alone)
    assert alone.is_deleted()


def test_partials_transformations_and_methods_of_a_jitted_function_stay_as_they_are():
    inner = jax.jit(tiled, static_argnames="n")

    class Model:
        @functools.partial(jax.jit, static_argnums=0)
        def step(self, x):
            return x * 2

    cache = JitCache()
    assert cache.jit(functools.partial(inner, n=2))(x3).tolist() == [0, 1, 2, 0, 1, 2]
    assert cache.jit(jax.vmap(jax.jit(lambda x: x * 2)))(x3).tolist() == [0, 2, 4]
    assert cache.jit(jax.grad(jax.jit(lambda x: jnp.sum(x**2))))(x3).tolist() == [0, 2, 4]
    assert cache.jit(Model().step)(x3).tolist() == [0, 2, 4]

    @functools.wraps(inner)  # its attributes are those of a jitted function, but it is none
    def wrapper(x):
        return inner(x, n=1) + 1

    assert cache.jit(wrapper)(x3).tolist() == [1, 2, 3]


PLACES = """
import warnings
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxcache import JitCache

devices = jax.devices()
mesh = Mesh(np.array(devices), "d")
split, whole = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
x = np.arange(8, dtype=np.float32)
warnings.simplefilter("error")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    placed = jax.jit(lambda x: x + 1, device=devices[2])

def check(theirs, mine, *args):
    for _ in range(2):
        a, b = jax.tree.leaves(mine(*args)), jax.tree.leaves(theirs(*args))
        for one, other in zip(a, b, strict=True):
            assert one.sharding == other.sharding and one.committed == other.committed, (one.sharding, other.sharding)
            assert np.array_equal(one, other)

cache = JitCache()
plus = lambda x: x + 1
for inner in (placed, jax.jit(plus, in_shardings=split), jax.jit(plus, out_shardings=split),
              jax.jit(plus, in_shardings=(split,), out_shardings=whole)):
    check(inner, cache.jit(inner), x)
tree = jax.jit(lambda t: t, in_shardings=({"a": split, "b": None},), out_shardings={"a": whole, "b": split})
check(tree, cache.jit(tree), {"a": x, "b": x})
for inner, options in ((jax.jit(plus, out_shardings=split), {"out_shardings": whole}),
                       (jax.jit(plus, in_shardings=split), {"out_shardings": whole}),
                       (jax.jit(plus, out_shardings=split), {"donate_argnums": ()})):
    check(jax.jit(inner, **options), cache.jit(inner, **options), x)
with jax.set_mesh(mesh):
    named = jax.jit(plus, in_shardings=P(), out_shardings=P("d"))
    check(named, cache.jit(named), x)
print(cache.stats().bypassed)
"""


def test_shardings_and_devices_of_the_inner_jit_are_taken_over():
    done = run_python(PLACES, env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"


def test_an_option_that_jax_gives_up_is_warned_of_once():
    with pytest.warns(DeprecationWarning, match="device"):
        f = JitCache().jit(lambda x: x + 1, device=jax.devices()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(x3).tolist() == [1, 2, 3]


# What is returned: attributes, type and words.


class Counting:
    """A decorator as many are: it has a state of its own, and the attributes of what it wraps."""

    def __init__(self, function):
        self._cache, self._key, self._plain, self._fun, self._programs = {}, 0, 1, 2, 3
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, x):
        self._cache["calls"] = self._cache.get("calls", 0) + 1
        return self._function(x)


def test_a_decorator_around_a_cached_function_keeps_its_own_state():
    def f(x):
        return x + 1

    f.setting = 4
    for jit in (jax.jit, JitCache().jit):
        wrapped = Counting(jit(f))
        assert [wrapped(x3).tolist() for _ in range(2)] == [[1, 2, 3]] * 2
        assert (wrapped._cache, wrapped._key, wrapped.setting) == ({"calls": 2}, 0, 4)
        assert functools.wraps(jit(f))(lambda x: x).setting == 4
        assert wrapped.__wrapped__.__wrapped__ is f


def test_any_attribute_may_be_set_and_is_read_back():
    theirs, mine = jax.jit(lambda x: x + 1), JitCache().jit(lambda x: x + 1)
    names = ["_key", "compiler", "entries", "statics", "log", "state", "describe", "look_up", "_bypass", "options",
             "function", "plain", "mark", "warm"]  # fmt: skip
    for f in (theirs, mine):
        for number, name in enumerate(names):
            setattr(f, name, number)
        assert [getattr(f, name) for name in names] == list(range(len(names)))
        assert [f(x3).tolist() for _ in range(3)] == [[1, 2, 3]] * 3
        assert jax.vmap(f)(x3).tolist() == [1, 2, 3]
        del f.mark
        assert not hasattr(f, "mark")


def test_attributes_of_what_was_jitted_before_are_passed_on():
    inner = jax.jit(lambda x: x + 1)
    inner.setting = 4
    f = JitCache().jit(inner)
    assert f.setting == 4
    assert f.__wrapped__ is inner
    assert (f.__name__, f.__module__) == (inner.__name__, inner.__module__)


def test_the_name_of_the_type_tells_that_a_function_is_jitted(tmp_path):
    def f(x):
        return x + 1

    plain, recorded = JitCache().jit(f), None
    pytest.importorskip("pyarrow")
    with JitCache(record=tmp_path / "trace.parquet") as cache:
        recorded = cache.jit(f)
        for one in (plain, recorded, cache.jit(jax.jit(f))):
            assert type(one).__name__ == type(jax.jit(f)).__name__
            assert type(one).__name__ in str(type(one))
            assert callable(one)
            assert isinstance(one, jax.stages.Wrapped)
    assert repr(plain) == repr(jax.jit(f))
    assert plain.__getstate__()["function_name"] == "f"
