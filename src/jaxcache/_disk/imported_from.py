"""Note of which directory of JAX's own cache was imported: keys of JAX 0.10 depend on its path."""

import contextlib
from pathlib import Path

from .._primitives.atomic_files import write_file

_NAME = "imported-from"


def imported_from(root: Path) -> str | None:
    """Return the directory of JAX's own cache whose entries were imported, if any were."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (root / _NAME).read_text().strip() or None
    return None


def record_import(root: Path, source: str) -> None:
    """Record which directory was imported."""
    write_file(root / _NAME, source + "\n", durable=False)
