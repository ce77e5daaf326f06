"""Donated arguments that share memory: XLA takes a buffer once, so the others are copied."""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import tree_flatten, tree_leaves, tree_unflatten

_ON_HOST = frozenset([np.ndarray, bool, int, float, complex])  # types of leaves that each call copies to the device


def without_shared_buffers(donated: Sequence[Any], kept: Any) -> Sequence[Any]:
    """Return arguments to donate, with copies of arrays whose memory another argument holds too.

    Fresh states of optimizers share buffers, tied parameters are one array twice, and a target network begins as the
    parameters themselves. XLA refuses a call that donates a buffer twice, or uses what it donates; what is not donated
    is the caller's own afterwards.

    Args:
        donated: Trees of arrays that the call will donate.
        kept: A tree of what else it takes.
    """
    if _are_apart(tree_leaves((donated, kept))):
        return donated
    used: set[Hashable] = {address for leaf in tree_leaves(kept) for address in _addresses(leaf)}
    leaves, tree = tree_flatten(donated)
    for number, leaf in enumerate(leaves):
        addresses = _addresses(leaf)
        if not used.isdisjoint(addresses):
            leaves[number] = leaf.copy()
        used.update(addresses)
    return tree_unflatten(tree, leaves)


def _are_apart(leaves: Sequence[Any]) -> bool:
    """Return whether arrays surely share no memory, by the cheapest check: every call asks."""
    try:
        addresses = [leaf.unsafe_buffer_pointer() for leaf in leaves if type(leaf) not in _ON_HOST]
    except Exception:  # of several devices, no array, or deleted
        return False
    return len(set(addresses)) == len(addresses)


def _addresses(leaf: Any) -> list[Hashable]:
    """Return the addresses of an array's buffers; none for other values and deleted arrays."""
    if not isinstance(leaf, jax.Array):
        return []
    try:
        return [(shard.device, shard.data.unsafe_buffer_pointer()) for shard in leaf.addressable_shards]
    except Exception:  # a tracer, deleted, or of a kind without an address: the call knows what to say
        return []
