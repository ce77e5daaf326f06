"""Descriptions of calls: for people, for cost tables, and to say in what two calls differ.

A description refers to no object of the caller: no array, no static value, no tree's own data.
"""

import functools
import inspect
import itertools
import operator
import types
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax.tree_util import keystr, tree_flatten_with_path

from .._jax import interfaces
from .difference import KINDS, Difference
from .identity import Identifier
from .signature import Key, Statics, Uncacheable, abstract_leaf, placement
from .value_parts import NOT_GIVEN, STATIC_DATA, Part, changed_parts, parts_of_nodes, parts_of_value, shorten

_LONGEST_CALL = 1000  # characters; descriptions are kept, and read by people
_SIGNED = frozenset({"__signature__", "__wrapped__", "__partialmethod__", "_partialmethod"})  # inspect looks at these


class Leaf(NamedTuple):
    """An array argument, or an array in a pytree."""

    shape: tuple[int, ...]
    dtype: str
    weak_type: bool
    placement: str | None  # the sharding that it is committed to

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{'~' if self.weak_type else ''}"


@dataclass(frozen=True, slots=True)
class Description:
    """Signature of a call.

    Attributes:
        text: ``solve(float32[512], n=3)``, the same in every process.
        paths: The path of each leaf: ``x``, ``params['w']``.
        leaves: The arrays.
        statics: The parts of the static arguments.
        nodes: The types of the pytrees' nodes.
        metadata: The parts of the nodes' static metadata.
        identity: Equal for equal keys, in every process where the arguments allow it, and for no others.
        context: JAX's configuration, see ``interfaces.context_names``.
    """

    text: str
    paths: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    statics: tuple[Part, ...]
    nodes: tuple[Part, ...]
    metadata: tuple[Part, ...]
    identity: bytes
    context: tuple[Hashable, ...]

    @property
    def parts(self) -> int:
        """Number of parts of the description, on which its size depends."""
        return len(self.leaves) + len(self.statics) + len(self.nodes) + len(self.metadata)


def parameter_names(fun: Callable[..., Any]) -> Callable[[int], str]:
    """Return a function that names positional arguments of ``fun``: ``x``, then ``rest[0]`` for those of ``*rest``."""
    if type(fun) is types.FunctionType and _SIGNED.isdisjoint(fun.__dict__):  # most are: twenty times as fast
        code = fun.__code__
        return lambda position: _parameter_name(*_positional_of_code(code), position)
    return functools.partial(_parameter_name, *_positional_of_signature(fun))


def _parameter_name(named: Sequence[str], rest: str, position: int) -> str:
    if position < len(named):
        return named[position]
    return f"{rest}[{position - len(named)}]" if rest else f"args[{position}]"


def _positional_of_code(code: types.CodeType) -> tuple[Sequence[str], str]:
    """Return the names of positional parameters, and that of ``*rest``; empty if there is none."""
    takes_more = code.co_flags & inspect.CO_VARARGS
    rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if takes_more else ""
    return code.co_varnames[: code.co_argcount], rest


def _positional_of_signature(fun: Callable[..., Any]) -> tuple[Sequence[str], str]:
    """Return the same of what is no plain function, or says that it has another signature than its code."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (ValueError, TypeError):
        return (), ""
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return named, next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "")


@functools.lru_cache(maxsize=4096)
def _intern(value: Hashable) -> Any:
    """Return one object for all equal ones: descriptions are many and much alike."""
    return value


@functools.lru_cache(maxsize=4096)
def _describe_leaf(aval: Any, sharding: Hashable) -> Leaf:
    return _intern(Leaf(aval.shape, aval.dtype.name, bool(aval.weak_type), None if sharding is None else str(sharding)))


class _Argument(NamedTuple):
    """Description of a dynamic argument."""

    words: str
    paths: list[str]
    leaves: list[Leaf]
    nodes: list[Part]
    metadata: list[Part]

    @classmethod
    def of(cls, name: str, label: str, value: Any, identifier: Identifier) -> "_Argument":
        flat = tree_flatten_with_path(value)[0]
        leaves = [_describe_leaf(abstract_leaf(leaf), placement(leaf)) for _, leaf in flat]
        nodes, metadata = parts_of_nodes(name, value, identifier)
        paths = [name + keystr(path) for path, _ in flat]
        return cls(label + ", ".join(map(str, leaves)), paths, leaves, nodes, metadata)


def _joined(lists: Iterable[Iterable[Any]]) -> Any:
    return _intern(tuple(itertools.chain.from_iterable(lists)))


def describe_call(
    name: str,
    positional: Callable[[int], str],
    statics: Statics | None,
    key: Key,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    identifier: Identifier,
) -> Description:
    """Describe a call of a function called ``name``, which is looked up by ``key``.

    The text marks a weak type with ``~``. It names x64 and a matmul precision that is not the default, and nothing
    else of the configuration, nor devices, nor static metadata, so that two signatures may share a text, never an
    identity.
    """
    dynamic, named, fixed = (statics or Statics((), frozenset())).split(args, kwargs)
    at = [position for position in range(len(args)) if position not in {static for static, _, _ in fixed}]
    arguments = [_Argument.of(positional(n), "", value, identifier) for n, value in zip(at, dynamic, strict=True)]
    arguments += [_Argument.of(name, f"{name}=", named[name], identifier) for name in sorted(named)]
    for _, _, value in fixed:
        _refuse_incomparable(value)
    words = [argument.words for argument in arguments]
    static = [
        (argument, parts_of_value(argument if isinstance(argument, str) else positional(argument), value, identifier))
        for argument, _, value in fixed
    ]
    words += [f"{argument}={parts[0].text}" for argument, parts in static]
    context: Any = key[0]
    return Description(
        text=shorten(f"{name}({', '.join(words)})", _LONGEST_CALL) + context.words,
        paths=_joined(argument.paths for argument in arguments),
        leaves=tuple(leaf for argument in arguments for leaf in argument.leaves),
        statics=_joined(parts for _, parts in static),
        nodes=_joined(argument.nodes for argument in arguments),
        metadata=_joined(argument.metadata for argument in arguments),
        identity=identifier.of_key(context.parts, key),
        context=_intern(context.parts),
    )


def _refuse_incomparable(value: Any) -> None:
    """Refuse a static value that JAX could not hash or compare, which it does only if it is not the same object."""
    try:
        hash(value)
        bool(value == value)
    except Exception as error:
        raise Uncacheable from error


def distance(before: Description, after: Description) -> int:
    """Return the number of ways in which two calls of one function differ, quickly."""
    if before.paths is not after.paths and before.paths != after.paths:
        return 1000 + abs(len(before.paths) - len(after.paths))
    ways = (before.context is not after.context) + sum(
        getattr(before, name) != getattr(after, name) for name in ("nodes", "metadata", "statics")
    )
    return ways + sum(map(operator.is_not, before.leaves, after.leaves))


def differences(before: Description, after: Description) -> list[Difference]:
    """Return the differences between two calls of one function, in the order of ``KINDS``."""
    changes = [*_trees(before, after), *_metadata(before, after), *_statics(before, after), *_contexts(before, after)]
    if before.paths == after.paths:
        for path, old, new in zip(after.paths, before.leaves, after.leaves, strict=True):
            if old is not new:
                changes += _leaves(path, old, new)
    return sorted(changes, key=lambda change: KINDS.index(change.kind))


def _trees(before: Description, after: Description) -> Iterator[Difference]:
    for changed in changed_parts(before.nodes, after.nodes):
        if NOT_GIVEN not in changed:
            yield Difference("tree_structure", *changed)
    if before.paths != after.paths:
        old, new = set(before.paths), set(after.paths)
        removed = [path for path in before.paths if path not in new]
        added = [path for path in after.paths if path not in old]
        yield Difference("tree_structure", "", _listed(removed, before.paths), _listed(added, after.paths))


def _listed(paths: list[str], of: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
    return f"{len(of)} arrays" + (f" (with {shown})" if shown else "")


def _metadata(before: Description, after: Description) -> Iterator[Difference]:
    changes = [Difference("static_metadata", *changed) for changed in changed_parts(before.metadata, after.metadata)]
    if before.nodes != after.nodes:  # a node that only one of the calls has is shown as a difference of the trees
        changes = [change for change in changes if NOT_GIVEN not in (change.before, change.after)]
    named = [change.place for change in changes if STATIC_DATA not in change.place]
    for change in _of_each_field_first(changes):  # as a whole only where no part of it has a name
        node = change.place.partition(STATIC_DATA)[0]
        if change.place in named or not any(path.startswith(f"{node}.") for path in named):
            yield change


def _of_each_field_first(changes: list[Difference]) -> list[Difference]:
    """Return the first difference of each field, then the second of each: only a few are shown."""
    counts: Counter[str] = Counter()
    turns: list[int] = []
    for change in changes:
        field = change.place.partition("[")[0]
        counts[field] += 1
        turns.append(counts[field])
    return [change for _, change in sorted(zip(turns, changes, strict=True), key=operator.itemgetter(0))]


def _statics(before: Description, after: Description) -> Iterator[Difference]:
    for changed in changed_parts(before.statics, after.statics):
        yield Difference("static_value", *changed)


def _contexts(before: Description, after: Description) -> Iterator[Difference]:
    if before.context is after.context:
        return
    names = interfaces.context_names()
    for number, (old, new) in enumerate(zip(before.context, after.context, strict=False)):
        if old != new:
            name = names[number] if number < len(names) else "a setting"
            yield Difference("config_context", name, str(old), str(new))


def _leaves(path: str, old: Leaf, new: Leaf) -> Iterator[Difference]:
    if old.placement != new.placement:
        yield Difference("device_or_sharding", path, *(leaf.placement or "not committed" for leaf in (old, new)))
    if old.dtype != new.dtype:
        yield Difference("new_dtype", path, old.dtype, new.dtype)
    if old.weak_type != new.weak_type:
        yield Difference("weak_type", path, *(("strong", "weak")[leaf.weak_type] for leaf in (old, new)))
    if len(old.shape) != len(new.shape):
        yield Difference("new_shape", path, str(old.shape), str(new.shape))
    elif old.shape != new.shape:
        for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)):
            if a != b:
                yield Difference("new_shape", f"{path} axis {axis}", str(a), str(b))
