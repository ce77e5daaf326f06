"""Under every context that JAX has, a cached function gives what ``jax.jit`` gives: values and types, or the error."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcache import JitCache

x = jnp.eye(3)


def same_key_twice(x):
    key = jax.random.key(0)
    return x + jax.random.bits(key, (3, 3)) + jax.random.bits(key, (3, 3))


def leaks_a_tracer(x, kept=[]):  # noqa: B006  # that is the leak
    kept.append(x + 1)
    return x


PROGRAMS = {
    "product": lambda x: x @ x + x[0] + jnp.arange(3),
    "nan": lambda x: x / (x - x),
    "key": lambda x: x + jax.random.bits(jax.random.key(0), (3, 3)),
    "keys": same_key_twice,
}
CONTEXTS = {
    "enable_checks": [True],
    "allow_f16_reductions": [True],
    "auto_pcast": [True],
    "enable_x64": [True],
    "jax2tf_associative_scan_reductions": [True],
    "remove_size_one_mesh_axis_from_type": [True],
    "debug_key_reuse": [True],
    "check_tracer_leaks": [True],
    "enable_custom_prng": [True],
    "softmax_custom_jvp": [False],
    "debug_nans": [True],
    "debug_infs": [True],
    "log_compiles": [True],
    "no_tracing": [True],
    "no_execution": [True],
    "explain_cache_misses": [True],
    "default_device": [jax.devices()[0]],
    "default_matmul_precision": ["bfloat16", "float32"],
    "default_prng_impl": ["rbg"],
    "numpy_dtype_promotion": ["strict"],
    "numpy_rank_promotion": ["raise"],
    "legacy_prng_key": ["error"],
    "threefry_partitionable": [False],
    "array_garbage_collection_guard": ["allow"],
    "transfer_guard": ["disallow", "disallow_explicit"],
    "transfer_guard_host_to_device": ["disallow"],
    "transfer_guard_device_to_device": ["disallow"],
    "transfer_guard_device_to_host": ["disallow"],
    "thread_guard": [True],
}
_NO_CONTEXTS = {"make_user_context", "checking_leaks"}  # one makes contexts, the other is another name


def outcome(call):
    """What a call gives: its leaves' types and values, or its error."""
    try:
        leaves = jax.tree.leaves(call())
        with jax.transfer_guard("allow"), jax.no_execution(False):
            return [(leaf.dtype, leaf.weak_type, np.asarray(leaf).tobytes()) for leaf in leaves]
    except Exception as error:
        return type(error), str(error)[:60]


def wrapped(program):
    """A function of its own, so that nothing was traced for it before."""
    return lambda x: program(x)


def test_every_context_of_the_installed_jax_is_tried():
    manager = type(jax.debug_nans)
    states = {name for name in dir(jax) if isinstance(getattr(jax, name), manager)}
    assert states <= set(CONTEXTS) | _NO_CONTEXTS


@pytest.mark.parametrize("name", [name for name in CONTEXTS if hasattr(jax, name)])
def test_a_context_means_what_it_means_to_jit(name):
    cache = JitCache()
    # Two uses of a key are one use but for those who look for them, and take twice as long to compile.
    chosen = [program for each, program in PROGRAMS.items() if each != "keys" or name == "debug_key_reuse"]
    for value in CONTEXTS[name]:
        for program in chosen:
            mine, theirs = cache.jit(wrapped(program)), jax.jit(wrapped(program))
            # A call that no_tracing has refused makes jax.jit forget its fast way, and so refuse later ones.
            for inside in (False, True) if name == "no_tracing" else (True, False, True):
                with getattr(jax, name)(value) if inside else contextlib.nullcontext():
                    ours, jits = outcome(lambda f=mine: f(x)), outcome(lambda f=theirs: f(x))
                assert ours == jits, inside


@pytest.mark.parametrize(
    "program",
    [
        lambda x: jnp.linalg.solve(x + jnp.eye(3), x),
        lambda x: jnp.interp(x[0], x[1], x[2]),
        jax.hessian(lambda x: jnp.sum(jnp.interp(x, x[0], x[1]))),
        jax.vmap(lambda row: lax.scan(lambda c, s: (jnp.clip(c + s, 0, 1), s), row[0], row)),
        lambda x: lax.while_loop(lambda v: jnp.sum(v) < 10, lambda v: v + jnp.clip(v, 0.1, 1), x),
        lambda x: jax.scipy.sparse.linalg.cg(lambda v: (x + jnp.eye(3)) @ v, x[0]),
        lambda x: jax.linearize(lambda y: jnp.linalg.inv(y + jnp.eye(3)), x)[1](x),
        lambda x: jnp.searchsorted(x[0], x[1]),
    ],
)
def test_no_leak_is_reported_where_there_is_none(program):
    with jax.checking_leaks():
        ours = outcome(lambda: JitCache().jit(wrapped(program))(x))
        assert ours == outcome(lambda: jax.jit(wrapped(program))(x))
    assert not isinstance(ours[0], type)


def test_a_leak_is_still_reported():
    with jax.checking_leaks(), pytest.raises(Exception, match="Leaked"):
        JitCache().jit(wrapped(leaks_a_tracer))(x)


def test_nothing_is_traced_where_tracing_is_forbidden():
    with jax.no_tracing(True):
        for jit in (jax.jit, JitCache().jit):
            with pytest.raises(RuntimeError, match="'no_tracing' is set"):
                jit(wrapped(PROGRAMS["product"]))(x)


def test_contexts_may_be_nested_and_left_in_any_order():
    mine, theirs = JitCache().jit(wrapped(PROGRAMS["product"])), jax.jit(wrapped(PROGRAMS["product"]))
    wide = np.eye(3)
    for names in (("enable_x64", "debug_nans"), ("enable_x64",), ("debug_nans", "check_tracer_leaks"), ()):
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(getattr(jax, name)(True))
            for _ in range(2):
                assert outcome(lambda: mine(wide)) == outcome(lambda: theirs(wide))
