"""Objects that the user has put into modules and classes of installed distributions.

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
_TELLING = frozenset({*_WRAPPERS, types.FunctionType, interfaces.jitted_type})  # what is in them decides
_VALUES = operator.methodcaller("values")
_MOST = 16384

_harmless: set[type] = set()  # types whose objects come from no user
_theirs: dict[int, object] = {}  # namespaces and types that are not the user's, by id; they are kept, so that it stays
_of_user: dict[int, tuple[object, bool]] = {}  # likewise, of all that were looked at


class _Namespace(NamedTuple):
    """Module or class of a package.

    Attributes:
        name: Its full name.
        module: Name of the module that has defined it.
        own: The variables of that module.
        held: Its variables or attributes, as they are.
    """

    name: str
    module: str
    own: Mapping[str, Any]
    held: Mapping[str, Any]


class _Look(NamedTuple):
    """Look at all namespaces of one package.

    Attributes:
        modules: The modules of the package.
        namespaces: Each with those of the classes that it defines, by its name.
        held: Its namespaces.
        values: What each of them held.
        by_name: That, and the user's in it, by the name of the namespace.
        planted: The user's in all of them.
    """

    modules: list[types.ModuleType]
    namespaces: dict[str, list[_Namespace]]
    held: list[Mapping[str, Any]]
    values: list[list[Any]]
    by_name: dict[str, tuple[list[Any], list[tuple[str, Any]]]]
    planted: list[tuple[str, Any]]

    def is_still_so(self, modules: list[types.ModuleType]) -> bool:
        """Return whether each namespace has the values that it had: compared in C, by identity first."""
        if len(modules) != len(self.modules) or not all(map(operator.is_, modules, self.modules)):
            return False
        try:
            return all(map(operator.eq, map(list, map(_VALUES, self.held)), self.values))
        except Exception:  # of values whose comparison fails: they are not those that were there
            return False


def _look(modules: list[types.ModuleType], last: _Look) -> _Look:
    """Look at modules and the classes that they define; namespaces that have not changed need no second look."""
    look = _Look(modules, {}, [], [], {}, [])
    for module in modules:
        namespaces = look.namespaces[module.__name__] = _namespaces(module, last)
        for namespace in namespaces:
            if namespace.name in look.by_name:  # a class under two names
                continue
            values = [*namespace.held.values()]
            known, planted = last.by_name.get(namespace.name, ([], []))
            if not values or not _are_same(values, known):
                planted = _planted_in(namespace)
            look.held.append(namespace.held)
            look.values.append(values)
            look.by_name[namespace.name] = (values, planted)
            look.planted.extend(planted)
    return look


def _namespaces(module: types.ModuleType, last: _Look) -> list[_Namespace]:
    """Return a module and the classes that it defines, as the last look had them unless its variables have changed."""
    name, variables = module.__name__, vars(module)
    values, before = [*variables.values()], last.namespaces.get(name)
    if before is not None and before[0].held is variables and _are_same(values, last.by_name[name][0]):
        return before
    classes = [value for value in values if isinstance(value, type) and value.__module__ == name]
    return [
        _Namespace(name, name, variables, variables),
        *(_Namespace(f"{name}.{each.__qualname__}", name, variables, vars(each)) for each in classes),
    ]


def _are_same(values: list[Any], others: list[Any]) -> bool:
    return len(values) == len(others) and all(map(operator.is_, values, others))


_looks: dict[str, _Look] = {}  # the last, by package; each is replaced as a whole, for other threads


def planted(packages: frozenset[str]) -> list[tuple[str, Any]]:
    """Return the functions, and objects of classes, of the user's that modules of these packages hold, by their names.

    Those that the packages themselves reach by no variable of a module, nor attribute of a class, are not found.
    """
    modules: dict[str, list[types.ModuleType]] = {package: [] for package in sorted(packages)}
    for name, module in list(sys.modules.items()):
        of_package = modules.get(name.partition(".")[0])
        if of_package is not None and isinstance(module, types.ModuleType):
            of_package.append(module)
    taken: list[tuple[str, Any]] = []
    for package, of_package in modules.items():
        look = _looks.get(package) or _Look([], {}, [], [], {}, [])
        if not look.is_still_so(of_package):
            look = _looks[package] = _look(of_package, look)
        taken += look.planted
    return taken


def _planted_in(namespace: _Namespace) -> list[tuple[str, Any]]:
    """Return the user's among the values of a namespace."""
    kinds = set(map(type, namespace.held.values())) - _harmless
    if not kinds:
        return []
    taken: list[tuple[str, Any]] = []
    for name, value in list(namespace.held.items()):
        kind = type(value)
        if kind not in kinds or (kind is types.FunctionType and id(value.__globals__) in _theirs):
            continue
        if isinstance(value, type) and (value.__module__ == namespace.module or id(value) in _theirs):
            continue
        if _is_planted(value, namespace.own):
            taken.append((f"{namespace.name}.{name}", value))
        elif kind not in _TELLING and not isinstance(value, type):
            _harmless.add(kind)
            kinds.discard(kind)
    return taken


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
