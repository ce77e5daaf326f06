"""``python -m jaxcache run``: an unchanged program, bounded, recorded, watched or guarded."""

import argparse
import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._advice.suggestions import suggest
from .._cache.settings_file import read_directory, read_settings
from .._cache.stats import CacheStats
from .._cache.warm_from import warm_from
from .._disk.disk_cache import DiskCache
from .._disk.priority import STORED_POLICIES
from .._disk.use_directory import use_directory
from .._policies import POLICIES
from .._primitives.counted import counted
from .._primitives.sizes import format_size
from .._process.compile_groups import summary
from .._process.environment import (
    directory_options,
    export,
    export_install,
    of_directory,
    own_record,
    variable_of,
)
from .._process.install import check_limit, install, installed_cache
from .._process.no_compiles import no_compiles
from .._process.run_program import ProgramNotFound, read_script, run_module, run_script
from .._process.variables import CODE_KEY_VARIABLE, EVICTION_VARIABLE, MEMORY_VARIABLE, RECORD_VARIABLE
from .._process.watch import Watch, watch
from .run_options import Refused

_DIRECTORY_OPTIONS = ("limit", "max_entries", "min_compile_seconds", "min_entry_bytes", "wait_seconds", "verify",
                      "key_file", "explain", "layers", "copy_layer_hits", "remote", "publish", "trusted_keys",
                      "sign_key", "portable", "single_flight")  # fmt: skip
_OPTIONS = {"settings": "settings", "min_entry_bytes": "min-entry-size", "layers": "layer",
            "trusted_keys": "trusted-key", "publish": "no-publish"}  # fmt: skip


def run(parsed: argparse.Namespace) -> int:
    """Run a program as ``python`` would, under all that is asked for.

    Raises:
        Refused: If an option is wrong; nothing was started.
        ProgramNotFound: If there is no such script or module.
        BaseException: Whatever the program raises.
    """
    program = parsed.module or parsed.program
    if program and program[0] == "--":
        program = program[1:]
    if not program:
        raise Refused(f"run needs a program: {parsed.invocation} run [options] script.py, or -m module")
    code = None if parsed.module else read_script(program[0])
    try:
        directory = _set_up(parsed)
    except (ValueError, OSError, ImportError, TypeError, RuntimeError) as error:
        raise Refused(_by_option(str(error), parsed)) from error
    end = _watch(parsed, directory)

    def before() -> None:
        if directory is not None and parsed.warm:
            warm_from(directory)

    try:
        if parsed.module:
            run_module(program[0], program[1:], before)
        else:
            run_script(program[0], program[1:], code, before)
    except ProgramNotFound:
        atexit.unregister(end)
        raise
    return 0


def _by_option(message: str, parsed: argparse.Namespace) -> str:
    """Return a message that begins with the name of an argument with the option that was given in its place."""
    argument, space, rest = message.partition(" ")
    name = {"path": "settings"}.get(argument, argument)
    return f"{_word(name, parsed)}{space}{rest}" if name in vars(parsed) else message


def _word(name: str, parsed: argparse.Namespace) -> str:
    """Return the option, or the variable, that has given an argument."""
    return variable_of(name) if name in parsed.by_variable else f"--{_OPTIONS.get(name, name.replace('_', '-'))}"


def _is_given(name: str, parsed: argparse.Namespace) -> bool:
    return getattr(parsed, name, None) not in (None, [])


def _take_variables(parsed: argparse.Namespace) -> None:
    """Take what variables say and no option does, as the import of jaxcache does in other programs.

    Raises:
        ValueError: If one of them cannot be read.
    """
    packages, record = os.environ.get(CODE_KEY_VARIABLE), os.environ.get(RECORD_VARIABLE)
    said: dict[str, Any] = {
        "memory_limit": parsed.settings is None and os.environ.get(MEMORY_VARIABLE),
        "eviction": parsed.settings is None and os.environ.get(EVICTION_VARIABLE),
        "record": record and own_record(record),
        "code_key": packages and packages.split(","),
    }
    said = {name: value for name, value in said.items() if value}
    if parsed.dir is not None:
        said = {**directory_options(os.environ), **said}
    for name, value in said.items():
        if not _is_given(name, parsed):
            setattr(parsed, name, value)
            parsed.by_variable.add(name)


def _set_up(parsed: argparse.Namespace) -> DiskCache | None:
    """Turn on the directory, the cache and the guard; return the directory's."""
    parsed.by_variable = set()
    settings: dict[str, Any] = {"limit": None, "eviction": "gdsf"}
    if parsed.settings is not None:
        settings = read_settings(parsed.settings, pads=False)
        parsed.dir = parsed.dir or (Path(named) if (named := read_directory(parsed.settings)) else None)
    _check(parsed)
    _check_directory_options(parsed)
    _take_variables(parsed)
    settings = {"limit": parsed.memory_limit or settings["limit"], "eviction": parsed.eviction or settings["eviction"]}
    check_limit(settings["limit"], _word("memory_limit", parsed) if parsed.memory_limit else "memory_limit")
    if settings["eviction"] not in POLICIES:
        raise ValueError(f"eviction must be among {', '.join(POLICIES)}, but is {settings['eviction']}")
    directory = None
    if parsed.dir is not None:
        given = {name: getattr(parsed, name) for name in _DIRECTORY_OPTIONS if _is_given(name, parsed)}
        options = of_directory({**given, "eviction": parsed.eviction or "lru"})
        directory = use_directory(parsed.dir, **options)
        export(os.environ, parsed.dir, options)
    if _is_in_memory(parsed):
        install(**settings, record=parsed.record, code_key=parsed.code_key)
        export_install(os.environ, settings["limit"], str(settings["eviction"]), parsed.record, parsed.code_key)
    if parsed.max_compiles is not None:
        guard = no_compiles(parsed.max_compiles)
        guard.__enter__().rule = f"--max-compiles {parsed.max_compiles}"
        _KEPT.append(guard)
    return directory


_KEPT: list[Any] = []  # what lasts as long as the process


def _is_in_memory(parsed: argparse.Namespace) -> bool:
    """Say whether a cache is asked for, beside or without a directory."""
    return bool(parsed.memory_limit or parsed.settings or parsed.record or parsed.code_key)


def _check(parsed: argparse.Namespace) -> None:
    """Refuse options that make no sense, before anything is made."""
    if parsed.eviction and parsed.eviction not in POLICIES:
        raise ValueError(f"eviction must be among {', '.join(POLICIES)}, but is {parsed.eviction}")
    if parsed.eviction and not (_is_in_memory(parsed) or parsed.dir):
        raise ValueError("--eviction needs --memory-limit, --settings or --dir: without a limit nothing is evicted")
    if parsed.eviction and not _is_in_memory(parsed) and parsed.eviction not in STORED_POLICIES:
        known = ", ".join(STORED_POLICIES)
        raise ValueError(f"--eviction of a directory must be one of {known}, but is {parsed.eviction}")
    if parsed.code_key and parsed.dir is None:
        raise ValueError(f"--code-key {parsed.code_key[0]} finds programs in a directory: name one by --dir")
    if parsed.warm and not parsed.code_key:
        raise ValueError("--warm loads programs of packages under --code-key: name one, such as --code-key __main__")
    for option, value in [("--layer", parsed.layers and parsed.layers[0]), ("--remote", parsed.remote)]:
        if value and parsed.dir is None:
            raise ValueError(f"{option} is read after a directory: name it by --dir beside {option} {value}")
    if parsed.profile is not None:
        existed = parsed.profile.exists()
        try:
            with parsed.profile.open("ab"):
                pass
        except OSError as error:
            raise ValueError(f"--profile must name a page that can be written, but {error}") from error
        if not existed:
            parsed.profile.unlink()


def _check_directory_options(parsed: argparse.Namespace) -> None:
    """Refuse options of a directory where there is none."""
    if parsed.dir is not None:
        return
    for name in filter(lambda name: _is_given(name, parsed), _DIRECTORY_OPTIONS):
        other = "; the limit of programs in memory is --memory-limit" if name == "limit" else ""
        raise ValueError(f"{_word(name, parsed)} is of a shared directory: name one by --dir{other}")


def _watch(parsed: argparse.Namespace, directory: DiskCache | None) -> Callable[[], None]:
    """Watch the program from here on, if that is asked for; return what ends it, as the end of the process does."""
    if not (parsed.summary or parsed.profile):
        return lambda: None
    watched, process = watch().begin(), os.getpid()
    profile = None if parsed.profile is None else parsed.profile.absolute()  # the program may go elsewhere

    def end() -> None:
        if os.getpid() != process:  # a fork that ended as a program does
            return
        watched.end()
        if parsed.summary:
            with contextlib.suppress(OSError, ValueError):  # stderr is closed
                print("\n".join(_summary(watched, directory)), file=sys.stderr)
        if profile is not None:
            try:
                watched.write(profile)
            except OSError as error:
                print(f"jaxcache: --profile was not written: {error}", file=sys.stderr)

    atexit.register(end)
    return end


def _summary(watched: Watch, directory: DiskCache | None) -> list[str]:
    lines = summary(watched.compiles, watched.traced, watched.seconds)
    cache = installed_cache()
    if cache is not None:
        stats = cache.stats()
        lines += [_memory_line(stats), *(f"suggested: {each.title}. {each.evidence}" for each in suggest(stats)[:2])]
    if directory is not None:
        counts = directory.stats().process
        tiers = {"layers": counts.layer_hits, "the remote": counts.remote_hits}
        below = ", ".join(f"{hits} from {tier}" for tier, hits in tiers.items() if hits)
        lines.append(
            f"directory: {counts.hits} loaded{f' ({below})' if below else ''}, {counts.puts} written, "
            f"{counts.seconds_saved:.1f} s saved"
        )
    return [f"jaxcache: {line}" for line in lines]


def _memory_line(stats: CacheStats) -> str:
    limit = "no limit" if stats.limit_bytes is None else format_size(stats.limit_bytes)
    held = f"{counted(stats.variants, 'program')}, {format_size(stats.live_bytes)} of {limit}"
    outside = f"JAX itself holds {counted(stats.jax_programs, 'program')}, {format_size(stats.jax_bytes)}"
    let_go = f", and let go of all of them {counted(stats.jax_releases, 'time')}" if stats.jax_releases else ""
    return f"memory: {held}; {stats.evictions} evicted; {outside}{let_go}"
