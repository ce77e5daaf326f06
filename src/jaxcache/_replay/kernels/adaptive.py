"""adaptive, with the draws of Python's own generator."""

from math import exp, expm1, frexp

import numpy as np
from numba import njit

from ..._policies.adaptive import BRIEF, CARRIED, LEARNING, LEAST, RECENT, RENEWAL, STILL_BRIEF, STILL_RECENT
from ..._policies.hazard import BINS, CLASSES, KEPT, PRIOR
from ..._policies.hazard import WIDTHS as _WIDTHS
from .compiler import compiled
from .sampled import _draw

HIT, MISS, REJECTED, EVENT, UNKEPT = 0, 1, 2, 3, 4
WIDTHS = np.array(_WIDTHS)
ALL_BRIEF, ALL_RECENT = 0, 1  # in ``sums``, followed by the three weights
TIME, RENEWED = 0, 1  # in ``clock``


@njit
def _class_of(requests):
    bits, left = 0, requests - 1
    while left:
        bits += 1
        left >>= 1
    return min(bits, CLASSES - 1)


@njit
def _bin_of(expected):
    mantissa, exponent = frexp(expected)
    half = 2 * exponent + (11 if mantissa < 0.7071067811865476 else 12)
    return 0 if expected <= 0.0 or half < 0 else min(half, BINS - 1)


@njit
def _index(hazards, start):
    best, open_, requested, spent = 0.0, 1.0, 0.0, 0.0
    for index in range(start, BINS):
        width = WIDTHS[index] / 2 if index == start else WIDTHS[index]
        share = -open_ * expm1(-hazards[index] * width)
        requested += share
        spent += share / hazards[index]
        best = max(best, requested / spent)
        open_ -= share
        if open_ < 0.01:
            break
    return best


@njit
def _renew(came, ended, factors):
    """As ``Hazard.renew``, once those that wait are in ``ended``."""
    exposures, hazards = np.empty(BINS), np.empty(BINS)
    for kind in range(CLASSES):
        later, seen, spent = 0.0, 0.0, 0.0
        for index in range(BINS - 1, -1, -1):
            exposures[index] = (later + ended[kind, index] / 2) * WIDTHS[index]
            later += ended[kind, index]
        for index in range(BINS):
            seen += came[kind, index]
            spent += exposures[index]
        usual = (seen + PRIOR) / (spent + PRIOR)
        for index in range(BINS):
            hazards[index] = (came[kind, index] + PRIOR * usual) / (exposures[index] + PRIOR)
        for index in range(BINS):
            factors[kind, index] = _index(hazards, index)
    for kind in range(CLASSES):
        for index in range(BINS):
            came[kind, index] *= KEPT


@njit
def _expected(key, requests, brief, recent, last, clock, sums):
    """Return u of a record, and what the three memories foresee of it now."""
    passed = clock[TIME] + 1 - last[key]
    of_brief = sums[2] * brief[key] / sums[ALL_BRIEF]
    of_recent = sums[3] * recent[key] / sums[ALL_RECENT]
    ever = sums[4] * requests[key] / clock[TIME]
    still_brief, still_recent = exp(-passed / BRIEF), exp(-passed / RECENT)
    expected = of_brief * BRIEF * (1 - still_brief) + of_recent * RECENT * (1 - still_recent) + ever * passed
    return expected, of_brief * still_brief, of_recent * still_recent, ever


@njit
def _priority(key, density, requests, brief, recent, last, clock, sums, factors):
    expected, of_brief, of_recent, ever = _expected(key, requests, brief, recent, last, clock, sums)
    return factors[_class_of(requests[key]), _bin_of(expected)] * (of_brief + of_recent + ever) * density


@njit
def _priority_if_asked(key, density, requests, brief, recent, last, clock, sums, factors):
    passed, asked = clock[TIME] + 1 - last[key], requests[key] + 1
    of_brief = (brief[key] * exp(-passed / BRIEF) + 1.0) / (sums[ALL_BRIEF] * STILL_BRIEF + 1.0)
    of_recent = (recent[key] * exp(-passed / RECENT) + 1.0) / (sums[ALL_RECENT] * STILL_RECENT + 1.0)
    rate = sums[2] * of_brief + sums[3] * of_recent + sums[4] * asked / (clock[TIME] + 1)
    return factors[_class_of(asked), _bin_of(0.0)] * rate * density


@njit
def _refer(key, requests, brief, recent, last, clock, sums, came):
    """As ``Adaptive._refer``, all but the candidates."""
    if requests[key]:
        expected, of_brief, of_recent, ever = _expected(key, requests, brief, recent, last, clock, sums)
        came[_class_of(requests[key]), _bin_of(expected)] += 1.0
        foreseen = of_brief + of_recent + ever
        step = max(LEARNING, 1 / (clock[TIME] + 10))
        a = max(LEAST, sums[2] + step * (of_brief / foreseen - sums[2]))
        b = max(LEAST, sums[3] + step * (of_recent / foreseen - sums[3]))
        c = max(LEAST, sums[4] + step * (ever / foreseen - sums[4]))
        total = a + b + c
        sums[2], sums[3], sums[4] = a / total, b / total, c / total
    passed = clock[TIME] + 1 - last[key]
    clock[TIME] += 1
    requests[key] += 1
    brief[key] = brief[key] * exp(-passed / BRIEF) + 1.0
    recent[key] = recent[key] * exp(-passed / RECENT) + 1.0
    last[key] = clock[TIME]
    sums[ALL_BRIEF] = sums[ALL_BRIEF] * STILL_BRIEF + 1.0
    sums[ALL_RECENT] = sums[ALL_RECENT] * STILL_RECENT + 1.0


@njit
def _append(older, newer, key, end):
    """Put a key last in the ring of ``end``."""
    latest = older[end]
    older[key], newer[key], newer[latest], older[end] = latest, end, key, key


@njit
def _unlink(older, newer, key):
    newer[older[key]], older[newer[key]] = newer[key], older[key]


@njit
def _note(older, newer, key, past, noted, remembered, history, requests, brief, recent, last):
    """Remember a key that is in no ring as ``History`` does; return how many are remembered."""
    noted[key] = True
    _append(older, newer, key, past)
    if remembered < history:
        return remembered + 1
    gone = newer[past]
    _unlink(older, newer, gone)
    noted[gone], requests[gone], brief[gone], recent[gone], last[gone] = False, 0, 0.0, 0.0, 0
    return remembered


@njit
def _wait(older, newer, end, span, requests, brief, recent, last, clock, sums, ended):
    """Add the keys of a ring to those that wait, in its order: sums depend on it."""
    key = newer[end]
    while key != end:
        expected = _expected(key, requests, brief, recent, last, clock, sums)[0]
        ended[_class_of(requests[key]), _bin_of(expected)] += exp((last[key] - clock[TIME]) / span)
        key = newer[key]


@compiled
def adaptive(
    signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples, state,
    candidates, history,
):  # fmt: skip
    """As ``_policies/_adaptive.py``."""
    keys = len(sizes)
    held, place = np.empty(keys, np.int64), np.full(keys, -1, np.int64)
    requests, last = np.zeros(keys, np.int64), np.zeros(keys, np.int64)
    brief, recent = np.zeros(keys), np.zeros(keys)
    noted, chosen = np.zeros(keys, np.bool_), np.zeros(keys, np.bool_)
    here, past = keys, keys + 1  # two rings: what is held, by when it was added, and what is not, by when it was noted
    older, newer = np.arange(keys + 2), np.arange(keys + 2)
    clock, sums = np.zeros(2, np.int64), np.array([0.0, 0.0, 1 / 3, 1 / 3, 1 / 3])
    came, factors = np.zeros((CLASSES, BINS)), np.ones((CLASSES, BINS))
    drawn, pool = np.empty(candidates, np.int64), np.empty(21 + 16 * candidates, np.int64)
    ranked, priority = np.empty(candidates, np.int64), np.empty(candidates)
    carried, carrying = np.empty(CARRIED, np.int64), 0
    live, live_mappings, peak, evictions, entries, remembered = 0, 0, 0, 0, 0, 0
    first, length = 0, 0  # of the candidates: the next victim, and all
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if place[key] >= 0:
            outcomes[row] = HIT if request else EVENT
            if request:
                _refer(key, requests, brief, recent, last, clock, sums, came)
                first = length = 0
        else:
            size, maps = sizes[key], mappings[key]
            kept = size <= limit and maps <= mappings_limit
            asked = kept and (live + size > limit or live_mappings + maps > mappings_limit)
            while kept and (asked or live + size > limit or live_mappings + maps > mappings_limit):
                if first == length:
                    known = entries + remembered
                    if clock[TIME] >= clock[RENEWED] + max(RENEWAL, known):
                        clock[RENEWED] = clock[TIME]
                        ended, span = came.copy(), max(RENEWAL, known) / (1 - KEPT)
                        _wait(older, newer, here, span, requests, brief, recent, last, clock, sums, ended)
                        _wait(older, newer, past, span, requests, brief, recent, last, clock, sums, ended)
                        _renew(came, ended, factors)
                    count = _draw(state, held, entries, candidates, drawn, pool, chosen)
                    first = length = 0
                    if count < entries:
                        for number in range(carrying):
                            one = carried[number]
                            if place[one] >= 0:
                                ranked[length] = one
                                chosen[one] = True
                                length += 1
                    for number in range(count):
                        one = drawn[number]
                        if length < candidates and not chosen[one]:
                            ranked[length] = one
                            length += 1
                    for number in range(length):
                        one = ranked[number]
                        chosen[one] = False
                        told = _priority(
                            one, costs[one] / sizes[one], requests, brief, recent, last, clock, sums, factors
                        )
                        at = number
                        while at and (
                            told < priority[at - 1] or (told == priority[at - 1] and last[one] < last[ranked[at - 1]])
                        ):
                            priority[at], ranked[at] = priority[at - 1], ranked[at - 1]
                            at -= 1
                        priority[at], ranked[at] = told, one
                    carrying = min(length, CARRIED)
                    carried[:carrying] = ranked[:carrying]
                if asked:
                    asked = False
                    covered, theirs = 0, 0.0
                    for number in range(first, length):
                        covered += sizes[ranked[number]]
                        theirs += priority[number] * sizes[ranked[number]]
                        if covered >= size:
                            break
                    mine = _priority_if_asked(
                        key, costs[key] / size, requests, brief, recent, last, clock, sums, factors
                    )
                    kept = mine > theirs / covered
                    if not kept:
                        _refer(key, requests, brief, recent, last, clock, sums, came)
                        first = length = 0
                        if noted[key]:
                            _unlink(older, newer, key)
                            remembered -= 1
                        remembered = _note(
                            older, newer, key, past, noted, remembered, history, requests, brief, recent, last
                        )
                    continue
                victim = ranked[first]
                first += 1
                at = place[victim]
                entries -= 1
                held[at] = held[entries]
                place[held[at]] = at
                place[victim] = -1
                _unlink(older, newer, victim)
                remembered = _note(
                    older, newer, victim, past, noted, remembered, history, requests, brief, recent, last
                )
                live -= sizes[victim]
                live_mappings -= mappings[victim]
                evictions += 1
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                if noted[key]:
                    _unlink(older, newer, key)
                    noted[key] = False
                    remembered -= 1
                _append(older, newer, key, here)
                held[entries], place[key] = key, entries
                entries += 1
                _refer(key, requests, brief, recent, last, clock, sums, came)
                first = length = 0
                live += size
                live_mappings += maps
                peak = max(peak, live)
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak
