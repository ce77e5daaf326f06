"""Bytecode of functions: a digest that comments, lines and docstrings do not change, and the names that it loads.

Constants are written where an instruction loads them, not by their number, so that a docstring, which is a constant
too, moves nothing.
"""

import dis
import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

_OPERATION = {number: name for name, number in dis.opmap.items()}
_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_FREE = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_CONSTANT = frozenset(dis.hasconst)
_EXTENDED, _CACHE = dis.opmap["EXTENDED_ARG"], dis.opmap.get("CACHE", 0)
_MOST_CODES = 8192


class Load(NamedTuple):
    """Name that code loads, with the attributes that it takes of it at once.

    Attributes:
        kind: ``global`` or ``free``.
        name: The variable.
        attributes: Such as ``("numpy", "sin")`` of ``jax.numpy.sin``.
    """

    kind: str
    name: str
    attributes: tuple[str, ...]


class Import(NamedTuple):
    """Import statement within code.

    Attributes:
        module: As the statement names it.
        level: Dots before it.
        names: What is taken from it; empty for the module itself.
    """

    module: str
    level: int
    names: tuple[str, ...]


class Reading(NamedTuple):
    """Digest of code, and what it reaches.

    Attributes:
        digest: Equal for code that does the same.
        loads: In the order of the code, each once.
        imports: Likewise.
        attributes: Names of all attributes that it reads.
        writes: The first variable outside of the code that it writes; None if there is none.
    """

    digest: bytes
    loads: tuple[Load, ...]
    imports: tuple[Import, ...]
    attributes: frozenset[str]
    writes: str | None


def instructions(code: types.CodeType) -> Iterator[tuple[int, int]]:
    """Return the operations of code with their arguments, without those that only prefix or cache others."""
    content, extended = code.co_code, 0
    for position in range(0, len(content), 2):
        operation = content[position]
        argument = content[position + 1] | extended
        if operation == _EXTENDED:
            extended = argument << 8
            continue
        extended = 0
        if operation != _CACHE:
            yield operation, argument


def name_index(operation: str, argument: int) -> int:
    """Return the position of an instruction's name in ``co_names``: some arguments hold flags too."""
    if operation == "LOAD_GLOBAL":
        return argument >> 1
    if operation == "LOAD_SUPER_ATTR":
        return argument >> 2
    if operation == "LOAD_ATTR" and sys.version_info >= (3, 12):
        return argument >> 1
    return argument


_readings: dict[int, tuple[types.CodeType, Reading]] = {}  # the code is kept, so that its id stays its own


def read(code: types.CodeType, constant: Callable[[object], bytes]) -> Reading:
    """Return the digest of code and of the code within it, and the names that they load.

    Args:
        code: The code.
        constant: Returns the digest of a constant that is no code.
    """
    known = _readings.get(id(code))
    if known is None:
        if len(_readings) >= _MOST_CODES:
            _readings.clear()
        known = _readings[id(code)] = (code, _Reader(code, constant).reading())
    return known[1]


class _Reader:
    """One reading of code, with that of all code within it."""

    def __init__(self, code: types.CodeType, constant: Callable[[object], bytes]) -> None:
        self._code = code
        self._constant = constant
        self._hash = hashlib.blake2b(digest_size=16)
        self._loads: dict[Load, None] = {}
        self._imports: dict[Import, None] = {}
        self._attributes: set[str] = set()
        self._writes: str | None = None

    def reading(self) -> Reading:
        self._read(self._code)
        return Reading(
            self._hash.digest(), tuple(self._loads), tuple(self._imports), frozenset(self._attributes), self._writes
        )

    def _put(self, *parts: object) -> None:
        for part in parts:
            content = part if isinstance(part, bytes) else repr(part).encode(errors="surrogatepass")
            self._hash.update(len(content).to_bytes(8, "little") + content)

    def _read(self, code: types.CodeType) -> None:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, _flags(code))
        self._put(code.co_name, names, counts, code.co_exceptiontable)
        pending: tuple[str, str] | None = None  # kind and name of a variable whose attributes may follow
        taken: list[str] = []
        last_constant: object = None
        before_last: object = None
        imported: tuple[str, int, list[str]] | None = None
        for operation, argument in instructions(code):
            name = _OPERATION[operation]
            if name in _ATTRIBUTE and pending is not None:
                taken.append(code.co_names[name_index(name, argument)])
            else:
                if pending is not None and name == "STORE_ATTR":
                    self._writes = self._writes or ".".join([pending[1], *taken, code.co_names[argument]])
                self._end(pending, taken)
                pending, taken = None, []
            if operation in _CONSTANT:
                before_last, last_constant = last_constant, code.co_consts[argument]
                self._put(operation)
                self._read_constant(last_constant)
                continue
            self._put(operation, argument)
            if name in _GLOBAL:
                pending = ("global", code.co_names[name_index(name, argument)])
            elif name in _FREE:
                variable = _variable(code, argument)
                pending = ("free", variable) if variable in self._code.co_freevars else None
            elif name in _ATTRIBUTE or name == "LOAD_SUPER_ATTR":
                self._attributes.add(code.co_names[name_index(name, argument)])
            elif name == "IMPORT_NAME":
                self._end_import(imported)
                level = before_last if isinstance(before_last, int) else 0
                imported = (code.co_names[argument], level, [])
            elif name == "IMPORT_FROM" and imported is not None:
                imported[2].append(code.co_names[argument])
            elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self._writes = self._writes or code.co_names[argument]
            elif name in ("STORE_DEREF", "DELETE_DEREF") and _variable(code, argument) in self._code.co_freevars:
                self._writes = self._writes or _variable(code, argument)
        self._end(pending, taken)
        self._end_import(imported)

    def _read_constant(self, value: object) -> None:
        if isinstance(value, types.CodeType):
            self._put(b"code")
            self._read(value)
        else:
            self._put(self._constant(value))

    def _end(self, variable: tuple[str, str] | None, attributes: list[str]) -> None:
        if variable is not None:
            self._loads[Load(*variable, tuple(attributes))] = None
            self._attributes.update(attributes)

    def _end_import(self, imported: tuple[str, int, list[str]] | None) -> None:
        if imported is not None:
            module, level, names = imported
            self._imports[Import(module, level, tuple(names))] = None


_HAS_DOCSTRING = 0x4000000  # of Python 3.13


def _flags(code: types.CodeType) -> int:
    return code.co_flags & ~_HAS_DOCSTRING


def _variable(code: types.CodeType, argument: int) -> str:
    """Return the name of a local variable, cell or free variable by its number in the frame."""
    names = [*code.co_varnames]
    names += [name for name in code.co_cellvars if name not in code.co_varnames]
    names += code.co_freevars
    return names[argument]
