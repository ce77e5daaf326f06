"""Origins of code: Python itself, an installed distribution, or files of the user.

Code of Python and of distributions is told apart by versions; only the user's is read. A distribution is known by
its name, its version and the hashes that its RECORD has of its files. A file of it that is newer than that RECORD may
have been edited, so its content counts too.
"""

import contextlib
import functools
import hashlib
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INFO = ".dist-info"
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
class Distribution:
    """Installed distribution, as its RECORD describes it.

    Attributes:
        folder: The folder in which its installer has described it.
        identity: Equal for equal code.
        packages: Top-level names of its modules.
        recorded_ns: When RECORD was written.
    """

    folder: str
    identity: str
    packages: frozenset[str]
    recorded_ns: int

    def content_if_edited(self, file: str) -> str:
        """Return what stands for the content of a file of it that is newer than RECORD; nothing for any other."""
        return _content(file) if os.stat(file).st_mtime_ns > self.recorded_ns + _EDITED_AFTER_NS else ""


OURS = __name__.partition(".")[0]
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


@functools.lru_cache(maxsize=8192)
def _origin(name: str, file: str | None) -> Origin | None:
    package = name.partition(".")[0]
    if name == "__main__":
        return None
    if file is None:
        if package in sys.stdlib_module_names:
            return _PYTHON
        outer = name.rpartition(".")[0]  # modules of a library in C have no files of their own
        return origin_of_module(outer) if outer else None
    path = os.path.abspath(file)
    if package in sys.stdlib_module_names and _is_of_python(path):
        return _PYTHON
    if package == OURS:
        return Origin("distribution", OURS, _own_identity())
    for root in _roots(path, package):
        distribution = _distribution(root, package)
        if distribution is not None:
            return Origin("distribution", package, distribution.identity + distribution.content_if_edited(path))
    return None


def distribution_of(package: str) -> Distribution | None:
    """Return the distribution that has installed a top-level package; None if that is not imported, or the user's."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if not isinstance(file, str):
        return None
    return next(filter(None, (_distribution(root, package) for root in _roots(os.path.abspath(file), package))), None)


@functools.cache
def _python_folders() -> tuple[str, ...]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")} | {os.path.dirname(os.__file__)}
    return tuple(os.path.join(os.path.abspath(folder), "") for folder in folders if folder)


def _is_of_python(path: str) -> bool:
    return path.startswith(_python_folders()) and not re.search(r"[/\\](site|dist)-packages[/\\]", path)


def _roots(path: str, package: str) -> list[str]:
    """Return the folders in which a file's top-level package may have been installed."""
    parts = path.split(os.sep)
    roots = [os.sep.join(parts[:number]) for number, part in enumerate(parts[:-1]) if part == package]
    return roots[::-1] or [os.path.dirname(path)]


@functools.cache
def _own_identity() -> str:
    """Return a text for the very code of this package, which may be a checkout."""
    folder = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return f"{OURS} {digest.hexdigest()}"


@functools.lru_cache(maxsize=1024)
def _distribution(root: str, package: str) -> Distribution | None:
    """Return the distribution in a folder that has installed a top-level package."""
    folders = infos(root)
    alike = folders.get(normal(package), [])
    others = [folder for each in folders.values() for folder in each if folder not in alike]
    for folder in [*alike, *others]:
        record = _record(folder)
        if record is not None and re.search(rf"^{re.escape(package)}[/.,]", record, re.MULTILINE):
            return described(folder)
    return None


@functools.lru_cache(maxsize=1024)
def described(folder: str) -> Distribution | None:
    """Return the distribution that an installer has described in a folder; None if it has no RECORD."""
    record = _record(folder)
    if record is None:
        return None
    code = sorted(line for line in record.splitlines() if "=" in line and _is_code(line))
    digest = hashlib.blake2b("\n".join(code).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    version = os.path.basename(folder).removesuffix(_INFO)
    packages = frozenset(re.split(r"[/.,]", line, maxsplit=1)[0] for line in code)
    return Distribution(folder, f"{version} {digest}", packages, os.stat(os.path.join(folder, "RECORD")).st_mtime_ns)


def _is_code(line: str) -> bool:
    """Return whether a line of RECORD is of a file that programs run: scripts and notes differ between machines."""
    return not line.startswith(("..", "/")) and f"{_INFO}/" not in line


@functools.cache
def infos(root: str) -> dict[str, list[str]]:
    """Return the folders in which installers describe what they have put into ``root``, by the distribution's name."""
    folders: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(root)):
            if name.endswith(_INFO):
                folders.setdefault(normal(name.partition("-")[0]), []).append(os.path.join(root, name))
    return folders


@functools.cache
def _record(folder: str) -> str | None:
    try:
        return Path(folder, "RECORD").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def normal(name: str) -> str:
    return name.replace("_", "-").replace(".", "-").lower()


def _content(path: str) -> str:
    try:
        return " edited " + hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
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
