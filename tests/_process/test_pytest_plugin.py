"""The pytest plugin: one directory for all workers, bounded memory, and tests that say what they may compile."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import jax, numpy as np, pytest

@pytest.mark.parametrize("n", range(3))
def test_programs(n):
    f = jax.jit(lambda x: x * n + 1)
    np.testing.assert_array_equal(f(np.ones(n + 2, np.float32)), n + 1)
"""
MARKS = """
import jax, numpy as np, pytest

known = jax.jit(lambda x: x - 1)

@pytest.fixture
def warm():
    known(np.ones(3, np.float32))

@pytest.mark.no_compiles
def test_warm(warm):
    known(np.ones(3, np.float32))

@pytest.mark.no_compiles
def test_cold(warm):
    known(np.ones(4, np.float32))

@pytest.mark.max_compiles(2)
@pytest.mark.parametrize("n", [2, 3])
def test_some(n):
    for length in range(10, 10 + n):
        known(np.ones((n, length), np.float32))

def test_fixture(warm, no_compiles):
    known(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="no_compiles"):
        known(np.ones(5, np.float32))

@pytest.mark.max_compiles("two")
def test_wrong():
    pass
"""


def run(folder, *options):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    )
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "pytest_jaxcache", "-p", "no:cacheprovider",
                           *map(str, options)], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
                          env=environment)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_suite.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    return tmp_path


def test_a_second_run_loads_what_the_first_has_compiled(folder):
    options = ("--jaxcache", "shared", "--jaxcache-limit", "500MiB", "--jaxcache-memory", "1GiB")
    first, second = (run(folder, *options).stdout for _ in range(2))
    assert re.search(r"jaxcache: 3 programs compiled, 0 loaded, 0\.0 s saved; costliest: test_suite\.py::", first)
    assert re.search(r"jaxcache: 0 programs compiled, 3 loaded, ", second)


def test_marks_and_fixture_hold_tests_to_what_they_may_compile(folder):
    (folder / "test_suite.py").write_text(MARKS)
    told = run(folder, "-rA").stdout
    passed = set(re.findall(r"^PASSED \S+::(\S+)", told, re.MULTILINE))
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", told, re.MULTILINE))
    assert passed == {"test_warm", "test_some[2]", "test_fixture"}, told
    assert failed == {"test_cold", "test_some[3]", "test_wrong"}
    assert "new shape: x axis 0: was 3, is 4" in told or "would be compiled at" in told
    assert "jaxcache:" not in told.splitlines()[-1]


def test_without_options_neither_jax_nor_jaxcache_is_imported(folder):
    (folder / "test_suite.py").write_text(
        "import sys\ndef test_it(): assert not {'jax', 'jaxcache'} & set(sys.modules)\n"
    )
    told = run(folder)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--jaxcache-memory", "0"), "--jaxcache-memory must be positive"),
     (("--jaxcache-limit", "9MiB"), "needs --jaxcache DIR"),
     (("--jaxcache", "shared", "--jaxcache-limit", "much"), "--jaxcache-limit must be a size"),
     (("--jaxcache-memory", "abc"), "--jaxcache-memory must be a size")],
)  # fmt: skip
def test_wrong_options_are_refused(folder, options, message):
    told = run(folder, *options)
    assert told.returncode == 4
    assert message in told.stderr


def test_workers_compile_each_program_once_and_are_counted_together(folder):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    told = run(folder, "-p", "xdist.plugin", "-n", "2", "--jaxcache", "shared")
    assert "jaxcache: 3 programs compiled, 0 loaded" in told.stdout, told.stdout
