"""A start without tracing in fresh processes: what is loaded there, and what is not after a change."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax import monitoring
import jaxcache
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import helpers

lowered = []
EVENT = "/jax/core/compile/jaxpr_to_mlir_module_duration"
monitoring.register_event_duration_secs_listener(lambda event, _, **kw: event == EVENT and lowered.append(event))
shared = jaxcache.use_directory(sys.argv[1])
cache = jaxcache.JitCache()

@cache.jit(code_key=True)
def solve(a, b):
    return jnp.linalg.solve(helpers.shift(a), b), jnp.linalg.eigh(a @ a.T)[0]

@cache.jit(code_key=True, donate_argnums=0)
def step(state, x):
    return {"state": state * 0.5 + x, "norm": jnp.sqrt(jnp.sum(x**2))}

x = np.arange(16, dtype=np.float32).reshape(4, 4) + 7 * np.eye(4, dtype=np.float32)
mesh = Mesh(np.array(jax.devices()), "d")
placed = jax.device_put(x, NamedSharding(mesh, P("d")))
before = len(lowered)
results = solve(x, x[0]), step(jax.device_put(x + 1, placed.sharding), placed)
print(json.dumps({
    "lowered": len(lowered) - before,
    "bits": [np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves(results)],
    "shardings": [str(leaf.sharding) + str(leaf._committed) for leaf in jax.tree.leaves(results)],
    "expected": [np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves(
        (jax.jit(solve.__wrapped__)(x, x[0]), jax.jit(step.__wrapped__)(placed + 1, placed)))],
}))
"""
HELPERS = "SHIFT = 1.0\n\n\ndef shift(a):\n    return a + SHIFT\n"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(helpers, devices=4):
        (tmp_path / "helpers.py").write_text(helpers)
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "program.py", str(tmp_path / "shared")]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False, timeout=240
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run


def test_fresh_processes_load_what_has_not_changed_and_trace_what_has(run):
    first = run(HELPERS)
    assert first["lowered"] == 2
    assert first["bits"] == first["expected"]
    second = run("# A comment.\n" + HELPERS)
    assert second["lowered"] == 0
    assert second["bits"] == second["expected"] == first["bits"]
    assert second["shardings"] == first["shardings"]
    changed = run(HELPERS.replace("1.0", "2.0"))
    assert changed["lowered"] == 1  # the other function does not reach it
    assert changed["bits"] == changed["expected"] != first["bits"]
    fewer = run(HELPERS, devices=1)
    assert fewer["lowered"] == 2
    assert fewer["bits"] == fewer["expected"]
