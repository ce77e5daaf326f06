"""random and lnc_ra: policies that draw keys and compare what was drawn."""

from typing import Any, NamedTuple

import numpy as np

from ..._policies.lnc_ra import K, profit, request_rate
from ..._policies.structures import CANDIDATES
from . import key_set
from .compiler import part
from .loop import ArrayPolicy
from .ordered import admit_all
from .table import PAST_FIELDS, forget, new_records, new_table, note

part(profit)
part(request_rate)


class RandomState(NamedTuple):
    """Table, entries, draws and generator of a key set, and the numbers of the policy as a whole."""

    table: Any
    entries: Any
    draws: Any
    generator: Any
    now: Any


def new_random(keys: int, seed: int) -> RandomState:
    """Return the state of random."""
    table = new_table(keys, key_set.FIELDS)
    entries, draws = key_set.new_key_set(table)
    return RandomState(table, entries, draws, key_set.new_generator(seed), new_records(1, key_set.NOW))


@part
def _random_hit(state, key):
    pass


@part
def _random_evict(state):
    victim = key_set.draw_key(state)
    key_set.remove(state, victim)
    return victim


RANDOM = ArrayPolicy(key_set.add, _random_hit, _random_evict, key_set.remove, admit_all)


class LncRaState(NamedTuple):
    """State of lnc_ra.

    Attributes:
        table: Of the keys, with ``count``: how many references are known.
        entries: Of the key set.
        draws: Of the key set.
        generator: Of the key set.
        now: Numbers of the policy as a whole: the ``time``, and of the candidates the ``first`` that has not gone, how
            many are in ``order``, and the ``length`` of them all.
        references: Of each key, the times of its last ``K`` requests, the oldest first; int64.
        candidates: Keys that were drawn, their profits and their last requests.
    """

    table: Any
    entries: Any
    draws: Any
    generator: Any
    now: Any
    references: Any
    candidates: Any


def new_lnc_ra(sizes: Any, costs: Any, seed: int) -> LncRaState:
    """Return the state of lnc_ra."""
    keys = len(sizes)
    table = new_table(keys, {**key_set.FIELDS, **PAST_FIELDS, "size": "i8", "cost": "f8", "count": "i8"})
    table["size"][:keys], table["cost"][:keys] = sizes, costs
    entries, draws = key_set.new_key_set(table)
    now = new_records(1, {**key_set.NOW, "past": "i8", "time": "i8", "first": "i8", "order": "i8", "length": "i8"})
    candidates = new_records(CANDIDATES, {"key": "i8", "profit": "f8", "last": "i8"})
    references = np.zeros((keys, K), np.int64)
    return LncRaState(table, entries, draws, key_set.new_generator(seed), now, references, candidates)


@part
def _rate(state, key):
    return request_rate(state.table[key].count, state.references[key, 0], state.now[0].time + 1)


@part
def _refer(state, key):
    """Count a request."""
    table, references, now = state.table, state.references, state.now[0]
    now.time += 1
    if table[key].count == K:
        for number in range(K - 1):
            references[key, number] = references[key, number + 1]
        table[key].count -= 1
    references[key, table[key].count] = now.time
    table[key].count += 1
    now.first = now.order = now.length = 0


@part
def _lnc_ra_add(state, key):
    forget(state, key)
    key_set.add(state, key)
    _refer(state, key)


@part
def _lnc_ra_evict(state):
    _draw_candidates(state)
    now = state.now[0]
    _put_in_order(state, now.first)
    victim = state.candidates[now.first].key
    now.first += 1
    _lnc_ra_remove(state, victim)
    return victim


@part
def _lnc_ra_remove(state, key):
    """Remember a key that is no longer held. There are no candidates between requests, so that none goes here."""
    key_set.remove(state, key)
    _note(state, key)


@part
def _lnc_ra_admit(state, key):
    _draw_candidates(state)
    if _newcomer_is_worth_more(state, key):
        return True
    _refer(state, key)
    _note(state, key)
    return False


@part
def _newcomer_is_worth_more(state, key):
    """Compare a key that is not held with the victims that would cover its size."""
    covered, their_cost, their_cost_rate = 0, 0.0, 0.0
    size, cost = state.table[key].size, state.table[key].cost
    for number in range(state.now[0].first, state.now[0].length):
        _put_in_order(state, number)
        victim = state.candidates[number].key
        covered += state.table[victim].size
        their_cost += state.table[victim].cost
        their_cost_rate += _rate(state, victim) * state.table[victim].cost
        if covered >= size:
            break
    count = state.table[key].count
    if count == 0:
        return cost / size > their_cost / covered
    rate = request_rate(min(K, count + 1), state.references[key, 1 if count == K else 0], state.now[0].time + 1)
    return profit(rate, size, cost) > their_cost_rate / covered


@part
def _note(state, key):
    forgotten = note(state, key)
    if forgotten >= 0:
        state.table[forgotten].count = 0


@part
def _draw_candidates(state):
    """Draw candidates, unless some are left."""
    now = state.now[0]
    if now.first < now.length:
        return
    now.first = now.order = 0
    now.length = key_set.draw(state, CANDIDATES)
    for number in range(now.length):
        key = state.draws[number].key
        state.candidates[number].key = key
        state.candidates[number].profit = profit(_rate(state, key), state.table[key].size, state.table[key].cost)
        state.candidates[number].last = state.references[key, state.table[key].count - 1]


@part
def _put_in_order(state, number):
    """Bring the lowest profit from ``number`` on to there; of equal ones that of the least recently used key."""
    now, candidates = state.now[0], state.candidates
    if number < now.order:
        return
    now.order += 1
    lowest = number
    for other in range(number + 1, now.length):
        if _goes_before(candidates[other], candidates[lowest]):
            lowest = other
    key, profit_, last = candidates[number].key, candidates[number].profit, candidates[number].last
    candidates[number] = candidates[lowest]
    candidates[lowest].key, candidates[lowest].profit, candidates[lowest].last = key, profit_, last


@part
def _goes_before(candidate, other):
    return candidate.profit < other.profit or (candidate.profit == other.profit and candidate.last < other.last)


LNC_RA = ArrayPolicy(_lnc_ra_add, _refer, _lnc_ra_evict, _lnc_ra_remove, _lnc_ra_admit)
