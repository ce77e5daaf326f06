"""Containers, modules, and what Python makes of functions, for the walk."""

import functools
import types
from typing import Any

from . import purity
from .origins import origin_of_module
from .plain import joined
from .walk import Walk, handles

_remembering_functions: dict[int, tuple[object, bytes]] = {}  # with their digest when they remembered nothing, by id
_MOST_REMEMBERING = 4096


@handles(types.FunctionType)
def _function(walk: Walk, value: types.FunctionType) -> None:
    walk.function(value)


@handles(types.ModuleType, exact=False)
def _module(walk: Walk, value: types.ModuleType) -> None:
    origin = origin_of_module(value.__name__)
    if origin is None:
        raise walk.fault(f"the module {value.__name__} is used as a value, so that any of its variables may be read")
    fault = purity.fault_of(origin, value.__name__, "")
    if fault is not None:
        raise walk.fault(fault)
    walk.put("module", walk.owned(origin), value.__name__)


@handles(tuple)
def _tuple(walk: Walk, value: Any) -> None:
    walk.all_of("tuple", value)


@handles(list)
def _list(walk: Walk, value: Any) -> None:
    if not walk.is_known(value):
        walk.all_of("list", value)


@handles(dict)
def _dict(walk: Walk, value: Any) -> None:
    if not walk.is_known(value):
        mapping(walk, value)


def mapping(walk: Walk, value: Any) -> None:
    """Add the items of a mapping, in its order, which code that goes through it sees."""
    walk.put("dict", b"%d" % len(value))
    for key, item in value.items():
        walk.value(key)
        walk.named(f"[{key!r}]" if type(key) in (str, int) else "[…]", item)


@handles(types.MappingProxyType)
def _proxy(walk: Walk, value: Any) -> None:
    mapping(walk, dict(value))


@handles(set, frozenset)
def _set(walk: Walk, value: Any) -> None:
    walk.put(joined(type(value).__name__.encode(), sorted(map(walk.apart, value))))


@handles(types.MethodType)
def _method(walk: Walk, value: types.MethodType) -> None:
    walk.put("method")
    walk.value(value.__func__)
    walk.named("self", value.__self__)


@handles(staticmethod, classmethod)
def _static(walk: Walk, value: Any) -> None:
    walk.put(type(value).__name__)
    walk.value(value.__func__)


@handles(property)
def _property(walk: Walk, value: property) -> None:
    walk.all_of("property", (value.fget, value.fset, value.fdel))


@handles(functools.cached_property)
def _cached_property(walk: Walk, value: Any) -> None:
    walk.put("cached_property")
    walk.value(value.func)


@handles(functools.partialmethod)
def _partialmethod(walk: Walk, value: Any) -> None:
    walk.put("partialmethod")
    walk.all_of("parts", (value.func, value.args, value.keywords))


@handles(type(functools.lru_cache(len)))
def _remembering(walk: Walk, value: Any) -> None:
    """Add a function that remembers results: those must come from what it reaches now."""
    content = walk.apart(value.__wrapped__)
    known = _remembering_functions.get(id(value))
    if value.cache_info().currsize:
        if known is None or known[0] is not value:
            raise walk.fault("it remembers results from before it was looked at first")
        if known[1] != content:
            raise walk.fault("what it reaches has changed since it remembers results")
    else:
        if len(_remembering_functions) >= _MOST_REMEMBERING:
            _remembering_functions.clear()
        _remembering_functions[id(value)] = (value, content)
    walk.put("lru_cache", content)
    walk.attributes(value)


@handles(types.BuiltinFunctionType)
def _builtin_function(walk: Walk, value: Any) -> None:
    owner = value.__self__
    if owner is not None and not isinstance(owner, types.ModuleType):
        walk.put("built-in method", value.__name__)
        walk.named("self", owner)
        return
    module = str(value.__module__ or getattr(owner, "__name__", ""))
    origin = origin_of_module(module)
    if origin is None:
        raise walk.fault("it is a C function of unknown origin")
    fault = purity.fault_of(origin, module, value.__qualname__)
    if fault is not None:
        raise walk.fault(fault)
    walk.put("built-in", walk.owned(origin), module, value.__qualname__)


@handles(
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType, types.GetSetDescriptorType
)
def _descriptor(walk: Walk, value: Any) -> None:
    walk.put(type(value).__name__, value.__name__)
    walk.value(value.__objclass__)


@handles(types.MethodWrapperType)
def _method_wrapper(walk: Walk, value: Any) -> None:
    walk.put("method-wrapper", value.__name__)
    walk.value(value.__self__)
