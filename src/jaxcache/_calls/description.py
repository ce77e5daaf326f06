"""A call, described: for people, for cost tables, and to say in what two calls differ.

A description holds nothing of the caller's: no array, no static value, no tree's own data.
"""

import functools
import inspect
import itertools
import operator
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.tree_util import keystr, tree_flatten_with_path

from .._jax import interfaces as _jax
from .identity import Identifier
from .signature import Key, Statics, Uncacheable, abstract_leaf, placement
from .value_parts import NOT_GIVEN, STATIC_DATA, Part, changed_parts, parts_of_nodes, parts_of_value, shorten

# How two calls can differ, in the order in which one is named as the cause: what is first explains what follows.
KINDS = (
    "static_metadata", "tree_structure", "static_value", "config_context", "device_or_sharding", "new_dtype",
    "weak_type", "new_shape",
)  # fmt: skip


_LONGEST_CALL = 1000  # characters; descriptions are kept, and read by people


class Leaf(NamedTuple):
    """One array argument, or one array in a pytree."""

    shape: tuple[int, ...]
    dtype: str
    weak_type: bool
    placement: str | None  # where it is committed to

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{'~' if self.weak_type else ''}"


@dataclass(frozen=True, slots=True)
class Description:
    """One call's signature.

    Attributes:
        text: ``solve(float32[512], n=3)``, the same in every process.
        places: Where each leaf stands: ``x``, ``params['w']``.
        leaves: The arrays.
        statics: The static arguments, taken apart.
        nodes: The types of the pytrees' nodes.
        metadata: The static metadata of the nodes, taken apart.
        identity: Equal for equal keys, in every process where the arguments allow it, and for no others.
        context: JAX's configuration, see ``_jax.context_names``.
    """

    text: str
    places: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    statics: tuple[Part, ...]
    nodes: tuple[Part, ...]
    metadata: tuple[Part, ...]
    identity: bytes
    context: tuple[Hashable, ...]

    @property
    def parts(self) -> int:
        """How many parts the description has, which is what its size depends on."""
        return len(self.leaves) + len(self.statics) + len(self.nodes) + len(self.metadata)


@dataclass(frozen=True)
class Difference:
    """One way in which two calls differ.

    Attributes:
        kind: One of ``KINDS``.
        place: Which argument, leaf or setting.
        before: What it was.
        after: What it is.
    """

    kind: str
    place: str
    before: str
    after: str

    def __str__(self) -> str:
        what = f" {self.place}:" if self.place else ""
        return f"{self.kind.replace('_', ' ')}:{what} was {self.before}, is {self.after}"


def parameter_names(fun: Callable[..., Any]) -> Callable[[int], str]:
    """Return what names the positional arguments of ``fun``: ``x``, then ``rest[0]`` for what ``*rest`` takes."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (ValueError, TypeError):
        parameters = []
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), "args")
    offset = len(named) if any(one.kind is one.VAR_POSITIONAL for one in parameters) else 0
    return lambda position: named[position] if position < len(named) else f"{rest}[{position - offset}]"


@functools.lru_cache(maxsize=4096)
def _intern(value: Hashable) -> Any:
    """Return one object for all equal ones: descriptions are many and much alike."""
    return value


def _describe_leaf(leaf: Any) -> Leaf:
    aval: Any = abstract_leaf(leaf)
    place = placement(leaf)
    return _intern(Leaf(aval.shape, aval.dtype.name, bool(aval.weak_type), None if place is None else str(place)))


class _Argument(NamedTuple):
    """One dynamic argument, described."""

    words: str
    places: list[str]
    leaves: list[Leaf]
    nodes: list[Part]
    metadata: list[Part]

    @classmethod
    def of(cls, place: str, label: str, value: Any, identifier: Identifier) -> "_Argument":
        flat = tree_flatten_with_path(value)[0]
        leaves = [_describe_leaf(leaf) for _, leaf in flat]
        nodes, metadata = parts_of_nodes(place, value, identifier)
        places = [place + keystr(path) for path, _ in flat]
        return cls(label + ", ".join(map(str, leaves)), places, leaves, nodes, metadata)


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
    at = [position for position in range(len(args)) if position not in {place for place, _, _ in fixed}]
    arguments = [_Argument.of(positional(n), "", value, identifier) for n, value in zip(at, dynamic, strict=True)]
    arguments += [_Argument.of(name, f"{name}=", named[name], identifier) for name in sorted(named)]
    for _, _, value in fixed:
        _refuse_incomparable(value)
    words = [argument.words for argument in arguments]
    static = [
        (place, parts_of_value(place if isinstance(place, str) else f"argument {place}", value, identifier))
        for place, _, value in fixed
    ]
    words += [f"{place}={parts[0].text}" for place, parts in static]
    settings = " x64" if _jax.enable_x64.value else ""
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return Description(
        text=shorten(f"{name}({', '.join(words)})", _LONGEST_CALL)
        + f"{settings}{f' {precision}' if precision else ''}",
        places=_joined(argument.places for argument in arguments),
        leaves=tuple(leaf for argument in arguments for leaf in argument.leaves),
        statics=_joined(parts for _, parts in static),
        nodes=_joined(argument.nodes for argument in arguments),
        metadata=_joined(argument.metadata for argument in arguments),
        identity=identifier.of_key(_jax.trace_context(), key),
        context=_intern(_jax.trace_context()),
    )


def _refuse_incomparable(value: Any) -> None:
    """Refuse a static value that JAX could not hash or compare: it looks at identity first, but is told to compile."""
    try:
        hash(value)
        bool(value == value)
    except Exception as error:
        raise Uncacheable from error


def distance(before: Description, after: Description) -> int:
    """Return in how many ways two calls of one function differ, cheaply."""
    if before.places is not after.places and before.places != after.places:
        return 1000 + abs(len(before.places) - len(after.places))
    ways = (before.context is not after.context) + sum(
        getattr(before, name) != getattr(after, name) for name in ("nodes", "metadata", "statics")
    )
    return ways + sum(map(operator.is_not, before.leaves, after.leaves))


def differences(before: Description, after: Description) -> list[Difference]:
    """Return in what two calls of one function differ, in the order of ``KINDS``."""
    found = [*_trees(before, after), *_metadata(before, after), *_statics(before, after), *_contexts(before, after)]
    if before.places == after.places:
        for place, old, new in zip(after.places, before.leaves, after.leaves, strict=True):
            if old is not new:
                found += _leaves(place, old, new)
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _trees(before: Description, after: Description) -> Iterator[Difference]:
    for changed in changed_parts(before.nodes, after.nodes):
        if NOT_GIVEN not in changed:
            yield Difference("tree_structure", *changed)
    if before.places != after.places:
        known, now = set(before.places), set(after.places)
        gone = [place for place in before.places if place not in now]
        come = [place for place in after.places if place not in known]
        yield Difference("tree_structure", "", _listed(gone, before.places), _listed(come, after.places))


def _listed(places: list[str], of: tuple[str, ...]) -> str:
    shown = ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
    return f"{len(of)} arrays" + (f" (with {shown})" if shown else "")


def _metadata(before: Description, after: Description) -> Iterator[Difference]:
    found = [Difference("static_metadata", *changed) for changed in changed_parts(before.metadata, after.metadata)]
    if before.nodes != after.nodes:  # those of nodes that only one of them has are told with the tree
        found = [one for one in found if NOT_GIVEN not in (one.before, one.after)]
    named = [one.place for one in found if STATIC_DATA not in one.place]
    found = _of_each_field_first(found)
    for one in found:  # as a whole only where no part of it has a name
        node = one.place.partition(STATIC_DATA)[0]
        if one.place in named or not any(place.startswith(f"{node}.") for place in named):
            yield one


def _of_each_field_first(found: list[Difference]) -> list[Difference]:
    """Return the first difference of each field, then the second ones: only a few are shown."""
    counts: Counter[str] = Counter()
    turns: list[int] = []
    for one in found:
        field = one.place.partition("[")[0]
        counts[field] += 1
        turns.append(counts[field])
    return [one for _, one in sorted(zip(turns, found, strict=True), key=operator.itemgetter(0))]


def _statics(before: Description, after: Description) -> Iterator[Difference]:
    for changed in changed_parts(before.statics, after.statics):
        yield Difference("static_value", *changed)


def _contexts(before: Description, after: Description) -> Iterator[Difference]:
    if before.context is after.context:
        return
    names = _jax.context_names()
    for number, (old, new) in enumerate(zip(before.context, after.context, strict=False)):
        if old != new:
            name = names[number] if number < len(names) else "a setting"
            yield Difference("config_context", name, str(old), str(new))


def _leaves(place: str, old: Leaf, new: Leaf) -> Iterator[Difference]:
    if old.placement != new.placement:
        yield Difference("device_or_sharding", place, *(one.placement or "not committed" for one in (old, new)))
    if old.dtype != new.dtype:
        yield Difference("new_dtype", place, old.dtype, new.dtype)
    if old.weak_type != new.weak_type:
        yield Difference("weak_type", place, *(("strong", "weak")[one.weak_type] for one in (old, new)))
    if len(old.shape) != len(new.shape):
        yield Difference("new_shape", place, str(old.shape), str(new.shape))
    elif old.shape != new.shape:
        for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)):
            if a != b:
                yield Difference("new_shape", f"{place} axis {axis}", str(a), str(b))
