"""Names whose result may differ from run to run: what reads files, the environment, the clock or random numbers.

A program that depends on one of them while it is traced has no key. The lists refuse too much rather than too little:
of the standard library only modules that compute are allowed.
"""

import re

from .origins import Origin

_COMPUTING = frozenset({
    "abc", "bisect", "builtins", "cmath", "collections", "contextlib", "copy", "copyreg", "dataclasses", "enum",
    "fractions", "functools", "heapq", "itertools", "keyword", "logging", "math", "numbers", "operator",
    "re", "string", "textwrap", "types", "typing", "warnings", "reprlib", "_abc", "_bisect", "_collections",
    "_collections_abc", "_functools", "_heapq", "_operator", "_sre", "_warnings",
})  # fmt: skip
_BUILTINS = frozenset({
    "open", "input", "eval", "exec", "compile", "__import__", "globals", "locals", "id", "hash", "breakpoint",
    "exit", "quit",
})  # fmt: skip
_ATTRIBUTES = frozenset({
    "environ", "getenv", "urandom", "read", "readline", "readlines", "read_text", "read_bytes", "open", "iterdir",
    "glob", "now", "utcnow", "today", "perf_counter", "monotonic", "time_ns", "getrandbits", "__subclasses__",
    "__doc__", "__annotations__", "__code__", "__globals__", "f_back", "f_lineno", "f_locals", "f_globals",
    "co_filename", "co_firstlineno", "__file__", "exists", "is_file", "is_dir", "is_symlink", "is_mount", "stat",
    "lstat", "rglob", "samefile", "readlink", "expanduser", "cwd",
})  # fmt: skip
_DOCUMENTING = frozenset({"typing.get_type_hints"})  # of Python, as .__annotations__ is of any object
_READS = re.compile(r"(read|load|open|fetch|download|getenv|fromfile|fromregex|genfromtxt|memmap)(_|$|[a-z])")
_RANDOM = ("numpy.random",)


def fault_of_builtin(name: str) -> str | None:
    """Return why a built-in function cannot be reached by code with a key; None if it can."""
    return f"{name} may differ from run to run" if name in _BUILTINS else None


def fault_of_attribute(names: frozenset[str]) -> str | None:
    """Return why code that reads these attributes, of whatever object, has no key; None if it may have one."""
    refused = sorted(names & _ATTRIBUTES)
    return f"it reads .{refused[0]}, which may differ from run to run" if refused else None


def fault_of(origin: Origin, module: str, name: str, *, is_module: bool = False) -> str | None:
    """Return why something of Python or of a distribution cannot be reached by code with a key; None if it can.

    Args:
        origin: Of the module.
        module: Its full name.
        name: Name in it; empty for the module itself.
        is_module: Whether what is reached is a module.
    """
    dotted = f"{module}.{name}" if name else module
    if origin.kind == "python":
        computes = module.partition(".")[0] in _COMPUTING or dotted.startswith("inspect.is")
        allowed = computes and name not in _BUILTINS and dotted not in _DOCUMENTING
        return None if allowed else f"{dotted} may differ from run to run"
    if dotted.startswith(_RANDOM):
        return f"{dotted} draws random numbers"
    if not is_module and _READS.match(name.rpartition(".")[2]):
        return f"{dotted} may read a file"
    return None
