"""What the user has put into modules and classes of installed distributions.

Code of a distribution is known by its version. A function of the user's that replaces one of theirs changes what they
do, wherever they call it, and is in nothing that the user's code reaches.
"""

import functools
import operator
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._jax import interfaces
from .origins import OURS, origin_of_module

_WRAPPERS = (types.MethodType, functools.partial, staticmethod, classmethod)


class _Scan(NamedTuple):
    """Last look at the namespace of a module or class.

    Attributes:
        values: Those that it had.
        classes: Of these, the classes that the module has defined.
        planted: The names and values that are the user's.
    """

    values: list[Any]
    classes: list[type]
    planted: list[tuple[str, Any]]


_TELLING = frozenset({*_WRAPPERS, types.FunctionType, interfaces.jitted_type})  # what is in them decides
_harmless: set[type] = set()  # types whose objects come from no user
_scans: dict[str, _Scan] = {}  # by the name of the module or class
_theirs: dict[int, object] = {}  # namespaces that are not the user's; likewise kept
_of_user: dict[int, tuple[object, bool]] = {}  # of namespaces and types, by id; they are kept, so that it stays theirs
_MOST = 16384


def planted(packages: frozenset[str]) -> list[tuple[str, Any]]:
    """Return the functions, and objects of classes, of the user's that modules of these packages hold, by their names.

    Those that the packages themselves reach by no variable of a module, nor attribute of a class, are not found.
    """
    found: list[tuple[str, Any]] = []
    for module_name, module in sorted(sys.modules.items()):
        if module_name.partition(".")[0] not in packages:
            continue
        namespace = getattr(module, "__dict__", None)
        if namespace is None:
            continue
        of_module = _scan(namespace, namespace, module_name, module_name)
        found += of_module.planted
        for kind in of_module.classes:
            found += _scan(vars(kind), namespace, module_name, f"{module_name}.{kind.__qualname__}").planted
    return found


def _scan(held: Mapping[str, Any], own: Mapping[str, Any], module: str, holder: str) -> _Scan:
    """Look at a namespace, unless each of its values is still the same object."""
    last = _scans.get(holder)
    if last is not None and len(last.values) == len(held) and all(map(operator.is_, held.values(), last.values)):
        return last
    classes: list[type] = []
    taken: list[tuple[str, Any]] = []
    of_module = held is own
    for name, value in list(held.items()):
        kind = type(value)
        if kind in _harmless:
            continue
        if kind is types.FunctionType:
            globals_of = value.__globals__
            if globals_of is own or id(globals_of) in _theirs:
                continue
        elif of_module and isinstance(value, type) and value.__module__ == module:
            classes.append(value)
            continue
        if _is_planted(value, own):
            taken.append((f"{holder}.{name}", value))
        elif kind not in _TELLING and not isinstance(value, type):
            _harmless.add(kind)
    if len(_scans) >= _MOST:
        _scans.clear()
    scan = _scans[holder] = _Scan([*held.values()], classes, taken)
    return scan


def _is_planted(value: Any, own: Mapping[str, Any]) -> bool:
    """Return whether a value comes from the user, and not from the module whose globals are ``own``."""
    while isinstance(value, _WRAPPERS):
        value = getattr(value, "__func__", None) or getattr(value, "func", None)
    if type(value) is interfaces.jitted_type:
        value = getattr(value, "__wrapped__", None)
    if isinstance(value, types.FunctionType):
        return value.__globals__ is not own and _is_of_user(value.__globals__)
    if isinstance(value, types.ModuleType):
        return False
    return _is_of_user(value if isinstance(value, type) else type(value))


def _is_of_user(namespace_or_type: Any) -> bool:
    """Return whether the globals of a function, or a type, are of a file of the user's."""
    known = _of_user.get(id(namespace_or_type))
    if known is not None:
        return known[1]
    is_type = isinstance(namespace_or_type, type)
    name = namespace_or_type.__module__ if is_type else namespace_or_type.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    of_user = (
        module is not None
        and (name == "__main__" or getattr(module, "__file__", None) is not None)
        and name.partition(".")[0] != OURS  # it replaces some of JAX's functions, and changes no program
        and origin_of_module(name) is None
    )
    if len(_of_user) >= _MOST:
        _of_user.clear()
        _theirs.clear()
    _of_user[id(namespace_or_type)] = (namespace_or_type, of_user)
    if not of_user:
        _theirs[id(namespace_or_type)] = namespace_or_type
    return of_user
