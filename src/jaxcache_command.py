"""Installed command ``jaxcache``: finds a command by its name, and imports no more than that one needs.

It stands beside the package, not in it: importing ``jaxcache`` does what ``JAXCACHE_DIR`` and its like ask for, unless
this module is there, whose commands say it themselves. It knows the pipeline by the names of its modules alone, so that
the core needs none of it.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass

PROGRAM = "jaxcache"
_CORE = "jaxcache._cli.commands"
_COMPLETION = "completion"
_ALL = ("lab", "flows")
_EXTRAS = {  # modules by which an extra of pyproject.toml is known to be installed
    "lab": ("altair", "jinja2", "numba", "psutil", "pyarrow", "pydantic", "rich", "scipy", "yaml"),
    "flows": ("distributed", "fastapi", "filelock", "hydra", "omegaconf", "prefect"),
}
SHELLS = {
    "bash": 'complete -o default -W "{names}" jaxcache',
    "zsh": "#compdef jaxcache\n_jaxcache() {{\n  (( CURRENT == 2 )) && compadd -- {names} || _files\n}}\n"
    "compdef _jaxcache jaxcache",
    "fish": "complete -c jaxcache -n __fish_use_subcommand -f -a '{names}'",
}


@dataclass(frozen=True)
class Command:
    """Command of the installed program.

    Attributes:
        name: Word after ``jaxcache``.
        summary: Its line in the overview.
        module: Module with its ``main``, by default that of the core's commands.
        words: Words that go before the user's.
        extras: Extras that it needs.
    """

    name: str
    summary: str
    module: str = _CORE
    words: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


GROUPS: dict[str, tuple[Command, ...]] = {
    "Run a program": (
        Command("run", "a Python program, unchanged: bounded, recorded, watched or guarded"),
    ),
    "Look after a shared directory": (
        Command("stats", "hits, misses by reason, seconds saved and spent, bytes"),
        Command("list", "the entries"),
        Command("doctor", "why are there no hits"),
        Command("verify", "check every byte of every entry, and the index"),
        Command("prune", "remove entries down to a limit, or those not used for long"),
        Command("clear", "remove all entries, or those of one build and machine"),
        Command("import", "take over what JAX's own cache wrote"),
        Command("ci-key", "what a cache of CI has to be keyed by"),
    ),
    "Share it": (
        Command("push", "copy the entries to an object store"),
        Command("pull", "copy the entries of an object store"),
        Command("gc", "remove entries of an object store that no run has used lately"),
        Command("bundle", "write entries to one file, or load such a file"),
        Command("keygen", "make a pair of keys: one that signs entries, and one to trust"),
    ),
    "Sweeps and tuning": (
        Command("sweep", "measure policies, limits and shapes, and report", "flows.sweep", extras=_ALL),
        Command("tune", "find the policy, the limit and the buckets for a program", "flows.tune", extras=_ALL),
        Command("report", "make a report again, or lay several side by side", "flows.report", extras=("lab",)),
        Command("deploy", "offer the sweep, to be started from the Prefect UI", "flows.deploy", extras=_ALL),
        Command("worker", "let this machine work for sweeps with runner=dask", "flows.worker", extras=_ALL),
    ),
    "The Prefect server": (
        Command("ui", "start the server if need be, and open its UI", "flows.server", ("open",), _ALL),
        Command("stop", "end the server", "flows.server", ("stop",), _ALL),
        Command("server", "start, stop or show it, with options", "flows.server", extras=_ALL),
    ),
    "Besides": (
        Command(_COMPLETION, "print a shell's completion: eval \"$(jaxcache completion bash)\"", __name__),
    ),
}  # fmt: skip
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code, which is 2 where there is no such command or an extra is missing."""
    name, *rest = (sys.argv[1:] if words is None else words) or ("--help",)
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {importlib.import_module(PROGRAM).__version__}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        return _refuse(f"there is no command {name}; {_hint(name)}")
    if name == _COMPLETION:
        return _print_completion(rest)
    if command.module == _CORE:
        return importlib.import_module(_CORE).main([name, *rest], PROGRAM)
    if extra := _missing(command):
        return _refuse(f"{name} needs more than is installed: pip install '{PROGRAM}[{extra}]'")
    return importlib.import_module(command.module).main([*command.words, *rest])


def overview() -> str:
    """Return what ``--help`` prints: the commands in their groups."""
    width = max(map(len, COMMANDS))
    lines = [
        f"usage: {PROGRAM} COMMAND [arguments]      {PROGRAM} COMMAND --help",
        "",
        "A bounded, measured cache for JIT-compiled JAX programs, and a pipeline that tunes it.",
    ]
    for title, commands in GROUPS.items():
        needs = f" (pip install '{PROGRAM}[flows]')" if commands[0].extras else ""
        lines += ["", f"{title}{needs}"]
        lines += [f"  {command.name:<{width}}  {command.summary}" for command in commands]
    return "\n".join(lines)


def _refuse(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return 2


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {close[0]}?" if close else f"see {PROGRAM} --help"


def _missing(command: Command) -> str | None:
    """Return the extra to install for a command, or None if it is there."""
    missing = [
        extra for extra in command.extras if any(importlib.util.find_spec(name) is None for name in _EXTRAS[extra])
    ]
    return command.extras[-1] if missing else None


def _print_completion(words: Sequence[str]) -> int:
    """Print a shell's completion of the commands' names; files complete the rest."""
    shells = "|".join(SHELLS)
    if len(words) == 1 and words[0] in SHELLS:
        print(SHELLS[words[0]].format(names=" ".join(sorted(COMMANDS))))
        return 0
    if words and words[0] in ("-h", "--help"):
        print(f"usage: {PROGRAM} {_COMPLETION} {shells}\n\n{COMMANDS[_COMPLETION].summary}")
        return 0
    return _refuse(f"{_COMPLETION} takes a shell, {shells}, but got {' '.join(words) or 'nothing'}")
