"""portable: programs for a level of processors, as XLA itself writes them down, under a fingerprint of that level."""

import json

import pytest

import jaxcache
from jaxcache._jax import portable
from tests._support.interpreters import run_python

PROGRAM = """
import json, re, sys
import jaxcache
shared = jaxcache.use_directory(sys.argv[1], portable=sys.argv[2] or None)
import jax, jax.numpy as jnp
compiled = jax.jit(lambda x: jnp.tanh(x) @ x).lower(jnp.ones((64, 64))).compile()
features = re.findall(rb"[+](?:avx512f|avx2|avx|sse4[.]2)\\b", compiled.runtime_executable().serialize())
try:
    jaxcache.use_directory(sys.argv[1], portable="x86-64-v4" if sys.argv[2] != "x86-64-v4" else "x86-64-v2")
    refused = ""
except (ValueError, RuntimeError) as error:
    refused = str(error)
print(json.dumps([sorted({f.decode() for f in features}), shared.fingerprint.parts["cpu"], refused]))
"""
HOST = portable._features()


def run(directory, level):
    done = run_python(PROGRAM, directory, level)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not set(portable.LEVELS["x86-64-v3"][1].split()) <= HOST, reason="the processor has no AVX2")
def test_xla_compiles_for_the_level_and_the_fingerprint_has_it_in_place_of_the_processor(tmp_path):
    features, cpu, refused = run(tmp_path, "x86-64-v3")
    assert features == ["+avx", "+avx2", "+sse4.2"]
    assert cpu.endswith(" x86-64-v3")
    assert "XLA_FLAGS has --xla_cpu_max_isa=AVX2" in refused or "lacks" in refused
    _, own_cpu, refused = run(tmp_path, "")
    assert own_cpu != cpu
    assert "before JAX computes anything" in refused or "lacks" in refused


def test_a_processor_that_has_less_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "_features", lambda: set(portable.LEVELS["x86-64-v2"][1].split()))
    with pytest.raises(ValueError, match=r"portable='x86-64-v3' needs a processor with abm, avx, avx2.*lacks"):
        jaxcache.DiskCache(tmp_path, portable="x86-64-v3")
    with pytest.raises(ValueError, match="portable must be one of x86-64-v2, x86-64-v3, x86-64-v4, but is 'native'"):
        jaxcache.DiskCache(tmp_path, portable="native")
