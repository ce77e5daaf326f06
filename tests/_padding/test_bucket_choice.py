"""The chosen buckets against all sets of buckets, tried one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import choose_buckets, judge_buckets, linear_buckets, power_of_two_buckets

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)
CALL = st.sampled_from([lambda n: n, lambda n: n * n, lambda n: 5.0, lambda n: 3 + 0.1 * n**1.5])
COMPILE = st.sampled_from([0.0, 7.0, 100.0, lambda n: 2.0 * n, lambda n: 50.0 / n, lambda n: 2000 - n * n])


def cost_of(buckets, lengths, call, compiled):
    price = lambda of, n: of(n) if callable(of) else of  # noqa: E731
    used = [min(bucket for bucket in buckets if bucket >= n) for n in lengths]
    return sum(price(call, bucket) for bucket in used) + sum(price(compiled, bucket) for bucket in set(used))


def every_set(lengths, most):
    *lower, largest = sorted(set(lengths))
    for count in range(min(most, len(lower) + 1)):
        for chosen in itertools.combinations(lower, count):
            yield (*chosen, largest)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=25), call=CALL, compiled=COMPILE,
       most=st.sampled_from([None, 1, 2, 3]))  # fmt: skip
def test_no_set_of_buckets_costs_less(lengths, call, compiled, most):
    chosen = choose_buckets(lengths, call_cost=call, compile_cost=compiled, max_buckets=most)
    best = min(cost_of(one, lengths, call, compiled) for one in every_set(lengths, most or 99))
    assert chosen.cost == pytest.approx(best)
    assert chosen.cost == pytest.approx(cost_of(chosen.buckets, lengths, call, compiled))
    assert len(chosen.buckets) <= (most or 99)


@given(lengths=LENGTHS, call=CALL, compiled=COMPILE)
def test_a_large_bound_on_their_number_changes_nothing(lengths, call, compiled):
    free = choose_buckets(lengths, call_cost=call, compile_cost=compiled)
    bound = choose_buckets(lengths, call_cost=call, compile_cost=compiled, max_buckets=50)
    assert bound.cost == pytest.approx(free.cost)


@given(lengths=LENGTHS, call=CALL, compiled=COMPILE, count=st.integers(1, 9))
def test_powers_of_two_and_linear_steps_hold_every_length_and_cost_no_less(lengths, call, compiled, count):
    best = choose_buckets(lengths, call_cost=call, compile_cost=compiled)
    for buckets in (power_of_two_buckets(lengths), linear_buckets(lengths, count)):
        assert max(buckets) >= max(lengths)
        judged = judge_buckets(buckets, lengths, call_cost=call, compile_cost=compiled)
        assert judged.cost == pytest.approx(cost_of(buckets, lengths, call, compiled))
        assert judged.cost >= best.cost - 1e-9 * abs(best.cost) or callable(compiled)  # a larger one may be cheaper


def test_padding_is_added_elements_over_own():
    judged = judge_buckets((4, 8), [3, 4, 5], compile_cost=0)
    assert (judged.padding, judged.cost) == (pytest.approx(4 / 12), 16)
    assert judge_buckets((4,), [3, 100], compile_cost=1.0).buckets == (4, 100)


def test_a_million_lengths_are_one_problem_of_their_different_lengths():
    lengths = np.random.default_rng(0).lognormal(6, 1, 1_000_000).astype(int) + 1
    chosen = choose_buckets(lengths, compile_cost=50_000.0)
    assert chosen.buckets[-1] == lengths.max()
    assert chosen.cost < judge_buckets(power_of_two_buckets(lengths), lengths, compile_cost=50_000.0).cost


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_buckets([], compile_cost=1), "lengths must be one whole number a call, at least one"),
        (lambda: choose_buckets([1.5], compile_cost=1), "lengths must be one whole number a call"),
        (lambda: choose_buckets([3, 0], compile_cost=1), "lengths must be 1 or more, but one is 0"),
        (lambda: choose_buckets([3], compile_cost=-1), "compile_cost must be finite and not negative"),
        (
            lambda: choose_buckets([3, 4], compile_cost=1, call_cost=lambda n: -n),
            "call_cost must be finite and not neg",
        ),
        (lambda: choose_buckets([3, 4], compile_cost=1, call_cost=lambda n: 9 - n), "falls between 3 and 4"),
        (lambda: choose_buckets([3], compile_cost=1, max_buckets=0), "max_buckets must be a whole number, 1 or more"),
        (lambda: judge_buckets([4, 4], [3], compile_cost=1), r"buckets must be ascending .* but is \[4, 4\]"),
        (lambda: judge_buckets([], [3], compile_cost=1), "buckets must be ascending"),
        (lambda: linear_buckets([3], 0), "count must be a whole number, 1 or more"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
