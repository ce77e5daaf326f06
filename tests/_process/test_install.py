"""install: every jax.jit made after it is that of one cache, and uninstall gives everything back."""

import functools
import importlib
import pickle
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcache
from jaxcache._jax import jit_names

from .._support.compiles import count_compiles


@pytest.fixture
def cache(logged_warnings):
    installed = jaxcache.install("8MiB")
    yield installed
    jaxcache.uninstall()
    logged_warnings.clear()  # modules of this process that have bound jax.jit are named


@pytest.fixture
def library():
    """A module that was imported before."""
    module = types.ModuleType("library_of_a_colleague")
    module.jit = jax.jit
    module.static = functools.partial(jax.jit, static_argnames="n")
    module.jitted = jax.jit(lambda x: x - 1)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    "wrap",
    [lambda f: jax.jit(f), lambda f: functools.partial(jax.jit)(f), lambda f: jax.jit()(f),
     lambda f: jax.jit(static_argnames=())(f), lambda f: jax.jit(jax.jit(f))],
)  # fmt: skip
def test_what_is_jitted_after_install_is_of_the_cache(cache, wrap):
    f = wrap(lambda x: x * 3)
    with count_compiles() as compiled:
        results = [np.asarray(f(np.float32(x))) for x in (2, 3)]
    stats = cache.stats()
    assert results == [6, 9]
    assert (stats.misses, stats.hits, compiled) == (1, 1, [1])


def test_modules_that_had_bound_jit_are_named_and_served_and_get_it_back(library, logged_warnings):
    plain, partial, jitted = library.jit, library.static, library.jitted
    bound = {name.text for name in jit_names.bound_names(jax.jit)}
    assert {"library_of_a_colleague.jit", "library_of_a_colleague.static"} <= bound
    assert "library_of_a_colleague.jitted" in {name.text for name in jit_names.jitted_names()}
    cache = jaxcache.install()
    try:
        power = library.static(lambda x, n: x**n)
        assert power(np.float32(3), n=2) == 9
        assert library.jit(jnp.sin)(np.float32(0)) == 0
        assert cache.stats().misses == 2
        assert library.jitted is jitted
    finally:
        cache.uninstall()
    assert (library.jit, library.static, jax.jit) == (plain, partial, plain)
    (warning,) = logged_warnings  # which names the first of each kind: other tests have imported libraries too
    logged_warnings.clear()
    assert any(name in warning for name in bound)
    assert "had bound jax.jit before, and now have that of the cache" in warning
    assert "jitted before, compile is evicted as a whole, not one by one" in warning


def test_what_was_bound_meanwhile_is_given_back_too(cache, library):
    before = cache._state
    late = types.ModuleType("imported_later")
    late.jit, late.partial = jax.jit, functools.partial(jax.jit, static_argnums=0)
    sys.modules[late.__name__] = late
    try:
        jaxcache.uninstall()
        assert late.jit is jax.jit
        assert late.partial.func is jax.jit
        assert late.partial.keywords == {"static_argnums": 0}
    finally:
        del sys.modules[late.__name__]
    assert cache._state is before


def test_functions_go_on_with_the_cache_after_uninstall(cache):
    f = jax.jit(lambda x: x + 1)
    assert f(np.float32(1)) == 2
    cache.uninstall()
    assert f(np.float32(2)) == 3
    assert cache.stats().hits == 1
    assert not isinstance(jax.jit(lambda x: x), jaxcache.CachedFunction)


def test_a_second_install_is_refused_and_changes_nothing(cache):
    jit = jax.jit
    with pytest.raises(RuntimeError, match=r"install was called twice.*uninstall\(\) first"):
        jaxcache.install("1GiB")
    assert jax.jit is jit


def test_the_context_manager_ends_with_the_cache_cleared(logged_warnings):
    with jaxcache.installed("8MiB", "lru") as cache:
        f = jax.jit(lambda x: x)
        f(np.float32(1))
        assert cache.stats().variants == 1
    assert cache.stats().variants == 0
    with jaxcache.installed():  # again
        pass
    logged_warnings.clear()


def test_install_within_a_traced_function_is_refused():
    def f(x):
        jaxcache.install()
        return x

    with pytest.raises(RuntimeError, match="outside of functions that JAX traces"):
        jax.jit(f)(1.0)


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [(0, ValueError, "limit must be positive"), ("100KiB", ValueError, "limit must hold at least the smallest program"),
     ("much", ValueError, "limit must be a size"), (True, TypeError, "limit must be a size")],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_refused_and_nothing_installed(limit, error, message):
    jit = jax.jit
    with pytest.raises(error, match=message):
        jaxcache.install(limit)
    assert jax.jit is jit
    jaxcache.uninstall()  # nothing to take back


@pytest.mark.parametrize("wrap", [lambda f: jax.jit(f), lambda f: jax.jit(static_argnums=())(f),
                                  lambda f: jax.jit(functools.partial(f))])  # fmt: skip
def test_only_functions_of_the_named_packages_start_without_tracing(tmp_path, logged_warnings, wrap):
    traced = []
    for name, shape in (("users", "-1, 1"), ("users_other", "1, -1")):
        (tmp_path / f"{name}.py").write_text(f"def f(x):\n    return x.reshape({shape})\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with jaxcache.use_directory(tmp_path / "shared"):
            for _ in range(2):
                with jaxcache.installed(code_key=["users"]) as cache:
                    functions = [wrap(importlib.import_module(name).f) for name in ("users", "users_other")]
                    for f in functions:
                        f(np.ones(2))
                    reasons = [cache.explain(f, np.ones(3)).reason for f in functions]
                    traced.append([reason.partition("; ")[2] for reason in reasons])
                    assert cache.stats().disk_hits == (0 if len(traced) == 1 else 2)
    finally:
        sys.path.remove(str(tmp_path))
    absent = "it is traced, since the shared directory has no program of its code for this call"
    assert traced == [[absent, ""], [absent, ""]]
    logged_warnings.clear()


@pytest.mark.parametrize("names", ["users", [1]])
def test_packages_are_named_in_a_list(names):
    with pytest.raises(TypeError, match="code_key must be a list of names"):
        jaxcache.install(code_key=names)


def test_options_that_only_the_cache_has_are_refused_as_jax_does(cache):
    with pytest.raises(TypeError, match="unexpected keyword argument 'key'"):
        jax.jit(lambda x: x, key=lambda x: 1)


def test_jit_itself_travels_by_name(cache):
    assert pickle.loads(pickle.dumps(jax.jit)) is jax.jit
    assert pickle.loads(pickle.dumps(functools.partial(jax.jit, static_argnums=0))).func is jax.jit


def test_other_ways_to_compile_go_on(cache):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    x = jnp.arange(4.0)
    mapped = jax.shard_map(lambda v: v * 2, mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_array_equal(jax.jit(mapped)(x), [0, 2, 4, 6])
    np.testing.assert_array_equal(mapped(x), [0, 2, 4, 6])
    np.testing.assert_array_equal(jax.pmap(lambda v: v + 1)(x[None]), [[1, 2, 3, 4]])
    compiled = jax.jit(lambda v: v - 1).lower(x).compile()
    np.testing.assert_array_equal(compiled(x), [-1, 0, 1, 2])
    assert jax.grad(jax.jit(lambda v: v**2))(3.0) == 6
