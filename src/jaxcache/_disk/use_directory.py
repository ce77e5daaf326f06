"""use_directory: a shared directory behind every ``jax.jit`` of the process."""

import os
from collections.abc import Sequence

from .disk_cache import DiskCache
from .jax_backend import plug


def use_directory(
    path: str | os.PathLike[str],
    limit: int | str | None = None,
    eviction: str = "lru",
    *,
    max_entries: int | None = None,
    min_compile_seconds: float = 0.0,
    min_entry_bytes: int | str = 0,
    single_flight: bool = True,
    wait_seconds: float = 600.0,
    verify: bool | float = False,
    key_file: str | os.PathLike[str] | None = None,
    explain: bool = False,
    layers: Sequence[str | os.PathLike[str]] = (),
    copy_layer_hits: bool = False,
    remote: str | None = None,
    publish: bool = True,
    trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
    sign_key: str | os.PathLike[str] | None = None,
    portable: str | None = None,
) -> DiskCache:
    """Keep what XLA compiles in a directory, for every ``jax.jit`` of this process and of others that use it.

    It takes the place of JAX's own persistent cache. Call it before the first program compiles: programs compiled
    before are not written. A directory that fails later costs compiles and gives one warning, never an error.

    Args:
        path: The directory; made with mode 0700 if there is none.
        limit: Bytes of all entries together, such as ``"20GiB"``; None is no limit.
        eviction: ``lru``, ``lfu``, ``fifo``, ``size_based``, ``gdsf`` or ``gdsf_admit``.
        max_entries: Entries of all builds and machines together; None is no limit.
        min_compile_seconds: Programs that compiled faster are not written.
        min_entry_bytes: Programs that are smaller are not written.
        single_flight: Whether one process compiles while the others wait for its entry.
        wait_seconds: Seconds after which waiting processes compile themselves.
        verify: Share of the hits to compile again and compare, from 0 to 1; True is all of them.
        key_file: A file with the key that authenticates entries; by default ``JAXCACHE_KEY_FILE`` names it, or
            ``JAXCACHE_KEY`` holds the key.
        explain: Whether to record the parts of each key, for ``python -m jaxcache doctor``.
        layers: Directories that are asked after ``path``, in order, such as one that came with a container image. They
            are only read, without a lock or an index, and trusted as ``path`` is; they may also belong to root.
        copy_layer_hits: Whether what a layer holds is written to ``path`` when it is read.
        remote: An object store that is asked last: ``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``file:///…`` or, to
            be read alone, ``https://…``; needs ``jaxcache[remote]``. Credentials are the provider's own.
        publish: Whether what is compiled here is written to ``remote``, in the background and within a bounded time.
        trusted_keys: Public keys, or files with them, such as ``["team.key.pub"]``: of layers and the remote, only
            entries that one of them has signed are loaded. What is compiled here is signed by a key of this user's
            own, loaded from ``path`` alone, and not published.
        sign_key: A file with a private key, as ``python -m jaxcache keygen`` makes it, that signs what is compiled.
        portable: ``x86-64-v2``, ``x86-64-v3`` or ``x86-64-v4``: compile for this level of processors, and share entries
            with all machines that do. To be given before JAX computes anything.

    Returns:
        The cache, for its ``stats()``; ``close()`` gives JAX its own cache back.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If ``remote`` is given and obstore is not installed.
        UntrustedDirectoryError: If others may write to the directory, or to a layer, and there is no key; says what
            mends it.
    """
    cache = DiskCache(
        path,
        limit,
        eviction,
        max_entries=max_entries,
        min_compile_seconds=min_compile_seconds,
        min_entry_bytes=min_entry_bytes,
        single_flight=single_flight,
        wait_seconds=wait_seconds,
        verify=verify,
        key_file=key_file,
        layers=layers,
        copy_layer_hits=copy_layer_hits,
        remote=remote,
        publish=publish,
        trusted_keys=trusted_keys,
        sign_key=sign_key,
        portable=portable,
    )
    plug(cache, explain)
    return cache
