"""Errors, warnings and programs name the user's lines, wherever our files lie."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import source_info_util, traceback_util

import jaxcache
from jaxcache import JitCache, bucketed, iterative_solver, monte_carlo, optimization_loop, value_and_grad_step
from jaxcache._jax.own_files import OWN_FILES
from tests._support.interpreters import run_python

PACKAGE = Path(jaxcache.__file__).parent
X = np.ones(3, np.float32)


def test_each_file_of_the_package_is_hidden_but_those_that_stand_for_programs():
    files = {str(path) for path in PACKAGE.rglob("*.py")}
    lab = {str(path) for path in (PACKAGE / "lab").rglob("*.py")}
    assert set(OWN_FILES) == files - lab
    assert set(OWN_FILES) <= set(traceback_util._exclude_paths)
    assert not any(source_info_util.is_user_filename(file) for file in OWN_FILES)
    assert all(source_info_util.is_user_filename(file) for file in lab)


ENTRIES = {
    "jit": lambda cache: cache.jit(lambda x: x * 2)(X),
    "warm": lambda cache: cache.jit(lambda x: x * 2).warm((X,)),
    "lower": lambda cache: cache.jit(lambda x: x * 2).lower(X).compile(),
    "bucketed": lambda cache: bucketed(lambda x: x * 2, cache=cache, buckets=[4])(X),
    "optimization_loop": lambda cache: optimization_loop(lambda s: s / 2, lambda s: jnp.all(s < 1), cache=cache)(X),
    "iterative_solver": lambda cache: iterative_solver(
        lambda x, b: (x + b) / 2, residual=lambda x, b: x - b, cache=cache
    )(X, X),
    "value_and_grad_step": lambda cache: value_and_grad_step(lambda w, x: jnp.sum(w * x), cache=cache)(X, X),
    "monte_carlo": lambda cache: monte_carlo(lambda key: jax.random.normal(key), 8, cache=cache)(jax.random.key(0)),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_warning_names_the_users_line_for_every_way_to_compile(entry):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ENTRIES[entry](JitCache(1000))
    ours = [warning for warning in caught if str(warning.message).startswith("jaxcache")]
    assert [warning.filename for warning in ours] == [__file__] * len(ours) != []


def test_a_program_names_the_users_lines_and_none_of_ours():
    text = JitCache().jit(lambda x: x * 2).lower(X).as_text(debug_info=True)
    assert Path(__file__).name in text
    assert str(PACKAGE) not in text


EVERY_NAME = """
import os, sys
import jax, jaxcache
from jax._src import traceback_util
from jaxcache._jax.own_files import OWN_FILES

assert not set(OWN_FILES) & set(traceback_util._exclude_paths)
for name in jaxcache.__all__:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    getattr(jaxcache, name)
    uses_jax = any(getattr(module, "jax", None) is jax for own, module in sys.modules.items() if "jaxcache." in own)
    if uses_jax:
        assert set(OWN_FILES) <= set(traceback_util._exclude_paths), name
        print(name)
    sys.stdout.flush()
    os._exit(0)
"""


def test_no_public_name_brings_code_that_uses_jax_without_hiding_our_frames_from_it():
    names = run_python(EVERY_NAME, check=True).stdout.split()
    assert {"JitCache", "use_directory", "watch", "benchmark", "bucketed"} <= set(names)
    assert not {"parse_size", "replay", "POLICIES"} & set(names)
