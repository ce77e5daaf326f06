"""Whether two of JAX's entries hold the same program, wherever in the source it was called from."""

import re
from typing import Any

_SOURCE = re.compile(r", (?:stack_frame_id=\d+|metadata=\{[^}]*\})")
_TABLES = re.compile(r"\nFileNames\n.*?(?=\n(?:%|ENTRY))", re.DOTALL)


def is_same_program(known: bytes, made: bytes, executable: Any) -> bool:
    """Compare two serialized programs.

    Equal bytes are equal programs. But the files, lines and columns that led to a program are in it and not in JAX's
    key, so where bytes differ, the optimized programs are compared without them.

    Args:
        known: What was kept.
        made: What was compiled now.
        executable: What ``made`` is the serialization of; None where it is not at hand.

    Raises:
        Exception: If ``known`` cannot be loaded.
    """
    if known == made or executable is None:
        return known == made
    import jax._src.lib as lib

    devices = executable.local_devices()
    device_list = getattr(lib, "xla_client").DeviceList(tuple(devices))  # noqa: B009  # no name that it exports
    loaded = devices[0].client.deserialize_executable(known, device_list, None)
    return _modules(loaded) == _modules(executable)


def _modules(executable: Any) -> list[str]:
    return [_SOURCE.sub("", _TABLES.sub("", one.to_string())) for one in executable.hlo_modules()]
