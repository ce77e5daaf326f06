"""Layers: directories of entries that are only read, such as one in a container image or a team's.

They are never locked, written to, evicted from or indexed: an entry is looked for by its file's name.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from .entry_format import EntryFault
from .faults import Faults
from .files import EntryFiles, EntryId
from .key_ring import KeyRing
from .tier import FoundEntry, read_entry
from .tier_answers import HIT, MISS, Count
from .trust import Trust, establish

ROOT_USER = 0  # may run code in everybody's processes anyway, and owns what container images bring


class Layers:
    """Layers of one directory, in the order in which they are asked; a tier of the local directory."""

    name, counter = "layer", "layer_hits"

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        key_file: str | os.PathLike[str] | None,
        faults: Faults,
        *,
        key_ring: KeyRing | None,
        copies: bool,
    ) -> None:
        """Use the layers that are there; one that is not is told of once, and left out.

        Raises:
            TypeError: If ``paths`` is a single path.
            ValueError: If a path is empty.
            NotADirectoryError: If a layer is none.
            UntrustedDirectoryError: If others than this user and root may write to a layer, and there is no key.
        """
        self.copies = copies
        self._faults = faults
        self._layers: list[tuple[EntryFiles, Trust]] = []
        for path in check_layers(paths):
            faults.tiers.expect(f"layer {path}")
            try:
                path.stat()
            except OSError as error:
                cannot = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be reached ({error})"
                faults.record_of(f"layer {path}", f"{cannot}, and is left out")
                continue
            trust = establish(path, key_file, key_ring=key_ring, owners=(os.geteuid(), ROOT_USER), argument="layers")
            self._layers.append((EntryFiles(path, owner=trust.owner), trust))

    def find(self, entry_id: EntryId, key: str, count: Count) -> FoundEntry | None:
        """Return the entry of a key from the first layer that has a whole one."""
        for files, trust in self._layers:
            try:
                found = read_entry(files, entry_id, key, trust.authentication)
            except FileNotFoundError:
                count(f"layer {files.root}", MISS)
                continue
            except (EntryFault, OSError) as fault:
                self._faults.record_of(f"layer {files.root}", f"has an entry that cannot be used ({fault})")
                continue
            count(f"layer {files.root}", HIT)
            return found
        return None


def check_layers(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return absolute paths of layers.

    Raises:
        TypeError: If ``paths`` is a single path.
        ValueError: If a path is empty.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(f"layers must be a list of directories, such as [{str(paths)!r}], but is {paths!r}")
    for path in paths:
        if not os.fspath(path):
            raise ValueError(f"layers must name directories, but has an empty name: {list(paths)!r}")
    return [Path(path).absolute() for path in paths]
