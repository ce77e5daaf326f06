"""adaptive: a learnt rate of requests times cost by size."""

from math import exp
from typing import Any, NamedTuple

import numpy as np

from ..._policies.adaptive import (
    BRIEF,
    CARRIED,
    RECENT,
    RENEWAL,
    STILL_BRIEF,
    STILL_RECENT,
    foresee,
    foresee_once_asked,
    learn_weights,
)
from ..._policies.hazard import BINS, CLASSES, KEPT, bin_of, class_of, fit_hazards, gittins_index
from ..._policies.structures import CANDIDATES
from . import key_set
from .compiler import part
from .loop import ArrayPolicy
from .table import PAST_FIELDS, append, forget, new_records, new_table, note, unlink

for _formula in (foresee, foresee_once_asked, learn_weights, bin_of, class_of, fit_hazards, gittins_index):
    part(_formula)

CAME, FACTORS, ENDED, EXPOSURES, HAZARDS = 0, 1, 2, 3, 4  # rows of each class of the hazard
_RECORD = {"requests": "i8", "brief": "f8", "recent": "f8", "last": "i8", "density": "f8", "size": "i8", "chosen": "?"}
_TIMES = {"time": "i8", "renewed": "i8"}
_TOTALS = {"brief": "f8", "recent": "f8"}  # requests of all keys, as the memories have them
_WEIGHTS = {"brief_weight": "f8", "recent_weight": "f8", "ever_weight": "f8"}
_MARKS = {"first": "i8", "length": "i8", "carried": "i8"}  # of the candidates: the first that has not gone, and all


class AdaptiveState(NamedTuple):
    """State of adaptive.

    Attributes:
        table: Of the keys, with their records, and ``chosen``, which is false before and after candidates are chosen.
            Its first ring is of the keys held, in the order of their adding, its last of those not held.
        entries: Of the key set.
        draws: Of the key set.
        generator: Of the key set.
        now: Numbers of the policy as a whole.
        candidates: Keys and their priorities, the lowest first; and in ``carried`` the lowest keys of the last time.
        hazard: As ``Hazard``: by class, what came, the factors, and scratch, each by bin; float64.
    """

    table: Any
    entries: Any
    draws: Any
    generator: Any
    now: Any
    candidates: Any
    hazard: Any


def new_adaptive(sizes: Any, costs: Any, seed: int) -> AdaptiveState:
    """Return the state of adaptive."""
    keys = len(sizes)
    table = new_table(keys, {**_RECORD, **key_set.FIELDS, **PAST_FIELDS}, rings=2)
    table["size"][:keys], table["density"][:keys] = sizes, costs / sizes
    entries, draws = key_set.new_key_set(table)
    now = new_records(1, {**key_set.NOW, "past": "i8", **_TIMES, **_TOTALS, **_WEIGHTS, **_MARKS})
    now["brief_weight"] = now["recent_weight"] = now["ever_weight"] = 1 / 3
    candidates = new_records(CANDIDATES, {"key": "i8", "priority": "f8", "carried": "i8"})
    hazard = np.zeros((CLASSES, 5, BINS))
    hazard[:, FACTORS] = 1.0
    return AdaptiveState(table, entries, draws, key_set.new_generator(seed), now, candidates, hazard)


@part
def _passed(state, key):
    return state.now[0].time + 1 - state.table[key].last


@part
def _weights(state):
    return state.now[0].brief_weight, state.now[0].recent_weight, state.now[0].ever_weight


@part
def _foresee(state, key, passed, still_brief, still_recent):
    record, now = state.table[key], state.now[0]
    return foresee(
        passed, still_brief, still_recent, record.brief, record.recent, record.requests,
        _weights(state), now.brief, now.recent, now.time,
    )  # fmt: skip


@part
def _foresee_now(state, key):
    passed = _passed(state, key)
    return _foresee(state, key, passed, exp(-passed / BRIEF), exp(-passed / RECENT))


@part
def _factor(state, requests, expected):
    return state.hazard[class_of(requests), FACTORS, bin_of(expected)]


@part
def _priority(state, key):
    brief, recent, ever, expected = _foresee_now(state, key)
    record = state.table[key]
    return _factor(state, record.requests, expected) * (brief + recent + ever) * record.density


@part
def _priority_once_asked(state, key):
    passed, record, now = _passed(state, key), state.table[key], state.now[0]
    rate = foresee_once_asked(
        exp(-passed / BRIEF), exp(-passed / RECENT), record.brief, record.recent, record.requests,
        _weights(state), now.brief, now.recent, now.time,
    )  # fmt: skip
    return _factor(state, record.requests + 1, 0.0) * rate * record.density


@part
def _refer(state, key):
    """Count a request, after learning from whether it was foreseen."""
    record, now, passed = state.table[key], state.now[0], _passed(state, key)
    still_brief, still_recent = exp(-passed / BRIEF), exp(-passed / RECENT)
    if record.requests:
        brief, recent, ever, expected = _foresee(state, key, passed, still_brief, still_recent)
        state.hazard[class_of(record.requests), CAME, bin_of(expected)] += 1.0
        now.brief_weight, now.recent_weight, now.ever_weight = learn_weights(
            _weights(state), brief, recent, ever, now.time
        )
    now.time += 1
    record.requests += 1
    record.brief = record.brief * still_brief + 1.0
    record.recent = record.recent * still_recent + 1.0
    record.last = now.time
    now.brief = now.brief * STILL_BRIEF + 1.0
    now.recent = now.recent * STILL_RECENT + 1.0
    now.first = now.length = 0


@part
def _add(state, key):
    forget(state, key)
    append(state.table, len(state.table) - 2, key)
    key_set.add(state, key)
    _refer(state, key)


@part
def _evict(state):
    _choose_candidates(state)
    victim = state.candidates[state.now[0].first].key
    state.now[0].first += 1
    _remove(state, victim)
    return victim


@part
def _remove(state, key):
    """Remember a key that is no longer held. There are no candidates between requests, so that none goes here."""
    key_set.remove(state, key)
    unlink(state.table, key)
    _note(state, key)


@part
def _admit(state, key):
    _choose_candidates(state)
    covered, their_priority = 0, 0.0
    for number in range(state.now[0].first, state.now[0].length):
        size = state.table[state.candidates[number].key].size
        covered += size
        their_priority += state.candidates[number].priority * size
        if covered >= state.table[key].size:
            break
    if _priority_once_asked(state, key) > their_priority / covered:
        return True
    _refer(state, key)
    _note(state, key)
    return False


@part
def _note(state, key):
    forgotten = note(state, key)
    if forgotten >= 0:
        record = state.table[forgotten]
        record.requests, record.brief, record.recent, record.last = 0, 0.0, 0.0, 0


@part
def _choose_candidates(state):
    """Draw candidates and put them in order, unless some are left."""
    now = state.now[0]
    if now.first < now.length:
        return
    _renew_if_due(state)
    now.first = now.length = 0
    count = key_set.draw(state, CANDIDATES)
    carried = now.carried if count < now.entries else 0
    for number in range(carried + count):
        key = state.candidates[number].carried if number < carried else state.draws[number - carried].key
        if now.length < CANDIDATES and state.table[key].index >= 0 and not state.table[key].chosen:
            _insert(state, key)
    for number in range(now.length):
        state.table[state.candidates[number].key].chosen = False
    now.carried = min(now.length, CARRIED)
    for number in range(now.carried):
        state.candidates[number].carried = state.candidates[number].key


@part
def _insert(state, key):
    """Insert a candidate by its priority; of equal ones the least recently used comes first."""
    candidates, priority, last, index = (
        state.candidates,
        _priority(state, key),
        state.table[key].last,
        state.now[0].length,
    )
    while index > 0:
        other = candidates[index - 1]
        if priority > other.priority or (priority == other.priority and last > state.table[other.key].last):
            break
        candidates[index].key = other.key
        candidates[index].priority = other.priority
        index -= 1
    candidates[index].key = key
    candidates[index].priority = priority
    state.table[key].chosen = True
    state.now[0].length += 1


@part
def _renew_if_due(state):
    now, hazard = state.now[0], state.hazard
    span = max(RENEWAL, now.entries + now.past)
    if now.time < now.renewed + span:
        return
    now.renewed = now.time
    for number in range(CLASSES):
        for index in range(BINS):
            hazard[number, ENDED, index] = hazard[number, CAME, index]
    for ring in range(len(state.table) - 2, len(state.table)):
        _wait(state, ring, span / (1 - KEPT))
    for number in range(CLASSES):
        rows = hazard[number]
        fit_hazards(rows[CAME], rows[ENDED], rows[EXPOSURES], rows[HAZARDS])
        for start in range(BINS):
            rows[FACTORS, start] = gittins_index(rows[HAZARDS], start)
            rows[CAME, start] *= KEPT


@part
def _wait(state, ring, span):
    """Count the keys of a ring among those that ended, in its order, on which sums depend."""
    table = state.table
    key = table[ring].newer
    while key != ring:
        expected = _foresee_now(state, key)[3]
        weight = exp((table[key].last - state.now[0].time) / span)
        state.hazard[class_of(table[key].requests), ENDED, bin_of(expected)] += weight
        key = table[key].newer


ADAPTIVE = ArrayPolicy(_add, _refer, _evict, _remove, _admit)
