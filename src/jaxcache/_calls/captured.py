"""Values that a function captures, as tokens to compare with those of another function of the same code.

A captured value is compiled in as a constant. Two functions of one code that differ in it cannot replace each other. A
token keeps no object of the caller alive.
"""

import contextlib
import enum
import functools
import hashlib
import pathlib
import types
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

Token = Any  # compared by ==; no array, and no object of the caller's

_MOST_TOKENS = 1000
_DEEPEST = 5
_READ_BYTES = 1024**2  # of one array; larger ones are equal only if they are the same
_READ_BYTES_IN_ALL = 8 * 1024**2
_EXACT = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice, np.dtype)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_BY_TEXT = (enum.Enum, pathlib.PurePath, jax.sharding.Sharding)  # their text says all about them


class _Same:
    """Token of an object that is equal to nothing but itself."""

    __slots__ = ("_reference",)
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, value: Any) -> None:
        try:
            self._reference: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._reference = lambda: None

    def __eq__(self, other: object) -> bool:
        value = self._reference()
        return value is not None and isinstance(other, _Same) and other._reference() is value


class _Kind(NamedTuple):
    """Token of a function's code or an object's class: where it differs, the program is another."""

    code_or_name: Any


def captured_values(fun: Callable[..., Any]) -> dict[str, Token]:
    """Return a token for each value that ``fun`` captures, by name: ``robot``, ``self.mass``, ``weights[0]``.

    These are the closure, defaults, the arguments of a partial, the object of a method, and global variables that are
    no functions, classes or modules. No computation is waited for.
    """
    walk = _Walk()
    with contextlib.suppress(Exception):  # of the caller's own attributes; the values before it are compared
        walk.function("", fun, 0)
    return walk.tokens


def differing(before: Mapping[str, Token], after: Mapping[str, Token]) -> tuple[str, ...] | None:
    """Return the names of the values that differ, without the parts of a named value; None for other programs.

    A decorator that captures the function that it decorates is one source of many programs.
    """
    names = [name for name in {**after, **before} if not _equal(before.get(name), after.get(name))]
    if _Kind in [type(tokens.get(name)) for tokens in (before, after) for name in names]:
        return None
    outer: list[str] = []
    for name in names:
        if not name.startswith(tuple([f"{parent}{mark}" for parent in outer for mark in ".["])):
            outer.append(name)
    return tuple(outer)


def _equal(before: Token, after: Token) -> bool:
    return type(before) is type(after) and before == after


def code_behind(fun: Any) -> types.CodeType | None:
    """Return the code that ``fun`` runs, behind partials, wrappers, methods and callable objects."""
    while True:
        inner = fun.func if isinstance(fun, functools.partial) else None
        inner = inner or getattr(fun, "__wrapped__", None) or getattr(fun, "__func__", None)
        if inner is None:
            break
        fun = inner
    code = getattr(fun, "__code__", None) or getattr(vars(type(fun)).get("__call__"), "__code__", None)
    return code if isinstance(code, types.CodeType) else None


def wrappers_around(fun: Any) -> Iterator[types.CodeType]:
    """Yield the code of each wrapper around what ``fun`` runs in the end, such as that of ``jax.grad``."""
    while fun is not None:
        inner = fun.func if isinstance(fun, functools.partial) else getattr(fun, "__wrapped__", None)
        if inner is not None and isinstance(fun, types.FunctionType):
            yield fun.__code__
            for cell in fun.__closure__ or ():  # JAX's is one for all: it hides frames, and captures what it wraps
                with contextlib.suppress(ValueError):  # nothing is in it yet
                    if isinstance(cell.cell_contents, types.FunctionType) and cell.cell_contents is not inner:
                        yield cell.cell_contents.__code__
        fun = inner or getattr(fun, "__func__", None)


@functools.lru_cache(maxsize=4096)
def what_runs(code: types.CodeType) -> Hashable:
    """Return a value that is equal for code that does the same, whatever its name and file."""
    constants = tuple(
        what_runs(constant) if isinstance(constant, types.CodeType) else repr(constant) for constant in code.co_consts
    )
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return (code.co_code, constants, counts, names)


class _Walk:
    """Walk through the values that a function captures, up to a bound."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self._seen: set[int] = set()
        self._unread_bytes = _READ_BYTES_IN_ALL

    def function(self, name: str, fun: Any, depth: int) -> None:
        """Add the values that a function, or any other callable, captures."""
        if id(fun) in self._seen or depth > _DEEPEST:
            return
        self._seen.add(id(fun))
        if isinstance(fun, functools.partial):
            self._partial(name, fun, depth)
        elif isinstance(fun, types.MethodType):
            self._value(_joined(name, "self"), fun.__self__, depth + 1)
            self.function(name, fun.__func__, depth)
        elif callable(inner := getattr(fun, "__wrapped__", None)):
            self.function(name, inner, depth)
        elif isinstance(fun, types.FunctionType):
            self._plain_function(name, fun, depth)
        elif not isinstance(fun, type | types.BuiltinFunctionType):
            self._seen.discard(id(fun))  # its members are looked at as those of any object
            self._members(name or "self", fun, depth)

    def _partial(self, name: str, fun: "functools.partial[Any]", depth: int) -> None:
        code = code_behind(fun)
        names = code.co_varnames[: code.co_argcount] if code is not None else ()
        for number, value in enumerate(fun.args):
            parameter = names[number] if number < len(names) else f"args[{number}]"
            self._value(_joined(name, parameter), value, depth + 1)
        for parameter, value in fun.keywords.items():
            self._value(_joined(name, parameter), value, depth + 1)
        self.function(name, fun.func, depth)

    def _plain_function(self, name: str, fun: types.FunctionType, depth: int) -> None:
        code = fun.__code__
        captured: dict[str, Any] = {}
        for variable, cell in zip(code.co_freevars, fun.__closure__ or (), strict=False):
            try:
                captured[variable] = cell.cell_contents
            except ValueError:  # nothing is in it yet
                continue
        defaults = fun.__defaults__ or ()
        parameters = code.co_varnames[: code.co_argcount]
        captured.update(zip(parameters[len(parameters) - len(defaults) :], defaults, strict=False))
        captured.update(fun.__kwdefaults__ or {})
        for variable in code.co_names:
            value = fun.__globals__.get(variable)
            if value is not None and not callable(value) and not isinstance(value, types.ModuleType):
                captured.setdefault(variable, value)
        for variable, value in captured.items():
            self._value(_joined(name, variable), value, depth + 1)

    def _value(self, name: str, value: Any, depth: int) -> None:
        """Add a value and its elements."""
        if len(self.tokens) >= _MOST_TOKENS:
            return
        kind, mapping = type(value), value
        if kind in _EXACT or isinstance(value, np.dtype):
            self.tokens[name] = (kind.__name__, hash(value) if kind in (str, bytes) else repr(value))
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            self.tokens[name] = self._array(value)
        elif isinstance(value, _BY_TEXT):
            self.tokens[name] = (kind.__name__, repr(value))
        elif kind in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            self._items(name, kind, list(enumerate(value)), depth)
        elif kind is dict:
            self._items(name, kind, list(mapping.items()), depth)
        elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            self.tokens[name] = _Kind(getattr(value, "__qualname__", value.__name__))
        elif isinstance(value, _FUNCTIONS) or "__wrapped__" in getattr(value, "__dict__", ()):
            code = code_behind(value)
            self.tokens[name] = _Kind(None if code is None else what_runs(code))
            self.function(name, value, depth)
        else:
            self._members(name, value, depth)

    def _items(self, name: str, kind: type, items: list[tuple[Any, Any]], depth: int) -> None:
        self.tokens[name] = (kind.__name__, len(items))
        if depth > _DEEPEST:
            return
        for key, value in items:
            text = repr(key) if type(key) in (str, int, bool) else type(key).__name__
            self._value(f"{name}[{text}]", value, depth + 1)

    def _members(self, name: str, value: Any, depth: int) -> None:
        """Add the attributes of an object; the object itself where it has no ``__dict__``."""
        members = getattr(value, "__dict__", None)
        if type(members) is not dict or depth > _DEEPEST or id(value) in self._seen:
            self.tokens[name] = _Same(value)
            return
        self._seen.add(id(value))
        self.tokens[name] = _Kind(type(value).__qualname__)
        for attribute, member in list(members.items()):
            self._value(f"{name}.{attribute}", member, depth + 1)

    def _array(self, value: Any) -> Token:
        if isinstance(value, Tracer) or not hasattr(value, "nbytes"):
            return _Same(value)
        try:
            size = int(value.nbytes)
            if size > min(_READ_BYTES, self._unread_bytes) or not _is_there(value):
                return _Same(value)
            content = np.asarray(value)
            if content.dtype.hasobject:
                return _Same(value)
            self._unread_bytes -= size
            digest = hashlib.blake2b(np.ascontiguousarray(content).tobytes(), digest_size=16).digest()
        except Exception:  # donated, of keys, on other machines, or guarded against transfers
            return _Same(value)
        return (content.shape, content.dtype.str, digest)


def _is_there(value: Any) -> bool:
    """Return whether reading an array waits for no computation."""
    array: Any = value  # whose type does not declare is_ready
    return not isinstance(value, jax.Array) or (value.is_fully_addressable and array.is_ready())


def _joined(outer: str, name: str) -> str:
    return f"{outer}.{name}" if outer else name
