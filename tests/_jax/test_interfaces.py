"""The private interfaces that we touch, and the way out where they are missing."""

import gc

import jax
import numpy as np
import pytest

import jaxcache
from jaxcache._jax import interfaces as _jax
from jaxcache._jax.fast_dispatch import NOT_THIS_SIGNATURE, Table, jit_like, with_fast_path
from tests._support.interpreters import run_python


def test_the_installed_jax_is_served():
    assert _jax.FAULT is None


def test_top_level_is_told_from_tracing():
    seen = []
    jax.jit(lambda: seen.append(_jax.is_top_level()))()
    assert (_jax.is_top_level(), seen) == (True, [False])


def test_the_payload_of_an_executable_has_a_length():
    compiled = jax.jit(lambda x: x + 1).lower(np.ones(3)).compile()
    assert _jax.payload_bytes(compiled) > 1000
    assert _jax.payload_bytes(object()) is None
    assert _jax.reported_code_bytes(object()) == 0


def test_an_array_can_be_had_weakly_typed():
    weak = _jax.weakly_typed(jax.device_put(np.ones(3, np.float32)))
    assert (weak.weak_type, weak.tolist(), weak.committed) == (True, [1, 1, 1], False)
    f = jax.jit(lambda x: x * jax.numpy.ones(3, jax.numpy.bfloat16))
    assert [f(one).dtype.name for one in (weak, jax.numpy.ones(3), weak)] == ["bfloat16", "float32", "bfloat16"]
    nothing = object()
    assert _jax.weakly_typed(nothing) is nothing


def test_a_held_entry_keeps_no_mlir_module_and_still_answers():
    from jaxlib.mlir import ir

    def modules():
        gc.collect()
        return sum(isinstance(held, ir.Module) for held in gc.get_objects())

    before = modules()
    f = jaxcache.JitCache().jit(lambda x: x * 5 + 1)
    x = np.arange(3, dtype=np.float32)
    assert f(x).tolist() == [1, 6, 11]
    assert modules() <= before
    assert f(jax.numpy.asarray(x)).tolist() == [1, 6, 11]  # another way through JAX's dispatch to the same executable
    with jax.debug_nans(True):
        assert f(x).tolist() == [1, 6, 11]
    assert "stablehlo" in f.lower(x).as_text()


@pytest.mark.parametrize(
    "sabotage",
    ["import jax._src.core as m; del m.trace_state_clean", "import jax._src.config as m; del m.trace_context",
     "import jax; jax.__version_info__ = (0, 4, 30)"],
)  # fmt: skip
def test_a_jax_that_cannot_be_served_gets_plain_jit_and_one_warning(sabotage):
    program = f"""
import warnings, numpy as np
import jax, jax.numpy as jnp
{sabotage}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import jaxcache
    cache = jaxcache.JitCache("1MiB")
    f = cache.jit(lambda x: x + 1, code_key=True)
    try:
        assert f(np.ones(3)).tolist() == [2, 2, 2]
    except AttributeError:  # jax itself misses what was taken away
        assert "del m" in {sabotage!r}
stats = cache.stats()
assert stats.bypassed == 1 and stats.misses == 0
assert [str(w.message) for w in caught if "every call goes to jax.jit" in str(w.message)], caught
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(hasattr(jaxcache, name) for name in jaxcache.__all__)


def test_a_table_answers_what_it_was_taught_and_remembers_nothing_else():
    ran = []

    def scale(x, n):
        ran.append(n)
        return x * n

    jitted, x = jax.jit(scale, static_argnums=1), jax.numpy.ones(3)
    table, program = Table(jitted, scale), with_fast_path(jitted)
    for _ in range(2):
        assert table.serve("doubled", program, (x, 2), {}).tolist() == [2, 2, 2]
    for other in [(x, 3), (jax.numpy.ones(4), 2), (np.ones(3, np.float32), 2), (x.astype(int), 2)]:
        assert table.call(*other) is NOT_THIS_SIGNATURE
    with jax.enable_x64(True):
        assert table.call(x, 2) is NOT_THIS_SIGNATURE
    with jax.disable_jit():
        assert table.call(x, 2) is NOT_THIS_SIGNATURE
    assert jax.jit(lambda: table.call(x, 2) is NOT_THIS_SIGNATURE)()
    assert table.call._cache_size() == 1
    assert {label: result.tolist() for label, result in table.call(x, 2).items()} == {"doubled": [2, 2, 2]}
    assert ran == [2]
    table.forget()
    assert table.call(x, 2) is NOT_THIS_SIGNATURE


def test_a_program_without_a_fast_path_is_called_and_not_taught():
    def show(x):
        jax.debug.callback(lambda y: None, x, ordered=True)
        return x + 1

    jitted = jax.jit(show)
    table, program = Table(jitted, show), with_fast_path(jitted)
    assert [table.serve("shown", program, (np.ones(2),), {}).tolist() for _ in range(3)] == [[2, 2]] * 3
    assert table.call(np.ones(2)) is NOT_THIS_SIGNATURE


def test_where_nothing_can_be_copied_the_function_is_called():
    table, program = Table(abs, abs), with_fast_path(abs)
    assert program(-1) == {None: 1}
    assert [table.serve("absolute", program, (-1,), {}) for _ in range(3)] == [1, 1, 1]
    assert table.call(-1) is NOT_THIS_SIGNATURE


def test_a_jit_can_be_made_like_another_one_over_another_function():
    def product(x, n):
        return {"scaled": x * n}

    def power(x, n):
        return x**n

    like = jax.jit(product, static_argnames="n", donate_argnums=0)
    made = jit_like(like, power)
    x = jax.numpy.full(3, 3.0)
    with jax.enable_x64(True):
        assert made(3.0, n=2).dtype == "float64"
    assert [made(jax.numpy.full(3, 3.0), n).tolist() for n in (2, 3, 2)] == [[9.0] * 3, [27.0] * 3, [9.0] * 3]
    assert made.lower(x, 2).as_text() == jax.jit(power, static_argnames="n", donate_argnums=0).lower(x, 2).as_text()
    assert made(x, 2).tolist() == [9.0] * 3
    assert x.is_deleted()
    assert like(2.0, 5)["scaled"] == 10
    with jax.disable_jit():
        assert made(4.0, 2) == 16
    with pytest.raises((AttributeError, TypeError)):
        jit_like(abs, power)


def test_what_jit_was_given_can_be_taken_apart():
    def f(x, n, y):
        return x * n + y

    options = {"static_argnames": "n", "donate_argnums": 2, "keep_unused": True}
    function, told = _jax.taken_apart(jax.jit(f, **options))
    assert function is f
    assert told == {"static_argnums": (1,), "static_argnames": ("n",), "donate_argnums": (2,),
                    "donate_argnames": ("y",), "keep_unused": True}  # fmt: skip
    assert _jax.taken_apart(jax.jit(f)) == (f, {})
    assert _jax.taken_apart(f) is None


def test_an_optimized_program_shows_its_constants():
    constant = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    parts = _jax.contents(jax.jit(lambda x: x @ constant).lower(np.ones(64, np.float32)).compile())
    assert constant.nbytes <= parts.constants_bytes < 1.1 * constant.nbytes
    assert parts.proto_bytes > constant.nbytes > parts.text_bytes > 0
    assert _jax.contents(object()) is None
    assert _jax.constant_arguments_bytes(object()) == 0


def test_nothing_is_serialized_of_which_it_cannot_be_told_that_it_may_be():
    class Compiled:
        def runtime_executable(self):
            raise AssertionError("asked for the executable")

    assert _jax.payload_bytes(Compiled()) is None
    callback = jax.jit(lambda x: jax.pure_callback(lambda x: x, x, x)).lower(np.ones(3, np.float32)).compile()
    assert _jax.payload_bytes(callback) is None


def test_a_module_that_was_taken_away_can_be_had_again():
    jitted = jax.jit(lambda x: x * 3)
    traced = jitted.trace(np.ones(3, np.float32))
    lowered, text = traced.lower(), traced.lower().as_text()
    lowered.compile()
    _jax.forget_module(lowered)
    mine = _jax.own_module(traced, traced.lower())
    assert mine.as_text() == text
    assert lowered._lowering._hlo is None
    assert _jax.own_module(object(), object()) is None
