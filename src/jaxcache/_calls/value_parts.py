"""Parts of values that are compiled in, as texts and identities: static arguments, and the static metadata of trees.

No reference to an object of the caller is kept.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jax.tree_util import keystr, tree_flatten_with_path

from .identity import Identifier, combine, compared_fields, has_generated_equality, is_generated
from .signature import LEAVES

LONGEST_TEXT = 200  # characters of one part
_MOST_PARTS = 256  # of one value; where there are more, it is divided less deeply
_MOST_ELEMENTS = 200  # of a container; those after them are one part
_DEPTH = 8
NOT_GIVEN = "not given"
_ORDER = " order"  # of the names of a container's elements
STATIC_DATA = " (static data)"  # of a node, where its type does not name the parts


class Part(NamedTuple):
    """Part of a static value: ``config.depth`` is ``3``. The identity tells values of equal text apart."""

    path: str
    text: str
    identity: bytes


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the text, or its beginning and a hash of it all: equal for equal texts in every process."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… #{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"


def show(value: Any, depth: int = _DEPTH) -> str:
    """Return a value as text, without the addresses and the order of sets that differ from process to process."""
    if depth == 0:
        return "…"

    def inner(part: Any) -> str:
        return show(part, depth - 1)

    if isinstance(value, frozenset | set):
        return f"{type(value).__name__}({{{', '.join(sorted(map(inner, value)))}}})"
    if type(value) in (tuple, list):
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        left, right = "()" if isinstance(value, tuple) else "[]"
        return f"{left}{', '.join(map(inner, value))}{comma}{right}"
    if type(value) is dict:
        return f"{{{', '.join(f'{inner(key)}: {inner(item)}' for key, item in value.items())}}}"
    if isinstance(value, functools.partial):
        words = [inner(value.func), *map(inner, value.args), *(f"{k}={inner(v)}" for k, v in value.keywords.items())]
        return f"partial({', '.join(words)})"
    if _has_generated_repr(type(value)):
        shown = [field.name for field in dataclasses.fields(value) if field.repr]
        return f"{type(value).__qualname__}({', '.join(f'{n}={inner(getattr(value, n, None))}' for n in shown)})"
    if callable(value) and isinstance(getattr(value, "__qualname__", None), str):  # a function, a type, a jitted one
        return value.__qualname__.rpartition("<locals>.")[2]
    return _own_repr(value)


def _has_generated_repr(kind: type) -> bool:
    guarded = getattr(kind.__repr__, "__wrapped__", None)  # against recursion
    return dataclasses.is_dataclass(kind) and is_generated(guarded)


def _own_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # the caller's own __repr__
        text = " at 0x"
    if " at 0x" in text:  # an address names nothing elsewhere
        return f"<{type(value).__qualname__}>"
    return " ".join(text.split()) if "\n" in text else text


def parts_of_value(path: str, value: Any, identifier: Identifier) -> list[Part]:
    """Return the parts of a static value: of containers and dataclasses their elements, of others the whole."""
    depth = _DEPTH
    while len(parts := _first_parts(path, value, identifier, depth)) > _MOST_PARTS:
        depth -= 1
    identity = combine("typed", [identifier.of(type(value)), parts[0].identity])  # JAX tells 1 from True, but not (1,)
    return [parts[0]._replace(identity=identity), *parts[1:]]


def _first_parts(path: str, value: Any, identifier: Identifier, depth: int) -> list[Part]:
    return list(itertools.islice(_take_apart(path, value, identifier, depth), _MOST_PARTS + 1))


def _take_apart(path: str, value: Any, identifier: Identifier, depth: int) -> Iterator[Part]:
    elements = _elements(value) if depth else None
    if elements is None:
        yield _whole(path, value, identifier)
        return
    yield Part(path, shorten(show(value)), identifier.of(type(value)))
    for suffix, element in itertools.islice(elements.items(), _MOST_ELEMENTS):
        yield from _take_apart(path + suffix, element, identifier, depth - 1)
    if rest := [*elements.values()][_MOST_ELEMENTS:]:
        yield _whole(f"{path}[{_MOST_ELEMENTS}:]", rest, identifier)
    if _are_items(value):
        names = ", ".join(show(name) for name, _ in value)
        yield Part(path + _ORDER, shorten(names), identifier.of(names))


def _elements(value: Any) -> dict[str, Any] | None:
    """Return the elements of a value by their suffix in Python, ``[0]`` or ``.depth``; None if it has none."""
    kind: Any = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return {f".{name}": getattr(value, name) for name in kind._fields}
    if _are_items(value):
        return _named_elements(value)
    if type(value) in (tuple, list):
        return {f"[{number}]": element for number, element in enumerate(value)}
    if type(value) is dict:
        return {f"[{show(key)}]": element for key, element in value.items()}
    if has_generated_equality(kind):
        return {f".{name}": getattr(value, name) for name in compared_fields(kind)}
    return None


def _are_items(value: Any) -> bool:
    """Return whether a value is a sequence of pairs, the first of each a name: a mapping that can be hashed."""
    if type(value) not in (tuple, list) or not all(type(pair) is tuple and len(pair) == 2 for pair in value):
        return False
    kinds = {type(name) for name, _ in value}
    return str in kinds and kinds <= {str, int}


def _named_elements(items: Any) -> dict[str, Any]:
    """Return the pairs of :func:`_are_items` by name, so that one more does not rename those after it."""
    times: Counter[Any] = Counter()
    elements: dict[str, Any] = {}
    for name, value in items:
        times[name] += 1
        elements[f"[{show(name)}]{f'#{times[name]}' if times[name] > 1 else ''}"] = value
    return elements


def _whole(path: str, value: Any, identifier: Identifier) -> Part:
    return Part(path, shorten(show(value)), identifier.of(value))


def parts_of_nodes(path: str, tree: Any, identifier: Identifier) -> tuple[list[Part], list[Part]]:
    """Return the types of a pytree's nodes, and the parts of their static metadata."""
    types: list[Part] = []
    metadata: list[Part] = []
    pending = [(path, tree)]
    while pending:
        path, node = pending.pop()
        kind = type(node)
        if kind in LEAVES:
            continue
        if kind in (tuple, list):  # as below, in a tenth of the time
            types.append(Part(path, kind.__qualname__, identifier.of(kind)))
            pending += [(f"{path}[{number}]", child) for number, child in enumerate(node)]
            continue
        children, structure = tree_flatten_with_path(node, is_leaf=lambda below, node=node: below is not node)
        kind_and_metadata = structure.node_data()
        if kind_and_metadata is None:  # a leaf of another type
            continue
        kind, static = kind_and_metadata
        types.append(Part(path, kind.__qualname__, identifier.of(kind)))
        names = [keystr(key_path) for key_path, _ in children]
        if kind not in (dict, type(None)) and static is not None:
            metadata += _parts_of_metadata(path, node, names, static, identifier)
        pending += [(path + name, child) for name, (_, child) in zip(names, children, strict=True)]
    return types, metadata


def _parts_of_metadata(
    path: str, node: Any, children: list[str], static: Any, identifier: Identifier
) -> Iterator[Part]:
    if not dataclasses.is_dataclass(node):
        yield from parts_of_value(f"{path}{STATIC_DATA}", static, identifier)
        return
    for field in dataclasses.fields(node):  # fields that are no children have names
        if f".{field.name}" not in children and hasattr(node, field.name):
            yield from parts_of_value(f"{path}.{field.name}", getattr(node, field.name), identifier)
    yield Part(f"{path}{STATIC_DATA}", shorten(show(static)), identifier.of(static))


def changed_parts(before: Iterable[Part], after: Iterable[Part]) -> Iterator[tuple[str, str, str]]:
    """Yield the path of each part that differs, with its text before and after.

    Parts of a value that differs as a whole, such as a text that has become a tuple, are not yielded.
    """
    old, new = ({part.path: part for part in parts} for parts in (before, after))
    reported: tuple[str, ...] = ()  # beginnings of paths below those that were yielded
    for path in sorted({**old, **new}, key=lambda each: each.endswith(_ORDER)):
        was, now = old.get(path), new.get(path)
        if (was and now and was.identity == now.identity) or path.startswith(reported):
            continue
        if path.endswith(_ORDER) and any(prefix.startswith(path.removesuffix(_ORDER)) for prefix in reported):
            continue  # its elements were reported
        reported += (f"{path}[", f"{path}.")
        texts = [part.text if part else NOT_GIVEN for part in (was, now)]
        yield path, texts[0], f"another {texts[1]}" if texts[0] == texts[1] else texts[1]
