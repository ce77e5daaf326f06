"""``cache.jit`` behaves as ``jax.jit`` does: each case runs both and compares values, types and errors."""

import abc
import enum
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache
from tests._support.interpreters import run_python

from .._support.compiles import count_compiles


class Point(NamedTuple):
    x: object
    y: object


@jax.tree_util.register_pytree_node_class
class Pair:
    def __init__(self, a, b, tag):
        self.a, self.b, self.tag = a, b, tag

    def tree_flatten(self):
        return (self.a, self.b), self.tag

    @classmethod
    def tree_unflatten(cls, tag, leaves):
        return cls(*leaves, tag)


def outcome(call):
    """What a call gives: its leaves' values and types, or its error."""
    try:
        result = call()
    except Exception as error:
        return type(error), str(error)
    leaves, tree = jax.tree.flatten(result)
    return tree, [
        (leaf.dtype, leaf.weak_type, leaf.shape, leaf.sharding, leaf.committed, np.asarray(_data(leaf)).tobytes())
        for leaf in leaves
    ]


def _data(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_alike(function, *calls, **options):
    """Run the calls in order, each twice, under both."""
    mine, theirs = JitCache().jit(function, **options), jax.jit(function, **options)
    for args, kwargs in calls:
        for _ in range(2):
            assert outcome(lambda a=args, k=kwargs: mine(*a, **k)) == outcome(lambda a=args, k=kwargs: theirs(*a, **k))


def call(*args, **kwargs):
    return args, kwargs


x3 = np.arange(3, dtype=np.float32)


def test_weak_and_strong_types_never_meet():
    """An AOT executable for a weak float32 gives bfloat16 here, where jax.jit gives float32."""
    half = jnp.ones(3, jnp.bfloat16)
    assert_alike(
        lambda s, x: s * x, call(2.0, half), call(jnp.float32(2), half), call(np.float32(2), half), call(2, half)
    )


def test_python_scalars_may_change_type():
    assert_alike(lambda x: x + 1, call(1), call(1.0), call(True), call(1j), call(2**40), call(x3), call(np.int8(3)))


def test_numpy_arrays_of_any_dtype():
    dtypes = ["bool", "int8", "uint16", "int64", "float16", "float64", "complex128", "S3", "O"]
    assert_alike(lambda x: x, *(call(np.zeros(3, dtype)) for dtype in dtypes))


def test_lists_tuples_dicts_none_and_custom_nodes():
    assert_alike(
        lambda tree: jax.tree.map(lambda leaf: leaf * 2, tree),
        call([x3, 1.0]), call((x3, 1.0)), call({"a": x3, "b": None}), call(None), call(Point(x3, 2)),
        call(Pair(x3, 1.0, "t")), call(Pair(x3, 1.0, "u")), call([]),
    )  # fmt: skip


def test_keywords_defaults_and_varargs():
    def f(a, b=2.0, *rest, c=3.0):
        return a * b + sum(rest) + c

    assert_alike(f, call(1.0), call(1.0, 2.0), call(1.0, b=2.0), call(a=1.0), call(1.0, 2.0, 3.0, 4.0), call(1.0, c=x3),
                 call(), call(1.0, d=1))  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"static_argnums": 1}, {"static_argnames": "n"}, {"static_argnums": -1},
     {"static_argnums": (1,), "static_argnames": ("n",)}]
)  # fmt: skip
def test_static_arguments(options):
    def f(x, n):
        return jnp.tile(x, n) if isinstance(n, int) else x + len(n)

    assert_alike(f, call(x3, 2), call(x3, n=3), call(x3, 3), call(x3, "ab"), call(x3, [1]), call(x3, (1, 2)), **options)


def test_static_values_that_are_equal_but_of_other_types_are_told_apart():
    assert_alike(lambda x, flag: x + (1 if flag is True else 2), call(x3, 1), call(x3, True), static_argnums=1)


def test_donated_arguments_are_gone_afterwards():
    for options in ({"donate_argnums": 0}, {"donate_argnames": "x"}):
        mine, theirs = JitCache().jit(lambda x: x + 1, **options), jax.jit(lambda x: x + 1, **options)
        for _ in range(2):
            a, b = jnp.ones(4), jnp.ones(4)
            assert mine(a).tolist() == theirs(b).tolist()
            assert a.is_deleted() == b.is_deleted()
            assert outcome(lambda a=a, f=mine: f(a))[0] == outcome(lambda b=b, f=theirs: f(b))[0]


def test_typed_keys():
    assert_alike(jax.random.uniform, call(jax.random.key(0)), call(jax.random.key(1)), call(jax.random.PRNGKey(2)))


def test_methods_partials_and_lambdas():
    cache = JitCache()

    class Model:
        def __init__(self, scale):
            self.scale = scale

        @functools.partial(cache.jit, static_argnums=0)
        def apply(self, x):
            return x * self.scale

    a, b = Model(2.0), Model(3.0)
    assert [m.apply(x3).tolist() for m in (a, b, a)] == [[0, 2, 4], [0, 3, 6], [0, 2, 4]]
    assert Model.apply(a, x3).tolist() == [0, 2, 4]
    partial = cache.jit(functools.partial(jnp.add, 5.0))
    assert partial(x3).tolist() == [5, 6, 7]
    assert set(cache.stats().by_function) == {"Model.apply", "add"}


def test_decorator_forms():
    cache = JitCache()

    @cache.jit
    def plain(x):
        """Doc."""
        return x + 1

    @cache.jit(static_argnames="n")
    def with_arguments(x, n):
        return x * n

    assert plain(x3).tolist() == [1, 2, 3]
    assert with_arguments(x3, n=2).tolist() == [0, 2, 4]
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")


def test_closures_over_arrays_are_not_shared_between_functions_of_one_name():
    cache = JitCache()

    def make(constant):
        def f(x):
            return x + constant

        return cache.jit(f)

    f, g = make(jnp.float32(1)), make(jnp.float32(2))
    assert f(x3).tolist() == [1, 2, 3]
    assert g(x3).tolist() == [2, 3, 4]


def test_transformations_go_past_the_cache_and_are_counted():
    cache = JitCache()
    f = cache.jit(lambda x: jnp.sum(x**2))
    assert jax.grad(f)(x3).tolist() == [0, 2, 4]
    assert jax.vmap(f)(np.ones((2, 3), np.float32)).tolist() == [3, 3]
    assert jax.jit(lambda x: f(x) + 1)(x3) == 6
    assert jax.lax.scan(lambda c, x: (c + f(x), c), 0.0, np.ones((3, 2), np.float32))[0] == 6
    assert jax.eval_shape(f, x3).shape == ()
    assert jax.jit(lambda: f(np.ones(2, np.float32)))() == 2  # no tracer among the arguments, and yet traced
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (0, 0)
    assert stats.bypassed >= 6


def test_disable_jit_runs_the_python_function():
    ran = []
    f = JitCache().jit(lambda x: ran.append(1) or x + 1)
    f(x3), f(x3)
    assert len(ran) == 1
    with jax.disable_jit():
        f(x3), f(x3)
    assert len(ran) == 3


def test_config_contexts_are_part_of_the_signature():
    cache = JitCache()
    f, g = cache.jit(lambda x: x + 1), cache.jit(lambda x: x @ x)
    wide = np.ones((4, 4))
    with jax.enable_x64(True):
        assert f(wide).dtype == np.float64
    assert f(wide).dtype == np.float32
    with jax.enable_x64(True):
        assert f(wide).dtype == np.float64
    texts = []
    for precision in ("float32", "bfloat16", "float32"):
        with jax.default_matmul_precision(precision):
            g(np.ones((4, 4), np.float32))
            texts.append(g.lower(np.ones((4, 4), np.float32)).as_text())
    assert texts[0] == texts[2] != texts[1]
    assert cache.stats().by_function[next(n for n in cache.stats().by_function)].misses >= 2
    assert cache.stats().misses == 4
    assert cache.stats().hits == 2


def test_debug_nans_raises_as_jit_does():
    with jax.debug_nans(True):
        assert_alike(lambda x: x / x, call(np.float32(0)), call(np.float32(1)))


def test_attributes_of_a_jitted_function():
    f = JitCache().jit(lambda x: x + 1)
    assert f.lower(x3).compile()(x3).tolist() == [1, 2, 3]
    assert f.eval_shape(x3).shape == (3,)
    assert f.trace(x3).jaxpr.in_avals[0].shape == (3,)
    f(x3)
    f.clear_cache()
    assert f(x3).tolist() == [1, 2, 3]


def test_arguments_that_jit_refuses_are_refused_with_its_own_words():
    assert_alike(lambda x: x, call("text"), call(object), call(jax.ShapeDtypeStruct((3,), np.float32)))
    with pytest.raises(TypeError):
        JitCache().jit(3)
    with pytest.raises(TypeError):
        JitCache().jit(lambda x: x, no_such_option=1)


def test_jax_jit_may_be_replaced_by_the_cache(monkeypatch):
    cache = JitCache()
    monkeypatch.setattr(jax, "jit", cache.jit)
    f = jax.jit(lambda x: x + 1)
    assert f(x3).tolist() == [1, 2, 3]
    assert cache.stats().misses == 1


FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxcache import JitCache

devices = jax.devices()
assert len(devices) == 4
mesh = Mesh(np.array(devices), "d")
cache = JitCache()
for function in (lambda x: x * 2, lambda x: jnp.sum(x)):
    mine, theirs = cache.jit(function), jax.jit(function)
    x = np.arange(8, dtype=np.float32)
    inputs = [x, jnp.asarray(x), *(jax.device_put(x, d) for d in devices),
              jax.device_put(x, NamedSharding(mesh, P("d"))), jax.device_put(x, NamedSharding(mesh, P()))]
    for value in inputs * 2:
        a, b = mine(value), theirs(value)
        assert a.sharding == b.sharding and a.committed == b.committed, (a.sharding, b.sharding)
        assert np.array_equal(a, b)
    with jax.default_device(devices[2]):
        a, b = mine(x), theirs(x)
        assert a.devices() == b.devices() == {devices[2]}

def halves(x):
    return jax.shard_map(lambda y: jax.lax.psum(y, "d") + inner(y), mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)

inner = cache.jit(lambda y: y * 3)  # called under shard_map
x = np.arange(8, dtype=np.float32)
for value in (x, jax.device_put(x, NamedSharding(mesh, P("d")))):
    a, b = cache.jit(halves)(value), jax.jit(halves)(value)
    assert a.sharding == b.sharding and np.array_equal(a, b)
    a = cache.jit(lambda x: x + 1, out_shardings=NamedSharding(mesh, P("d")))(value)
    assert a.sharding == NamedSharding(mesh, P("d")) and np.array_equal(a, x + 1)
with jax.set_mesh(mesh):
    a, b = cache.jit(lambda x: x * 5)(x), jax.jit(lambda x: x * 5)(x)
    assert a.sharding == b.sharding and np.array_equal(a, b)
print("alike", cache.stats().hits)
"""


def test_committed_sharded_and_default_devices_are_told_apart():
    """In a process of its own: the number of devices is fixed when JAX starts."""
    import os

    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = run_python(FOUR_DEVICES, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alike")


def test_attributes_of_the_function_do_not_take_the_place_of_the_caches_own():
    class Callable:
        _plain = _cache = _statics = 3

        def __init__(self):
            self._plain = self._function = 3

        def __call__(self, x):
            return x + 1

    f = JitCache().jit(Callable())
    assert f(x3).tolist() == [1, 2, 3]
    assert jax.vmap(f)(x3).tolist() == [1, 2, 3]


def test_a_parameter_may_be_called_self_and_functions_copy_as_functions_do():
    import copy

    f = JitCache().jit(lambda self, x: self + x)
    assert f(self=x3, x=x3).tolist() == [0, 2, 4]
    assert copy.deepcopy({"f": f})["f"] is f


def test_a_function_wrapped_again_has_its_programs_as_under_jit():
    cache = JitCache()

    def f(x, n=1):
        return x * n

    for _ in range(3):
        assert cache.jit(f)(x3).tolist() == [0, 1, 2]
    assert (cache.stats().misses, cache.stats().hits) == (1, 2)
    assert cache.jit(f, static_argnames="n")(x3, n=2).tolist() == [0, 2, 4]  # other options, other programs
    for same in (["n"], {"n"}, iter("n")):
        assert cache.jit(f, static_argnames=same)(x3, n=2).tolist() == [0, 2, 4]
    assert cache.jit(f, static_argnums=np.int64(1))(x3, 2).tolist() == [0, 2, 4]
    assert cache.stats().misses == 3
    assert "function_recreated" not in cache.stats().misses_by_cause
    assert JitCache().jit(f)(x3).tolist() == [0, 1, 2]


def test_functions_that_are_equal_but_not_the_same_share_nothing():
    class Scale:
        def __init__(self, by):
            self.by = by

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

        def __call__(self, x):
            return x * self.by

    cache = JitCache()
    a, b = Scale(2.0), Scale(3.0)
    assert cache.jit(a)(x3).tolist() == [0, 2, 4]
    assert cache.jit(b)(x3).tolist() == [0, 3, 6]
    assert cache.jit(a)(x3).tolist() == [0, 2, 4]


def test_a_function_that_wraps_another_takes_none_of_its_programs():
    cache = JitCache()

    def f(x):
        return x * 2

    @functools.wraps(f)
    def g(x):
        return f(x) + 1

    assert cache.jit(f)(x3).tolist() == [0, 2, 4]
    assert cache.jit(g)(x3).tolist() == [1, 3, 5]


def test_one_value_as_any_kind_of_scalar_or_array_is_one_program():
    import ml_dtypes

    class Level(enum.IntEnum):
        LOW = 3

    class Named(np.ndarray):
        pass

    kinds = [
        [np.float32(1), jnp.float32(1), np.zeros((), np.float32)],
        [x3, jnp.asarray(x3), x3.view(Named), np.broadcast_to(np.float32(1), 3)],
        [True, False],
        [np.bool_(True), jnp.asarray(True), np.array(True)],
        [ml_dtypes.bfloat16(1), jnp.bfloat16(1)],
        [3, Level.LOW, 4],
    ]
    for alike in kinds:
        cache = JitCache()
        f = cache.jit(lambda x: x + x)
        for value in alike:
            assert outcome(lambda f=f, v=value: f(v)) == outcome(lambda v=value: jax.jit(lambda x: x + x)(v))
        stats = cache.stats()
        assert (stats.misses, stats.bypassed) == (1, 0), alike


def test_a_static_value_that_cannot_be_compared_gets_the_error_of_jit():
    class Sour:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise RuntimeError("not today")

    def f(x, setting):
        return x + 1

    mine, theirs = JitCache().jit(f, static_argnums=1), jax.jit(f, static_argnums=1)
    for _ in range(3):
        # Which of its caches notices first, and so the text, depends on what else was compiled.
        with pytest.raises(ValueError, match=r"compar|equality"):
            [mine(x3, Sour()) for _ in range(3)]
        with pytest.raises(ValueError, match=r"compar|equality"):
            [theirs(x3, Sour()) for _ in range(3)]


def test_attributes_of_the_function_are_those_of_what_is_returned():
    def f(x):
        return x + 1

    f.setting = 4
    mine, theirs = JitCache().jit(f), jax.jit(f)
    assert mine.setting == theirs.setting == 4
    assert not hasattr(mine, "no_such_thing")
    mine(x3), theirs(x3)
    assert mine._cache_size() == theirs._cache_size() == 1


def test_repeated_calls_keep_telling_signatures_apart():
    """Two calls alike make a guess of the next; whatever comes next must be served right."""
    cache, theirs = JitCache(), jax.jit(lambda x, y: x * 2 + y)
    mine = cache.jit(lambda x, y: x * 2 + y)
    half, place = jnp.ones(3, jnp.bfloat16), jax.devices()[0]
    calls = [(x3, 1.0), (x3, 1), (jnp.asarray(x3), 1.0), (jax.device_put(x3, place), 1.0), (half, 1.0),
             (half, np.float32(1)), (np.ones(4), 1.0), (x3, jnp.float32(1))]  # fmt: skip
    draw = np.random.default_rng(0)
    for number in draw.integers(len(calls), size=60):
        for _ in range(draw.integers(1, 5)):
            assert outcome(lambda n=number: mine(*calls[n])) == outcome(lambda n=number: theirs(*calls[n]))
    for context in (jax.enable_x64(True), jax.default_matmul_precision("float32"), jax.default_device(place)):
        mine(*calls[0]), mine(*calls[0])
        with context:
            assert outcome(lambda: mine(*calls[0])) == outcome(lambda: theirs(*calls[0]))
    mine(*calls[0]), mine(*calls[0])
    before = cache.stats().bypassed
    assert jax.jit(lambda: mine(*calls[0]))().tolist() == [1, 3, 5]
    assert jax.vmap(lambda x: mine(x, 1.0))(np.ones((2, 3), np.float32)).shape == (2, 3)
    with jax.disable_jit():
        assert mine(*calls[0]).tolist() == [1, 3, 5]
    assert cache.stats().bypassed == before + 3
    stats = cache.stats()
    assert stats.misses == stats.compiled == len(stats.recent_misses)


def test_static_values_that_cannot_be_compared_are_served_by_jit():
    class Vague:
        def __eq__(self, other):
            return np.array([True, True])

        def __hash__(self):
            return 1

    vague, cache = Vague(), JitCache()
    f = cache.jit(lambda x, _: x + 1, static_argnums=1)
    assert [f(x3, vague).tolist() for _ in range(2)] == [
        jax.jit(lambda x, _: x + 1, static_argnums=1)(x3, vague).tolist()
    ] * 2
    assert (cache.stats().bypassed, cache.stats().compiled) == (2, 0)


def test_a_programs_own_inner_functions_are_traced_once():
    traced = []

    @jax.jit
    def inner(x):
        traced.append(1)
        return jnp.roll(x, 1)

    f = JitCache().jit(lambda x, n: inner(x) * n, static_argnums=1)
    f(x3, 1), f(x3, 2), f(x3, 3)
    assert len(traced) == 1


def test_eager_work_while_tracing_compiles_once():
    def compiled(jit):
        def f(x):
            with jax.ensure_compile_time_eval():
                table = jnp.linalg.norm(jnp.arange(7.0).reshape(1, 7))
            return x * table

        g = jit(f)
        g(np.ones(3))
        with count_compiles() as compiles:
            for n in range(4, 8):
                g(np.ones(n))
        return compiles

    assert compiled(JitCache().jit) == compiled(jax.jit) == [4]


def test_under_debug_nans_the_error_is_that_of_jit_for_every_call():
    with jax.debug_nans(True):
        for jit in (JitCache().jit, jax.jit):
            f = jit(lambda x: x / x)
            for value in (1, 1, 1, 0, 0, 1, 0):
                if value:
                    assert f(jnp.float32(value)) == 1
                else:
                    with pytest.raises(FloatingPointError, match="invalid value"):
                        f(jnp.float32(value))


def test_functions_that_jit_refuses_are_refused():
    class Unhashable:
        __hash__ = None

        def __call__(self, x):
            return x

    class Slotted:
        __slots__ = ()

        def __call__(self, x):
            return x

    for function in (Unhashable(), Slotted()):
        assert outcome(lambda f=function: JitCache().jit(f)(x3))[0] is TypeError
    assert outcome(lambda: JitCache().jit(None))[0] is outcome(lambda: jax.jit(None))[0] is TypeError


def test_tools_that_look_at_functions_see_the_function():
    import inspect

    def f(x, *, n: int = 3):
        """Doc."""
        return x * n

    mine = JitCache().jit(f)
    assert inspect.signature(mine) == inspect.signature(f)
    assert inspect.getfullargspec(mine).kwonlyargs == ["n"]
    assert mine.__wrapped__ is f

    class Base(abc.ABC):
        @JitCache().jit
        @abc.abstractmethod
        def step(self):
            """To be written."""

    with pytest.raises(TypeError, match="abstract"):
        Base()
