"""Trees of Python containers as JAX knows them: functions registered for a type, and the nodes of a tree."""

from typing import Any


def registered_functions(kind: type) -> tuple[Any, ...]:
    """Return the functions by which JAX takes apart and puts together objects of a type; none if it is not registered.

    Where JAX does not tell, none: how such an object is taken apart shows in the tree of a call too.
    """
    try:
        from jax._src import tree_util

        entry = tree_util._registry.get(kind)
        return () if entry is None else (entry.to_iter, entry.from_iter)
    except Exception:
        return ()


def preorder(tree: Any) -> list[Any]:
    """Return for each node of a tree, from the root on, its type and metadata, or None for a leaf, and its arity."""
    nodes = [tree]
    described = []
    while nodes:
        node = nodes.pop()
        children = node.children()
        described.append((node.node_data(), len(children)))
        nodes += reversed(children)
    return described
