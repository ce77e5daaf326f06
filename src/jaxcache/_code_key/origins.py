"""Origins of code: Python itself, an installed distribution, or files of the user.

Code of Python and of distributions is told apart by versions; only the user's is read. A distribution is known by
its name, its version and the hashes that its RECORD has of its files. A file of it that is newer than that RECORD may
have been edited, so its content counts too.
"""

import functools
import hashlib
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EDITED_AFTER_NS = 2 * 10**9  # an installer writes RECORD last, though not always with the clock of the file system


@dataclass(frozen=True, slots=True)
class Origin:
    """Owner of a module's code.

    Attributes:
        kind: ``python`` or ``distribution``.
        package: The top-level name of the module.
        identity: Equal for equal code.
    """

    kind: str
    package: str
    identity: str


@dataclass(frozen=True, slots=True)
class _Distribution:
    """Installed distribution, as its RECORD describes it."""

    identity: str
    recorded_ns: int


_PYTHON = Origin("python", "python", f"python {sys.version}")


def origin_of_module(name: str) -> Origin | None:
    """Return the origin of a module by its full name; None for the user's own, and for one that is not imported."""
    module = sys.modules.get(name)
    return None if module is None else _origin(name, getattr(module, "__file__", None))


def origin_of_package(name: str) -> Origin | None:
    """Return the origin of what ``import name`` would bring, without importing it; None if that is not known."""
    if name in sys.modules:
        return origin_of_module(name)
    package = name.partition(".")[0]
    if package in sys.modules:
        return origin_of_module(package)
    return _PYTHON if package in sys.stdlib_module_names else None


@functools.lru_cache(maxsize=4096)
def _origin(name: str, file: str | None) -> Origin | None:
    package = name.partition(".")[0]
    if name == "__main__":
        return None
    if file is None:
        is_python = package in sys.stdlib_module_names
        return _PYTHON if is_python else None
    path = Path(os.path.abspath(file))
    root = _root(path, name)
    if root is None:
        return None
    if package in sys.stdlib_module_names and str(root) in _python_folders():
        return _PYTHON
    found = _distribution(root, package)
    if found is None:
        return None
    edited = _content(path) if path.stat().st_mtime_ns > found.recorded_ns + _EDITED_AFTER_NS else ""
    return Origin("distribution", package, found.identity + edited)


@functools.cache
def _python_folders() -> frozenset[str]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return frozenset(
        os.path.abspath(each) for folder in folders if folder for each in (folder, os.path.join(folder, "lib-dynload"))
    )


def _root(path: Path, name: str) -> Path | None:
    """Return the folder in which the import system has found the top-level package of a module."""
    parts = name.split(".")
    up = len(parts) if path.stem == "__init__" and parts[-1] != "__init__" else len(parts) - 1
    try:
        return path.parents[up]
    except IndexError:
        return None


@functools.lru_cache(maxsize=256)
def _distribution(root: Path, package: str) -> _Distribution | None:
    """Return the distribution in a folder that has installed a top-level package."""
    folders = _infos(str(root))
    alike = [folder for folder in folders if _normal(folder.name.partition("-")[0]) == _normal(package)]
    for folder in [*alike, *(other for other in folders if other not in alike)]:
        record = _record(folder)
        if record is not None and re.search(rf"^{re.escape(package)}(/|\.|,)", record, re.MULTILINE):
            hashes = sorted(line for line in record.splitlines() if "=" in line and _is_code(line))
            digest = hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()
            version = folder.name.removesuffix(".dist-info")
            return _Distribution(f"{version} {digest}", (folder / "RECORD").stat().st_mtime_ns)
    return None


def _is_code(line: str) -> bool:
    """Return whether a line of RECORD is of a file that programs run: scripts and notes differ between machines."""
    return not line.startswith(("..", "/")) and ".dist-info/" not in line


def _infos(root: str) -> list[Path]:
    try:
        return [Path(root, name) for name in sorted(os.listdir(root)) if name.endswith(".dist-info")]
    except OSError:
        return []


def _record(folder: Path) -> str | None:
    try:
        return (folder / "RECORD").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _content(path: Path) -> str:
    try:
        return " edited " + hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return " unreadable"


def module_of(function: Any) -> str | None:
    """Return the name of the module whose globals a function uses; None for one made by ``exec`` or the like.

    ``__module__`` will not do: ``functools.wraps`` writes that of the wrapped function into the wrapper.
    """
    variables = function.__globals__
    name = variables.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if module is not None and getattr(module, "__dict__", None) is variables else None
