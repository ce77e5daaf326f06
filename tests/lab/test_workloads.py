"""Each workload against plain jax.jit, its own check, and a check that must fail."""

import math
from functools import cache

import jax
import numpy as np
import pytest
from scipy import integrate
from scipy.sparse import diags, identity, kron
from scipy.sparse.linalg import spsolve

from jaxcache import JitCache
from jaxcache.lab.running.execute import serve
from jaxcache.lab.workloads.compiler import Compiler
from jaxcache.lab.workloads.iterative_solver import _apply
from jaxcache.lab.workloads.monte_carlo import _call_on_lognormal
from jaxcache.lab.workloads.sessions import start_session

from .._support.trials import WORKLOADS, small_trial

EVERY = pytest.mark.parametrize("workload", sorted(WORKLOADS))


@cache
def served_plainly(workload, seed=0):
    return serve(small_trial(workload, seed=seed), JitCache(enabled=False))


@EVERY
def test_answers_are_right_and_equal_with_and_without_a_cache(workload):
    plain = served_plainly(workload)
    limited = JitCache({"monte_carlo": "8MiB", "iterative_solver": "5MiB"}.get(workload, "4MiB"), "lru")
    cached = serve(small_trial(workload), limited)
    assert plain.answer.right
    assert cached.checksum == plain.checksum
    assert limited.stats().evictions > 0
    assert limited.stats().bypassed == 0


@EVERY
@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_every_precision_gives_right_answers(workload, precision):
    served = serve(small_trial(workload, precision=precision), JitCache(enabled=False))
    assert served.answer.right
    assert not jax.config.jax_enable_x64


def test_double_precision_is_nearer_to_the_truth():
    errors = {
        precision: serve(small_trial("gradient_optimization", precision=precision), JitCache()).answer.error
        for precision in ("bfloat16", "float32", "float64")
    }
    assert errors["bfloat16"] > 10 * errors["float32"] > 1000 * errors["float64"]


@EVERY
def test_buckets_save_programs_and_keep_the_answers(workload):
    trial = small_trial(workload, buckets={"name": "linear", "count": 1})
    cache, own_sizes = JitCache(), JitCache()
    served = serve(trial, cache)
    assert served.answer.right
    assert served.checksum == serve(trial, JitCache(enabled=False)).checksum
    serve(small_trial(workload), own_sizes)
    stats = cache.stats()
    assert stats.misses < own_sizes.stats().misses
    assert stats.padded_elements > 0


def test_optimal_buckets_are_chosen_without_a_look_at_the_trial_s_own_stream():
    prices = {"name": "optimal", "compile_seconds": 1e-3, "seconds_per_element": 1e-7, "max_buckets": 3}
    trial = small_trial(buckets=prices, shapes={"name": "uniform", "smallest": 8, "largest": 96, "distinct": 20})
    chosen = trial.buckets.lengths(trial.shapes, trial.workload, trial.seed)
    assert len(chosen) == 3
    assert set(chosen) <= set(trial.shapes.values().tolist())
    assert chosen != trial.buckets.lengths(trial.shapes, trial.workload, trial.seed + 1)
    cheap = trial.buckets.model_copy(update={"compile_seconds": 1e-9, "max_buckets": None})
    assert len(cheap.lengths(trial.shapes, trial.workload, trial.seed)) > 6


@EVERY
def test_another_seed_gives_another_output(workload):
    assert served_plainly(workload, seed=1).checksum != served_plainly(workload).checksum


@EVERY
@pytest.mark.parametrize("fault", [lambda result: result * 1.2 + 0.5, lambda result: result * np.nan])
def test_a_wrong_or_missing_number_is_noticed(workload, fault):
    session = start_session(small_trial(workload).workload, Compiler(JitCache(enabled=False)), 0)
    for number in range(4):
        session.check(fault(session.serve(number, 16)))
    assert not session.answer().right


def test_the_solver_finds_what_a_direct_solver_finds():
    session = start_session(small_trial("iterative_solver").workload, Compiler(JitCache(enabled=False)), 0)
    n = 12
    x = session.serve(0, n)[:-1].reshape(n, n)
    absorption, b = session._problem
    line = diags([-1.0, -1.0], [-1, 1], shape=(n, n))
    matrix = kron(line, identity(n)) + kron(identity(n), line) + diags(4 + absorption.ravel().astype(np.float64))
    assert np.allclose(x.ravel(), spsolve(matrix.tocsc(), b.ravel().astype(np.float64)), rtol=1e-3, atol=1e-4)
    assert np.allclose(matrix @ b.ravel(), _apply(absorption, b, np.pad).ravel(), rtol=1e-5)


@pytest.mark.parametrize("strike", [60.0, 100.0, 140.0])
def test_closed_forms_equal_a_numerical_integral(strike):
    mean, deviation = math.log(100) + 0.01, 0.2

    def moment(power):
        def integrand(z):
            payoff = max(math.exp(mean + deviation * z) - strike, 0) ** power
            return payoff * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(integrand, (math.log(strike) - mean) / deviation, 12)[0]

    price, spread = _call_on_lognormal(mean, deviation, strike)
    assert price == pytest.approx(math.exp(-0.03) * moment(1), rel=1e-7)
    assert spread == pytest.approx(math.exp(-0.03) * math.sqrt(moment(2) - moment(1) ** 2), rel=1e-7)
