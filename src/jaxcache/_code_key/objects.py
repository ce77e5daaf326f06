"""Classes and their instances, for the walk."""

import abc
import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import operator
import pathlib
import re
import sys
import types
import typing
from typing import Any

from .._jax.trees import registered_functions
from . import purity
from .containers import mapping
from .origins import origin_of_module
from .walk import DOCUMENTATION, CannotBeKeyed, Walk, handles

_NOT_CONTENT = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__abstractmethods__",
    "_abc_impl", "__orig_bases__", "__parameters__", "__dataclass_params__", "__type_params__",
    "__protocol_attrs__", "_is_protocol", "_is_runtime_protocol", "__non_callable_proto_members__", "__slots__",
    "__hash__",
})  # fmt: skip  # of a class: set by Python itself, or about documentation and types alone
_MEMBERS_OF_ENUM = frozenset({
    "_member_names_", "_member_map_", "_value2member_map_", "_unhashable_values_", "_unhashable_values_map_",
    "_hashable_values_", "_value_repr_", "_member_type_", "_use_args_", "_new_member_", "_generate_next_value_",
    "__new_member__", "__new__",
})  # fmt: skip
_OF_MEMBER = ("_value_", "_name_", "__objclass__", "_sort_order_")
_TUPLE_FIELD: Any = type(collections.namedtuple("_P", "x").x)  # pyright: ignore[reportAttributeAccessIssue]
_CONTAINERS = (dict, list, tuple, set, frozenset, str, int, float, complex, bytes)
_OBJECT_BYTES = object.__basicsize__ + 2 * 8  # with the places of its dictionary and of weak references
_CACHED = (functools.cached_property,)


@handles(type, exact=False)
def _class(walk: Walk, value: type) -> None:
    if walk.is_known(value):
        return
    origin = origin_of_module(value.__module__)
    if origin is not None and _resolves(value):
        fault = purity.fault_of(origin, value.__module__, value.__qualname__)
        if fault is not None:
            raise walk.fault(fault)
        walk.put("class of", walk.owned(origin), value.__module__, value.__qualname__)
        return
    if value.__flags__ & _HEAP_TYPE == 0:
        raise walk.fault(f"{value.__qualname__} is a C type of unknown origin")
    walk.put("class", value.__module__ if origin else "", value.__qualname__)
    walk.value(type(value))
    walk.all_of("bases", value.__bases__)
    if isinstance(value, enum.EnumMeta):
        _members(walk, value)
    before, walk._generated = walk._generated, True
    try:
        content = _content_of_class(value)
        for name in filter(content.__contains__, vars(value)):  # in their order, which vars shows
            walk.named(name, vars(value)[name])
        walk.put("slots", *_declared_slots(value))
        walk.all_of("flatten and unflatten", registered_functions(value))
        for hint in vars(value).get("__orig_bases__", ()):
            _hint(walk, hint)
        if vars(value).get("_is_protocol"):  # isinstance asks for these
            walk.put("protocol", *sorted(vars(value).get("__annotations__", ())))
        if "_abc_impl" in vars(value):
            walk.put("registered", *sorted(map(walk.apart, _registered(value))))
    finally:
        walk._generated = before


_HEAP_TYPE = 1 << 9


def _hint(walk: Walk, value: Any) -> None:
    """Add a type hint that code can ask for: by its content, or by its text if that cannot be read."""
    depth = len(walk._path)
    try:
        walk.named("hint", value)
    except CannotBeKeyed:
        del walk._path[depth:]
        text = repr(value)
        walk.put("hint", type(value).__qualname__ if " at 0x" in text else text)


def _registered(value: Any) -> list[type]:
    """Return the classes that were registered with an abstract one."""
    references, *_ = abc._get_dump(value)  # pyright: ignore[reportAttributeAccessIssue]
    return [kind for kind in (reference() for reference in references) if kind is not None]


def _resolves(value: type) -> bool:
    """Return whether a class is the one that its module has under its name, and not made by a function there."""
    holder: object = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        holder = getattr(holder, name, None)
    return holder is value or value.__flags__ & _HEAP_TYPE == 0


def _content_of_class(value: type) -> set[str]:
    names = set(vars(value)) - _NOT_CONTENT
    if isinstance(value, enum.EnumMeta):
        names -= _MEMBERS_OF_ENUM | set(value.__members__)
        names -= {name for name in names if isinstance(vars(value)[name], types.DynamicClassAttribute)}
    return {name for name in names if not isinstance(vars(value)[name], types.MemberDescriptorType)}


def _members(walk: Walk, value: Any) -> None:
    walk.put("members", *value.__members__)
    for name, member in value.__members__.items():
        walk.named(name, member.value)
        walk.attributes(member, _OF_MEMBER)


@handles(_TUPLE_FIELD)
def _tuple_field(walk: Walk, value: Any) -> None:
    walk.put("field", b"%d" % value.__reduce__()[1][0])


@handles(dataclasses.Field)
def _field(walk: Walk, value: Any) -> None:
    walk.put("field", value.name)
    parts = [getattr(value, name, None) for name in ("init", "repr", "hash", "compare", "kw_only")]
    walk.all_of("flags", [str(part) for part in parts])
    for name in ("default", "default_factory"):
        content = getattr(value, name)
        walk.put(name, "missing") if content is dataclasses.MISSING else walk.named(name, content)
    walk.value(value.metadata)
    _hint(walk, value.type)


@handles(type(dataclasses.MISSING), type(getattr(dataclasses, "_HAS_DEFAULT_FACTORY", dataclasses.MISSING)))
def _sentinel(walk: Walk, value: Any) -> None:
    walk.put("sentinel", type(value).__qualname__)


@handles(type(getattr(dataclasses, "_FIELD", dataclasses.MISSING)))
def _field_kind(walk: Walk, value: Any) -> None:
    walk.put("field kind", str(value))


@handles(re.Pattern)
def _pattern(walk: Walk, value: Any) -> None:
    walk.put("pattern")
    walk.all_of("parts", (value.pattern, value.flags))


@handles(pathlib.PurePath, fractions.Fraction, datetime.timedelta, exact=False)
def _written(walk: Walk, value: Any) -> None:
    walk.put(type(value).__qualname__, repr(value))
    if type(value).__module__.partition(".")[0] not in sys.stdlib_module_names:
        walk.value(type(value))
        _attributes(walk, value)


@handles(functools.partial, exact=False)
def _partial(walk: Walk, value: Any) -> None:
    walk.put("partial")
    walk.value(type(value))
    walk.value(value.func)
    walk.value(value.args)
    walk.value(dict(value.keywords))
    _attributes(walk, value)


@handles(operator.itemgetter, operator.attrgetter, operator.methodcaller)
def _getter(walk: Walk, value: Any) -> None:
    walk.put("getter")
    walk.all_of("parts", value.__reduce__())


@handles(types.SimpleNamespace)
def _namespace(walk: Walk, value: Any) -> None:
    if not walk.is_known(value):
        walk.put("namespace")
        mapping(walk, vars(value))


_ALIASES: list[Any] = [types.GenericAlias, types.UnionType]


@handles(*_ALIASES, exact=False)
def _alias(walk: Walk, value: Any) -> None:
    walk.put("alias")
    walk.value(getattr(value, "__origin__", None))
    walk.all_of("arguments", value.__args__)


_HINTS: list[Any] = [typing.Union[int, None], typing.Callable, typing.List[int], typing.Any]  # noqa: UP006,UP007


@handles(typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.ForwardRef, *map(type, _HINTS), exact=False)
def _type_hint(walk: Walk, value: Any) -> None:
    walk.put("type", repr(value))
    for name in ("__origin__", "__args__", "__bound__", "__constraints__", "__metadata__"):
        part = getattr(value, name, None)
        if isinstance(part, type | tuple):
            walk.named(name, part)


@handles(enum.Enum, exact=False)
def _member(walk: Walk, value: Any) -> None:
    walk.put("member", str(value.name))
    walk.value(type(value))
    if value.name is None or value.name not in type(value).__members__:
        walk.value(value.value)


@handles(object, exact=False)
def _instance(walk: Walk, value: Any) -> None:
    """Add an object by its class and its attributes, and by its elements if it is a container too."""
    if walk.is_known(value):
        return
    kind = type(value)
    walk.put("object")
    try:
        walk.value(kind)
    except CannotBeKeyed as error:
        raise walk.fault(f"its class cannot be: {error.because}") from error
    container = next((base for base in _CONTAINERS if isinstance(value, base)), None)
    slots = _slots(kind)
    base_bytes = object.__basicsize__ if container is None else container.__basicsize__
    known_bytes = base_bytes + _OBJECT_BYTES - object.__basicsize__ + 8 * len(slots)
    if isinstance(value, collections.OrderedDict | collections.defaultdict):
        known_bytes = kind.__basicsize__
    if kind.__basicsize__ > known_bytes or not _is_open(value):
        raise walk.fault(f"{kind.__qualname__} objects have no content that can be read")
    _elements(walk, value, container)
    if isinstance(value, collections.defaultdict):
        walk.named("default_factory", value.default_factory)
    _attributes(walk, value)


def _attributes(walk: Walk, value: Any) -> None:
    """Add the attributes of an object, in slots and in its dictionary."""
    kind = type(value)
    attributes = {name: getattr(value, name) for name in _slots(kind) if hasattr(value, name)}
    attributes |= getattr(value, "__dict__", {})
    shown = [name for name in attributes if name not in DOCUMENTATION]
    cached = [name for name in shown if isinstance(getattr(kind, str(name), None), _CACHED)]
    for name in shown:  # in their order, which vars shows
        if name not in cached:
            walk.named(str(name), attributes[name])
    for name in sorted(cached, key=str):
        walk.computed(str(name), attributes[name])


def _is_open(value: object) -> bool:
    """Return whether an object shows all that it holds, as those of types that are made in C need not."""
    known = (object, *_CONTAINERS, collections.OrderedDict, collections.defaultdict)
    kind = type(value)
    if kind.__flags__ & _HEAP_TYPE == 0:
        return kind in known
    return all(base in known or _shows_fields(base) for base in kind.__mro__)


def _shows_fields(kind: type) -> bool:
    """Return whether all that a class adds to its base's objects has names: a dictionary, slots, or nothing."""
    adds = kind.__base__ is None or kind.__basicsize__ > kind.__base__.__basicsize__
    return not adds or "__slots__" in vars(kind) or kind.__dictoffset__ != 0


def _slots(kind: type) -> list[str]:
    """Return the names of the attributes that an object has in slots."""
    names = []
    for base in kind.__mro__:
        for name in _declared_slots(base):
            private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return names


def _declared_slots(kind: type) -> tuple[str, ...]:
    """Return the slots that a class declares itself, in their order."""
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _elements(walk: Walk, value: Any, container: type | None) -> None:
    if container is None:
        return
    walk.put(container.__name__)
    if container is dict:
        mapping(walk, value)
    elif container in (set, frozenset):
        walk.put(*sorted(map(walk.apart, value)))
    elif container in (list, tuple):
        walk.all_of("elements", container.__iter__(value))
    else:
        walk.value({str: str.__str__, bytes: bytes.__bytes__, int: int.__int__}.get(container, container)(value))
