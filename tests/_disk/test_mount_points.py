"""One directory by several paths: keys are equal, unless XLA's autotuning on JAX 0.10 has the path in them."""

import os

import jax
import pytest

import jaxcache

from .test_jax import run


def autotune_directory():
    from jax._src import compiler

    options = compiler.get_compile_options(1, 1)  # held: what it hands out does not hold it
    return options.executable_build_options.debug_options.xla_gpu_per_fusion_autotune_cache_dir


@pytest.fixture
def with_plugin(tmp_path_factory):
    """A folder for PYTHONPATH in which a plug-in of JAX is installed that starts nothing."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "quiet_plugin.py").write_text("def initialize(): pass\n")
    about = folder / "quiet_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[jax_plugins]\nquiet = quiet_plugin\n")
    return folder


HAS_PATHS_IN_KEYS = jax.__version_info__ < (0, 11)


def environment_with(folder, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX")}
    return kept | ({"PYTHONPATH": str(folder)} if folder else {}) | variables


AUTOTUNED = """
import sys, jax, jaxcache
from jax._src import compiler
def named():
    options = compiler.get_compile_options(1, 1)  # held: what it hands out does not hold it
    return options.executable_build_options.debug_options.xla_gpu_per_fusion_autotune_cache_dir
before = named()
with jaxcache.use_directory(sys.argv[1]):
    print(named() == sys.argv[1] + "/xla_gpu_per_fusion_autotune_cache_dir", before == "" or before)
print(named() == before)
"""


def test_xla_keeps_its_autotuning_in_the_directory_where_there_are_accelerators(tmp_path, with_plugin):
    assert run(AUTOTUNED, tmp_path, env=environment_with(with_plugin)) == "True True\nTrue\n"
    for folder, variables in ((None, {}), (with_plugin, {"JAX_PLATFORMS": "cpu"})):
        told = run(AUTOTUNED, tmp_path, env=environment_with(folder, **variables))
        assert told == f"{not HAS_PATHS_IN_KEYS} True\nTrue\n"


def test_a_directory_for_jaxs_own_cache_that_the_user_has_set_stays(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    try:
        with jaxcache.use_directory(tmp_path / "shared"):
            assert autotune_directory() == str(tmp_path / "own" / "xla_gpu_per_fusion_autotune_cache_dir")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


KEY = """
import sys, numpy as np, jax, jaxcache
cache = jaxcache.use_directory(sys.argv[1])
jax.jit(lambda x: x * 5 + 2)(np.ones(7, np.float32))
print(cache.index.rows()[0].key)
"""


@pytest.mark.parametrize(
    ("plugin", "variables", "has_paths"),
    [(False, {}, False), (True, {}, HAS_PATHS_IN_KEYS), (True, {"JAX_PLATFORMS": "cpu"}, False)],
    ids=["no accelerator", "a plug-in", "a plug-in not to be used"],
)
def test_a_directory_is_shared_whatever_its_mount_point_unless_xla_has_to_know_it(
    tmp_path, with_plugin, plugin, variables, has_paths
):
    environment = environment_with(with_plugin if plugin else None, **variables)
    keys = {run(KEY, tmp_path / name, env=environment) for name in ("one", "other")}
    assert len(keys) == (2 if has_paths else 1)
