"""Installed packages that those that a function reaches need in turn, by what their distributions say.

A function of a package is known by the version of that package. What it calls of another one changes the program too,
and is in nothing that the user's code reaches.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from .origins import OURS, Distribution, described, distribution_of, infos, normal

_REQUIRED = re.compile(r"^Requires-Dist:\s*([A-Za-z0-9._-]+)(?!.*\bextra\s*==)", re.MULTILINE)
_CONFIGURED = frozenset({"jax", "jaxlib", OURS})  # whose variables are a part of the configuration, or change nothing
_PREFIXES = {"equinox": "EQX_"}  # of variables that are not named after their package


def requirements(packages: Iterable[str]) -> list[str]:
    """Return what stands for all that packages need: versions, edited files that are loaded, environment variables."""
    needed = _needed(frozenset(each for each in map(distribution_of, packages) if each is not None))
    names = {name: each for each in needed for name in each.packages}
    return [
        *sorted(each.identity for each in needed),
        *sorted(_edited(names)),
        *sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_prefixes(names))),
    ]


@functools.lru_cache(maxsize=256)
def _needed(distributions: frozenset[Distribution]) -> tuple[Distribution, ...]:
    """Return distributions, and those that these need in turn, as far as they are installed."""
    needed: dict[str, Distribution] = {}
    waiting = [*distributions]
    while waiting:
        each = waiting.pop()
        if each.folder not in needed:
            needed[each.folder] = each
            root = os.path.dirname(each.folder)
            installed = (_installed(name, root) for name in _required_by(each.folder))
            waiting += [other for other in installed if other is not None]
    return tuple(needed.values())


def _required_by(folder: str) -> list[str]:
    """Return the names of the distributions that one needs on any platform, without those of its extras."""
    with contextlib.suppress(OSError):
        headers = Path(folder, "METADATA").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        return _REQUIRED.findall(headers)
    return []


def _installed(name: str, root: str) -> Distribution | None:
    """Return the distribution of a name, first of the folder ``root``, or of any other that is searched."""
    for folder in dict.fromkeys([root, *sys.path]):
        for info in infos(folder).get(normal(name), []):
            return described(info)
    return None


_edited_before: tuple[int, frozenset[str], list[str]] = (0, frozenset(), [])


def _edited(names: dict[str, Distribution]) -> list[str]:
    """Return what stands for files that were edited after their installation, of the modules that are loaded."""
    global _edited_before
    loaded, those, edited = _edited_before
    if (len(sys.modules), names.keys()) == (loaded, those):
        return edited
    edited = []
    for module, loader in list(sys.modules.items()):
        distribution = names.get(module.partition(".")[0])
        file = getattr(loader, "__file__", None)
        if distribution is not None and isinstance(file, str):
            with contextlib.suppress(OSError):
                content = distribution.content_if_edited(file)
                edited += [f"{module}{content}"] if content else []
    _edited_before = (len(sys.modules), frozenset(names), edited)
    return edited


def _prefixes(names: Iterable[str]) -> tuple[str, ...]:
    """Return what the variables begin with that packages may read as they are imported."""
    return tuple(_PREFIXES.get(name, f"{name.upper()}_") for name in names if name and name not in _CONFIGURED)
