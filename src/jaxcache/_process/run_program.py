"""Run somebody's program as Python would: as ``__main__``, with its own arguments and path."""

import builtins
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any

from .._jax.late_variables import read_variables_at_import


class ProgramNotFound(Exception):
    """There is no such script or module."""


def read_script(script: str) -> CodeType:
    """Return what a script is compiled to, or the ``__main__.py`` of a folder or a zip file.

    Raises:
        ProgramNotFound: If it cannot be read or is no Python.
    """
    if (importer := _importer(script)) is not None:
        code = None if (spec := importer.find_spec("__main__")) is None else _code_of(spec)
        if code is None:
            raise ProgramNotFound(f"{script} cannot be run: it has no __main__.py")
        return code
    try:
        with open(script, "rb") as file:
            return compile(file.read(), os.path.abspath(script), "exec", dont_inherit=True)
    except FileNotFoundError as error:
        raise ProgramNotFound(f"there is no program {script} in {os.getcwd()}") from error
    except OSError as error:
        raise ProgramNotFound(f"{script} cannot be run: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        raise ProgramNotFound(f"{script} cannot be run: {error}") from error


def _nothing() -> None:
    """Do nothing."""


def run_script(
    script: str, args: Sequence[str], code: CodeType | None = None, before: Callable[[], object] = _nothing
) -> None:
    """Run a script, a folder or a zip file, as ``python script args`` does.

    Args:
        script: Path of it.
        args: Its arguments.
        code: What :func:`read_script` has returned; None if it was not called.
        before: Called right before the first line of the program, which is ``__main__`` by then.

    Raises:
        ProgramNotFound: If it cannot be read or is no Python.
        BaseException: Whatever it raises.
    """
    code = read_script(script) if code is None else code
    if (importer := _importer(script)) is not None:
        _look_first_in(os.path.abspath(script))
        spec = importer.find_spec("__main__")
        _run(code, [script, *args], str(spec and spec.origin), spec, before)
        return
    _look_first_in(os.path.dirname(os.path.realpath(script)))
    _run(code, [script, *args], os.path.abspath(script), None, before)


def run_module(name: str, args: Sequence[str], before: Callable[[], object] = _nothing) -> None:
    """Run a module, as ``python -m name args`` does.

    Args:
        name: Name of the module, or of a package with a ``__main__``.
        args: Its arguments.
        before: Called right before the first line of the program, which is ``__main__`` by then.

    Raises:
        ProgramNotFound: If there is none of that name.
        BaseException: Whatever it raises.
    """
    _look_first_in(os.getcwd())
    sys.argv[:] = ["-m", *args]  # until the module is found, whose package may read its options as it is imported
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find(f"{name}.__main__")
    code = _code_of(spec) if spec is not None else None
    if spec is None or code is None or spec.origin is None:
        raise ProgramNotFound(f"there is no module {name} that can be run")
    _run(code, [spec.origin, *args], spec.origin, spec, before)


def _importer(script: str) -> Any:
    """Return what finds modules in a folder or a zip file; None for a script, and where nothing is."""
    return pkgutil.get_importer(os.path.abspath(script))


def _code_of(spec: importlib.machinery.ModuleSpec) -> CodeType | None:
    try:
        return getattr(spec.loader, "get_code", lambda _: None)(spec.name)
    except SyntaxError as error:
        raise ProgramNotFound(f"{spec.origin} cannot be run: {error}") from error


def _look_first_in(folder: str) -> None:
    """Put a folder where Python has put the one of jaxcache's own command, unless it was told to put none there."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return where a module is, whose package is imported for it; None if there is none of that name.

    Raises:
        BaseException: Whatever the package raises.
    """
    package = name.rpartition(".")[0]
    if package:
        try:
            __import__(package)
        except ImportError as error:
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                _show_own_frames_no_more()
                raise  # of what the package itself imports
            return None
        except BaseException:
            _show_own_frames_no_more()
            raise
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


def _run(
    code: CodeType,
    argv: list[str],
    file: str,
    spec: importlib.machinery.ModuleSpec | None,
    before: Callable[[], object],
) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=builtins, __spec__=spec, __cached__=None)
    if spec is not None:
        main.__dict__.update(__package__=spec.parent, __loader__=spec.loader)
    else:
        main.__dict__.update(__loader__=importlib.machinery.SourceFileLoader("__main__", file))
    sys.modules["__main__"] = main
    sys.argv[:] = argv
    before()
    read_variables_at_import()
    try:
        exec(code, main.__dict__)
    except BaseException:
        _show_own_frames_no_more()
        raise


def _show_own_frames_no_more() -> None:
    """Have the traceback of the exception that ends the program begin with the program, as under Python alone.

    The hook that shows it is that of the program, if it has set one.
    """
    show = getattr(sys, "excepthook", sys.__excepthook__)  # a program may have deleted it

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        begin = traceback
        while begin is not None and begin.tb_frame.f_code not in (_run.__code__, _find.__code__):
            begin = begin.tb_next
        begin = begin and begin.tb_next
        show(kind, error.with_traceback(begin or traceback), begin or traceback)

    sys.excepthook = hook
