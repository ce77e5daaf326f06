"""Table of keys with doubly linked rings in it, and the bounded memory of keys that are not held.

A state is a few arrays of records and no more: numba hands each array over as seven numbers, and counts references to
it.
"""

from typing import Any

import numpy as np

from ..._policies.structures import HISTORY
from .compiler import part

PAST_FIELDS = {"noted": "?"}  # of the table, for note and forget, which also count ``past`` of ``now``


def new_table(keys: int, fields: dict[str, str], rings: int = 1) -> Any:
    """Return a table of a row per key and then one per ring, whose rings are empty.

    A key is in one ring at most. The last rows close the rings: the oldest key is the newer neighbour of the closing
    row.
    """
    table = new_records(keys + rings, {"older": "i4", "newer": "i4", **fields})
    table["older"] = table["newer"] = np.arange(keys + rings)
    return table


def new_records(rows: int, fields: dict[str, str]) -> Any:
    """Return an array of records of zeros."""
    return np.zeros(rows, np.dtype(list(fields.items()), align=True))


@part
def append(table, ring, key):
    """Put a key, which is in no ring, at the newest end of one."""
    newest = table[ring].older
    table[key].older = newest
    table[key].newer = ring
    table[newest].newer = key
    table[ring].older = key


@part
def unlink(table, key):
    """Take a key out of its ring."""
    older, newer = table[key].older, table[key].newer
    table[older].newer = newer
    table[newer].older = older


@part
def note(state, key):
    """Note a key as ``History`` does, in the last ring; return the one that is forgotten for it, or -1."""
    table, ring = state.table, len(state.table) - 1
    forget(state, key)
    table[key].noted = True
    append(table, ring, key)
    state.now[0].past += 1
    if state.now[0].past <= HISTORY:
        return -1
    oldest = table[ring].newer
    forget(state, oldest)
    return oldest


@part
def forget(state, key):
    """Forget a key, if it is noted."""
    if state.table[key].noted:
        state.table[key].noted = False
        unlink(state.table, key)
        state.now[0].past -= 1
