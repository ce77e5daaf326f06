"""Keys ``program.*`` of a composed config -> the workload of a trial, checked against files and interpreter."""

import functools
import hashlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jaxcache.lab.running.interpreter import Interpreter, ask
from jaxcache.lab.workloads import Program

from .errors import UsageError

PROGRAM_WORKLOADS = ("program", "callable")
_MOST_FILES, _MOST_FOLDERS = 500, 2000
_OTHERS_CODE = {"site-packages", "__pycache__", "node_modules", "outputs"}
_OWN_VARIABLES = "JAXCACHE_"
_KEY_VARIABLES = ("JAXCACHE_KEY", "JAXCACHE_KEY_FILE")


def with_whole_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Return a composed config whose ``program.*`` names the same files wherever it is read again."""
    program = config.get("program")
    if not isinstance(program, dict):
        return config
    named = {key: program[key] for key in ("script", "directory", "python") if program.get(key) is not None}
    return {**config, "program": {**program, **{key: str(_absolute(path)) for key, path in named.items()}}}


def with_program(config: dict[str, Any]) -> dict[str, Any]:
    """Return a composed config, of whole paths, whose workload holds what ``program.*`` says of it.

    Raises:
        UsageError: If the program cannot be run; the message names the key.
    """
    keys = config.get("program")
    if not isinstance(keys, dict):
        return config
    workload = {**config["workload"], **keys}
    directory = _directory(workload["directory"])
    workload["directory"] = directory
    python = workload["python"]
    workload["python"] = Path(sys.executable) if python is None else _python(python)
    check = workload["check"]
    if isinstance(check, dict) and check.get("file") is not None:
        workload["check"] = {**check, "file": directory / Path(str(check["file"])).expanduser()}
    try:
        program = Program.model_validate(workload)
    except ValidationError:
        return _merged(config, workload)  # which is validated with the rest, and refused there
    return _merged(config, {**workload, **_found(program)})


def _merged(config: dict[str, Any], workload: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in config.items() if key != "program"}, "workload": workload}


def _absolute(path: Any) -> Path:
    return Path(os.path.abspath(Path(str(path)).expanduser()))


def _directory(path: Any) -> Path:
    directory = Path(str(path))
    if not directory.is_dir():
        raise UsageError(f"program.directory must be a directory that is there, such as ~/mypkg, but is {path}")
    return directory


def _python(path: Any) -> Path:
    python = Path(str(path))  # not resolved: an interpreter knows its virtual environment by the path it is called by
    if not python.is_file() or not os.access(python, os.X_OK):
        raise UsageError(f"program.python must be an interpreter, such as ~/mypkg/.venv/bin/python, but is {path}")
    return python


def _found(program: Program) -> dict[str, str]:
    """Return what the files of a program and its interpreter say: ``source`` and ``jax``."""
    for name in program.environment:
        if name.startswith(_OWN_VARIABLES) and name not in _KEY_VARIABLES:
            raise UsageError(
                f"program.environment.{name} is set by each trial itself; leave it out, and give the "
                "sweep's own keys, such as persistent=shared memory_limit=64MiB"
            )
    if program.script is not None:
        _check_script(program.script, is_of_this_python=program.python == Path(sys.executable))
    interpreter = _ask(program)
    main = program.script or _file_of_module(program, interpreter)
    return {"source": _hash_of(main), "jax": interpreter.jax or ""}


def _check_script(script: Path, is_of_this_python: bool) -> None:
    if not script.is_file():
        raise UsageError(f"program.script must be a Python file that is there, such as train.py, but is {script}")
    if not is_of_this_python:  # whose grammar may be another
        return
    try:
        compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"program.script={script} cannot be run: {' '.join(str(error).split())}") from error


def _ask(program: Program) -> Interpreter:
    module = program.module or (program.target or "").partition(":")[0]
    try:
        interpreter = ask(
            program.python, program.directory, program.environment, module, is_main=program.module is not None
        )
    except ValueError as error:
        raise UsageError(f"program.python={program.python} {error}") from error
    if interpreter.fault is not None:
        raise UsageError(f"program.python={program.python} {interpreter.fault}")
    return interpreter


def _file_of_module(program: Program, interpreter: Interpreter) -> Path:
    """Return the file of a program's module or target."""
    if interpreter.origin is not None and interpreter.origin.suffix == ".py":
        return interpreter.origin
    if program.target is not None:
        raise UsageError(
            f"program.target={program.target} names a module that is not in {program.directory} or installed; "
            "set program.directory"
        )
    if interpreter.is_package:
        raise UsageError(
            f"program.module={program.module} is a package without __main__; name a module in it, such as "
            f"{program.module}.train"
        )
    raise UsageError(
        f"program.module={program.module} is not in {program.directory} or installed; set program.directory"
    )


@functools.lru_cache(maxsize=64)
def _hash_of(main: Path) -> str:
    """Return the hash of a program's file and of the Python files in its folder and below, which it may import."""
    digest = hashlib.sha256(main.read_bytes())
    for count, path in enumerate(_sources(main.parent)):
        if count == _MOST_FILES:
            break
        digest.update(f"{path.relative_to(main.parent)}\n".encode())
        try:
            digest.update(path.read_bytes())
        except OSError:  # a broken link
            continue
    return digest.hexdigest()[:12]


def _sources(folder: Path) -> Iterator[Path]:
    for count, (here, folders, files) in enumerate(os.walk(folder)):
        if count == _MOST_FOLDERS:
            return
        hidden_or_others = [name for name in folders if name.startswith(".") or name in _OTHERS_CODE]
        folders[:] = sorted(
            name for name in folders
            if name not in hidden_or_others and not os.path.exists(os.path.join(here, name, "pyvenv.cfg"))
        )  # fmt: skip
        yield from (Path(here, name) for name in sorted(files) if name.endswith(".py"))


def check_turns(programs: Iterable[Program], workers: int | None, runner: str) -> None:
    """Check that programs which leave their output in one directory run one at a time.

    Raises:
        UsageError: If several would run at a time.
    """
    for program in programs:
        if program.check.is_of_the_directory and (runner != "local" or workers != 1):
            key = "file" if program.check.file is not None else "command"
            raise UsageError(
                f"program.check.{key} looks at what each run leaves in program.directory, so that one runs at a time; "
                "write runner=local runner.workers=1"
            )


def quoting(override: str) -> str:
    """Return how arguments are to be written that Hydra cannot read, such as those with ``=`` or a quote."""
    args = override.partition("=")[2]
    try:
        shlex.split(args)
    except ValueError as error:
        return f"program.args must be quoted as for a shell, but is {args!r}: {str(error).lower()}"
    quote = '"' if "'" in args else "'"
    written = shlex.quote(f"program.args={quote}{args.strip(quote)}{quote}")
    return f"{override} cannot be read: Hydra needs quotes of its own around it; write {written}"
