"""A key changes with the call, with JAX's configuration, and with the devices."""

import os
from contextlib import nullcontext
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxcache._calls.signature import call_key, resolve_statics
from jaxcache._code_key.digest import CannotBeKeyed
from jaxcache._code_key.keys import program_key

from .._support.trees import Own

X = np.ones((4, 4), np.float32)


def program(x, n=1, *rest, **named):
    return x * n


def key(args=(X,), kwargs=None, options=None, context=None):
    options = options or {}
    with context() if context else nullcontext():
        statics = resolve_statics(program, options.get("static_argnums"), options.get("static_argnames"))
        return program_key(program, "program", options, call_key(statics, args, kwargs or {}))


@dataclass(frozen=True)
class Static:
    size: int


def on_device():
    return jax.device_put(X, jax.devices()[0])


def on_mesh(spec):
    return jax.device_put(X, NamedSharding(Mesh(np.array(jax.devices()[:1]), "a"), PartitionSpec(spec)))


CALLS = {
    "a shape": {"args": (X[:2],)},
    "a dtype": {"args": (X.astype(np.int32),)},
    "a weak type": {"args": (jnp.full((4, 4), 1.0),)},
    "a Python number": {"args": (1.0,)},
    "an integer": {"args": (1,)},
    "a strong number": {"args": (np.float32(1),)},
    "another argument": {"args": (X, 1)},
    "a keyword": {"kwargs": {"n": 1}},
    "an argument by name": {"args": (), "kwargs": {"x": X}},
    "a tuple": {"args": ((X,),)},
    "a list": {"args": ([X],)},
    "a dict": {"args": ({"a": X},)},
    "another key of a dict": {"args": ({"b": X},)},
    "a node": {"args": (Own(X, "a"),)},
    "other metadata of a node": {"args": (Own(X, "b"),)},
    "a committed device": {"args": (on_device(),)},
    "a mesh": {"args": (on_mesh(None),)},
    "a partition": {"args": (on_mesh("a"),)},
    "a static value": {"args": (X, 1), "options": {"static_argnums": 1}},
    "another static value": {"args": (X, 2), "options": {"static_argnums": 1}},
    "another type of a static value": {"args": (X, True), "options": {"static_argnums": 1}},
    "a static object": {"args": (X, Static(1)), "options": {"static_argnums": 1}},
    "another static object": {"args": (X, Static(2)), "options": {"static_argnums": 1}},
    "a static name": {"kwargs": {"n": 1}, "options": {"static_argnames": "n"}},
    "donation": {"options": {"donate_argnums": 0}},
    "unused arguments that are kept": {"options": {"keep_unused": True}},
    "inlining": {"options": {"inline": True}},
    "a sharding of the result": {"options": {"out_shardings": SingleDeviceSharding(jax.devices()[0])}},
    "a sharding of the arguments": {"options": {"in_shardings": SingleDeviceSharding(jax.devices()[0])}},
    "an option of the compiler": {"options": {"compiler_options": {"xla_cpu_enable_fast_math": True}}},
    "another value of the option": {"options": {"compiler_options": {"xla_cpu_enable_fast_math": False}}},
    "64 bits": {"context": lambda: jax.enable_x64(True)},
    "a matmul precision": {"context": lambda: jax.default_matmul_precision("float32")},
    "a default device": {"context": lambda: jax.default_device(jax.devices()[0])},
    "promotion of dtypes": {"context": lambda: jax.numpy_dtype_promotion("strict")},
    "promotion of ranks": {"context": lambda: jax.numpy_rank_promotion("raise")},
    "another generator of random numbers": {"context": lambda: jax.default_prng_impl("rbg")},
    "a mesh that is entered": {"context": lambda: jax.set_mesh(Mesh(np.array(jax.devices()[:1]), "a"))},
}


def test_every_difference_of_calls_gives_another_key_and_equal_calls_the_same():
    keys = {name: key(**call) for name, call in CALLS.items()} | {"nothing": key()}
    entries = {name: each.entry for name, each in keys.items()}
    same = [(one, other) for one in entries for other in entries if one < other and entries[one] == entries[other]]
    assert same == []
    assert {name: key(**call).entry for name, call in CALLS.items()} == {name: entries[name] for name in CALLS}


def test_arrays_of_numpy_and_of_jax_have_one_program():
    assert key((jnp.asarray(X),)).entry == key((X,)).entry
    assert key((jax.ShapeDtypeStruct(X.shape, X.dtype),)).entry == key((X,)).entry


@pytest.mark.parametrize(
    ("variable", "value"),
    [("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"), ("LIBTPU_INIT_ARGS", "--a=b"), ("TF_XLA_FLAGS", "--c")],
)
def test_flags_of_xla_give_another_key(variable, value, monkeypatch):
    before = key().entry
    monkeypatch.setenv(variable, f"{os.environ.get(variable, '')} {value}")
    assert key().entry != before


def test_settings_that_only_log_or_store_give_the_same_key(tmp_path):
    before = key().entry
    with jax.log_compiles(True):
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        try:
            assert key().entry == before
        finally:
            jax.config.update("jax_compilation_cache_dir", None)


@pytest.mark.parametrize("context", [jax.debug_nans, jax.debug_infs, jax.checking_leaks])
def test_where_jax_watches_programs_nothing_has_a_key(context):
    with context() if context is jax.checking_leaks else context(True), pytest.raises(CannotBeKeyed, match="is set"):
        key()


def test_a_registered_class_counts_with_its_functions(monkeypatch):
    before = key((Own(X, "a"),)).entry
    monkeypatch.setattr(Own, "twice", lambda self: self.w * 2, raising=False)
    assert key((Own(X, "a"),)).entry != before
