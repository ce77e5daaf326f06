"""Decisions against implementations that we did not write, and against formulas written out by brute force."""

import random
from collections import Counter

import cachetools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache._policies import make_policy

from .test_contract import REQUESTS, cost_of, serve, size_of


@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_lru_decides_as_cachetools_does(requests, limit):
    cache, expected = cachetools.LRUCache(limit, getsizeof=size_of), []
    for key in requests:
        if key in cache:
            cache[key]
            expected.append("hit")
        else:
            expected.append("miss")
            if size_of(key) <= limit:
                cache[key] = key
    outcomes, held = serve(make_policy("lru"), requests, limit)
    assert [outcome[0] for outcome in outcomes] == expected
    assert held == set(cache)


@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_size_based_evicts_the_largest_and_among_equals_the_oldest(requests, limit):
    arrived: dict[int, int] = {}
    for moment, (outcome, key, *evicted) in enumerate(serve(make_policy("size_based"), requests, limit)[0]):
        if outcome == "hit":
            continue
        for victim in evicted[0]:
            expected = max(arrived, key=lambda held: (size_of(held), -arrived[held]))
            assert victim == expected
            del arrived[victim]
        if size_of(key) <= limit:
            arrived[key] = moment


@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_gdsf_evicts_the_lowest_of_clock_plus_frequency_times_cost_by_size(requests, limit):
    clock, frequency, priority = 0.0, Counter(), {}
    for moment, (outcome, key, *evicted) in enumerate(serve(make_policy("gdsf"), requests, limit)[0]):
        if outcome == "miss":
            for victim in evicted[0]:
                assert victim == min(priority, key=priority.__getitem__)
                clock = priority.pop(victim)[0]
                del frequency[victim]
            if size_of(key) > limit:
                continue
        frequency[key] += 1
        priority[key] = (clock + frequency[key] * (cost_of(key) / size_of(key)), moment)


@pytest.mark.parametrize("limit", [5, 20])
def test_never_keeps_the_first_that_fit(limit):
    draw = random.Random(1)
    outcomes, _ = serve(make_policy("none"), [draw.randrange(13) for _ in range(200)], limit)
    assert not any(evicted for outcome, *rest in outcomes if outcome == "miss" for evicted in rest[1:])


def test_random_draws_every_key_about_equally_often_and_differently_for_another_seed():
    def draws(seed: int) -> list[int]:
        policy, order = make_policy("random", seed=seed), []
        for key in range(10):
            policy.add(key, 1, 1.0)
        for _ in range(4000):
            order.append(policy.victim())
            policy.remove(order[-1])
            policy.add(order[-1], 1, 1.0)
        return order

    counts = Counter(draws(0))
    assert sorted(counts) == list(range(10))
    assert min(counts.values()) > 300  # 400 expected, deviation 19
    assert draws(0) == draws(0)
    assert draws(0) != draws(1)
