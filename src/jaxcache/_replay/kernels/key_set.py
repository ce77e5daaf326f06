"""Set of keys to draw from, with the draws of Python's own generator."""

import random
from typing import Any

import numpy as np

from ..._policies.structures import CANDIDATES
from .compiler import part
from .table import new_records

FIELDS = {"index": "i8"}  # of the table: the key's index in the entries, or -1
NOW = {"entries": "i8"}  # keys in the set
_WORDS = 624  # of the state of a Mersenne Twister; the position follows them


def new_key_set(table: Any) -> tuple[Any, Any]:
    """Return the entries and the draws of an empty ``RandomKeySet``.

    The first entries are the keys in the set; ``chosen`` is false in all of them before and after a draw. Of the draws,
    ``key`` is what was drawn last, and ``pool`` scratch.
    """
    table["index"] = -1
    entries = new_records(len(table), {"key": "i8", "chosen": "?"})
    draws = new_records(_pool_size(CANDIDATES), {"key": "i8", "pool": "i8"})
    return entries, draws


def new_generator(seed: int) -> Any:
    """Return the state of ``random.Random(seed)``: words of 32 bits and a position; int64."""
    return np.array(random.Random(seed).getstate()[1], np.int64)


@part
def add(state, key):
    """Add a key that is not in the set."""
    now = state.now[0]
    state.table[key].index = now.entries
    state.entries[now.entries].key = key
    now.entries += 1


@part
def remove(state, key):
    """Remove a key."""
    now = state.now[0]
    now.entries -= 1
    last, index = state.entries[now.entries].key, state.table[key].index
    state.entries[index].key = last
    state.table[last].index = index
    state.table[key].index = -1


@part
def draw_key(state):
    """Return a key, drawn from at least one."""
    entries = state.now[0].entries
    return state.entries[_below(state.generator, entries) if entries > 1 else 0].key


@part
def draw(state, count):
    """Draw keys as ``random.sample`` does, or all keys if there are no more; return how many."""
    entries = state.now[0].entries
    if count >= entries:
        for number in range(entries):
            state.draws[number].key = state.entries[number].key
        return entries
    if entries <= _pool_size(count):
        _draw_from_pool(state, entries, count)
    else:
        _draw_until_new(state, entries, count)
    return count


@part
def _pool_size(count):
    """Return up to how many entries ``random.sample`` copies them."""
    pool_size = 21
    if count > 5:
        power = 1
        while power < 3 * count:
            power *= 4
        pool_size += power
    return pool_size


@part
def _draw_from_pool(state, entries, count):
    draws = state.draws
    for number in range(entries):
        draws[number].pool = state.entries[number].key
    for number in range(count):
        index = _below(state.generator, entries - number)
        draws[number].key = draws[index].pool
        draws[index].pool = draws[entries - number - 1].pool


@part
def _draw_until_new(state, entries, count):
    """Draw indices, each again until it is one that was not drawn yet."""
    for number in range(count):
        index = _below(state.generator, entries)
        while state.entries[index].chosen:
            index = _below(state.generator, entries)
        state.entries[index].chosen = True
        state.draws[number].pool = index
        state.draws[number].key = state.entries[index].key
    for number in range(count):
        state.entries[state.draws[number].pool].chosen = False


@part
def _below(generator, bound):
    """Return what ``random.Random`` draws below a bound: as many bits as it has, again until they are below."""
    bits = 0
    while bound >> bits:
        bits += 1
    word = bound
    while word >= bound:
        word = _next_word(generator) >> (32 - bits)
    return word


@part
def _next_word(generator):
    """Return the next 32 bits of the Mersenne Twister."""
    if generator[_WORDS] >= _WORDS:
        _twist(generator)
        generator[_WORDS] = 0
    word = generator[generator[_WORDS]]
    generator[_WORDS] += 1
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    word ^= word >> 18
    return word & 0xFFFFFFFF


@part
def _twist(generator):
    for index in range(_WORDS):
        joined = (generator[index] & 0x80000000) | (generator[(index + 1) % _WORDS] & 0x7FFFFFFF)
        word = generator[(index + 397) % _WORDS] ^ (joined >> 1)
        if joined & 1:
            word ^= 0x9908B0DF
        generator[index] = word
