"""What an entry weighs: the model's parts, against what can be seen without a second model."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcache import JitCache
from jaxcache._cache.executable import BASE_BYTES, Program


def weigh(function, *args):
    return Program(function, {}, args, {}).compile().weight.size_bytes


def test_the_smallest_program_weighs_a_little_more_than_the_base():
    assert BASE_BYTES < weigh(lambda x: x + 1, np.float32(1)) < 2.5 * BASE_BYTES


def test_larger_programs_weigh_more():
    def unrolled(x):
        for _ in range(60):
            x = jnp.sin(x) @ x
        return x

    assert weigh(unrolled, np.ones((4, 4), np.float32)) > 2 * weigh(
        lambda x: jnp.sin(x) @ x, np.ones((4, 4), np.float32)
    )


def test_captured_constants_count_once_and_in_full():
    constant = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32))
    x = np.ones(1000, np.float32)
    extra = weigh(lambda x: x @ constant, x) - weigh(lambda x: x @ jnp.ones((1000, 1000)), x)
    assert abs(extra - constant.nbytes) < 0.1 * constant.nbytes


GROWTH = """
import ctypes, gc, sys
import jax, jax.numpy as jnp, numpy as np
from jaxcache._cache.executable import Program

def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    line = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024

draw, v = np.random.default_rng(0), np.ones(1000, np.float32)
folded = lambda A: lambda v: (A + 1) @ v
branches = lambda A: lambda v: jax.lax.cond(v[0] > 0, lambda v: A @ v, lambda v: -A @ v, v)
negative = lambda A: lambda v: v[0].astype(np.int32) * A
for kind in (folded, branches, negative):
    captured = [jnp.asarray(-draw.integers(1, 99, size=(1000, 1000)).astype(np.float32)) for _ in range(8)]
    if kind is negative:
        captured = [A.astype(np.int32) for A in captured]
    jax.block_until_ready(captured)
    held, sizes = [], []
    for A in captured:
        function = kind(A)
        program = Program(function, {}, (v,), {}).compile()
        held.append((function, program))
        sizes.append(resident())
    print(float(np.median(np.diff(sizes))), program.weight.size_bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the process's memory is read there")
def test_constants_weigh_what_the_process_grows_by():
    """Folded once, copied for each branch, and of integers whose serialized form is 2.5 times as long."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}  # else freed memory is reused, and growth jumps
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        grown, weight = map(float, line.split())
        assert 0.8 * grown < weight < 1.25 * grown, done.stdout


def test_a_constant_that_the_program_is_called_with_counts():
    program = """
import numpy as np, jax.numpy as jnp
from jaxcache._cache.executable import BASE_BYTES, Program
captured, x = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)), np.ones(1024)
small = Program(lambda x: x @ jnp.ones((1024, 1024)), {}, (x,), {}).compile().weight.size_bytes
large = Program(lambda x: x @ captured, {}, (x,), {}).compile().weight.size_bytes
print((large - small) / captured.nbytes)
"""
    environment = {**os.environ, "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 1.1


def test_what_a_limit_refuses_is_not_a_program_for_its_constants():
    constant = jnp.asarray(np.random.default_rng(0).normal(size=(1500, 1500)).astype(np.float32))
    cache = JitCache("64MiB")
    f = cache.jit(lambda p, v: jax.lax.cond(p, lambda v: constant @ v, lambda v: -constant @ v, v))
    v = np.ones(1500, np.float32)
    f(True, v), f(False, v)
    assert (cache.stats().misses, cache.stats().hits, cache.stats().rejected) == (1, 1, 0)


CALLBACKS = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.experimental import io_callback
from jax.sharding import Mesh, PartitionSpec as P
from jaxcache import JitCache

ordered, x = bool(int(sys.argv[1])), jnp.arange(4.0)
shape = jax.ShapeDtypeStruct((2,), x.dtype)
twice = lambda x: io_callback(lambda x: np.asarray(x) * 2, shape, x, ordered=ordered)
mesh = Mesh(np.array(jax.devices()), "d")
f = lambda x: jax.shard_map(twice, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)(x)
cache = JitCache()
assert cache.jit(f)(x).tolist() == jax.jit(f)(x).tolist() == [0, 2, 4, 6]
print(cache.stats().live_bytes)
"""


@pytest.mark.parametrize("ordered", ["0", "1"])
def test_weighing_serializes_no_host_callbacks(ordered):
    """XLA ends the process over an ordered one on several devices."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CALLBACKS, ordered], env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert BASE_BYTES < int(done.stdout) < 20 * BASE_BYTES


def test_what_is_not_serialized_weighs_about_what_the_like_of_it_does():
    def steps(x):
        for _ in range(20):
            x = jnp.sin(x) @ x
        return x

    x = np.ones((4, 4), np.float32)
    plain = weigh(steps, x)
    with_callback = weigh(lambda x: jax.debug.callback(lambda y: None, x) or steps(x), x)
    assert 0.5 * plain < with_callback < 2 * plain
