"""lfu, size_based, gdsf and gdsf_admit: one heap of lower bounds, and what the priority is."""

import numpy as np
from numba import njit

from .compiler import compiled

HIT, MISS, REJECTED, EVENT, UNKEPT = 0, 1, 2, 3, 4
LFU, SIZE, GDSF, GDSF_ADMIT = 0, 1, 2, 3


@njit(inline="always")
def _before(priority, number, other_priority, other_number):
    return priority < other_priority or (priority == other_priority and number < other_number)


@njit
def _sift_down(heap_priority, heap_number, heap_key, length, priority, number, key):
    """Put an item in at the top, whose place is free."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= length:
            break
        if child + 1 < length and _before(
            heap_priority[child + 1], heap_number[child + 1], heap_priority[child], heap_number[child]
        ):
            child += 1
        if not _before(heap_priority[child], heap_number[child], priority, number):
            break
        heap_priority[place], heap_number[place] = heap_priority[child], heap_number[child]
        heap_key[place] = heap_key[child]
        place = child
    heap_priority[place], heap_number[place], heap_key[place] = priority, number, key


@njit
def _push(heap_priority, heap_number, heap_key, length, priority, number, key):
    place = length
    while place > 0:
        parent = (place - 1) // 2
        if not _before(priority, number, heap_priority[parent], heap_number[parent]):
            break
        heap_priority[place], heap_number[place] = heap_priority[parent], heap_number[parent]
        heap_key[place] = heap_key[parent]
        place = parent
    heap_priority[place], heap_number[place], heap_key[place] = priority, number, key


@njit
def _settle_top(heap_priority, heap_number, heap_key, length, priorities, numbers):
    """Put right what is at the top until it is the lowest; return its key."""
    while True:
        key = heap_key[0]
        if heap_number[0] == numbers[key]:
            return key
        _sift_down(heap_priority, heap_number, heap_key, length, priorities[key], numbers[key], key)


@njit
def _pop(heap_priority, heap_number, heap_key, length):
    """Drop the top of a heap that held ``length`` items."""
    last = length - 1
    if last > 0:
        _sift_down(heap_priority, heap_number, heap_key, last, heap_priority[last], heap_number[last], heap_key[last])


@compiled
def by_priority(
    signatures, events, sizes, mappings, costs, limit, mappings_limit, stride, outcomes, misses, samples, kind,
    compared, history,
):  # fmt: skip
    """As ``_policies/_lazy_heap.py`` under ``kind``; ``compared`` and ``history`` are the constants of gdsf_admit."""
    keys = len(sizes)
    heap_priority, heap_number = np.empty(keys), np.empty(keys, np.int64)
    heap_key = np.empty(keys, np.int64)
    priorities, numbers = np.zeros(keys), np.zeros(keys, np.int64)
    frequency, held = np.zeros(keys, np.int64), np.zeros(keys, np.bool_)
    older, newer = np.full(keys + 1, keys, np.int64), np.full(keys + 1, keys, np.int64)  # what is remembered, as a ring
    past = np.zeros(keys, np.int64)  # frequencies of what is remembered; 0 of what is not
    remembered = 0
    taken = np.empty(min(compared, keys) if kind == GDSF_ADMIT else 0, np.int64)
    live, live_mappings, peak, evictions, entries, sets, clock = 0, 0, 0, 0, 0, 0, 0.0
    sampled = stride - 1
    for row in range(len(signatures)):
        key = signatures[row]
        request = events[row] == 0
        if held[key]:
            outcomes[row] = HIT if request else EVENT
            if request and kind != SIZE:
                sets += 1
                frequency[key] += 1
                numbers[key] = sets
                if kind == LFU:
                    priorities[key] = frequency[key]
                else:
                    priorities[key] = clock + frequency[key] * costs[key] / sizes[key]
        else:
            size, count = sizes[key], mappings[key]
            kept = size <= limit and count <= mappings_limit
            if kept and kind == GDSF_ADMIT and (live + size > limit or live_mappings + count > mappings_limit):
                # Victims are taken off the heap, looked at, and put back.
                highest, covered, looked = clock, 0, 0
                while looked < len(taken) and looked < entries and covered < size:
                    victim = _settle_top(heap_priority, heap_number, heap_key, entries - looked, priorities, numbers)
                    _pop(heap_priority, heap_number, heap_key, entries - looked)
                    highest = priorities[victim]
                    covered += sizes[victim]
                    taken[looked] = victim
                    looked += 1
                for back in range(looked - 1, -1, -1):
                    victim = taken[back]
                    _push(
                        heap_priority, heap_number, heap_key, entries - back - 1, priorities[victim], numbers[victim],
                        victim,
                    )  # fmt: skip
                kept = clock + (past[key] + 1) * costs[key] / size >= highest
                if not kept:
                    remembered = _remember(older, newer, past, key, past[key] + 1, remembered, history)
            outcomes[row] = (MISS if kept else REJECTED) if request else EVENT if kept else UNKEPT
            misses[key] += request
            if kept:
                while live + size > limit or live_mappings + count > mappings_limit:
                    victim = _settle_top(heap_priority, heap_number, heap_key, entries, priorities, numbers)
                    _pop(heap_priority, heap_number, heap_key, entries)
                    entries -= 1
                    clock = priorities[victim]
                    held[victim] = False
                    live -= sizes[victim]
                    live_mappings -= mappings[victim]
                    evictions += 1
                    if kind == GDSF_ADMIT:
                        remembered = _remember(older, newer, past, victim, frequency[victim], remembered, history)
                if past[key] > 0:
                    past[key] = 0
                    newer[older[key]], older[newer[key]] = newer[key], older[key]
                    remembered -= 1
                sets += 1
                held[key], frequency[key], numbers[key] = True, 1, sets
                if kind == LFU:
                    priorities[key] = 1.0
                elif kind == SIZE:
                    priorities[key] = -float(size)
                else:
                    priorities[key] = clock + 1 * costs[key] / size
                _push(heap_priority, heap_number, heap_key, entries, priorities[key], sets, key)
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
def _remember(older, newer, past, key, value, remembered, history):
    """Note a value, which is 1 or more, as ``History`` does; return how many there are."""
    end = len(past)
    if past[key] > 0:
        newer[older[key]], older[newer[key]] = newer[key], older[key]
        remembered -= 1
    past[key] = value
    last = older[end]
    older[key], newer[key], newer[last], older[end] = last, end, key, key
    remembered += 1
    if remembered > history:
        gone = newer[end]
        past[gone] = 0
        newer[older[gone]], older[newer[gone]] = newer[gone], older[gone]
        remembered -= 1
    return remembered
