"""Who is held under two limits, whatever the policy does; no JAX."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache._policies import POLICIES, make_policy
from jaxcache._policies.bounded_set import BoundedSet, Weight

from .test_contract import REQUESTS, cost_of, serve, size_of

EVERY = pytest.mark.parametrize("name", sorted(POLICIES))


def request(residents, held, key):
    """Ask for a key; return the outcome, with ``held`` kept in step."""
    if key in held:
        residents.hit(key)
        return ("hit", key)
    evicted = residents.try_insert(key, Weight(size_of(key), mappings_of(key)), cost_of(key))
    if evicted is not None:
        held -= set(evicted)
        held.add(key)
    return ("miss", key, tuple(evicted or ()))


def mappings_of(key):
    return 1 + key % 3


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30))
def test_decisions_are_those_of_the_policy(name, requests, limit):
    residents, held = BoundedSet(lambda: make_policy(name), limit), set()
    outcomes = [request(residents, held, key) for key in requests]
    assert (outcomes, held) == serve(make_policy(name), requests, limit)


@EVERY
@given(requests=REQUESTS, limit=st.none() | st.integers(1, 30), mappings=st.none() | st.integers(1, 8))
def test_both_limits_hold_and_what_is_counted_is_what_is_held(name, requests, limit, mappings):
    residents, held = BoundedSet(lambda: make_policy(name), limit, mappings), set()
    for key in requests:
        request(residents, held, key)
        assert residents.live_bytes == sum(map(size_of, held))
        assert residents.live_mappings == sum(map(mappings_of, held))
        assert limit is None or residents.live_bytes <= limit
        assert mappings is None or residents.live_mappings <= mappings
        assert len(residents) == len(held)
    assert residents.fault is None


@EVERY
def test_a_policy_begun_anew_knows_what_is_held_and_nothing_else(name):
    residents = BoundedSet(lambda: make_policy(name), 20)
    held = set()
    for key in (1, 2, 3, 1, 2, 4):
        request(residents, held, key)
    residents.reset({7: (Weight(5), 1.0), 8: (Weight(6), 2.0)})
    assert (residents.live_bytes, len(residents)) == (11, 2)
    residents.remove(3)  # not held any more
    residents.hit(7)
    evicted = residents.try_insert(9, Weight(12), 100.0)
    assert evicted is None or set(evicted) <= {7, 8}
    assert residents.fault is None
