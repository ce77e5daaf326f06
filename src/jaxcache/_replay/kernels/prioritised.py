"""lfu, size_based, gdsf and gdsf_admit: policies that evict from a heap of priorities."""

from typing import Any, NamedTuple

import numpy as np

from ..._policies.gdsf import gdsf_priority
from ..._policies.gdsf_admit import COMPARED
from ..._policies.size_based import smallness
from . import heap
from .compiler import part
from .loop import ArrayPolicy
from .ordered import admit_all
from .table import PAST_FIELDS, forget, new_records, note

part(gdsf_priority)
part(smallness)


class HeapState(NamedTuple):
    """Keys by their priorities: the table and the items of a heap, and the numbers of the policy as a whole."""

    table: Any
    items: Any
    now: Any


def new_lfu(keys: int) -> HeapState:
    """Return the state of lfu."""
    return HeapState(*heap.new_heap(keys, {}), new_records(1, heap.NOW))


@part
def _lfu_add(state, key):
    heap.add(state, key, 1.0)


@part
def _lfu_hit(state, key):
    heap.rise(state, key, state.table[key].priority + 1.0)


@part
def _evict_lowest(state):
    victim = heap.lowest(state)
    heap.remove(state, victim)
    return victim


LFU = ArrayPolicy(_lfu_add, _lfu_hit, _evict_lowest, heap.remove, admit_all)


def new_size_based(sizes: Any) -> HeapState:
    """Return the state of size_based."""
    table, items = heap.new_heap(len(sizes), {"size": "i8"})
    table["size"] = sizes
    return HeapState(table, items, new_records(1, heap.NOW))


@part
def _size_add(state, key):
    heap.add(state, key, smallness(state.table[key].size))


@part
def _size_hit(state, key):
    pass


SIZE_BASED = ArrayPolicy(_size_add, _size_hit, _evict_lowest, heap.remove, admit_all)

_GDSF_FIELDS = {"size": "i8", "cost": "f8", "frequency": "i8"}
_GDSF_NOW = {**heap.NOW, "clock": "f8"}


def new_gdsf(sizes: Any, costs: Any) -> HeapState:
    """Return the state of gdsf."""
    table, items = heap.new_heap(len(sizes), _GDSF_FIELDS)
    table["size"], table["cost"] = sizes, costs
    return HeapState(table, items, new_records(1, _GDSF_NOW))


@part
def _priority(state, key, frequency):
    return gdsf_priority(state.now[0].clock, frequency, state.table[key].size, state.table[key].cost)


@part
def _gdsf_add(state, key):
    state.table[key].frequency = 1
    heap.add(state, key, _priority(state, key, 1))


@part
def _gdsf_hit(state, key):
    state.table[key].frequency += 1
    heap.rise(state, key, _priority(state, key, state.table[key].frequency))


@part
def _gdsf_evict(state):
    victim = _evict_lowest(state)
    state.now[0].clock = state.table[victim].priority
    return victim


@part
def _gdsf_remove(state, key):
    if heap.lowest(state) == key:
        state.now[0].clock = state.table[key].priority
    heap.remove(state, key)


GDSF = ArrayPolicy(_gdsf_add, _gdsf_hit, _gdsf_evict, _gdsf_remove, admit_all)


class GdsfAdmitState(NamedTuple):
    """As of gdsf, with what is known of keys that are not held, and the victims that a newcomer is compared with."""

    table: Any
    items: Any
    now: Any
    victims: Any


def new_gdsf_admit(sizes: Any, costs: Any) -> GdsfAdmitState:
    """Return the state of gdsf_admit."""
    keys = len(sizes)
    table, items = heap.new_heap(keys, {**_GDSF_FIELDS, **PAST_FIELDS, "past_frequency": "i8"}, rings=1)
    table["size"][:keys], table["cost"][:keys] = sizes, costs
    now = new_records(1, {**_GDSF_NOW, "past": "i8"})
    return GdsfAdmitState(table, items, now, np.empty(min(COMPARED, keys), np.int64))


@part
def _note(state, key, frequency):
    forgotten = note(state, key)
    state.table[key].past_frequency = frequency
    if forgotten >= 0:
        state.table[forgotten].past_frequency = 0


@part
def _gdsf_admit_add(state, key):
    forget(state, key)
    state.table[key].past_frequency = 0
    _gdsf_add(state, key)


@part
def _gdsf_admit_evict(state):
    victim = _gdsf_evict(state)
    _note(state, victim, state.table[victim].frequency)
    return victim


@part
def _gdsf_admit_remove(state, key):
    _gdsf_remove(state, key)
    _note(state, key, state.table[key].frequency)


@part
def _gdsf_admit_admit(state, key):
    frequency = state.table[key].past_frequency + 1
    if _priority(state, key, frequency) >= _highest_victim_priority(state, state.table[key].size):
        return True
    _note(state, key, frequency)
    return False


@part
def _highest_victim_priority(state, size):
    """Take victims off the heap, look at them, and put them back."""
    table, victims = state.table, state.victims
    highest, covered, compared = state.now[0].clock, 0, 0
    while compared < min(len(victims), state.now[0].held) and covered < size:
        victims[compared] = victim = heap.lowest(state)
        heap.pop(state)
        highest = table[victim].priority
        covered += table[victim].size
        compared += 1
    for number in range(compared - 1, -1, -1):
        heap.push(state, victims[number])
    return highest


GDSF_ADMIT = ArrayPolicy(_gdsf_admit_add, _gdsf_hit, _gdsf_admit_evict, _gdsf_admit_remove, _gdsf_admit_admit)
