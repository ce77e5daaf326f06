"""Bundles: entries of a directory in one file, equal to the byte for equal entries; for CI, and for offline machines.

A tar archive without times, owners and compression: ``bundle.json`` first, which says how many follow, then
``FINGERPRINT/SHA256.entry`` in the order of their names.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .._disk.disk_cache import DiskCache
from .._disk.entry_format import EntryFault, decode
from .._disk.files import EntryFiles, EntryId
from .._disk.limits import Limits
from .._primitives.atomic_files import replacing
from .._remote.layout import entry_object, parse_entry_object
from .sync import adopt, record_about

_ABOUT = "bundle.json"
_VERSION = 1
_MOST_ABOUT_BYTES = 1024**2


class BundleError(ValueError):
    """A file is no bundle, or a part of one; nothing of it was loaded."""


@dataclass(frozen=True)
class Loaded:
    """Result of loading a bundle.

    Attributes:
        loaded: Entries that are in the directory now and were not before.
        present: Entries that were there already.
        refused: Entries that were not what they should be, or authenticated otherwise, or did not fit.
        fingerprints: What the builds and machines are made of that the entries are for.
    """

    loaded: int
    present: int
    refused: int
    fingerprints: Mapping[str, Mapping[str, str]]


def create_bundle(cache: DiskCache, path: Path, chosen: Iterable[EntryId]) -> int:
    """Write entries to a bundle, in one step; return how many: those that are gone or damaged are left out.

    Raises:
        OSError: If it cannot be written.
    """
    contents: dict[EntryId, bytes] = {}
    for entry_id in chosen:
        try:
            content = cache.files.read(entry_id)
            decode(content, None, entry_id.fingerprint, cache.shared_authentication)
        except (FileNotFoundError, EntryFault):
            continue
        contents[entry_id] = content
    fingerprints = sorted({entry_id.fingerprint for entry_id in contents})
    about = {"version": _VERSION, "entries": len(contents),
             "fingerprints": {name: cache.files.about(name) for name in fingerprints}}  # fmt: skip
    with (
        replacing(path, durable=False) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        _add(tar, _ABOUT, json.dumps(about, indent=1, sort_keys=True).encode())
        for entry_id in sorted(contents):
            _add(tar, entry_object(*entry_id), contents[entry_id])
    return len(contents)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # with no time, owner 0 and no names
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def load_bundle(cache: DiskCache, path: Path, limits: Limits) -> Loaded:
    """Put a bundle's entries into the directory, as far as they can be trusted and the limits allow.

    Raises:
        BundleError: If it is no whole bundle; nothing was loaded.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        about, members = _read_members(file, path)
        counts = {"loaded": 0, "present": 0, "refused": 0}
        for entry_id, (offset, size) in members.items():
            file.seek(offset)
            counts[_load(cache, entry_id, file.read(size), limits)] += 1
    fingerprints = {name: dict(parts) for name, parts in about["fingerprints"].items() if isinstance(parts, dict)}
    for name, parts in fingerprints.items():
        record_about(cache, name, {str(part): str(value) for part, value in parts.items()})
    return Loaded(**counts, fingerprints=fingerprints)


def _read_members(file: IO[bytes], path: Path) -> tuple[dict[str, Any], dict[EntryId, tuple[int, int]]]:
    """Return what a bundle says of itself, and where each entry is in it: offset and bytes."""
    size_bytes = os.fstat(file.fileno()).st_size
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            first, *others = tar.getmembers()
            about = json.loads(_part(file, first)) if first.name == _ABOUT else {}
    except (tarfile.TarError, ValueError, EOFError, RecursionError) as error:
        raise BundleError(f"{path} is no whole bundle ({error or 'it is empty'}); nothing was loaded") from error
    if (
        not isinstance(about, dict)
        or about.get("version") != _VERSION
        or not isinstance(about.get("fingerprints"), dict)
    ):
        raise BundleError(f"{path} is no bundle that this jaxcache reads; nothing was loaded")
    members: dict[EntryId, tuple[int, int]] = {}
    for member in others:
        entry = parse_entry_object(member.name)
        if entry is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise BundleError(f"{path} holds {member.name[:100]!r}, which is no entry; nothing was loaded")
        members[EntryId(*entry)] = (member.offset_data, member.size)
    is_whole = all(offset + size <= size_bytes for offset, size in members.values())
    if len(members) != about.get("entries") or not is_whole:
        raise BundleError(
            f"{path} is cut off: it has {len(members)} of {about.get('entries')} entries; nothing was loaded"
        )
    return about, members


def _part(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_ABOUT_BYTES:
        raise ValueError("its first part is too long")
    file.seek(member.offset_data)
    return file.read(member.size)


def _load(cache: DiskCache, entry_id: EntryId, content: bytes, limits: Limits) -> str:
    """Load one entry; return under which name it is counted."""
    if cache.files.exists(entry_id):
        return "present"
    try:
        meta, _ = decode(content, None, entry_id.fingerprint, cache.shared_authentication)
    except EntryFault:
        return "refused"
    if EntryFiles.entry_name(meta.key) != entry_id.name:
        return "refused"
    return "loaded" if adopt(cache, entry_id, content, limits) else "refused"
