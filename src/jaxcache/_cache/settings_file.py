"""Settings of a cache from a file, such as the best.yaml of ``flows.tune``."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .._jax.notices import warn
from .._primitives.checks import check_ascending, reading

OF_ANY_FUNCTION = "*"  # among buckets, those of functions that are not named
_KNOWN = ("eviction", "memory_limit", "buckets", "bucket_lengths", "directory")
_OF_A_SWEEP = "hydra"  # the program that the file was tuned for, which a cache need not know


def read_settings(path: str | os.PathLike[str], *, pads: bool = True) -> dict[str, Any]:
    """Return ``limit``, ``eviction`` and ``buckets`` for :class:`JitCache`.

    The file is a Hydra experiment: ``memory_limit``, and the policy as ``override /eviction`` among its ``defaults``,
    or plainly as ``eviction``. The program that it was tuned for, under ``hydra``, is ignored. ``bucket_lengths`` are
    those that :func:`jaxcache.bucketed` takes from the cache. Where the limit was found for buckets, and nothing can
    pad to them, a warning says so.

    A ``directory``, for :func:`jaxcache.use_directory`, is for :func:`read_directory`.

    Args:
        path: Of the file.
        pads: Whether the program can pad, which one that is run unchanged cannot.

    Raises:
        ImportError: If PyYAML is missing; the message names the extra to install.
        OSError: If the file cannot be read.
        ValueError: If it is no such file; the message names the key.
    """
    settings = _read(path)
    missing = [key for key in ("eviction", "memory_limit") if key not in settings]
    if missing:
        raise ValueError(f"{os.fspath(path)} has no {missing[0]}; write it as the best.yaml of flows.tune does")
    buckets = check_buckets(settings.get("bucket_lengths"), f"{os.fspath(path)}: bucket_lengths")
    if settings.get("buckets", "none") != "none" and not (buckets and pads):
        lengths = "" if buckets else ", buckets=…"
        warn(
            f"{os.fspath(path)} was found for buckets, {settings['buckets']}: without "
            f"jaxcache.bucketed(f, cache=cache{lengths}) its limit holds less",
            UserWarning,
        )
    return {"limit": settings["memory_limit"], "eviction": settings["eviction"], "buckets": buckets}


def check_buckets(buckets: Any, name: str) -> Mapping[str, tuple[int, ...]]:
    """Return lengths to pad to by the name of a function; None is for no function.

    Raises:
        ValueError: If they are anything else; the message names the argument.
    """
    if buckets is None:
        return MappingProxyType({})
    if not isinstance(buckets, Mapping) or not all(isinstance(key, str) for key in buckets):
        raise ValueError(f"{name} must be lengths by function, such as {{'*': [64, 128]}}, but is {buckets!r}")
    for key, lengths in buckets.items():
        if isinstance(lengths, str) or not isinstance(lengths, Iterable):
            raise ValueError(f"{name}[{key!r}] must be ascending lengths, such as [64, 128], but is {lengths!r}")
    return MappingProxyType({key: check_ascending(lengths, f"{name}[{key!r}]") for key, lengths in buckets.items()})


def read_directory(path: str | os.PathLike[str]) -> str | None:
    """Return the shared directory that a file of settings names as ``directory``; None if it names none.

    Raises:
        Exception: As :func:`read_settings`.
    """
    directory = _read(path).get("directory")
    return None if directory is None else str(directory)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file says, by the names of the settings."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError("JitCache.from_file needs PyYAML: pip install 'jaxcache[lab]'") from error
    try:
        with reading(path, "path", "a YAML file such as best.yaml"):
            content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"path must be a YAML file such as best.yaml, but {os.fspath(path)} cannot be read") from error
    if not isinstance(content, dict):
        raise ValueError(f"path must name settings such as memory_limit, but {os.fspath(path)} holds {content!r}")
    defaults = content.pop("defaults", None) or []
    if not isinstance(defaults, list):
        written = "a list such as [override /eviction: lru]"
        raise ValueError(f"{os.fspath(path)}: defaults must be {written}, but is {defaults!r}")
    chosen = {key: value for item in defaults if isinstance(item, dict) for key, value in item.items()}
    settings = {**{key.rpartition("/")[2]: value for key, value in chosen.items()}, **content}
    settings.pop(_OF_A_SWEEP, None)
    unknown = [key for key in settings if key not in _KNOWN]
    if unknown:
        raise ValueError(f"{os.fspath(path)} has the key {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    return settings
