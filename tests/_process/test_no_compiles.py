"""no_compiles stops whatever would be compiled, whoever asks for it, before the compiler starts."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache import CompileLimitExceeded, JitCache, no_compiles

from .._support.compiles import count_compiles

X, Y = np.ones(3, np.float32), np.ones(4, np.float32)


def library_function():
    f = jax.jit(lambda a: a - 3)
    f(X)
    return f


def cached_function():
    f = JitCache().jit(lambda a: a - 4)
    f(X)
    return f


def refused(call):
    with count_compiles() as compiled, pytest.raises(CompileLimitExceeded) as error, no_compiles():
        call()
    assert compiled == [0]
    return str(error.value)


@pytest.mark.parametrize("make", [library_function, cached_function])
def test_calls_that_are_known_go_on_and_others_are_stopped_and_may_be_made_afterwards(make):
    f = make()
    with no_compiles() as guard:
        np.testing.assert_array_equal(f(X), f(X))
    assert guard.compiled == 0
    refused(lambda: f(Y))
    assert f(Y).shape == (4,)


def test_the_cause_is_said_as_the_cache_says_it_and_where_the_call_stands():
    message = refused(lambda: cached(Y)) if (cached := cached_function()) else ""
    assert "<lambda>(float32[4]) would be compiled at" in message
    assert "test_no_compiles.py:" in message
    assert "new shape: a: was (3,), is (4,)" in message or "new shape: a axis 0: was 3, is 4" in message
    assert "pad the argument to a few sizes" in message


def test_functions_of_no_cache_are_compared_with_the_calls_that_were_allowed():
    f = jax.jit(lambda a: a * 5)
    with no_compiles(allow=1):
        f(X)
        with pytest.raises(CompileLimitExceeded, match=r"new dtype: a: was float32, is int32"):
            f(X.astype(np.int32))


def test_eager_operations_are_stopped_with_advice():
    x = jnp.ones(211)
    assert "called op by op" in refused(lambda: jnp.arctan(x))
    assert "jitted as a whole" in refused(lambda: jnp.linalg.norm(x))


def test_programs_compiled_ahead_are_stopped():
    lowered = jax.jit(lambda a: a * 7).lower(X)
    assert "ahead of a call" in refused(lowered.compile)


def test_a_number_of_programs_may_be_allowed():
    f = jax.jit(lambda a: a * 6)
    with no_compiles(allow=2) as guard:
        for n in (1, 2):
            f(np.ones(n))
        with pytest.raises(CompileLimitExceeded, match=r"allow=2"):
            f(np.ones(3))
    assert guard.compiled == 3


def test_it_may_warn_instead(logged_warnings):
    f = jax.jit(lambda a: a * 8)
    with no_compiles(on="warn") as guard:
        np.testing.assert_array_equal(f(X), 8 * X)
    assert guard.messages == [logged_warnings[0].removeprefix("jaxcache: ")]
    assert "would be compiled" in logged_warnings.pop()


@pytest.mark.parametrize("only_this_thread", [False, True])
def test_other_threads_are_stopped_unless_they_are_let(only_this_thread):
    f, outcomes = jax.jit(lambda a: a * 9), []

    def call():
        try:
            outcomes.append(f(X).shape)
        except CompileLimitExceeded:
            outcomes.append("stopped")

    with no_compiles(only_this_thread=only_this_thread):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert outcomes == [(3,) if only_this_thread else "stopped"]


def test_guards_may_be_nested_and_end_however_they_are_left():
    f = jax.jit(lambda a: a / 2)
    with no_compiles(allow=3) as outer:
        with pytest.raises(CompileLimitExceeded), no_compiles():
            f(X)
        f(X)
    assert outer.compiled == 2
    f(Y)  # no guard is left


def test_an_installed_cache_is_guarded_too(logged_warnings):
    with jaxcache.installed():
        assert "<lambda>(float32[3])" in refused(lambda: jax.jit(lambda a: a)(X))
    logged_warnings.clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"allow": -1}, "allow must be a whole number, 0 or more, but is -1"), ({"allow": True}, "allow must be"),
     ({"on": "error"}, "on must be 'raise' or 'warn', but is 'error'")],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message), no_compiles(**arguments):
        pass
