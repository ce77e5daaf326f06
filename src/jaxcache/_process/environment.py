"""JAXCACHE_DIR, JAXCACHE_MEMORY_LIMIT and the like: settings of processes whose programs do not ask for a cache.

They are read when jaxcache is imported, such as by workers that a program starts. ``JAXCACHE_DIR`` names a shared
directory; ``JAXCACHE_LIMIT``, ``JAXCACHE_EVICTION`` and the other arguments of :func:`jaxcache.use_directory` by their
names in capitals go with it. ``JAXCACHE_MEMORY_LIMIT``, ``JAXCACHE_RECORD`` and ``JAXCACHE_CODE_KEY``, names of
packages with commas between them, install a cache, with the policy of ``JAXCACHE_EVICTION``.
"""

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from .._disk.faults import DiskCacheWarning
from .._disk.key_ring import key_text
from .._disk.priority import STORED_POLICIES
from .._disk.use_directory import use_directory
from .._jax.notices import warn
from .install import install
from .variables import (
    CODE_KEY_VARIABLE,
    DIRECTORY_VARIABLE,
    EVICTION_VARIABLE,
    MEMORY_VARIABLE,
    RECORD_VARIABLE,
    VARIABLES,
)

START = Path(__file__).parent / "start"


def _truth(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no")


def _folders(text: str) -> list[str]:
    return [folder for folder in text.split(os.pathsep) if folder]


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
    "layers": _folders,
    "copy_layer_hits": _truth,
    "remote": str,
    "publish": _truth,
    "trusted_keys": lambda text: text.split(","),
    "sign_key": str,
    "portable": str,
}


def variable_of(option: str) -> str:
    """Return the variable that says what an argument of ``install`` or ``use_directory`` does."""
    return f"{VARIABLES}{option.upper()}"


def install_of_environment(environment: Mapping[str, str]) -> None:
    """Install a cache as the variables ask for; what is wrong with them is a warning."""
    if not _installs(environment):
        return
    limit, record = environment.get(MEMORY_VARIABLE) or None, environment.get(RECORD_VARIABLE) or None
    packages = environment.get(CODE_KEY_VARIABLE) or None
    try:
        install(
            limit,
            environment.get(EVICTION_VARIABLE) or "gdsf",
            record=None if record is None else own_record(record),
            code_key=[] if packages is None else packages.split(","),
        )
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        variables = {MEMORY_VARIABLE: limit, RECORD_VARIABLE: record, CODE_KEY_VARIABLE: packages}
        named = ", ".join(f"{name}={value}" for name, value in variables.items() if value is not None)
        warn(f"{named} installs no cache: {error}", RuntimeWarning)


def _installs(environment: Mapping[str, str]) -> bool:
    """Return whether the variables ask for a cache in memory, whose policy is then that of ``JAXCACHE_EVICTION``."""
    return any(environment.get(name) for name in (MEMORY_VARIABLE, RECORD_VARIABLE, CODE_KEY_VARIABLE))


def own_record(record: str) -> Path:
    """Return where this process records to: beside what another of the same environment has begun."""
    path = Path(record)
    in_use = path.exists() and (not path.is_dir() or any(path.iterdir()))
    return path.with_name(f"{path.stem}-{os.getpid()}{path.suffix}") if in_use else path


def use_directory_of_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Use the directory that ``JAXCACHE_DIR`` names, if it names one; what is wrong with that is a warning."""
    path = environment.get(DIRECTORY_VARIABLE)
    if not path:
        return
    try:
        options = directory_options(environment)
        if _installs(environment):
            options = of_directory(options)
        use_directory(path, **options)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        warn(f"{DIRECTORY_VARIABLE}={path} is not used: {error}", DiskCacheWarning)


_ON_BY_DEFAULT = ("publish", "single_flight")


def directory_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables say of the directory.

    Raises:
        ValueError: If one of them cannot be read.
    """
    said = {name: environment.get(variable_of(name)) for name in _OPTIONS}
    return {name: _read(name, text) for name, text in said.items() if text}


def of_directory(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options without a policy that is of memory alone: the directory has its own then."""
    is_stored = options.get("eviction") in STORED_POLICIES
    return options if is_stored else {name: value for name, value in options.items() if name != "eviction"}


def _read(option: str, text: str) -> Any:
    try:
        return _OPTIONS[option](text)
    except ValueError as error:
        raise ValueError(f"{variable_of(option)} must be a number, such as 1, but is {text!r}") from error


def export(environment: MutableMapping[str, str], path: Path, options: Mapping[str, Any]) -> None:
    """Have the processes that this one starts use the directory, also if their programs do not know of jaxcache."""
    options = {
        name: value
        for name, value in options.items()
        if value is not None and (value is not False or name in _ON_BY_DEFAULT)
    }
    for name in ("key_file", "sign_key"):
        if options.get(name):
            options[name] = Path(options[name]).absolute()
    if trusted_keys := options.pop("trusted_keys", None):
        options["trusted_keys"] = ",".join(map(key_text, trusted_keys))
    if layers := options.pop("layers", None):
        options["layers"] = os.pathsep.join(str(Path(layer).absolute()) for layer in layers)
    for name in _OPTIONS.keys() - {"key_file", "trusted_keys", "sign_key"}:  # keys that variables name go on
        environment.pop(variable_of(name), None)
    environment.update({variable_of(name): str(value) for name, value in options.items()})
    environment[DIRECTORY_VARIABLE] = str(path.absolute())
    _start_with_jaxcache(environment)


def export_install(
    environment: MutableMapping[str, str],
    limit: str | int | None,
    eviction: str,
    record: str | Path | None,
    code_key: Sequence[str] = (),
) -> None:
    """Have the processes that this one starts install a cache too."""
    for name in (MEMORY_VARIABLE, RECORD_VARIABLE, CODE_KEY_VARIABLE):
        environment.pop(name, None)
    if code_key:
        environment[CODE_KEY_VARIABLE] = ",".join(code_key)
    if limit is not None:
        environment[MEMORY_VARIABLE] = str(limit)
    if record is not None:
        environment[RECORD_VARIABLE] = str(Path(record).absolute())
    environment[EVICTION_VARIABLE] = eviction
    _start_with_jaxcache(environment)


def _start_with_jaxcache(environment: MutableMapping[str, str]) -> None:
    """Have Python import jaxcache after JAX, whatever the program."""
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    kept = [folder for folder in folders if folder and folder != str(START)]
    environment["PYTHONPATH"] = os.pathsep.join([str(START), *kept])
