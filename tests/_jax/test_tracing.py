"""What tracing leaves behind goes with the entry, and nobody else traces or compiles for it."""

import gc
import sys
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache
from jaxcache._jax import tracing
from tests._support.interpreters import run_python

from .._support.compiles import count_compiles


def conjugate_gradients(b):
    return jax.scipy.sparse.linalg.cg(lambda x: 4 * x - jnp.roll(x, 1) - jnp.roll(x, -1), b)[0]


def jaxprs():
    gc.collect()
    return sum(type(held).__name__ == "Jaxpr" for held in gc.get_objects())


def test_the_installed_jax_lets_traces_be_owned():
    assert tracing.FAULT is None
    assert len(tracing._empty_value_caches) >= 8


@pytest.mark.parametrize("way", ["clear", "evict"])
def test_no_jaxpr_stays_behind_a_shape_that_went(way):
    cache = JitCache(None if way == "clear" else "1200KiB", "lru")
    f = cache.jit(conjugate_gradients)
    for n in range(3, 7):
        f(np.ones(n, np.float32))
    if way == "clear":
        cache.clear()
    before = jaxprs()
    for n in range(7, 13):
        f(np.ones(n, np.float32))
    if way == "clear":
        cache.clear()
    assert jaxprs() <= before + 2  # of an entry that is held, programs differ a little


def runs_of(code, call):
    """Return how often a Python function runs in a call."""
    runs = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: event == "call" and frame.f_code is code and runs.append(event))
    try:
        call()
    finally:
        sys.setprofile(before)
    return len(runs)


@pytest.mark.parametrize(("limit", "times"), [(None, 1), ("1GiB", 2)])
def test_without_a_limit_jaxs_own_functions_are_traced_once_for_all_programs(limit, times):
    cache = JitCache(limit)
    f = cache.jit(lambda x, n: jnp.sum(jnp.sort(x)) + jnp.sum(n))
    x = np.ones(1237, np.float32)
    sort = jnp.sort.__wrapped__.__code__
    assert runs_of(sort, lambda: [f(x, np.ones(n, np.float32)) for n in (3, 4)]) == times
    cache.clear()
    assert runs_of(sort, lambda: f(x, np.ones(5, np.float32))) == 1


def test_shared_traces_hold_no_values_of_the_program():
    cache = JitCache()
    held = np.ones(3, np.float32)
    gone = weakref.ref(held)
    mapped = lambda x, held=held: jax.lax.map(lambda y: jnp.vectorize(lambda z: z + held.sum())(y), x)  # noqa: E731
    f = cache.jit(mapped)
    f(np.ones(2, np.float32))
    del f, mapped, held
    gc.collect()
    assert gone() is None


def test_under_jit_jaxprs_do_stay_behind():
    """What the test above would miss if it looked at the wrong objects."""
    before = jaxprs()
    for n in range(13, 19):
        jax.jit(lambda b: conjugate_gradients(b))(np.ones(n, np.float32))
    assert jaxprs() > before + 30


def bystanders():
    """Calls of the user's that JAX serves out of its caches."""
    x, plain = jnp.ones(5), jax.jit(lambda x: jnp.roll(jnp.sin(x), 1))
    loss = lambda x: jnp.sum(plain(x) ** 2)  # noqa: E731
    body = lambda c, x: (c + x, jnp.where(x > 0, x, c))  # noqa: E731
    more = lambda x: x + 1  # noqa: E731
    less = lambda x: jnp.sum(x) < 30  # noqa: E731
    return [
        lambda: plain(x), lambda: plain(np.ones(5, np.float32)), lambda: jax.grad(loss)(x), lambda: jnp.linalg.norm(x),
        lambda: jax.vmap(plain)(jnp.ones((2, 5))), lambda: jnp.where(x > 0, x, 0.0), lambda: jax.nn.gelu(x),
        lambda: jax.lax.scan(body, jnp.float32(0), x), lambda: jax.lax.while_loop(less, more, x),
        lambda: jax.random.normal(jax.random.key(0), (5,)),
    ]  # fmt: skip


def test_nobody_else_compiles_again_for_what_the_cache_builds_and_drops():
    cache = JitCache("1200KiB", "lru")
    f, g = cache.jit(conjugate_gradients), cache.jit(jax.grad(lambda x: jnp.sum(jax.nn.gelu(jnp.roll(x, 1)))))
    calls = bystanders()
    for call in calls:
        call(), call()
    with count_compiles() as compiles:
        for call in calls:
            call()
    assert compiles == [0]  # else the test would show nothing
    for n in range(3, 3 + tracing._BUILDS_BETWEEN + 4):  # the caches of values are emptied on the way
        (f if n % 2 else g)(np.ones(n, np.float32))
    f(np.ones(5, np.float32)), g(np.ones(5, np.float32))  # the bystanders' own shape
    with count_compiles() as compiles:
        for call in calls:
            call()
    assert compiles == [0]


def test_jax_is_as_it_was_once_nothing_is_built():
    from jax._src import pjit
    from jax._src.interpreters import partial_eval

    JitCache().jit(lambda x: x)(np.ones(2))  # takes back what a build that an interrupt ended has left
    before = pjit._infer_params, partial_eval.trace_to_jaxpr
    seen = []

    def program(x):
        seen.append((pjit._infer_params, partial_eval.trace_to_jaxpr))
        if len(seen) == 2:
            raise ValueError("in the middle of tracing")
        return jnp.roll(x, 1)

    f = JitCache().jit(program)
    f(np.ones(3))
    with pytest.raises(ValueError, match="in the middle"):
        f(np.ones(4))
    assert all(during != now for pair in seen for during, now in zip(pair, before, strict=True))
    assert (pjit._infer_params, partial_eval.trace_to_jaxpr) == before


def test_an_interrupt_in_the_clean_up_leaves_jax_changed_until_the_next_build_at_most():
    from jax._src import pjit

    before, cleaning = pjit._infer_params, []

    def interrupt(frame, event, argument):
        if event == "line":  # the first one is that of the clean-up
            cleaning.append(frame.f_lineno)
            raise KeyboardInterrupt
        return interrupt

    def watch(frame, event, argument):
        return interrupt if frame.f_code.co_name == "own_traces" else None

    def interrupted():
        with tracing.own_traces():
            sys.settrace(watch)  # the next call of this frame is its clean-up
            raise ValueError("in the middle of tracing")

    previous = sys.gettrace()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        sys.settrace(previous)
    assert cleaning
    assert pjit._infer_params is not before
    gc.collect()
    JitCache().jit(lambda x: x)(np.ones(2))
    assert pjit._infer_params is before


def test_other_threads_trace_for_themselves_meanwhile():
    inside, done = threading.Event(), threading.Event()

    def program(x):
        inside.set()
        assert done.wait(30)
        return jnp.roll(x, 1)

    thread = threading.Thread(target=JitCache().jit(program), args=(np.ones(3),))
    thread.start()
    assert inside.wait(30)
    inner = jax.jit(lambda x: jnp.roll(x, 2) * 2)
    outer = jax.jit(lambda x: inner(x) + 1)
    assert outer(np.arange(3.0)).tolist() == [3, 5, 1]
    done.set()
    thread.join()
    with count_compiles() as compiles:
        assert outer(np.arange(3.0)).tolist() == [3, 5, 1]
    assert compiles == [0]


def test_programs_are_the_same_text_as_under_jit():
    """The names of inner functions are in it."""

    @jax.jit
    def inner(x):
        return jnp.where(x > 0, jnp.roll(x, 1), x)

    def program(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: inner(y) + jax.nn.relu(y), x)

    from jaxcache._cache.executable import Program

    x = np.ones(3, np.float32)
    mine = Program(program, {}, (x,), {}).lowered.as_text()
    assert mine == jax.jit(program).lower(x).as_text()


def test_errors_name_the_users_line():
    def program(x):
        return jax.jit(lambda y: y @ jnp.ones((7, 7)))(x)

    texts = []
    for jit in (jax.jit, JitCache().jit):
        try:
            jit(program)(np.ones(3))
        except TypeError as error:
            texts.append(str(error))
    assert len(texts) == 2
    assert texts[0] == texts[1]


def test_a_jax_whose_traces_cannot_be_owned_is_served_all_the_same():
    program = """
import numpy as np, jax.numpy as jnp
import jax._src.pjit as pjit
original = pjit._infer_params
pjit._infer_params = lambda fun, ji, args, kwargs, more=None: original(fun, ji, args, kwargs)
from jaxcache import JitCache
from jaxcache._jax import tracing
assert "takes other arguments" in tracing.FAULT
cache = JitCache()
f = cache.jit(lambda x: jnp.roll(x, 1))
assert f(np.arange(3)).tolist() == f(np.arange(3)).tolist() == [2, 0, 1]
assert (cache.stats().hits, cache.stats().misses) == (1, 1)
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr
