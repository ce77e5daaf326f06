"""JAXCACHE_DIR: the shared directory of processes whose program does not ask for it, as workers that a program starts.

It is read when jaxcache is imported. ``JAXCACHE_LIMIT``, ``JAXCACHE_EVICTION`` and the other arguments of
:func:`jaxcache.use_directory` by their names in capitals go with it.
"""

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from .._disk.faults import DiskCacheWarning
from .._disk.use_directory import use_directory
from .._jax.notices import warn

VARIABLES = "JAXCACHE_"  # what the names of all of them begin with
DIRECTORY_VARIABLE = f"{VARIABLES}DIR"
_START = Path(__file__).parent / "start"


def _truth(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no")


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "limit": str,
    "eviction": str,
    "max_entries": int,
    "min_compile_seconds": float,
    "min_entry_bytes": lambda text: 0 if text == "0" else text,
    "single_flight": _truth,
    "wait_seconds": float,
    "verify": float,
    "key_file": str,
    "explain": _truth,
}


def _variable(option: str) -> str:
    return f"{VARIABLES}{option.upper()}"


def use_directory_of_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Use the directory that ``JAXCACHE_DIR`` names, if it names one; what is wrong with that is a warning."""
    path = environment.get(DIRECTORY_VARIABLE)
    if not path or _is_own_command(sys.orig_argv):
        return
    try:
        options = {
            name: _read(name, environment[_variable(name)]) for name in _OPTIONS if environment.get(_variable(name))
        }
        use_directory(path, **options)
    except (ValueError, OSError) as error:
        warn(f"{DIRECTORY_VARIABLE}={path} is not used: {error}", DiskCacheWarning)


def _read(option: str, text: str) -> Any:
    try:
        return _OPTIONS[option](text)
    except ValueError as error:
        raise ValueError(f"{_variable(option)} must be a number, such as 1, but is {text!r}") from error


def export(environment: MutableMapping[str, str], path: Path, options: Mapping[str, Any]) -> None:
    """Have the processes that this one starts use the directory, also if their programs do not know of jaxcache."""
    options = {name: value for name, value in options.items() if value is not None and value is not False}
    if "key_file" in options:
        options["key_file"] = Path(options["key_file"]).absolute()
    for name in _OPTIONS.keys() - {"key_file"}:  # a key that the variable names goes on
        environment.pop(_variable(name), None)
    environment.update({_variable(name): str(value) for name, value in options.items()})
    environment[DIRECTORY_VARIABLE] = str(path.absolute())
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join([str(_START), *(one for one in folders if one and one != str(_START))])


def _is_own_command(argv: list[str]) -> bool:
    """Say whether this is ``python -m jaxcache``, which says itself what it uses."""
    return "-m" in argv[:-1] and argv[argv.index("-m") + 1] == "jaxcache"
