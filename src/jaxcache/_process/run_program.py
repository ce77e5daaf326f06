"""Run somebody's program as Python would: as ``__main__``, with its own arguments and path."""

import builtins
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType


class ProgramNotFound(Exception):
    """There is no such script or module."""


def run_script(script: str, args: Sequence[str]) -> None:
    """Run a script, as ``python script args`` does.

    Raises:
        ProgramNotFound: If it cannot be read or is no Python.
        BaseException: Whatever it raises.
    """
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), os.path.abspath(script), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        raise ProgramNotFound(f"{script} cannot be run: {error}") from error
    _look_first_in(os.path.dirname(os.path.realpath(script)))
    _run(code, [script, *args], os.path.abspath(script), None)


def run_module(name: str, args: Sequence[str]) -> None:
    """Run a module, as ``python -m name args`` does.

    Raises:
        ProgramNotFound: If there is none of that name.
        BaseException: Whatever it raises.
    """
    _look_first_in(os.getcwd())
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find(f"{name}.__main__")
    code = getattr(spec.loader, "get_code", lambda _: None)(spec.name) if spec is not None else None
    if spec is None or code is None or spec.origin is None:
        raise ProgramNotFound(f"there is no module {name} that can be run")
    _run(code, [spec.origin, *args], spec.origin, spec)


def _look_first_in(folder: str) -> None:
    """Put a folder where Python has put the one of ``python -m jaxcache``, unless it was told to put none there."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _run(code: CodeType, argv: list[str], file: str, spec: importlib.machinery.ModuleSpec | None) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=builtins, __spec__=spec, __cached__=None)
    if spec is not None:
        main.__dict__.update(__package__=spec.parent, __loader__=spec.loader)
    else:
        main.__dict__.update(__loader__=importlib.machinery.SourceFileLoader("__main__", file))
    sys.modules["__main__"] = main
    sys.argv[:] = argv
    exec(code, main.__dict__)
