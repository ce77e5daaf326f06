"""The replay loop: a cache under two limits, over arrays, for whichever policy is given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..decisions import EVENT, HIT, MISS, REJECTED, UNKEPT
from ..trace import Event
from .compiler import compiled

_REQUEST, _CLEAR = int(Event.REQUEST), int(Event.CLEAR)


class ArrayPolicy(NamedTuple):
    """Eviction policy as functions that numba compiles; each takes its state, and a key that indexes arrays.

    Attributes:
        add: Takes up a key that is not held.
        hit: Counts a request for a held key.
        evict: Takes out the key that should go next, and returns it.
        remove: Takes out a held key that the program has cleared.
        admit: Returns whether a key that is not held is worth making room for; called only when there is no room.
    """

    add: Callable[..., None]
    hit: Callable[..., None]
    evict: Callable[..., int]
    remove: Callable[..., None]
    admit: Callable[..., bool]


class Rows(NamedTuple):
    """Columns of a trace: the first two have a row per request or event, the last two a row per signature."""

    signatures: Any
    events: Any
    sizes: Any
    mappings: Any


class Limits(NamedTuple):
    """Bytes and memory mappings that may be held at a time."""

    size_bytes: int
    mappings: int


class Log(NamedTuple):
    """Arrays that the loop fills in: outcomes by row, misses by signature, bytes held after every ``stride`` rows."""

    outcomes: Any
    misses: Any
    sampled_bytes: Any
    stride: int


def loop_of(policy: ArrayPolicy) -> Any:
    """Return the loop compiled for one policy: from rows, limits, a log and a state to evictions and peak bytes."""
    add, hit, evict, remove, admit = policy

    def replay(rows, limits, log, state):
        signatures, events, sizes, mappings = rows
        outcomes, misses, sampled_bytes, stride = log
        held = np.zeros(len(sizes), np.bool_)
        live, live_mappings, peak, evictions = 0, 0, 0, 0
        sampled = stride - 1
        for row in range(len(signatures)):
            key, event = signatures[row], events[row]
            if held[key]:
                outcomes[row] = HIT if event == _REQUEST else EVENT
                if event == _REQUEST:
                    hit(state, key)
                elif event == _CLEAR:
                    remove(state, key)
                    held[key] = False
                    live -= sizes[key]
                    live_mappings -= mappings[key]
            elif event == _CLEAR:
                outcomes[row] = EVENT
            else:
                size, count = sizes[key], mappings[key]
                kept = size <= limits.size_bytes and count <= limits.mappings
                if live + size > limits.size_bytes or live_mappings + count > limits.mappings:
                    kept = kept and admit(state, key)
                    while kept and (live + size > limits.size_bytes or live_mappings + count > limits.mappings):
                        victim = evict(state)
                        held[victim] = False
                        live -= sizes[victim]
                        live_mappings -= mappings[victim]
                        evictions += 1
                if kept:
                    add(state, key)
                    held[key] = True
                    live += size
                    live_mappings += count
                    peak = max(peak, live)
                if event == _REQUEST:
                    outcomes[row] = MISS if kept else REJECTED
                    misses[key] += 1
                else:
                    outcomes[row] = EVENT if kept else UNKEPT
            if row == sampled:
                sampled_bytes[row // stride] = live
                sampled += stride
        sampled_bytes[-1] = live
        return evictions, peak

    replay.__qualname__ = "replay"
    return compiled(replay)
