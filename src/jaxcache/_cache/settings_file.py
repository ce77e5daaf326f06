"""Settings of a cache from a file, such as the best.yaml of ``flows.tune``."""

import os
from pathlib import Path
from typing import Any

from .._jax.notices import warn

_KNOWN = ("eviction", "memory_limit", "buckets", "directory")
_OF_A_SWEEP = "hydra"  # the program that the file was tuned for, which a cache need not know


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``limit`` and ``eviction`` for :class:`JitCache`.

    The file is a Hydra experiment: ``memory_limit``, and the policy as ``override /eviction`` among its ``defaults``,
    or plainly as ``eviction``. The program that it was tuned for, under ``hydra``, is ignored. Buckets are an argument
    of :func:`jaxcache.bucketed`: a warning names them.

    A ``directory``, for :func:`jaxcache.use_directory`, is for :func:`read_directory`.

    Raises:
        ImportError: If PyYAML is missing; the message names the extra to install.
        OSError: If the file cannot be read.
        ValueError: If it is no such file; the message names the key.
    """
    settings = _read(path)
    missing = [key for key in ("eviction", "memory_limit") if key not in settings]
    if missing:
        raise ValueError(f"{os.fspath(path)} has no {missing[0]}; write it as the best.yaml of flows.tune does")
    if settings.get("buckets", "none") != "none":
        warn(
            f"{os.fspath(path)} was found for buckets, {settings['buckets']}: without "
            "jaxcache.bucketed(f, cache=cache, buckets=…) its limit holds less",
            UserWarning,
        )
    return {"limit": settings["memory_limit"], "eviction": settings["eviction"]}


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
