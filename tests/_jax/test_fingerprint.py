"""The build in a fingerprint: libraries as pip has written them down, and plug-ins where JAX can use them."""

import importlib.metadata
import subprocess
import sys

import pytest

from jaxcache._jax import fingerprint

BUILDS = """
import jax
from jax._src import xla_bridge
from jaxcache._jax import fingerprint
print(fingerprint._build())
del xla_bridge.backends  # as on a JAX that does not tell
print(fingerprint._build())
"""


@pytest.fixture
def with_plugin(tmp_path):
    """A folder in which a plug-in of JAX with a library is installed."""
    about = tmp_path / "quiet_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[jax_plugins]\nquiet = quiet_plugin\n")
    (about / "RECORD").write_text("quiet.so,sha256=abc,3\n")
    (tmp_path / "quiet_plugin.py").write_text("def initialize(): pass\n")
    (tmp_path / "quiet.so").touch()
    return tmp_path


def builds(folder):
    done = subprocess.run(
        [sys.executable, "-c", BUILDS], env={"PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize("name", ["jaxlib", "numpy", "pytest"])
def test_libraries_and_their_hashes_are_those_of_the_distribution(name):
    suffixes = (".so", ".dylib", ".pyd", ".dll")
    files = importlib.metadata.files(name)
    expected = {f"{file}={file.hash.value}" for file in files if file.suffix in suffixes and file.hash}
    assert set(fingerprint._library_hashes(name)) == expected
    assert fingerprint._library_hashes(name) == sorted(expected)


def test_a_distribution_that_is_not_installed_has_no_libraries():
    assert fingerprint._library_hashes("no-such-distribution") == []


def test_a_plug_in_is_a_part_of_the_build_unless_jax_has_no_backend_but_the_cpu(with_plugin, tmp_path_factory):
    without = builds(tmp_path_factory.mktemp("empty"))
    cpu, untold = builds(with_plugin)
    assert without == [cpu, cpu]
    assert untold != cpu
