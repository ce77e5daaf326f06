"""What adaptive learns: from phases, scans, loops and costs; held against the policies that it should beat."""

import random

import pytest

from jaxcache._policies import make_policy
from jaxcache._policies.hazard import BINS, Hazard, bin_of
from tests._policies.test_contract import serve


def cost_of_misses(name, requests, limit, size_of=lambda key: 1, cost_of=lambda key: 1.0):
    outcomes, _ = serve(make_policy(name), requests, limit, size_of, cost_of)
    return sum(cost_of(key) for kind, key, *_ in outcomes if kind == "miss")


def zipf(draw, keys, count):
    return draw.choices(range(keys), [1 / (rank + 1) for rank in range(keys)], k=count)


def test_a_new_working_set_takes_the_place_of_one_that_was_popular_for_long():
    draw = random.Random(0)
    requests = [draw.randrange(30) for _ in range(3000)] + [100 + draw.randrange(30) for _ in range(1500)]
    policy = make_policy("adaptive")
    _, held = serve(policy, requests, 30, lambda key: 1, lambda key: 1.0)
    assert sum(key >= 100 for key in held) >= 28
    misses = {name: cost_of_misses(name, requests, 30) for name in ("adaptive", "lfu", "gdsf_admit")}
    assert misses["adaptive"] < 0.5 * min(misses["lfu"], misses["gdsf_admit"])


def test_what_is_asked_for_once_does_not_push_out_what_is_used():
    draw = random.Random(1)
    used = zipf(draw, 100, 4000)
    requests = [key for index, one in enumerate(used) for key in ((one, 1000 + index) if index % 2 else (one,))]
    scanned = sum(key >= 1000 for key in requests)
    misses = {name: cost_of_misses(name, requests, 20) - scanned for name in ("adaptive", "lru", "s3fifo")}
    assert misses["adaptive"] < 0.7 * misses["lru"]
    assert misses["adaptive"] < misses["s3fifo"]


def test_a_part_of_a_loop_larger_than_the_cache_stays():
    requests = list(range(40)) * 40
    assert cost_of_misses("lru", requests, 20) == len(requests)
    assert cost_of_misses("adaptive", requests, 20) < 0.7 * len(requests)  # no policy comes under 0.5


def test_of_two_keys_as_popular_the_dearer_for_its_bytes_stays():
    draw = random.Random(2)
    requests = [draw.randrange(40) for _ in range(3000)]

    def size_of(key):
        return 1 + key % 2

    def cost_of(key):
        return 10.0 if key < 10 else 1.0

    policy = make_policy("adaptive")
    _, held = serve(policy, requests, 20, size_of, cost_of)
    assert set(range(10)) <= held
    assert cost_of_misses("adaptive", requests, 20, size_of, cost_of) < 0.6 * cost_of_misses(
        "lru", requests, 20, size_of, cost_of
    )


@pytest.mark.parametrize("peer", ["lru", "gdsf", "gdsf_admit", "lnc_ra"])
def test_no_peer_is_better_on_a_mixture_of_what_programs_do(peer):
    draw = random.Random(3)
    requests = []
    for phase in range(4):
        popular = zipf(draw, 80, 600)
        requests += [draw.choice([key, 200 + 80 * phase + key, 1000 + index % 50]) for index, key in enumerate(popular)]

    def size_of(key):
        return 1 + key * 7 % 11

    def cost_of(key):
        return (1 + key * 13 % 17) ** 2 / 10

    arguments = requests, 150, size_of, cost_of
    assert cost_of_misses("adaptive", *arguments) < cost_of_misses(peer, *arguments)


def test_costs_of_nothing_and_the_smallest_limit_are_served():
    outcomes, held = serve(make_policy("adaptive"), [0, 1, 0, 2, 0, 1] * 20, 1, lambda key: 1, lambda key: 0.0)
    assert len(outcomes) == 120
    assert len(held) == 1


def test_requests_as_often_as_expected_leave_rates_as_they_are():
    """By the time-rescaling theorem what was expected since the last request is then exponential with mean 1."""
    draw, hazard = random.Random(4), Hazard()
    for _ in range(20_000):
        hazard.note(3, draw.expovariate(1.0))
    hazard.renew([])
    assert hazard.factor(3, 0.5) == pytest.approx(1.0, abs=0.15)
    assert hazard.factor(3, 1.5) == pytest.approx(1.0, abs=0.15)


def test_what_comes_round_is_worth_more_the_nearer_it_is():
    draw, hazard = random.Random(5), Hazard()
    for _ in range(5000):
        hazard.note(3, draw.uniform(0.95, 1.05))
    hazard.renew([])
    assert hazard.factor(3, 0.1) < hazard.factor(3, 0.6) < hazard.factor(3, 0.95)


def test_what_does_not_come_is_worth_less():
    hazard = Hazard()
    for _ in range(100):
        hazard.note(1, 0.05)
    hazard.renew([(1, 5.0, 1.0)] * 900)
    assert hazard.factor(1, 2.0) < 0.1


def test_bins_follow_each_other():
    numbers = [bin_of(2.0 ** (exponent / 8)) for exponent in range(-120, 120)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(BINS))
    assert bin_of(0.0) == 0
