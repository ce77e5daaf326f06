"""Curves are replays; lru's whole curve in one pass is its replay at each limit."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import POLICIES, Trace, curves, find_knee, limits_of, lru_curve, pareto_front, replay

from .._policies.test_contract import REQUESTS
from .test_replay import hide_numba, trace_of, zipf


@given(requests=REQUESTS, limit=st.integers(5, 60))
def test_the_curve_of_lru_is_its_replay_at_each_limit(requests, limit):
    trace = trace_of(requests)
    misses, seconds = lru_curve(trace).at(limit)  # no size is above 5
    expected = replay(trace, "lru", limit)
    assert misses == expected.misses
    assert seconds == pytest.approx(expected.compile_seconds)


def test_the_curve_of_lru_holds_on_a_long_trace_with_and_without_numba(monkeypatch):
    trace = zipf(5000, 300, 0)
    curve = lru_curve(trace)
    for limit in np.geomspace(trace.size_bytes.max(), 2 * trace.working_set_bytes, 12).astype(int).tolist():
        assert curve.at(limit)[0] == replay(trace, "lru", limit).misses
    assert (np.diff(curve.limits_bytes) > 0).all()
    assert (np.diff(curve.compile_seconds) <= 0).all()
    hide_numba(monkeypatch)
    assert lru_curve(trace).misses.tolist() == curve.misses.tolist()


def test_the_curve_of_lru_is_refused_where_one_pass_is_not_enough():
    trace = zipf(100, 10, 0)
    with pytest.raises(ValueError, match=r"limit must be \d+ or more, the largest entry"):
        lru_curve(trace).at(1)
    with pytest.raises(ValueError, match="fewer mappings"):
        lru_curve(zipf(100, 10, 0, mappings_limit=3))
    warmed = Trace(
        trace.signatures, trace.labels, trace.size_bytes, trace.compile_seconds, trace.mappings,
        np.ones(len(trace), np.uint8),
    )  # fmt: skip
    with pytest.raises(ValueError, match="requests alone"):
        lru_curve(warmed)


def test_curves_are_the_replays_of_every_policy_with_the_bound():
    trace = zipf(2000, 60, 0)
    drawn = curves(trace, steps=24)
    assert list(drawn.results) == list(POLICIES)
    assert drawn.limits_bytes[-1] == trace.working_set_bytes
    for name in POLICIES:
        alone = [replay(trace, name, int(limit)).compile_seconds for limit in drawn.limits_bytes]
        assert drawn.compile_seconds(name).tolist() == alone
        assert (drawn.over_bound(name) >= 1).all()
        assert drawn.over_bound(name)[-1] == pytest.approx(1)
    assert drawn.present is None
    assert [one.compile_seconds for one in drawn.best()] == [
        min(drawn.compile_seconds(name)[number] for name in POLICIES) for number in range(len(drawn.limits_bytes))
    ]
    assert drawn.limits_bytes[0] <= drawn.knee_bytes() < drawn.limits_bytes[-1]
    front = drawn.front()
    everything = [one for each in drawn.results.values() for one in each]
    for one in everything:
        assert any(a.peak_bytes <= one.peak_bytes and a.compile_seconds <= one.compile_seconds for a in front)
    for one, other in itertools.pairwise(front):
        assert one.peak_bytes < other.peak_bytes
        assert one.compile_seconds > other.compile_seconds


def test_the_knee_is_where_more_bytes_save_little():
    assert find_knee([1, 2, 3, 4, 5], [100, 20, 19, 18, 17]) == 2
    assert find_knee([5, 1, 2, 4, 3], [17, 100, 20, 18, 19]) == 2
    assert find_knee([7], [1.0]) == 7
    assert find_knee([1, 2, 3, 4], [40, 30, 20, 10]) == find_knee([1, 2, 3, 4], [40, 39, 37, 10]) == 4
    assert find_knee([7, 8], [1.0, 1.0]) == 7
    with pytest.raises(ValueError, match="as many"):
        find_knee([1, 2], [1.0])
    with pytest.raises(ValueError, match="as many"):
        find_knee([], [])


def test_no_results_have_no_front():
    assert pareto_front([]) == []


def test_limits_go_from_the_largest_entry_to_all_together():
    trace = zipf(500, 40, 0)
    limits = limits_of(trace, 6)
    assert limits[0] == trace.size_bytes.max()
    assert limits[-1] == trace.working_set_bytes
    assert (np.diff(limits) > 0).all()
    assert limits_of(Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])).tolist() == [1]


@pytest.mark.parametrize("count", [0, 2.5, True, "3"])
def test_a_count_of_limits_that_is_no_whole_number_is_refused_in_words(count):
    with pytest.raises(ValueError, match=f"count must be a whole number, 1 or more, but is {count!r}"):
        limits_of(zipf(10, 3, 0), count)


def test_what_is_no_trace_has_no_curves():
    for function in (limits_of, curves, lru_curve):
        with pytest.raises(TypeError, match="trace must be a Trace"):
            function([1, 2])  # pyright: ignore[reportArgumentType]


def test_curves_of_nothing_are_refused_or_flat():
    empty = Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])
    flat = curves(empty, ["lru"], ["1KiB"])
    assert flat.compile_seconds("lru").tolist() == [0.0]
    assert flat.over_bound("lru").tolist() == [1.0]
    with pytest.raises(ValueError, match="policies and limits must be at least one each"):
        curves(empty, [], ["1KiB"])
    with pytest.raises(ValueError, match="limits must be positive"):
        curves(empty, ["lru"], [-1])
