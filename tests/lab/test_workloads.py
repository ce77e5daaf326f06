"""Each workload against plain jax.jit, its own check, and a check that must fail."""

import math

import jax
import numpy as np
import pytest
from scipy import integrate
from scipy.sparse import diags, identity, kron
from scipy.sparse.linalg import spsolve

from jaxcache import JitCache
from jaxcache.lab.execute import serve
from jaxcache.lab.workloads.iterative_solver import _apply
from jaxcache.lab.workloads.monte_carlo import _call_on_lognormal

from .trials import WORKLOADS, small_trial

EVERY = pytest.mark.parametrize("workload", sorted(WORKLOADS))


@EVERY
def test_answers_are_right_and_equal_with_and_without_a_cache(workload):
    trial = small_trial(workload)
    plain = serve(trial, jax.jit)
    cache = JitCache("3MiB", "lru")
    cached = serve(trial, cache.jit)
    assert plain.answer.right
    assert cached.checksum == plain.checksum
    assert cache.stats().evictions > 0
    assert cache.stats().bypassed == 0


@EVERY
def test_another_seed_gives_another_output(workload):
    checksums = {serve(small_trial(workload, seed=seed), jax.jit).checksum for seed in (0, 1)}
    assert len(checksums) == 2


@EVERY
@pytest.mark.parametrize("fault", [lambda result: result * 1.2 + 0.5, lambda result: result * np.nan])
def test_a_wrong_or_missing_number_is_noticed(workload, fault):
    session = small_trial(workload).workload.start(jax.jit, 0)
    for number in range(4):
        session.check(fault(session.serve(number, 16)))
    assert not session.answer().right


def test_the_solver_finds_what_a_direct_solver_finds():
    session = small_trial("iterative_solver").workload.start(jax.jit, 0)
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
