"""What every policy must do; a new one is tested by being in the registry."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache._policies import POLICIES, make_policy

EVERY = pytest.mark.parametrize("name", sorted(POLICIES))
# Requests for keys; a key's size and cost are functions of it, as they are in a cache.
REQUESTS = st.lists(st.integers(0, 12), max_size=120)


def size_of(key: int) -> int:
    return 1 + key * 7 % 5


def cost_of(key: int) -> float:
    return (1 + key * 11 % 7) / 4


def serve(policy, requests, limit):
    """A cache in a few lines; returns the outcome of each request and the keys held in the end."""
    held, outcomes = set(), []
    for key in requests:
        if key in held:
            policy.hit(key)
            outcomes.append(("hit", key))
            continue
        evicted = []
        room = sum(map(size_of, held)) + size_of(key) <= limit
        if size_of(key) <= limit and (room or policy.admit(key, size_of(key), cost_of(key))):
            while sum(map(size_of, held)) + size_of(key) > limit:
                victim = policy.victim()
                assert victim in held, "a victim must be held"
                assert policy.victim() == victim, "asking again must not change the answer"
                policy.remove(victim)
                held.remove(victim)
                evicted.append(victim)
            policy.add(key, size_of(key), cost_of(key))
            held.add(key)
        outcomes.append(("miss", key, tuple(evicted)))
    return outcomes, held


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_only_what_is_held_is_evicted_and_everything_can_be(name, requests, limit):
    policy = make_policy(name)
    _, held = serve(policy, requests, limit)
    while held:
        victim = policy.victim()
        assert victim in held
        policy.remove(victim)
        held.remove(victim)
    with pytest.raises(LookupError):
        policy.victim()


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_the_same_requests_give_the_same_decisions(name, requests, limit):
    assert serve(make_policy(name), requests, limit) == serve(make_policy(name), requests, limit)


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30), data=st.data())
def test_a_key_can_be_removed_without_being_the_victim(name, requests, limit, data):
    policy = make_policy(name)
    _, held = serve(policy, requests, limit)
    if held:
        gone = data.draw(st.sampled_from(sorted(held)))
        policy.remove(gone)
        held.remove(gone)
        for _ in range(len(held)):
            victim = policy.victim()
            assert victim in held
            policy.remove(victim)
            held.remove(victim)


@EVERY
def test_a_policy_holds_no_more_than_its_keys_after_many_requests(name):
    policy, draw = make_policy(name), random.Random(0)
    serve(policy, [draw.randrange(2000) for _ in range(20_000)], limit=60)
    sizes = {attribute: len(value) for attribute, value in vars(policy).items() if hasattr(value, "__len__")}
    assert all(size <= 200 for size in sizes.values()), sizes


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"eviction must be one of none, lru, .*, but is 'lruu'"):
        make_policy("lruu")


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'random' has no option 'sed'; its options are: seed"):
        make_policy("random", sed=1)
    with pytest.raises(ValueError, match="'lru' has no option 'seed'; its options are: none"):
        make_policy("lru", seed=1)
