"""Comparison of programs: whether two entries hold the same program, and parts in which programs may differ."""

import re
import zlib
from typing import Any

_SOURCE = re.compile(r", (?:stack_frame_id=\d+|metadata=\{[^}]*\})")
_TABLES = re.compile(r"\nFileNames\n.*?(?=\n(?:%|ENTRY))", re.DOTALL)
_HEADER = re.compile(r"^(?:ENTRY )?%[\w.-]+ \(.*\{$", re.MULTILINE)  # of a computation, with its parameters
_PARAMETER = re.compile(r"(?<=[(, ])[\w.-]+: ")
_NAME = re.compile(r"%[\w.-]+")


def is_same_program(stored: bytes, compiled: bytes, executable: Any) -> bool:
    """Compare two serialized programs.

    Equal bytes are equal programs. But the files, lines and columns that led to a program, and the names of its
    arguments, are in it and not in JAX's key, so where bytes differ, the optimized programs are compared without them.

    Args:
        stored: The program that was stored.
        compiled: The program that was compiled now.
        executable: The executable that ``compiled`` serializes; None where it is not at hand.

    Raises:
        Exception: If ``stored`` cannot be loaded.
    """
    if stored == compiled or executable is None:
        return stored == compiled
    import jax._src.lib as lib

    devices = executable.local_devices()
    device_list = getattr(lib, "xla_client").DeviceList(tuple(devices))  # noqa: B009  # no name that it exports
    loaded = devices[0].client.deserialize_executable(stored, device_list, None)
    return _modules(loaded) == _modules(executable)


def _modules(executable: Any) -> list[str]:
    return [_without_names(module.to_string()) for module in executable.hlo_modules()]


def _without_names(text: str) -> str:
    """Return an HLO module without places in source files, its values numbered in their order."""
    text = _SOURCE.sub("", _TABLES.sub("", text))
    text = _HEADER.sub(lambda header: _PARAMETER.sub("", header[0]), text)
    numbers: dict[str, str] = {}
    return _NAME.sub(lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"), text)


_MOST_OPERATIONS = 5_000  # looked at, of one program: a compile takes much longer
_MOST_CONSTANTS = 64
_MOST_WRITTEN = 8  # elements of a constant that is written out
_MOST_HASHED_BYTES = 4 * 1024**2
_DENSE = re.compile(r"dense<(.*)> : (?:tensor<)?(.*?)>?", re.DOTALL)


def parts_of(module: Any) -> dict[str, str | list[str]]:
    """Return the types of a lowered program's arguments and results, and its constants in order, as texts.

    Raises:
        Exception: If it is no module as JAX makes it.
    """
    import jax._src.lib.mlir as mlir

    walk_result = getattr(mlir, "ir").WalkResult  # noqa: B009  # no name that it exports

    constants: list[str] = []
    seen = 0

    def visit(operation: Any) -> Any:
        nonlocal seen
        seen += 1
        if operation.name == "stablehlo.constant":
            constants.append(_text_of(operation.attributes["value"]))
        enough = seen >= _MOST_OPERATIONS or len(constants) >= _MOST_CONSTANTS
        return walk_result.INTERRUPT if enough else walk_result.ADVANCE

    types = [str(operation.attributes["function_type"]) for operation in module.body.operations if _is_main(operation)]
    module.operation.walk(visit)
    return {"types": types[0] if types else "", "constants": constants}


def _is_main(operation: Any) -> bool:
    return "function_type" in operation.attributes and str(operation.attributes["sym_name"]) == '"main"'


def _text_of(value: Any) -> str:
    """Return a constant as ``1.5 (f32)``; a large one by its type and a checksum."""
    if value.is_splat or len(value) <= _MOST_WRITTEN:
        written = _DENSE.fullmatch(str(value))
        return f"{_shortened(written[1])} ({written[2]})" if written else str(value)[:80]
    view = memoryview(value)
    checksum = f" of checksum {zlib.crc32(view.tobytes()):08x}" if view.nbytes <= _MOST_HASHED_BYTES else ""
    return f"an array {value.type}{checksum}"


def _shortened(number: str) -> str:
    try:
        return f"{float(number):g}"
    except ValueError:  # of several elements, a truth value, or in hexadecimal
        return number
