"""would_hit: the tier that a call's program is in, by JAX's own key, without a compile."""

import jax
import jax.numpy as jnp
import pytest

import jaxcache
from jaxcache._jax import interfaces


@pytest.fixture
def use(tmp_path):
    opened = []

    def use(name, **options):
        opened.append(jaxcache.use_directory(tmp_path / name, **options))
        return opened[-1]

    yield use
    for cache in opened:
        cache.close()


def new_norm():
    """A function that JAX has not seen."""

    def norm(x, power):
        return jnp.sum(jnp.abs(x) ** power) ** (1 / power)

    return norm


@pytest.mark.parametrize("options", [{}, {"static_argnums": 1}, {"static_argnames": "power"}])
def test_it_says_before_a_compile_what_is_found_after_it(use, tmp_path, options):
    x = jnp.arange(5.0)
    jitted = jax.jit(new_norm(), **options)
    shared = use("local")
    before = shared.would_hit(jitted, x, 3)
    assert (bool(before), before.tier, before.compile_seconds) == (False, None, 0.0)
    counts = shared.process_counts()
    assert (counts.hits, counts.misses, counts.puts) == (0, 0, 0)
    jitted.lower(x, 3).compile()
    (row,) = shared.index.rows()
    after = shared.would_hit(jitted, x, 3)
    assert (after.key, after.tier, after.compile_seconds) == (row.key, "directory", row.compile_seconds)
    assert (before.key, after.fingerprint) == (row.key, shared.fingerprint.parts)
    assert f"jax {jax.__version__}" in after.origin
    assert not shared.would_hit(jitted, jnp.arange(6.0), 3)
    shared.close()
    layered = use("other", layers=[tmp_path / "local"])
    assert layered.would_hit(jitted, x, 3).tier == "layer"


@pytest.mark.parametrize(
    "options",
    [{}, {"static_argnums": 1}, {"static_argnames": "power"}, {"static_argnums": 1, "code_key": True},
     {"static_argnums": 1, "donate_argnums": 0}],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_functions_of_a_cache_keep_their_options(use, options):
    shared, norm = use("local"), new_norm()
    cached = jaxcache.JitCache().jit(norm, **options)
    x = jnp.arange(5.0)
    before = shared.would_hit(cached, x, 3)
    assert not before
    cached(x, 3)
    assert before.key in {row.key for row in shared.index.rows()}
    assert shared.would_hit(cached, jnp.arange(5.0), 3).tier == "directory"
    assert not shared.would_hit(cached, jnp.arange(5.0), 4) or not options


def test_a_jitted_function_in_a_cache_is_as_it_is_called(use):
    shared = use("local")
    cached = jaxcache.JitCache().jit(jax.jit(new_norm(), static_argnums=1))
    cached(jnp.arange(5.0), 3)
    assert shared.would_hit(cached, jnp.arange(5.0), 3).tier == "directory"


@pytest.mark.parametrize("jit", [lambda f: jax.jit(f, static_argnums=0), jaxcache.JitCache().jit])
def test_a_method_is_as_it_is_called(use, jit):
    class Model:
        @jit
        def grow(self, x):
            return x * 2 + 1

    jax.tree_util.register_static(Model)
    shared, model = use("local"), Model()
    model.grow(jnp.ones(7))
    assert shared.would_hit(model.grow, jnp.ones(7)).tier == "directory"
    assert not shared.would_hit(model.grow, jnp.ones(8))


def test_a_plain_function_is_as_under_jit_and_it_still_compiles_afterwards(use):
    shared = use("local")
    assert not shared.would_hit(jnp.sinc, jnp.ones(3))
    held = interfaces.persistent_hits()
    assert jax.jit(new_norm(), static_argnums=1)(jnp.ones(4), 2) == 2.0
    assert interfaces.persistent_hits() == held


def test_what_jit_refuses_is_refused(use):
    with pytest.raises(TypeError):
        use("local").would_hit(jax.jit(new_norm()), jnp.ones(3))


def test_a_program_in_the_remote_is_found_there(use, tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "store").mkdir(mode=0o700)
    remote, x = (tmp_path / "store").as_uri(), jnp.ones(7)
    use("one", remote=remote)
    jax.jit(lambda x: x * 2 + 1)(x)
    use("one").close()
    assert use("other", remote=remote).would_hit(lambda x: x * 2 + 1, x).tier == "remote"
