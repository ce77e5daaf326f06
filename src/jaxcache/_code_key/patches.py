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
_TELLING = frozenset({*_WRAPPERS, types.FunctionType, interfaces.jitted_type})  # what is in them decides
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


class _Package:
    """Namespaces of one package, as they were last looked at."""

    def __init__(self) -> None:
        self.modules: list[types.ModuleType] = []
        self._namespaces: list[_Namespace] = []
        self._held: list[Mapping[str, Any]] = []
        self._values: list[dict[str, Any]] = []
        self._planted: list[list[tuple[str, Any]]] = []

    def planted(self, modules: list[types.ModuleType]) -> list[tuple[str, Any]]:
        """Return what the user has put into the package's modules, and their classes; quick if nothing is new."""
        same_modules = len(modules) == len(self.modules) and all(map(operator.is_, modules, self.modules))
        if not same_modules or not self._is_unchanged():
            self._watch(modules)
        return [each for some in self._planted for each in some]

    def _is_unchanged(self) -> bool:
        """Return whether each namespace has the values that it had: one comparison in C, by identity first."""
        try:
            return all(map(operator.eq, self._held, self._values))
        except Exception:  # of values whose comparison fails: they are not those that were there
            return False

    def _watch(self, modules: list[types.ModuleType]) -> None:
        before = dict(
            zip((each.name for each in self._namespaces), zip(self._values, self._planted, strict=True), strict=True)
        )
        self.modules, self._namespaces = modules, []
        self._held, self._values, self._planted = [], [], []
        for module in modules:
            variables = vars(module)
            self._add(_Namespace(module.__name__, module.__name__, variables, variables), before)
            for kind in [value for value in variables.values() if isinstance(value, type)]:
                if kind.__module__ == module.__name__:
                    name = f"{module.__name__}.{kind.__qualname__}"
                    self._add(_Namespace(name, module.__name__, variables, vars(kind)), before)

    def _add(self, namespace: _Namespace, before: Mapping[str, tuple[dict[str, Any], list[tuple[str, Any]]]]) -> None:
        known_values, known_planted = before.get(namespace.name, ({}, []))
        values = dict(namespace.held)
        same = len(values) == len(known_values) and all(map(operator.is_, values.values(), known_values.values()))
        self._namespaces.append(namespace)
        self._held.append(namespace.held)
        self._values.append(values)
        self._planted.append(known_planted if same and values else _planted_in(namespace, values))


_packages: dict[str, _Package] = {}


def planted(packages: frozenset[str]) -> list[tuple[str, Any]]:
    """Return the functions, and objects of classes, of the user's that modules of these packages hold, by their names.

    Those that the packages themselves reach by no variable of a module, nor attribute of a class, are not found.
    """
    modules: dict[str, list[types.ModuleType]] = {package: [] for package in sorted(packages)}
    for name, module in list(sys.modules.items()):
        of_package = modules.get(name.partition(".")[0])
        if of_package is not None and isinstance(module, types.ModuleType):
            of_package.append(module)
    return [
        each for package, held in modules.items() for each in _packages.setdefault(package, _Package()).planted(held)
    ]


def _planted_in(namespace: _Namespace, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the user's among the values of a namespace."""
    taken: list[tuple[str, Any]] = []
    for name, value in values.items():
        kind = type(value)
        if kind in _harmless:
            continue
        if kind is types.FunctionType and (value.__globals__ is namespace.own or id(value.__globals__) in _theirs):
            continue
        if isinstance(value, type) and value.__module__ == namespace.module:
            continue
        if _is_planted(value, namespace.own):
            taken.append((f"{namespace.name}.{name}", value))
        elif kind not in _TELLING and not isinstance(value, type):
            _harmless.add(kind)
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
