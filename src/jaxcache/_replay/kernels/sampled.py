"""random and lnc_ra, with the draws of Python's own generator."""

import numpy as np
from numba import njit

from .compiler import compiled

HIT, MISS, REJECTED, EVENT, UNKEPT = 0, 1, 2, 3, 4
K = 4


@njit
def _word(state):
    """Return the next 32 bits of the Mersenne Twister whose 624 words and position are the state."""
    position = state[624]
    if position >= 624:
        for place in range(624):
            joined = (state[place] & 0x80000000) | (state[(place + 1) % 624] & 0x7FFFFFFF)
            word = state[(place + 397) % 624] ^ (joined >> 1)
            if joined & 1:
                word ^= 0x9908B0DF
            state[place] = word
        position = 0
    word = state[position]
    state[624] = position + 1
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    word ^= word >> 18
    return word & 0xFFFFFFFF


@njit
def _below(state, bound):
    """Return what ``random.Random`` draws below a bound: as many bits as it has, again until they are below."""
    bits = 0
    while bound >> bits:
        bits += 1
    drawn = _word(state) >> (32 - bits)
    while drawn >= bound:
        drawn = _word(state) >> (32 - bits)
    return drawn


@compiled
def at_random(
    signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples, state
):
    """As ``_policies/_random.py``."""
    keys = len(sizes)
    held, place = np.empty(keys, np.int64), np.full(keys, -1, np.int64)
    live, live_mappings, peak, evictions, entries = 0, 0, 0, 0, 0
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if place[key] >= 0:
            outcomes[row] = HIT if request else EVENT
        else:
            size, count = sizes[key], mappings[key]
            kept = size <= limit and count <= mappings_limit
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                while live + size > limit or live_mappings + count > mappings_limit:
                    drawn = 0 if entries == 1 else _below(state, entries)
                    victim = held[drawn]
                    entries -= 1
                    held[drawn] = held[entries]
                    place[held[drawn]] = drawn
                    place[victim] = -1
                    live -= sizes[victim]
                    live_mappings -= mappings[victim]
                    evictions += 1
                held[entries], place[key] = key, entries
                entries += 1
                live += size
                live_mappings += count
                peak = max(peak, live)
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak


@njit
def _draw(state, held, entries, count, drawn, pool, chosen):
    """Fill ``drawn`` as ``RandomKeySet.draw`` does; return how many there are.

    ``chosen`` is all false before and after.
    """
    if count >= entries:
        drawn[:entries] = held[:entries]
        return entries
    pool_size = 21
    if count > 5:  # as random.sample decides between a copy and a set
        power = 1
        while power < 3 * count:
            power *= 4
        pool_size += power
    if entries <= pool_size:
        pool[:entries] = held[:entries]
        for number in range(count):
            at = _below(state, entries - number)
            drawn[number] = pool[at]
            pool[at] = pool[entries - number - 1]
        return count
    for number in range(count):
        at = _below(state, entries)
        while chosen[at]:
            at = _below(state, entries)
        chosen[at] = True
        pool[number] = at
        drawn[number] = held[at]
    for number in range(count):
        chosen[pool[number]] = False
    return count


@njit
def _rate(references, count, key, time):
    return count[key] / (time + 1 - references[key, 0])


@njit
def _refer(references, count, key, time):
    if count[key] == K:
        for place in range(K - 1):
            references[key, place] = references[key, place + 1]
        count[key] -= 1
    references[key, count[key]] = time
    count[key] += 1


@njit
def _rank(drawn, profit, last, first, length):
    """Bring the lowest profit of ``drawn[first:length]`` to the front of it; equal ones least recently used first."""
    lowest = first
    for place in range(first + 1, length):
        if profit[place] < profit[lowest] or (profit[place] == profit[lowest] and last[place] < last[lowest]):
            lowest = place
    drawn[first], drawn[lowest] = drawn[lowest], drawn[first]
    profit[first], profit[lowest] = profit[lowest], profit[first]
    last[first], last[lowest] = last[lowest], last[first]


@njit
def _note(older, newer, noted, count, key, remembered, history):
    """Remember a key's references as ``History`` does; return how many are remembered."""
    end = len(noted)
    if noted[key]:
        newer[older[key]], older[newer[key]] = newer[key], older[key]
        remembered -= 1
    noted[key] = True
    last = older[end]
    older[key], newer[key], newer[last], older[end] = last, end, key, key
    remembered += 1
    if remembered > history:
        gone = newer[end]
        newer[older[gone]], older[newer[gone]] = newer[gone], older[gone]
        noted[gone], count[gone] = False, 0
        remembered -= 1
    return remembered


@compiled
def lnc_ra(
    signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples, state,
    candidates, history,
):  # fmt: skip
    """As ``_policies/_lnc_ra.py``."""
    keys = len(sizes)
    held, place = np.empty(keys, np.int64), np.full(keys, -1, np.int64)
    references, count = np.zeros((keys, K), np.int64), np.zeros(keys, np.int64)
    older, newer = np.full(keys + 1, keys, np.int64), np.full(keys + 1, keys, np.int64)
    noted, chosen = np.zeros(keys, np.bool_), np.zeros(keys, np.bool_)
    drawn, pool = np.empty(candidates, np.int64), np.empty(21 + 16 * candidates, np.int64)
    profit, last = np.empty(candidates), np.empty(candidates, np.int64)
    live, live_mappings, peak, evictions, entries, remembered, time = 0, 0, 0, 0, 0, 0, 0
    first, ranked, length = 0, 0, 0  # of the candidates drawn: the next victim, those in order, all
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if place[key] >= 0:
            outcomes[row] = HIT if request else EVENT
            if request:
                time += 1
                _refer(references, count, key, time)
                first = ranked = length = 0
        else:
            size, maps = sizes[key], mappings[key]
            kept = size <= limit and maps <= mappings_limit
            asked = kept and (live + size > limit or live_mappings + maps > mappings_limit)
            while kept and (asked or live + size > limit or live_mappings + maps > mappings_limit):
                if first == length:
                    first, ranked = 0, 0
                    length = _draw(state, held, entries, candidates, drawn, pool, chosen)
                    for number in range(length):
                        one = drawn[number]
                        profit[number] = _rate(references, count, one, time) * costs[one] / sizes[one]
                        last[number] = references[one, count[one] - 1]
                if asked:
                    asked = False
                    covered, their_cost, their_rate, number = 0, 0.0, 0.0, first
                    while number < length and (number == first or covered < size):
                        if number == ranked:
                            _rank(drawn, profit, last, number, length)
                            ranked += 1
                        one = drawn[number]
                        covered += sizes[one]
                        their_cost += costs[one]
                        their_rate += _rate(references, count, one, time) * costs[one]
                        number += 1
                    if noted[key]:
                        oldest = references[key, 1] if count[key] == K else references[key, 0]
                        rate = min(K, count[key] + 1) / (time + 1 - oldest)
                        kept = rate * costs[key] / size > their_rate / covered
                    else:
                        kept = costs[key] / size > their_cost / covered
                    if not kept:
                        time += 1
                        _refer(references, count, key, time)
                        first = ranked = length = 0
                        remembered = _note(older, newer, noted, count, key, remembered, history)
                    continue
                if first == ranked:
                    _rank(drawn, profit, last, first, length)
                    ranked += 1
                victim = drawn[first]
                first += 1
                at = place[victim]
                entries -= 1
                held[at] = held[entries]
                place[held[at]] = at
                place[victim] = -1
                remembered = _note(older, newer, noted, count, victim, remembered, history)
                live -= sizes[victim]
                live_mappings -= mappings[victim]
                evictions += 1
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                if noted[key]:
                    newer[older[key]], older[newer[key]] = newer[key], older[key]
                    noted[key] = False
                    remembered -= 1
                else:
                    count[key] = 0
                held[entries], place[key] = key, entries
                entries += 1
                time += 1
                _refer(references, count, key, time)
                first = ranked = length = 0
                live += size
                live_mappings += maps
                peak = max(peak, live)
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak
