"""The bound against the exact linear programme, against every policy, and against the best schedule by brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcache import POLICIES, Trace, optimum, replay
from jaxcache._replay.bound import _compress, _deflect, _lagrangian, find_intervals, pack_intervals
from jaxcache._replay.compiled_loops import deflect, lagrangian, pack

from .._policies.test_contract import REQUESTS
from .test_replay import hide_numba, trace_of, zipf

linprog = pytest.importorskip("scipy.optimize").linprog  # imported, basedpyright infers its types for ten seconds


def exact_relaxation(trace, limit):
    """The least compile seconds if parts of entries could be held: HiGHS solves what the prices relax."""
    intervals = find_intervals(trace, limit)
    total = math.fsum(trace.compile_seconds[trace.signatures])
    if not len(intervals.starts):
        return total
    rows = np.arange(len(trace))[:, np.newaxis]
    held = (intervals.starts <= rows) & (rows < intervals.ends)
    solved = linprog(
        -intervals.saved_seconds, A_ub=held * (intervals.size_bytes / limit), b_ub=np.ones(len(trace)), bounds=(0, 1)
    )
    assert solved.status == 0
    return total + solved.fun


def best_schedule(trace, limit):
    """The least compile seconds of any schedule: each stretch between two requests is held or not."""
    intervals = find_intervals(trace, limit)
    rows = np.arange(len(trace))[:, np.newaxis]
    held = (intervals.starts <= rows) & (rows < intervals.ends)
    loads = held * intervals.size_bytes
    saved = 0.0
    for chosen in itertools.product([0, 1], repeat=len(intervals.starts)):
        if (loads @ np.array(chosen) <= limit).all():
            saved = max(saved, float(intervals.saved_seconds @ np.array(chosen)))
    return math.fsum(trace.compile_seconds[trace.signatures]) - saved


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), keys=st.integers(1, 40), share=st.floats(0.02, 0.95), coarse=st.booleans())
def test_the_bound_is_never_above_the_exact_relaxation_and_near_to_it(seed, keys, share, coarse):
    trace = zipf(200, keys, seed, coarse=coarse)
    limit = max(1, int(share * trace.working_set_bytes))
    found, exact = optimum(trace, limit), exact_relaxation(trace, limit)
    assert found.lower_bound_seconds <= exact * (1 + 1e-7) + 1e-7  # what HiGHS itself is exact to
    assert found.lower_bound_seconds >= 0.98 * exact - 0.02
    assert found.feasible_seconds >= exact * (1 - 1e-7) - 1e-7


@settings(max_examples=40, deadline=None)
@given(requests=st.lists(st.integers(0, 4), max_size=14), limit=st.integers(1, 12))
def test_the_best_schedule_lies_between_both_ends(requests, limit):
    trace = trace_of(requests)
    found, best = optimum(trace, limit), best_schedule(trace, limit)
    assert found.lower_bound_seconds <= best
    assert found.feasible_seconds >= best - 1e-9


@given(requests=REQUESTS, limit=st.integers(1, 30), steps=st.sampled_from([0, 1, 30]))
def test_no_policy_compiles_for_less_than_the_bound(requests, limit, steps):
    trace = trace_of(requests)
    found = optimum(trace, limit, steps=steps)
    assert found.lower_bound_seconds <= found.feasible_seconds <= found.total_seconds
    for name in POLICIES:
        assert replay(trace, name, limit).compile_seconds >= found.lower_bound_seconds


@pytest.mark.parametrize(("requests", "keys", "gap"), [(20_000, 1500, 1.05), (20_000, 100, 1.2), (3_000, 20, 1.2)])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_schedule_is_near_the_bound_and_below_every_policy(requests, keys, gap, share):
    trace = zipf(requests, keys, 0, 0.9)
    limit = int(share * trace.working_set_bytes)
    found = optimum(trace, limit)
    assert 1 <= found.gap <= gap
    policies = [replay(trace, name, limit).compile_seconds for name in POLICIES]
    assert found.lower_bound_seconds <= min(policies)
    assert found.feasible_seconds <= min(policies)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), limit=st.integers(1, 30))
def test_what_is_packed_fits_and_what_is_left_out_does_not(seed, rows, limit):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(0, 60))
    starts = draw.integers(0, rows, count)
    ends = starts + 1 + (draw.random(count) * (rows - starts)).astype(np.int64).clip(max=rows - starts - 1)
    sizes, order = draw.integers(1, 12, count), draw.permutation(count)
    taken = pack_intervals(starts, ends, sizes, order, rows, limit)
    assert taken.tolist() == pack(starts, ends, sizes, order, rows, limit).tolist()
    load = np.zeros(rows, np.int64)
    for one in order:
        fits = load[starts[one] : ends[one]].max() + sizes[one] <= limit
        assert taken[one] == fits
        if fits:
            load[starts[one] : ends[one]] += sizes[one]


@given(seed=st.integers(0, 10**6), keys=st.integers(1, 40), share=st.floats(0.02, 0.95))
def test_compiled_steps_are_those_of_arrays(seed, keys, share):
    trace = zipf(150, keys, seed)
    limit = max(1, int(share * trace.working_set_bytes))
    intervals, rows = _compress(find_intervals(trace, limit))
    draw = np.random.default_rng(seed)
    prices = draw.exponential(size=rows) * (draw.random(rows) < 0.7)
    told = intervals.starts, intervals.ends, intervals.size_bytes / limit, intervals.saved_seconds, prices
    (value, slack), (expected, their_slack) = lagrangian(*told), _lagrangian(*told)
    assert value == pytest.approx(expected)
    assert slack == pytest.approx(their_slack, abs=1e-9)
    ours, theirs = prices - 0.5, prices - 0.5
    assert deflect(ours, slack, prices) == pytest.approx(_deflect(theirs, slack, prices))
    assert ours == pytest.approx(theirs)


def test_without_a_limit_both_ends_are_one_compile_a_signature():
    trace = zipf(500, 30, 0)
    found = optimum(trace)
    assert found.feasible_seconds == pytest.approx(trace.compile_seconds.sum())
    assert found.lower_bound_seconds == pytest.approx(found.feasible_seconds)
    assert replay(trace, "lru").compile_seconds >= found.lower_bound_seconds


def test_an_empty_trace_and_a_limit_that_holds_nothing_have_bounds():
    empty = Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])
    assert (optimum(empty, 5).lower_bound_seconds, optimum(empty, 5).feasible_seconds, optimum(empty, 5).gap) == (
        0.0, 0.0, 1.0,
    )  # fmt: skip
    nothing = optimum(Trace.from_arrays(keys=[1, 1], size_bytes=[9, 9], compile_seconds=[1.0, 1.0]), 8)
    assert nothing.feasible_seconds == 2.0
    assert nothing.lower_bound_seconds == pytest.approx(2.0)


def test_costs_of_any_scale_are_bounded():
    for scale in (1e-300, 1e-12, 1e12, 1e290):
        trace = zipf(300, 20, 0)
        scaled = Trace.from_arrays(
            keys=trace.signatures, size_bytes=trace.size_bytes[trace.signatures],
            compile_seconds=trace.compile_seconds[trace.signatures] / trace.compile_seconds.max() * scale,
        )  # fmt: skip
        limit = trace.working_set_bytes // 5
        found = optimum(scaled, limit)
        best = min(replay(scaled, name, limit).compile_seconds for name in POLICIES)
        assert 0 <= found.lower_bound_seconds <= min(best, found.feasible_seconds)


def test_without_numba_the_bound_is_the_same(monkeypatch):
    trace = zipf(2000, 60, 0)
    limit = trace.working_set_bytes // 10
    expected = optimum(trace, limit)
    hide_numba(monkeypatch)
    found = optimum(trace, limit)
    assert found.lower_bound_seconds == pytest.approx(expected.lower_bound_seconds, rel=1e-3)
    assert found.feasible_seconds == pytest.approx(expected.feasible_seconds, rel=0.05)
    assert found.gap < 1.2


def test_bad_arguments_are_refused():
    trace = zipf(10, 3, 0)
    with pytest.raises(ValueError, match="limit must be positive"):
        optimum(trace, 0)
    with pytest.raises(ValueError, match="steps must be a whole number, 0 or more, but is -1"):
        optimum(trace, 5, steps=-1)
    with pytest.raises(ValueError, match=r"steps must be a whole number, 0 or more, but is 1\.5"):
        optimum(trace, 5, steps=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="trace must be a Trace"):
        optimum([1, 2], 5)  # pyright: ignore[reportArgumentType]
