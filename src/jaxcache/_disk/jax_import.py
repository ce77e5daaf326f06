"""Import of the entries of JAX's own persistent cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .disk_cache import DiskCache
from .imported_from import record_import
from .jax_backend import decompressed

_SUFFIX = "-cache"


class Imported(NamedTuple):
    """Outcome for one file: imported, or the reason why not."""

    path: Path
    taken: bool
    reason: str


def import_entries(cache: DiskCache, source: Path) -> Iterator[Imported]:
    """Put JAX's entries into ``cache``, under the fingerprint of this machine and this JAX.

    JAX's files do not tell which build they are of; what this machine did not write itself is not to be imported. The
    compile seconds are those that JAX kept, in whole seconds. Keys of JAX 0.10 contain the path of its directory, so it
    is noted with the first of them, and programs that use ``cache`` from here on ask for keys that contain it.

    Raises:
        FileNotFoundError: If there is no such directory.
        NotADirectoryError: If it is none.
    """
    noted = False
    for path in sorted(source.iterdir()):
        if path.is_dir() or path.is_symlink() or not path.name.endswith(_SUFFIX):
            continue
        try:
            value = path.read_bytes()
            _, seconds = decompressed(value)
        except Exception as error:  # whatever a damaged file does to JAX's own code
            yield Imported(path, False, f"is damaged ({type(error).__name__}: {error})")
            continue
        if not noted:
            record_import(cache.path, str(source.absolute()))
            noted = True
        before = cache.process_counts().puts
        cache.put(path.name.removesuffix(_SUFFIX), value, float(seconds))
        stored = cache.process_counts().puts > before
        yield Imported(path, stored, "" if stored else "does not fit, or cannot be written")
