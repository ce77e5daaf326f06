"""Keys of calls: an executable serves the calls whose keys are equal.

The key is at least as fine as ``jax.jit``'s own: a key that is too fine costs a compile, one that is too coarse
would be served by the entry's private ``jax.jit``, which compiles again rather than give a wrong result.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import tree_flatten, tree_unflatten

from .._jax import interfaces
from .identity import is_generated

Key = tuple[Hashable, ...]

_NUMBERS = (bool, int, float, complex)
_CONSTANTS = frozenset([*_NUMBERS, str, bytes, type(None)])


class Uncacheable(Exception):
    """The call cannot be served from an executable: it has a tracer, or an argument that ``jax.jit`` will refuse."""


class Statics(NamedTuple):
    """Static arguments, which are compiled in: positions (negative ones count from the end) and names."""

    positions: tuple[int, ...]
    names: frozenset[str]

    def split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any], list[Any]]:
        """Return positional and named arguments without the static ones, and the static ones."""
        at = {position % len(args) for position in self.positions if -len(args) <= position < len(args)}
        dynamic = [arg for position, arg in enumerate(args) if position not in at]
        named = {name: value for name, value in kwargs.items() if name not in self.names}
        fixed: list[Any] = [(position, type(args[position]), args[position]) for position in sorted(at)]
        fixed += [(name, type(kwargs[name]), kwargs[name]) for name in sorted(self.names & kwargs.keys())]
        return dynamic, named, fixed


def _as_tuple(value: Any, kind: type) -> tuple[Any, ...]:
    return () if value is None else (value,) if isinstance(value, kind) else tuple(value)


def resolve_statics(
    fun: Callable[..., Any],
    static_argnums: int | Sequence[int] | None,
    static_argnames: str | Sequence[str] | None,
) -> Statics | None:
    """Return the static arguments of ``fun`` as ``jax.jit`` would read them, or None if there are none.

    If only numbers or only names are given, the other is inferred from the parameters that can be passed both ways.
    """
    positions, names = _as_tuple(static_argnums, int), _as_tuple(static_argnames, str)
    if not positions and not names:
        return None
    if static_argnums is None or static_argnames is None:
        try:
            parameters = list(inspect.signature(fun).parameters.values())
        except (ValueError, TypeError):
            parameters = []
        both = {n: p.name for n, p in enumerate(parameters) if p.kind is p.POSITIONAL_OR_KEYWORD}
        if static_argnums is None:
            positions = tuple(n for n, name in both.items() if name in names)
        else:
            names = tuple(name for n, name in both.items() if n in positions)
    return Statics(positions, frozenset(names))


class Call:
    """The arguments of a call, where they are not all positional: ``f.warm(Call(x, scale=2.0))``."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    @classmethod
    def of(cls, signature: Any) -> "Call":
        """Return the call that a signature describes: a call, a tuple of positional arguments, or one argument."""
        if isinstance(signature, Call):
            return signature
        named = hasattr(signature, "_fields")  # a named tuple is one argument
        return cls(*signature) if isinstance(signature, tuple) and not named else cls(signature)

    def __repr__(self) -> str:
        words = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"Call({', '.join(words)})"


class Context:
    """JAX's configuration, as the token of it in keys: equal to itself alone, and quick to hash.

    Attributes:
        parts: See ``interfaces.context_names``.
        words: What the text of a call says of it.
    """

    __slots__ = ("parts", "words")

    def __init__(self, parts: tuple[Hashable, ...], words: str) -> None:
        self.parts = parts
        self.words = words


@functools.lru_cache(maxsize=1024)
def _token(parts: tuple[Hashable, ...]) -> Context:
    x64 = " x64" if interfaces.enable_x64.value else ""
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return Context(parts, f"{x64} {precision}" if precision else x64)


_latest_context = Context((), "")


def context_token() -> Context:
    """Return the token of this thread's configuration for a key: the same object for an equal one."""
    global _latest_context
    parts, token = interfaces.trace_context(), _latest_context
    if parts != token.parts:
        _latest_context = token = _token(parts)
    return token


@functools.lru_cache(maxsize=4096)
def _abstract(dtype: np.dtype[Any], shape: tuple[int, ...], x64: bool) -> Hashable:
    return jax.typeof(np.broadcast_to(np.zeros((), dtype), shape))


@functools.lru_cache(maxsize=16)
def _abstract_scalar(kind: type, x64: bool) -> Hashable:
    return jax.typeof(kind(0))


class AbstractLeaf:
    """Substitute for an argument's leaf: its abstract value, and the sharding that it is committed to."""

    __slots__ = ("aval", "sharding")

    def __init__(self, aval: Hashable, sharding: Hashable = None) -> None:
        self.aval = aval
        self.sharding = sharding


LEAVES = frozenset(
    [*_NUMBERS, np.ndarray, jax.ShapeDtypeStruct, AbstractLeaf, *interfaces.array_types]
)  # types that are a leaf for certain


def abstract_tracer(leaf: Any) -> Any:
    """Return a substitute for a tracer, for the key of a call that is itself traced; any other leaf as it is."""
    return AbstractLeaf(interfaces.aval_of(leaf)) if isinstance(leaf, Tracer) else leaf


def abstract_leaf(leaf: Any) -> Hashable:
    """Return the leaf's abstract value: shape, dtype and weak type, which depend on ``x64``."""
    if type(leaf) is np.ndarray:  # to ask whether it is JAX's takes as long as all the rest
        return _abstract(leaf.dtype, leaf.shape, interfaces.enable_x64.value)
    if isinstance(leaf, Tracer):
        raise Uncacheable
    if isinstance(leaf, jax.Array | AbstractLeaf):
        return leaf.aval
    if isinstance(leaf, jax.ShapeDtypeStruct):  # to compile ahead from
        return jax.typeof(leaf)
    if isinstance(leaf, np.ndarray | np.generic):
        return _abstract(leaf.dtype, leaf.shape, interfaces.enable_x64.value)
    if type(leaf) in _NUMBERS:
        return _abstract_scalar(type(leaf), interfaces.enable_x64.value)
    if isinstance(leaf, _NUMBERS):  # a member of an IntEnum
        return jax.typeof(leaf)
    raise Uncacheable


def placement(leaf: Any) -> Hashable:
    """Return the sharding that the leaf is committed to, or None."""
    if type(leaf) is np.ndarray:
        return None
    if isinstance(leaf, jax.ShapeDtypeStruct | AbstractLeaf):
        return leaf.sharding
    return leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None


def _leaves_key(leaves: Sequence[Any]) -> Key:
    """Return the leaves' abstract values, and the shardings they are committed to, or None if to none."""
    if set(map(type, leaves)) == interfaces.array_types:  # the common case, without a step of Python for each leaf
        committed = any(map(interfaces.is_committed, leaves))
        return (tuple(map(interfaces.aval_of, leaves)), tuple(map(placement, leaves)) if committed else None)
    avals, shardings = tuple(map(abstract_leaf, leaves)), tuple(map(placement, leaves))
    return (avals, shardings if any(sharding is not None for sharding in shardings) else None)


def call_key(statics: Statics | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
    """Return the key of a call.

    The reason for each component: the configuration (x64, matmul precision, default device, mesh) changes what is
    traced and compiled; the tree gives the structure of the leaves; the static values are compiled in; a leaf's
    abstract value holds shape, dtype and weak type, and is the same for a NumPy array, for which JAX uses the same
    program; a sharding counts only if the array is committed to it. Without a tree, the arguments are the leaves.

    Raises:
        Uncacheable: If a leaf is a tracer or of a type that is no array.
    """
    if statics is None:
        if not kwargs and LEAVES.issuperset(map(type, args)):
            return (context_token(), *_leaves_key(args))
        leaves, tree = tree_flatten((args, kwargs))
        if not kwargs and len(leaves) == len(args) and all(map(operator.is_, leaves, args)):
            return (context_token(), *_leaves_key(leaves))
        return (context_token(), *_leaves_key(leaves), tree)
    dynamic, named, fixed = statics.split(args, kwargs)
    leaves, tree = tree_flatten((dynamic, named))
    return (context_token(), *_leaves_key(leaves), tree, *fixed)


def is_lasting(key: Key) -> bool:
    """Return whether a key is of nothing that the caller may change later, so that its call can be described then.

    Containers of other types than Python's own refer to static data of the caller's, as static arguments do.
    """
    if not all(_is_constant(value) for _, _, value in _static(key)):
        return False
    nodes: list[Any] = [*key[3:4]]
    for node in nodes:  # which become more meanwhile
        kind_and_data = node.node_data()
        if kind_and_data is not None:
            if not _is_plain(*kind_and_data):
                return False
            nodes += node.children()
    return True


def arguments_of(key: Key) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a lasting key's call again, with an ``AbstractLeaf`` for each leaf."""
    avals: Any = key[1]
    shardings: Any = key[2] or (None,) * len(avals)
    leaves = tuple(map(AbstractLeaf, avals, shardings))
    if len(key) == 3:
        return leaves, {}
    dynamic, named = tree_unflatten(key[3], leaves)
    args = [*dynamic]
    for place, _, value in _static(key):  # positions first, in ascending order
        if isinstance(place, int):
            args.insert(place, value)
        else:
            named[place] = value
    return tuple(args), named


def _static(key: Key) -> tuple[Any, ...]:
    return key[4:]


def _is_constant(value: Any) -> bool:
    return type(value) in _CONSTANTS or (type(value) is tuple and all(map(_is_constant, value)))


def _is_plain(kind: Any, data: Any) -> bool:
    """Return whether a tree's node is a list, a tuple, named or not, None, or a dict with texts as keys."""
    if kind is dict:
        return {str}.issuperset(map(type, data))
    named = data is None and issubclass(kind, tuple) and is_generated(kind.__new__) and kind.__init__ is object.__init__
    return kind in (tuple, list, type(None)) or named


def unplaced(key: Key) -> Key:
    """Return the key of a call without the shardings of its arrays, on which tracing does not depend."""
    return (*key[:2], None, *key[3:])
