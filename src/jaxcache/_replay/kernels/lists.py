"""lru, fifo and none; sieve; s3fifo."""

import numpy as np
from numba import njit

from .compiler import compiled

HIT, MISS, REJECTED, EVENT, UNKEPT = 0, 1, 2, 3, 4


@compiled
def in_turn(
    signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples, on_hits,
    admits,
):  # fmt: skip
    """Evict in the order of the last request (``on_hits``), or of the adding."""
    end = len(sizes)  # closes the queue to a ring
    near = np.full((end + 1, 2), end, np.int32)  # the older and the newer neighbour, side by side in memory
    held = np.zeros(end, np.bool_)
    live, live_mappings, peak, evictions = 0, 0, 0, 0
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if held[key]:
            outcomes[row] = HIT if request else EVENT
            if on_hits and request:
                older, newer = near[key, 0], near[key, 1]
                near[older, 1], near[newer, 0] = newer, older
                last = near[end, 0]
                near[key, 0], near[key, 1] = last, end
                near[last, 1] = near[end, 0] = key
        else:
            size, count = sizes[key], mappings[key]
            fits = live + size <= limit and live_mappings + count <= mappings_limit
            kept = fits or (size <= limit and count <= mappings_limit and admits)
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                while live + size > limit or live_mappings + count > mappings_limit:
                    victim = near[end, 1]
                    newer = near[victim, 1]
                    near[end, 1], near[newer, 0] = newer, end
                    held[victim] = False
                    live -= sizes[victim]
                    live_mappings -= mappings[victim]
                    evictions += 1
                held[key] = True
                last = near[end, 0]
                near[key, 0], near[key, 1] = last, end
                near[last, 1] = near[end, 0] = key
                live += size
                live_mappings += count
                peak = max(peak, live)
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak


@njit(inline="always")
def _append(older, newer, end, key):
    """Put a key at the newest end of the queue that ``end`` closes to a ring."""
    last = older[end]
    older[key], newer[key] = last, end
    newer[last] = key
    older[end] = key


@njit(inline="always")
def _unlink(older, newer, key):
    newer[older[key]] = newer[key]
    older[newer[key]] = older[key]


@compiled
def sieve(signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples):
    """As ``_policies/_sieve.py``."""
    end = len(sizes)
    older, newer = np.full(end + 1, end, np.int64), np.full(end + 1, end, np.int64)
    held, visited = np.zeros(end, np.bool_), np.zeros(end + 1, np.bool_)
    live, live_mappings, peak, evictions, hand = 0, 0, 0, 0, end
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if held[key]:
            outcomes[row] = HIT if request else EVENT
            if request:
                visited[key] = True
        else:
            size, count = sizes[key], mappings[key]
            kept = size <= limit and count <= mappings_limit
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                while live + size > limit or live_mappings + count > mappings_limit:
                    while hand == end or visited[hand]:
                        visited[hand] = False
                        hand = newer[hand]
                    victim = hand
                    hand = newer[victim]
                    _unlink(older, newer, victim)
                    held[victim] = False
                    live -= sizes[victim]
                    live_mappings -= mappings[victim]
                    evictions += 1
                held[key], visited[key] = True, False
                _append(older, newer, end, key)
                live += size
                live_mappings += count
                peak = max(peak, live)
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak


NOWHERE, SMALL, MAIN, GHOST = 0, 1, 2, 3


@compiled
def s3fifo(signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples):
    """As ``_policies/_s3fifo.py``."""
    keys = len(sizes)
    small, main, ghost = keys, keys + 1, keys + 2  # the ends of three rings; a key is in one at most
    older, newer = np.arange(keys + 3), np.arange(keys + 3)
    place, frequency = np.zeros(keys, np.uint8), np.zeros(keys, np.uint8)
    live, live_mappings, peak, evictions, entries, ghosts, small_bytes = 0, 0, 0, 0, 0, 0, 0
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if place[key] == SMALL or place[key] == MAIN:
            outcomes[row] = HIT if request else EVENT
            if request and frequency[key] < 3:
                frequency[key] += 1
        else:
            size, count = sizes[key], mappings[key]
            kept = size <= limit and count <= mappings_limit
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                while live + size > limit or live_mappings + count > mappings_limit:
                    victim = -1
                    if 10 * small_bytes >= live:
                        while newer[small] != small:
                            first = newer[small]
                            if frequency[first] <= 1:
                                victim = first
                                break
                            _unlink(older, newer, first)
                            _append(older, newer, main, first)
                            place[first], frequency[first] = MAIN, 0
                            small_bytes -= sizes[first]
                    if victim < 0:
                        victim = newer[main]
                        while frequency[victim] > 0:
                            frequency[victim] -= 1
                            _unlink(older, newer, victim)
                            _append(older, newer, main, victim)
                            victim = newer[main]
                    _unlink(older, newer, victim)
                    if place[victim] == SMALL:
                        small_bytes -= sizes[victim]
                        place[victim] = GHOST
                        _append(older, newer, ghost, victim)
                        ghosts += 1
                    else:
                        place[victim] = NOWHERE
                    live -= sizes[victim]
                    live_mappings -= mappings[victim]
                    entries -= 1
                    evictions += 1
                frequency[key] = 0
                if place[key] == GHOST:
                    _unlink(older, newer, key)
                    ghosts -= 1
                    place[key] = MAIN
                    _append(older, newer, main, key)
                else:
                    place[key] = SMALL
                    _append(older, newer, small, key)
                    small_bytes += size
                live += size
                live_mappings += count
                entries += 1
                peak = max(peak, live)
                while 10 * ghosts > 9 * entries:
                    gone = newer[ghost]
                    _unlink(older, newer, gone)
                    place[gone] = NOWHERE
                    ghosts -= 1
        if row == sampled:
            samples[row // stride] = live
            sampled += stride
    samples[-1] = live
    return evictions, peak
