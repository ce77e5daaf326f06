"""Whole programs in a shared directory, asked for before anything is traced: by whom may compile them anyway.

A miss here is none of the directory's: JAX asks for the compiled program next, under its own key, and waits for
whoever compiles it. So nobody is waited for here, and only hits are counted.
"""

import time

from .disk_cache import DiskCache
from .entry_format import EntryFault, EntryMeta, decode, encode
from .files import entry_id_of
from .tier import FoundEntry, read_entry


def get_program(cache: DiskCache, key: str) -> bytes | None:
    """Return the value of ``key``, every byte of it verified; None if there is none that can be trusted."""
    if cache._closed:
        return None
    with cache._faults.guarded("read"):
        entry_id = entry_id_of(cache.fingerprint.id, key)
        started = time.perf_counter()
        try:
            found = read_entry(cache.files, entry_id, key, cache._trust.authentication)
        except FileNotFoundError:
            return None
        except EntryFault as fault:
            cache.writer.set_aside(entry_id, fault)
            return None
        count_hit(cache, found, time.perf_counter() - started)
        return found.value
    return None


def find_program(cache: DiskCache, key: str) -> FoundEntry | None:
    """Return the entry of ``key``, every byte of it verified, without a request: nothing is counted."""
    return None if cache._closed else cache._peek(entry_id_of(cache.fingerprint.id, key), key)


def count_hit(cache: DiskCache, found: FoundEntry, seconds: float) -> None:
    """Count an entry as served.

    Args:
        cache: Of the directory.
        found: The entry.
        seconds: That the program waited for it.
    """
    with cache._faults.guarded("read"):
        cache.requests.hit(entry_id_of(found.meta.fingerprint, found.meta.key), found, seconds, by_jax=False)


def put_program(cache: DiskCache, key: str, value: bytes, seconds: float) -> None:
    """Store ``value`` under ``key``, as :meth:`DiskCache.put` does: within its thresholds, limits and policy.

    Args:
        cache: Of the directory.
        key: The key.
        value: The value.
        seconds: Those of tracing, lowering and compiling, which a hit saves.
    """
    if seconds >= cache.min_compile_seconds and len(value) >= cache.min_entry_bytes:
        put_note(cache, key, value, seconds)


def put_note(cache: DiskCache, key: str, value: bytes = b"", seconds: float = 0.0) -> None:
    """Store ``value`` under ``key`` whatever the thresholds: a note about a program is small, and took no compile."""
    if cache._closed:
        return
    with cache._faults.guarded("written"):
        started = time.perf_counter()
        entry_id = entry_id_of(cache.fingerprint.id, key)
        meta = EntryMeta(key, entry_id.fingerprint, seconds, float(int(time.time())))
        content = encode(meta, value, cache._trust.authentication)
        cache.writer.store(entry_id, meta, content, cache._limits, started)


def has_note(cache: DiskCache, key: str) -> bool:
    """Return whether there is a note under ``key``; this counts as no request."""
    return not cache._closed and cache.contains(key)


def count_verified(cache: DiskCache, *, same: bool) -> None:
    """Count a hit whose program was traced again, and whether it was the same."""
    cache.requests.count(verified=1, mismatched=int(not same))


def drop_programs(cache: DiskCache, prefix: str) -> int:
    """Remove every entry whose key begins with ``prefix``; return how many.

    Where the index cannot be used, the files are looked through.
    """
    rows = []
    with cache._faults.index_guarded():
        rows = [row for row in cache.index.rows() if row.key.startswith(prefix)]
        return cache.index.remove(rows)
    removed = 0
    with cache._faults.guarded("written"):
        for entry_id in list(cache.files.walk()):
            try:
                meta, _ = decode(cache.files.read(entry_id), None, entry_id.fingerprint, cache._trust.authentication)
            except (OSError, EntryFault):
                continue
            if meta.key.startswith(prefix):
                cache.files.remove(entry_id)
                removed += 1
    return removed
