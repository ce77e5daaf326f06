"""What every policy must do; a new one is tested by being in the registry."""

import contextlib
import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache._policies import POLICIES, make_policy, options_of
from jaxcache._policies.structures import HISTORY, History, LazyHeap

EVERY = pytest.mark.parametrize("name", sorted(POLICIES))
# Requests for keys; a key's size and cost are functions of it, as they are in a cache.
REQUESTS = st.lists(st.integers(0, 12), max_size=120)


def size_of(key: int) -> int:
    return 1 + key * 7 % 5


def cost_of(key: int) -> float:
    return (1 + key * 11 % 7) / 4


def serve(policy, requests, limit, size_of=size_of, cost_of=cost_of):
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


def containers(owner, path=""):
    """Yield the path and the container of everything that a policy holds, also inside its own parts."""
    for name, value in vars(owner).items():
        if hasattr(value, "__len__"):
            yield f"{path}.{name}", value
        elif type(value).__module__.startswith("jaxcache.") and hasattr(value, "__dict__"):
            yield from containers(value, f"{path}.{name}")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=60))
def test_a_lazy_heap_yields_each_key_once_in_the_order_of_its_priority(steps):
    """Keys come, rise and go from anywhere, and come again."""
    heap, held = LazyHeap(), {}
    for key, priority, goes in steps:
        if key not in held:
            heap.add(key, priority)
            held[key] = priority
        elif goes:
            heap.remove(key)
            del held[key]
        else:
            held[key] += priority
            heap.rise(key, held[key])
        with contextlib.closing(heap.ascending()) as ascending:
            listed = list(ascending)
        assert sorted(listed) == sorted(held)
        assert [held[one] for one in listed] == sorted(held.values())
        if held:
            assert heap.lowest() == listed[0]


@EVERY
def test_a_policy_holds_no_more_than_its_keys_and_a_bounded_history_after_many_requests(name):
    policy, draw = make_policy(name), random.Random(0)
    serve(policy, [draw.randrange(2 * HISTORY) for _ in range(3 * HISTORY)], limit=60)
    sizes = {path: (len(one), HISTORY if isinstance(one, History) else 200) for path, one in containers(policy)}
    assert sizes
    assert all(size <= bound for size, bound in sizes.values()), sizes


@EVERY
def test_hits_alone_make_nothing_grow(name):
    policy = make_policy(name)
    for key in range(20):
        policy.add(key, size_of(key), cost_of(key))
    before = {path: len(one) for path, one in containers(policy)}
    for request in range(2000):
        policy.hit(request * 7 % 20)
    assert {path: len(one) for path, one in containers(policy)} == before


def test_a_history_forgets_what_was_noted_longest_ago():
    history = History()
    for key in range(HISTORY):
        history.note(key, key)
    history.note(0, "again")
    history.note(HISTORY, "one more")
    assert len(history) == HISTORY
    assert 1 not in history
    assert list(history)[-2:] == [0, HISTORY]
    assert isinstance(history, OrderedDict)


@EVERY
@given(requests=REQUESTS, limit=st.integers(1, 30), data=st.data())
def test_a_hit_on_the_victim_and_a_newcomer_leave_a_victim_that_is_held(name, requests, limit, data):
    policy = make_policy(name)
    _, held = serve(policy, requests, limit)
    if not held:
        return
    for newcomer in range(100, 105):
        policy.hit(policy.victim())
        assert policy.victim() in held
        policy.add(newcomer, 1, 1.0)
        held.add(newcomer)
        assert policy.victim() in held
        policy.remove(other := data.draw(st.sampled_from(sorted(held))))
        held.remove(other)
        assert not held or policy.victim() in held


LOOK_AT_HITS = {"lru", "lfu", "sieve", "s3fifo", "gdsf", "gdsf_admit", "lnc_ra", "adaptive"}
REFUSE = {"none", "gdsf_admit", "lnc_ra", "adaptive"}


@pytest.mark.parametrize("name", sorted(LOOK_AT_HITS))
def test_what_is_asked_for_again_outlives_what_is_not(name):
    policy = make_policy(name)
    for key in range(20):
        policy.add(key, 1, 1.0)
    for _ in range(3):
        for key in range(0, 20, 2):
            policy.hit(key)
    gone = []
    for _ in range(10):
        gone.append(policy.victim())
        policy.remove(gone[-1])
    assert sorted(gone) == list(range(1, 20, 2))


@pytest.mark.parametrize("name", sorted(set(POLICIES) - LOOK_AT_HITS))
def test_a_hit_changes_nothing_for_policies_that_do_not_look_at_hits(name):
    policies = make_policy(name), make_policy(name)
    for policy in policies:
        for key in range(12):
            policy.add(key, size_of(key), cost_of(key))
    for key in (0, 3, 3, 11):
        policies[0].hit(key)
    for _ in range(12):
        assert policies[0].victim() == policies[1].victim()
        for policy in policies:
            policy.remove(policy.victim())


@pytest.mark.parametrize("name", sorted(set(POLICIES) - REFUSE))
def test_policies_without_admission_admit_everything(name):
    policy = make_policy(name)
    policy.add(0, 1, 1e9)
    assert policy.admit(1, 10**12, 1e-9)


@pytest.mark.parametrize("name", ["gdsf_admit", "lnc_ra", "adaptive"])
def test_what_is_asked_for_often_enough_gets_in(name):
    policy = make_policy(name)
    for key in range(4):
        policy.add(key, 10, 8.0)
    refused = 0
    while not policy.admit(9, 10, 1.0):
        refused += 1
        assert refused < 100
    assert refused > 0


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"eviction must be one of none, lru, .*, but is 'lruu'"):
        make_policy("lruu")


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'random' has no option 'sed'; its options are: seed"):
        make_policy("random", sed=1)
    with pytest.raises(ValueError, match="'lru' has no option 'seed'; its options are: none"):
        make_policy("lru", seed=1)
    with pytest.raises(ValueError, match="'lnc_ra' has no option 'k'; its options are: seed, candidates"):
        make_policy("lnc_ra", k=2)


def test_the_options_of_a_policy_are_those_that_it_takes():
    assert options_of("random") == ["seed"]
    assert "seed" in options_of("lnc_ra")
    assert options_of("gdsf") == []
    with pytest.raises(ValueError, match="eviction must be one of none, lru, lfu, fifo, random, size_based, "):
        options_of("lruu")
