"""Interpreter of a user's program: what it has installed, asked without importing JAX, and where a module's file is."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ..._jax.versions import OLDEST

_SECONDS = 60.0
_OWN_MODULE = "_process/measured_run.py"
_QUESTION = """
import importlib.metadata, importlib.util, json, os, re, sys
from importlib.machinery import PathFinder

def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

def find(name):
    parts, path, spec = name.split("."), None, None
    for depth in range(1, len(parts) + 1):
        full = ".".join(parts[:depth])
        spec = importlib.util.find_spec(full) if depth == 1 else PathFinder.find_spec(full, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec

sys.path[0] = os.getcwd()
jaxcache, found = find("jaxcache"), {}
module, is_main = sys.argv[1], sys.argv[2] == "main"
spec = find(module) if module else None
if spec is not None and is_main and spec.submodule_search_locations is not None:
    found["package"] = True
    spec = find(module + ".__main__")
text = ""
if jaxcache is not None and jaxcache.origin:
    with open(jaxcache.origin) as file:
        text = file.read()
    found["runs"] = os.path.exists(os.path.join(os.path.dirname(jaxcache.origin), sys.argv[3]))
declared = re.search(r'^__version__ = "(.*?)"', text, re.M)
found.update(jax=version("jax"), jaxcache=declared and declared[1], origin=spec and spec.origin)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Interpreter:
    """Description of an interpreter by what is installed for it.

    Attributes:
        jax: Version of JAX; None without it.
        jaxcache: Version of jaxcache; None without it.
        can_measure: Whether that jaxcache can run a program for a sweep.
        origin: File of the module that was asked for; None if there is none that can be run.
        is_package: Whether the module is a package, which is run by its ``__main__``.
    """

    jax: str | None
    jaxcache: str | None
    can_measure: bool
    origin: Path | None
    is_package: bool

    @property
    def fault(self) -> str | None:
        """Reason for which it cannot run a program for a sweep; None if it can."""
        if self.jax is None:
            return "has no JAX; name one that has, or install it there"
        if tuple(int(part) for part in self.jax.split(".")[:2] if part.isdigit()) < OLDEST:
            return f"has JAX {self.jax}, but jaxcache needs {'.'.join(map(str, OLDEST))} or newer"
        if self.jaxcache is None:
            return "has no jaxcache; install it there, its core is enough"
        if self.jaxcache != __version__ or not self.can_measure:
            return f"has jaxcache {self.jaxcache}, but this is {__version__}; install the same there"
        return None


def ask(
    python: Path, directory: Path, environment: Mapping[str, str], module: str = "", is_main: bool = True
) -> Interpreter:
    """Return what an interpreter has, asked in the directory and with the variables of the program.

    Args:
        python: The interpreter.
        directory: Directory in which modules are looked for first.
        environment: Variables of the program.
        module: Module to look for; empty for none.
        is_main: Whether the module is to be run, and not imported.

    Raises:
        ValueError: If it is no interpreter; the message says what it answered.
    """
    return _ask(python, directory, tuple(sorted(environment.items())), module, is_main)


@functools.lru_cache(maxsize=64)
def _ask(
    python: Path, directory: Path, environment: tuple[tuple[str, str], ...], module: str, is_main: bool
) -> Interpreter:
    words = [str(python), "-c", _QUESTION, module, "main" if is_main else "", _OWN_MODULE]
    try:
        done = subprocess.run(
            words, cwd=directory, env={**os.environ, **dict(environment)}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return Interpreter(
            answer["jax"], answer["jaxcache"], answer.get("runs", False),
            None if answer["origin"] is None else Path(answer["origin"]), answer.get("package", False),
        )  # fmt: skip
    except OSError as error:
        raise ValueError(f"cannot be started ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"did not answer within {_SECONDS:.0f} s") from error
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("does not answer as Python does") from error
