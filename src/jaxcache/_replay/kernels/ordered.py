"""lru, fifo and none; sieve; s3fifo: policies that keep keys in rings."""

from typing import Any, NamedTuple

import numpy as np

from ..._policies.s3fifo import MOST_FREQUENT, ghosts_exceed, small_is_due
from .compiler import part
from .loop import ArrayPolicy
from .table import append, new_records, new_table, unlink

part(ghosts_exceed)
part(small_is_due)


@part
def admit_all(state, key):
    """Admit every key."""
    return True


class OrderState(NamedTuple):
    """Keys in the order of their last request or, unless hits count, of their adding."""

    table: Any
    hits_count: bool
    admits: bool


def new_order(keys: int, hits_count: bool, admits: bool) -> OrderState:
    """Return the state of lru (hits count), fifo, or none (nothing is admitted where there is no room)."""
    return OrderState(new_table(keys, {}), hits_count, admits)


@part
def _order_add(state, key):
    append(state.table, len(state.table) - 1, key)


@part
def _order_hit(state, key):
    if state.hits_count:
        unlink(state.table, key)
        append(state.table, len(state.table) - 1, key)


@part
def _order_evict(state):
    victim = state.table[len(state.table) - 1].newer
    unlink(state.table, victim)
    return victim


@part
def _order_remove(state, key):
    unlink(state.table, key)


@part
def _order_admit(state, key):
    return state.admits


ORDER = ArrayPolicy(_order_add, _order_hit, _order_evict, _order_remove, _order_admit)


class RingState(NamedTuple):
    """Keys in rings, and the numbers of the policy as a whole: a table, and one record."""

    table: Any
    now: Any


def new_sieve(keys: int) -> RingState:
    """Return the state of sieve: keys in the order of their adding, and the key that the hand looks at next."""
    now = new_records(1, {"hand": "i8"})
    now["hand"] = keys
    return RingState(new_table(keys, {"visited": "?"}), now)


@part
def _sieve_add(state, key):
    state.table[key].visited = False
    append(state.table, len(state.table) - 1, key)


@part
def _sieve_hit(state, key):
    state.table[key].visited = True


@part
def _sieve_evict(state):
    table, end = state.table, len(state.table) - 1
    victim = state.now[0].hand
    while victim == end or table[victim].visited:
        table[victim].visited = False
        victim = np.int64(table[victim].newer)
    state.now[0].hand = victim
    _sieve_remove(state, victim)
    return victim


@part
def _sieve_remove(state, key):
    if state.now[0].hand == key:
        state.now[0].hand = state.table[key].newer
    unlink(state.table, key)


SIEVE = ArrayPolicy(_sieve_add, _sieve_hit, _sieve_evict, _sieve_remove, admit_all)

NOWHERE, SMALL, MAIN, GHOST = 0, 1, 2, 3  # queues of s3fifo, each a ring


def new_s3fifo(sizes: Any) -> RingState:
    """Return the state of s3fifo."""
    keys = len(sizes)
    table = new_table(keys, {"size": "i8", "queue": "u1", "frequency": "u1"}, rings=3)
    table["size"][:keys] = sizes
    return RingState(table, new_records(1, {"small_bytes": "i8", "held_bytes": "i8", "entries": "i8", "ghosts": "i8"}))


@part
def _ring_of(table, queue):
    return len(table) - 4 + queue


@part
def _move(table, key, queue):
    """Put a key at the end of a queue, or out of all."""
    if table[key].queue != NOWHERE:
        unlink(table, key)
    if queue != NOWHERE:
        append(table, _ring_of(table, queue), key)
    table[key].queue = queue


@part
def _s3fifo_add(state, key):
    table, now = state.table, state.now[0]
    table[key].frequency = 0
    now.entries += 1
    now.held_bytes += table[key].size
    if table[key].queue == GHOST:
        now.ghosts -= 1
        _move(table, key, MAIN)
    else:
        now.small_bytes += table[key].size
        _move(table, key, SMALL)
    while ghosts_exceed(now.ghosts, now.entries):
        now.ghosts -= 1
        _move(table, table[_ring_of(table, GHOST)].newer, NOWHERE)


@part
def _s3fifo_hit(state, key):
    if state.table[key].frequency < MOST_FREQUENT:
        state.table[key].frequency += 1


@part
def _victim_of_small(state):
    """Return the oldest key of the small queue that was not asked for again, or -1."""
    table, ring = state.table, _ring_of(state.table, SMALL)
    while table[ring].newer != ring:
        oldest = table[ring].newer
        if table[oldest].frequency <= 1:
            return oldest
        _move(table, oldest, MAIN)
        state.now[0].small_bytes -= table[oldest].size
        table[oldest].frequency = 0
    return -1


@part
def _victim_of_main(state):
    table, ring = state.table, _ring_of(state.table, MAIN)
    while table[table[ring].newer].frequency > 0:
        oldest = table[ring].newer
        table[oldest].frequency -= 1
        _move(table, oldest, MAIN)
    return table[ring].newer


@part
def _s3fifo_evict(state):
    victim = -1
    if small_is_due(state.now[0].small_bytes, state.now[0].held_bytes):
        victim = _victim_of_small(state)
    if victim < 0:
        victim = _victim_of_main(state)
    was_small = state.table[victim].queue == SMALL
    _s3fifo_remove(state, victim)
    if was_small:
        _move(state.table, victim, GHOST)
        state.now[0].ghosts += 1
    return victim


@part
def _s3fifo_remove(state, key):
    table, now = state.table, state.now[0]
    if table[key].queue == SMALL:
        now.small_bytes -= table[key].size
    now.held_bytes -= table[key].size
    now.entries -= 1
    _move(table, key, NOWHERE)


S3FIFO = ArrayPolicy(_s3fifo_add, _s3fifo_hit, _s3fifo_evict, _s3fifo_remove, admit_all)
