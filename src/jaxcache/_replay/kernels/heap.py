"""A heap of lower bounds over arrays, for priorities that only rise."""

from typing import Any

import numpy as np

from .compiler import part
from .table import new_records, new_table

FIELDS = {  # of the table, beside those of the policy
    "priority": "f8",
    "number": "i8",  # of the setting of the priority, counted from 1
    "added": "i8",  # the setting at which the key came in; _NEVER for keys that are not held
}
NOW = {"length": "i8", "held": "i8", "sets": "i8"}  # items of the heap, keys held, settings of priorities so far
_NEVER = np.iinfo(np.int64).max


def new_heap(keys: int, fields: dict[str, str], rings: int = 0) -> tuple[Any, Any]:
    """Return the table and the items of an empty heap, which has room for as many left behind as there are keys.

    As ``LazyHeap``: an item's ``bound`` is the priority that its key had at least. An item whose number is below its
    key's ``added`` was left behind by ``remove``.
    """
    table = new_table(keys, {**FIELDS, **fields}, rings)
    table["added"] = _NEVER
    return table, new_records(2 * keys + 1, {"bound": "f8", "number": "i8", "key": "i8"})


@part
def add(state, key, priority):
    """Take up a key that is not held. O(log n)."""
    if state.now[0].length == len(state.items):
        _drop_left_behind(state)
    rise(state, key, priority)
    state.table[key].added = state.table[key].number
    state.now[0].held += 1
    push(state, key)


@part
def rise(state, key, priority):
    """Set the priority of a key, no lower than it was. O(1)."""
    state.now[0].sets += 1
    state.table[key].priority = priority
    state.table[key].number = state.now[0].sets


@part
def lowest(state):
    """Return the key with the lowest priority, of which the heap holds at least one; bring it to the top."""
    while True:
        key, number = state.items[0].key, state.items[0].number
        if number == state.table[key].number and number >= state.table[key].added:
            return key
        if number < state.table[key].added:
            pop(state)  # left behind by remove
        else:
            _sift_down(state, state.now[0].length, state.table[key].priority, state.table[key].number, key)


@part
def remove(state, key):
    """Drop a held key. O(log n) for the lowest; the item of another is left behind."""
    state.table[key].added = _NEVER
    state.now[0].held -= 1
    if state.items[0].key == key:
        pop(state)


@part
def pop(state):
    """Drop the item at the top."""
    state.now[0].length -= 1
    last = state.now[0].length
    if last > 0:
        _sift_down(state, last, state.items[last].bound, state.items[last].number, state.items[last].key)


@part
def push(state, key):
    """Put in an item for a key, with its priority."""
    priority, number = state.table[key].priority, state.table[key].number
    index = state.now[0].length
    state.now[0].length += 1
    while index > 0:
        parent = (index - 1) // 2
        if not _before(priority, number, state.items[parent].bound, state.items[parent].number):
            break
        _put(state, index, state.items[parent].bound, state.items[parent].number, state.items[parent].key)
        index = parent
    _put(state, index, priority, number, key)


@part
def _sift_down(state, length, bound, number, key):
    """Put an item in at the top, which is free."""
    index = 0
    while True:
        child = 2 * index + 1
        if child >= length:
            break
        if child + 1 < length and _before(
            state.items[child + 1].bound,
            state.items[child + 1].number,
            state.items[child].bound,
            state.items[child].number,
        ):
            child += 1
        if not _before(state.items[child].bound, state.items[child].number, bound, number):
            break
        _put(state, index, state.items[child].bound, state.items[child].number, state.items[child].key)
        index = child
    _put(state, index, bound, number, key)


@part
def _put(state, index, bound, number, key):
    state.items[index].bound = bound
    state.items[index].number = number
    state.items[index].key = key


@part
def _before(bound, number, other_bound, other_number):
    return bound < other_bound or (bound == other_bound and number < other_number)


@part
def _drop_left_behind(state):
    """Build the heap anew from the items of held keys."""
    length = state.now[0].length
    state.now[0].length = 0
    for index in range(length):
        key = state.items[index].key  # pushing overwrites items up to this one, which is read by then
        if state.items[index].number >= state.table[key].added:
            push(state, key)
