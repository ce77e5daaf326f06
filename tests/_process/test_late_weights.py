"""Weights are modelled when somebody asks, and are those of the time of the compile."""

import gc
import pickle

import jax
import numpy as np
import pytest

from jaxcache import watch
from jaxcache._cache.executable import weigh_outside
from jaxcache._jax import executables
from jaxcache._process import late_weights


@pytest.fixture
def at_once():
    """Weights of all programs, modelled as they are compiled."""
    weights = []

    def weigh(executable):
        weights.append(weigh_outside(executable).size_bytes)

    executables.tell(weigh)
    yield weights
    executables.tell_no_more(weigh)


def compile_some(programs):
    captured = np.ones(300_000, np.float32)
    for n in range(programs):
        jax.jit(lambda x, n=n: x * captured[: 100_000 * (n % 3 + 1)].sum() + n)(np.ones(3, np.float32))


def test_a_weight_is_that_of_the_compile_though_it_is_asked_for_when_the_program_is_gone(at_once):
    with watch() as watched:
        compile_some(4)
    jax.clear_caches()
    gc.collect()
    assert [record.size_bytes for record in watched.compiles] == at_once
    assert len(set(at_once)) > 1
    assert pickle.loads(pickle.dumps(watched.compiles[0])) == watched.compiles[0]


def test_a_watch_keeps_no_program_alive():
    gc.collect()
    before = {id(executable) for executable in jax.local_devices()[0].client.live_executables()}
    compiled = []

    def note(executable):
        compiled.append(id(executable))

    executables.tell(note)
    with watch() as watched:
        compile_some(2)
    executables.tell_no_more(note)
    jax.clear_caches()
    gc.collect()
    assert len(watched.compiles) == len(compiled)
    assert not executables.alive_of(set(compiled) - before)


def test_modules_are_kept_of_few_programs(at_once, monkeypatch):
    monkeypatch.setattr(late_weights, "_MOST_COMPUTATIONS", 5)
    with watch() as watched:
        compile_some(6)
    kept = [record.weight.computations for record in watched.compiles]
    assert 0 < sum(kept) <= max(5, kept[-1])
    assert kept[0] == 0
    assert [record.size_bytes for record in watched.compiles] == at_once
