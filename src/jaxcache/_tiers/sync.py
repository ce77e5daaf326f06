"""Push, pull and clean-up of object stores: all entries at once, for commands. Faults are raised, as one line."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from .._disk.disk_cache import DiskCache
from .._disk.entry_format import Authentication, EntryFault, decode
from .._disk.files import EntryFiles, EntryId
from .._disk.limits import Limits
from .._disk.remote_tier import check_trusted
from .._jax.fingerprint import fingerprint_of
from .._remote.layout import (
    ABOUT,
    CLOCK,
    LISTING,
    SUFFIX,
    decode_about,
    decode_listing,
    decode_manifest,
    encode_listing,
    entry_object,
    is_manifest,
    parse_entry_object,
)
from .._remote.object_store import ObjectInfo, ObjectStore
from .._remote.urls import RemoteUrl, check_url

_Item = TypeVar("_Item")
_AT_ONCE = 16
_YOUNG_SECONDS = 3600.0  # an entry that may have been found, and not read, by a process that is still at work
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class Synchronised:
    """Result of a push, or a pull.

    Attributes:
        copied: Entries that were copied.
        size_bytes: Their bytes.
        present: Entries that were there already.
        refused: Entries that were not what they should be, or authenticated otherwise, and were left.
    """

    copied: int = 0
    size_bytes: int = 0
    present: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Cleaned:
    """Result of a clean-up: entries that went, and that stay, with their bytes."""

    removed: int
    removed_bytes: int
    kept: int
    kept_bytes: int


@dataclass(frozen=True)
class RemoteStats:
    """Entries of an object store, by fingerprint.

    Attributes:
        entries: How many.
        size_bytes: Bytes that they take.
        by_fingerprint: Entries and bytes of each fingerprint.
    """

    entries: int
    size_bytes: int
    by_fingerprint: dict[str, tuple[int, int]] = field(default_factory=dict)


def push(cache: DiskCache, url: str) -> Synchronised:
    """Copy the directory's entries to a store that has them not.

    Raises:
        RemoteUnavailable: If the store fails.
        ValueError: If ``url`` is none, or can only be read.
        ImportError: If obstore is not installed.
    """
    store = _writable(url)
    return store.run(_push(cache, store))


async def _push(cache: DiskCache, store: ObjectStore) -> Synchronised:
    listed = _entries(await store.list(""))
    local = list(cache.files.walk())
    counts: dict[str, int] = defaultdict(int)

    async def copy(entry_id: EntryId) -> None:
        try:
            content = _whole(cache.files.read(entry_id), entry_id, cache.shared_authentication)
        except FileNotFoundError:  # evicted meanwhile
            return
        except (EntryFault, OSError):
            content = None
        if content is None:
            counts["refused"] += 1
        elif await store.put(entry_object(*entry_id), content, replace=False):
            counts["copied"] += 1
            counts["size_bytes"] += len(content)
            listed[entry_id] = ObjectInfo(entry_object(*entry_id), len(content), time.time())

    absent = [entry_id for entry_id in local if entry_id not in listed]
    await _for_each(absent, copy)
    for fingerprint in {entry_id.fingerprint for entry_id in local}:
        if parts := cache.files.about(fingerprint):
            about = json.dumps(parts, indent=1, sort_keys=True).encode()
            await store.put(f"{fingerprint}/{ABOUT}", about, replace=False)
        await _write_listing(store, fingerprint, listed)
    return Synchronised(**counts, present=len(local) - len(absent))


async def _write_listing(store: ObjectStore, fingerprint: str, listed: dict[EntryId, ObjectInfo]) -> None:
    """Write down what there is, for who reads the store by HTTPS, where nothing can be listed."""
    sizes = {each.name: info.size_bytes for each, info in listed.items() if each.fingerprint == fingerprint}
    await store.put(f"{fingerprint}/{LISTING}", encode_listing(sizes), replace=True)


def pull(cache: DiskCache, url: str, limits: Limits, fingerprint: str | None = None) -> Synchronised:
    """Copy a store's entries to the directory.

    Args:
        cache: Of the directory.
        url: Address of the store; one that can only be read needs ``fingerprint``.
        limits: To be kept; the policy decides who stays.
        fingerprint: The only one whose entries are copied; None copies all.

    Raises:
        RemoteUnavailable: If the store fails.
        ValueError: If ``url`` is none.
        UntrustedDirectoryError: If the store is a folder that others may write to, and nothing authenticates entries.
        ImportError: If obstore is not installed.
    """
    address = check_url(url, "URL")
    check_trusted(address, cache.shared_authentication)
    store = ObjectStore(address)
    if address.is_read_only and fingerprint is None:
        raise ValueError(f"{url} cannot be listed: name the build and machine by --fingerprint, as stats does")
    return store.run(_pull(cache, store, limits, fingerprint, address))


async def _pull(
    cache: DiskCache, store: ObjectStore, limits: Limits, fingerprint: str | None, address: RemoteUrl
) -> Synchronised:
    if address.is_read_only and fingerprint is not None:
        content = await _read(store, f"{fingerprint}/{LISTING}")
        if content is None:
            raise ValueError(f"{address.text} has no {fingerprint}/{LISTING}: check the address and --fingerprint")
        names: Collection[EntryId] = [EntryId(fingerprint, name) for name in decode_listing(content)]
    else:
        names = _entries(await store.list(fingerprint or ""))
    counts: dict[str, int] = defaultdict(int)

    async def copy(entry_id: EntryId) -> None:
        if cache.files.exists(entry_id):
            counts["present"] += 1
            return
        content = await _read(store, entry_object(*entry_id))
        content = None if content is None else _whole(content, entry_id, cache.shared_authentication)
        if content is None or not adopt(cache, entry_id, content, limits):
            counts["refused"] += 1
            return
        counts["copied"] += 1
        counts["size_bytes"] += len(content)

    await _for_each(sorted(names), copy)
    for name in {entry_id.fingerprint for entry_id in names}:
        record_about(cache, name, decode_about(await _read(store, f"{name}/{ABOUT}") or b""))
    return Synchronised(**counts)


def record_about(cache: DiskCache, fingerprint: str, parts: Mapping[str, str]) -> None:
    """Write down what a fingerprint is made of, if a store says so rightly and there are entries of it."""
    if fingerprint in cache.files.fingerprints() and fingerprint_of(parts).id == fingerprint:
        cache.files.record_fingerprint(fingerprint, parts)


def adopt(cache: DiskCache, entry_id: EntryId, content: bytes, limits: Limits) -> bool:
    """Write a verified entry of another store to the directory; return whether it is kept."""
    meta, _ = decode(content, None, entry_id.fingerprint, cache.shared_authentication)
    cache.writer.store(entry_id, meta, content, limits)
    return cache.files.exists(entry_id)


def clean(url: str, older_than_seconds: float | None, limit_bytes: int | None, *, dry_run: bool = False) -> Cleaned:
    """Remove entries of a store that no run has written or asked for lately.

    The last use of an entry is when it was written, or when a run ended that had asked for it, by the store's clock.
    Entries of the last hour stay. A process that has seen an entry that goes finds none, and compiles.

    Args:
        url: Address of the store.
        older_than_seconds: Entries that were not used for so long go.
        limit_bytes: Then those go that were used longest ago, until the others take no more.
        dry_run: Whether nothing is removed; the time is this host's then.

    Raises:
        RemoteUnavailable: If the store fails.
        ValueError: If ``url`` is none, or can only be read.
        ImportError: If obstore is not installed.
    """
    store = _writable(url)
    return store.run(_clean(store, older_than_seconds, limit_bytes, dry_run=dry_run))


async def _clean(
    store: ObjectStore, older_than_seconds: float | None, limit_bytes: int | None, *, dry_run: bool
) -> Cleaned:
    objects, now = await _list_with_time(store, writes=not dry_run)
    entries, manifests = _entries(objects), [each for each in objects if is_manifest(each.name)]
    used = {entry_id: info.modified for entry_id, info in entries.items()}

    async def note(manifest: ObjectInfo) -> None:
        fingerprint = manifest.name.split("/")[0]
        for name in decode_manifest(await _read(store, manifest.name) or b""):
            entry_id = EntryId(fingerprint, name)
            if entry_id in used:
                used[entry_id] = max(used[entry_id], manifest.modified)

    await _for_each(manifests, note)
    left_bytes = sum(info.size_bytes for info in entries.values())
    going: list[EntryId] = []
    for entry_id in sorted(entries, key=lambda each: (used[each], each)):
        age = now - used[entry_id]
        is_old = older_than_seconds is not None and age > older_than_seconds
        if age < _YOUNG_SECONDS or not (is_old or (limit_bytes is not None and left_bytes > limit_bytes)):
            continue
        going.append(entry_id)
        left_bytes -= entries[entry_id].size_bytes
    removed_bytes = sum(entries[entry_id].size_bytes for entry_id in going)
    if going and not dry_run:
        names = [entry_object(*entry_id) for entry_id in going]
        for start in range(0, len(names), _DELETED_AT_ONCE):
            await store.delete(names[start : start + _DELETED_AT_ONCE])
        kept = {entry_id: info for entry_id, info in entries.items() if entry_id not in set(going)}
        for fingerprint in {entry_id.fingerprint for entry_id in going}:
            await _write_listing(store, fingerprint, kept)
    return Cleaned(len(going), removed_bytes, len(entries) - len(going), left_bytes)


async def _list_with_time(store: ObjectStore, *, writes: bool) -> tuple[list[ObjectInfo], float]:
    """Return all objects, and what time it is at the store, whose clock is the one that their times are by.

    This host's clock may be hours ahead, and would make the entries of the last hour old. Where nothing may be
    written, for which alone a store tells the time, this host's is taken for it.
    """
    if not writes:
        return await store.list(""), time.time()
    await store.put(CLOCK, b"{}", replace=True)
    objects = await store.list("")
    return objects, max(each.modified for each in objects if each.name == CLOCK)


def remote_stats(url: str) -> RemoteStats:
    """Return what a store holds.

    Raises:
        RemoteUnavailable: If the store fails.
        ValueError: If ``url`` is none, or cannot be listed.
        ImportError: If obstore is not installed.
    """
    store = _writable(url)
    entries = _entries(store.run(store.list("")))
    by_fingerprint: dict[str, tuple[int, int]] = {}
    for entry_id, info in sorted(entries.items()):
        count, size_bytes = by_fingerprint.get(entry_id.fingerprint, (0, 0))
        by_fingerprint[entry_id.fingerprint] = (count + 1, size_bytes + info.size_bytes)
    return RemoteStats(len(entries), sum(info.size_bytes for info in entries.values()), by_fingerprint)


def _writable(url: str) -> ObjectStore:
    address = check_url(url, "URL")
    if address.is_read_only:
        raise ValueError(f"URL {url} can only be read, entry by entry: write s3://, gs://, az:// or file://")
    return ObjectStore(address)


def _entries(objects: Iterable[ObjectInfo]) -> dict[EntryId, ObjectInfo]:
    parsed = [(parse_entry_object(each.name), each) for each in objects if each.name.endswith(SUFFIX)]
    return {EntryId(*entry): each for entry, each in parsed if entry is not None}


def _whole(content: bytes, entry_id: EntryId, authentication: Authentication) -> bytes | None:
    """Return the content if it is the entry that its name promises, else None."""
    try:
        meta, _ = decode(content, None, entry_id.fingerprint, authentication)
    except EntryFault:
        return None
    return content if EntryFiles.entry_name(meta.key) == entry_id.name else None


async def _read(store: ObjectStore, name: str) -> bytes | None:
    parts = [part async for part in store.get(name)]
    return b"".join(parts) if parts else None


async def _for_each(items: Iterable[_Item], do: Callable[[_Item], Awaitable[None]]) -> None:
    """Do something for all, a few at once; the first fault ends it."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(item: _Item) -> None:
        async with turns:
            await do(item)

    await asyncio.gather(*map(in_turn, items))
