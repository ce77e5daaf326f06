"""What a trace would be with buckets, against traces that were made with them."""

from dataclasses import replace
from itertools import combinations_with_replacement

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import JitCache, Trace, bucketed, judge_buckets
from jaxcache.lab.tuning.bucketed_traces import choose, derive, read_prices


def made(lengths, **options):
    """A trace whose prices are lines, which the model reads off exactly."""
    prices = {"size_bytes": lambda n: 1000 + 16 * n, "compile_seconds": lambda n: 0.5 + n / 64,
              "call_seconds": lambda n: 1e-3 * n}  # fmt: skip
    return Trace.from_lengths(lengths, **{**prices, **options})


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40), data=st.data())
def test_a_derived_trace_is_that_of_a_program_with_these_buckets(lengths, data):
    longest = max(lengths)
    inner = data.draw(st.sets(st.integers(min(lengths), longest), max_size=5))
    buckets = tuple(sorted({*inner, longest}))
    derived, direct = derive("some", read_prices(made(lengths)), buckets).trace, made(lengths, buckets=buckets)
    assert derived.signatures.tolist() == direct.signatures.tolist()
    assert derived.labels.tolist() == direct.labels.tolist()
    np.testing.assert_allclose(derived.size_bytes, direct.size_bytes, atol=1)
    np.testing.assert_allclose(derived.compile_seconds, direct.compile_seconds)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_without_buckets_the_derived_trace_is_the_trace(lengths):
    trace = made(lengths)
    derived = derive("none", read_prices(trace), None)
    assert derived.trace.signatures.tolist() == trace.signatures.tolist()
    assert derived.run_seconds == pytest.approx(1e-3 * sum(lengths))


def test_no_other_set_costs_less_than_the_optimal_one():
    lengths = np.random.default_rng(0).integers(1, 500, 2000)
    prices = read_prices(made(lengths))

    def cost(name):
        recording = derive(name, prices, choose(name, prices, 8))
        return recording.run_seconds + recording.trace.compile_seconds.sum()

    assert cost("optimal") <= min(cost("pow2"), cost("linear"))
    judged = judge_buckets(
        choose("pow2", prices, 8), lengths, call_cost=lambda n: 1e-3 * np.maximum(n, 0),
        compile_cost=lambda n: prices.at(n, prices.compile_seconds),
    )  # fmt: skip
    assert cost("optimal") <= judged.cost


def test_beyond_the_longest_prices_grow_in_proportion_and_calls_never_get_cheaper():
    trace = made([10, 20, 30], call_seconds=lambda n: np.where(n == 20, 5.0, 1.0))
    prices = read_prices(trace)
    assert prices.call_seconds.tolist() == [1.0, 3.0, 3.0]
    assert prices.at(60, prices.size_bytes) == pytest.approx(2 * 1480)
    assert derive("pow2", prices, (16, 32)).run_seconds == pytest.approx(
        float(prices.at([16, 32, 32], prices.call_seconds).sum())
    )


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=6))
def test_no_times_that_rise_with_the_length_lie_nearer_to_the_calls(calls):
    lengths, seconds = np.array(calls).T
    trace = made(lengths)
    trace.columns["finished_seconds"][:] = seconds
    prices = read_prices(trace)
    of_call = np.searchsorted(prices.distinct, lengths)
    assert (np.diff(prices.call_seconds) >= 0).all()
    nearest = min(
        np.abs(np.array(rising)[of_call] - seconds).sum()
        for rising in combinations_with_replacement(sorted(set(seconds)), len(prices.distinct))
    )
    assert np.abs(prices.call_seconds[of_call] - seconds).sum() == pytest.approx(nearest)


def test_one_call_that_stalled_makes_no_longer_one_dearer():
    trace = made(range(1, 101))
    trace.columns["finished_seconds"][:] = 1e-3
    trace.columns["finished_seconds"][9] = 9.0
    assert read_prices(trace).call_seconds.tolist() == [1e-3] * 100


def test_calls_that_were_not_waited_for_take_what_lies_between_those_that_were():
    trace = made([10, 20, 30, 30])
    trace.columns["finished_seconds"][:] = [1.0, np.nan, 3.0, 5.0]
    assert read_prices(trace).call_seconds.tolist() == [1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (Trace.from_arrays(keys=[1], size_bytes=[1], compile_seconds=[1.0]), "has no lengths"),
        (made([3, 5], call_seconds=None), "does not say how long calls take"),
    ],
)
def test_a_trace_that_does_not_say_enough_is_refused(trace, message):
    with pytest.raises(ValueError, match=message):
        read_prices(trace)


def test_a_recording_made_with_buckets_says_what_others_would_cost():
    """Each program is taken to be for the longest of its lengths, here the bucket itself."""
    lengths = [3, 4, 5, 8, 16, 12]
    recorded, direct = made(lengths, buckets=[4, 8, 16]), made(lengths, buckets=[8, 16])
    recorded.columns["finished_seconds"][:] = [4e-3, 4e-3, 8e-3, 8e-3, 16e-3, 16e-3]
    prices = read_prices(recorded)
    assert prices.distinct.tolist() == [4, 8, 16]
    assert not prices.recorded_without_buckets
    derived = derive("some", prices, (8, 16))
    assert derived.trace.size_bytes.tolist() == direct.size_bytes.tolist()
    assert derived.run_seconds == pytest.approx(4 * 8e-3 + 2 * 16e-3)


def test_a_recording_of_a_bucketed_function_is_weighed_with_its_checks_left_out_and_others_kept(tmp_path):
    with JitCache(record=tmp_path / "trace") as cache:

        @bucketed(cache=cache, buckets=(8, 16, 32))
        def total(x, mask):
            return jnp.sum(jnp.where(mask, x, 0))

        other = cache.jit(lambda x: x + 1)
        for n in (3, 5, 8, 12, 30, 9, 3):
            total(np.ones(n, np.float32))
            other(jnp.ones(4))
    trace = Trace.load(tmp_path / "trace")
    assert len(trace) > 14  # with the calls that check whether padding is safe
    prices = read_prices(trace)
    assert prices.lengths.tolist() == [3, 5, 8, 12, 30, 9, 3]
    assert prices.distinct.tolist() == [8, 12, 30]
    derived = derive("some", prices, (8, 30)).trace
    assert len(derived) == 14
    assert np.bincount(derived.signatures).tolist() == [4, 7, 3]


def test_lengths_of_several_functions_or_programs_are_refused():
    trace = made([3, 5, 3])
    several = np.array(["f", "g", "f"], object)
    with pytest.raises(ValueError, match="must have lengths of one function, but has those of f, g"):
        read_prices(replace(trace, columns={**trace.columns, "function": several}))
    mixed = Trace.from_arrays(keys=["3 float32", "3 int32"], size_bytes=[1, 1], compile_seconds=[1, 1])
    with pytest.raises(ValueError, match="must have one program a length, but has several"):
        read_prices(replace(mixed, columns={"lengths": np.array([[3], [3]])}))


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_impossible_call_seconds_are_refused(seconds):
    with pytest.raises(ValueError, match="call_seconds must be finite, 0 or more, but row 0 is"):
        made([3], call_seconds=seconds)
