"""A call, described: for people, for cost tables, and to say in what two calls differ.

A description holds nothing of the caller's: no array, no static value, no tree's own data.
"""

import functools
import hashlib
import inspect
import operator
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.tree_util import keystr, tree_flatten_with_path, tree_structure

from . import _jax
from ._signature import Statics, Uncacheable, abstract_leaf, placement

# How two calls can differ, in the order in which one is named as the cause: what is first explains what follows.
KINDS = (
    "tree_structure", "static_value", "config_context", "device_or_sharding", "new_dtype", "weak_type", "new_shape",
)  # fmt: skip


_LONGEST_STATIC, _LONGEST_CALL = 200, 1000  # characters; descriptions are kept, and read by people


class Leaf(NamedTuple):
    """One array argument, or one array in a pytree."""

    shape: tuple[int, ...]
    dtype: str
    weak_type: bool
    placement: str | None  # where it is committed to

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{'~' if self.weak_type else ''}"


class Static(NamedTuple):
    """One static argument: its type and text, and its hash, which tells values of equal text apart."""

    place: int | str
    text: str
    identity: int


@dataclass(frozen=True, slots=True)
class Description:
    """One call's signature.

    Attributes:
        text: ``solve(float32[512], n=3)``, the same in every process.
        places: Where each leaf stands: ``x``, ``params['w']``.
        leaves: The arrays.
        statics: The static arguments.
        tree: The hash of how the leaves are put together.
        context: JAX's configuration, see ``_jax.context_names``.
    """

    text: str
    places: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    statics: tuple[Static, ...]
    tree: int
    context: tuple[Hashable, ...]


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
        what = f" {self.place}:" if self.place else ":"
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


def _describe_static(place: int | str, kind: type, value: Any) -> Static:
    try:
        bool(value == value)  # JAX looks at identity first, but compares where it is told to compile
    except Exception as error:
        raise Uncacheable from error
    try:
        text = repr(value)
    except Exception:  # the caller's own __repr__
        text = " at 0x"
    text = f"<{type(value).__qualname__}>" if " at 0x" in text else text  # an address names nothing elsewhere
    return Static(place, _shortened(text, _LONGEST_STATIC), hash((kind, value)))


def _shortened(text: str, longest: int) -> str:
    """Return the text, or its beginning and a hash of it all: equal for equal texts in every process."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… #{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"


def describe_call(
    name: str, positional: Callable[[int], str], statics: Statics | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Description:
    """Describe a call of a function called ``name``.

    The text marks a weak type with ``~``. It names x64 and a matmul precision that is not the default, and nothing
    else of the configuration, nor devices, so that two signatures may share a text, never an executable.
    """
    dynamic, named, fixed = (statics or Statics((), frozenset())).split(args, kwargs)
    at = [position for position in range(len(args)) if position not in {place for place, _, _ in fixed}]
    words, places, leaves = [], [], []
    for place, value, label in [
        *((positional(position), value, "") for position, value in zip(at, dynamic, strict=True)),
        *((key, named[key], f"{key}=") for key in sorted(named)),
    ]:
        flat = tree_flatten_with_path(value)[0]
        mine = [_describe_leaf(leaf) for _, leaf in flat]
        words.append(label + ", ".join(map(str, mine)))
        places += [place + keystr(path) for path, _ in flat]
        leaves += mine
    described = tuple(_describe_static(*one) for one in fixed)
    words += [f"{static.place}={static.text}" for static in described]
    settings = " x64" if _jax.enable_x64.value else ""
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return Description(
        text=_shortened(f"{name}({', '.join(words)})", _LONGEST_CALL)
        + f"{settings}{f' {precision}' if precision else ''}",
        places=_intern(tuple(places)),
        leaves=tuple(leaves),
        statics=described,
        tree=hash(tree_structure((dynamic, named))),
        context=_intern(_jax.trace_context()),
    )


def distance(before: Description, after: Description) -> int:
    """Return in how many ways two calls of one function differ, cheaply."""
    if before.places is not after.places and before.places != after.places:
        return 1000 + abs(len(before.places) - len(after.places))
    ways = (before.tree != after.tree) + (before.context is not after.context) + (before.statics != after.statics)
    return ways + sum(map(operator.is_not, before.leaves, after.leaves))


def differences(before: Description, after: Description) -> list[Difference]:
    """Return in what two calls of one function differ, in the order of ``KINDS``."""
    found = [*_trees(before, after), *_statics(before, after), *_contexts(before, after)]
    if before.places == after.places:
        for place, old, new in zip(after.places, before.leaves, after.leaves, strict=True):
            if old is not new:
                found += _leaves(place, old, new)
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _trees(before: Description, after: Description) -> Iterator[Difference]:
    if before.places != after.places:
        known, now = set(before.places), set(after.places)
        gone = [place for place in before.places if place not in now]
        come = [place for place in after.places if place not in known]
        yield Difference("tree_structure", "", _listed(gone, before.places), _listed(come, after.places))
    elif before.tree != after.tree:
        yield Difference("tree_structure", "", "another container or its static data", "of the same leaves")


def _listed(places: list[str], of: tuple[str, ...]) -> str:
    shown = ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
    return f"{len(of)} arrays" + (f" (with {shown})" if shown else "")


def _statics(before: Description, after: Description) -> Iterator[Difference]:
    old, new = ({one.place: one for one in call.statics} for call in (before, after))
    for place in {**old, **new}:
        a, b = old.get(place), new.get(place)
        if a != b:
            texts = [one.text if one else "not given" for one in (a, b)]
            if texts[0] == texts[1]:
                texts[1] = f"another {texts[1]}"
            where = place if isinstance(place, str) else f"argument {place}"
            yield Difference("static_value", where, *texts)


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
