"""warm_from: programs of the last run, read and loaded by threads while the program still imports and sets up."""

import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from .._disk.disk_cache import DiskCache
from .._disk.jax_backend import plugged_cache
from .._disk.tier import FoundEntry
from .._disk.use_directory import use_directory
from .._disk.whole_programs import find_program
from .._jax.whole_programs import WholeProgram
from .._primitives.checks import check_whole_number
from .._primitives.sizes import format_size, parse_size
from .last_run import keys_of_last_run
from .stored_program import StoredProgram, decode_program

_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Warmed:
    """Program that was loaded before it was asked for.

    Attributes:
        found: Its entry.
        stored: What the entry says of it.
        whole: The program.
    """

    found: FoundEntry
    stored: StoredProgram
    whole: WholeProgram


class Warming:
    """Programs of the last run on their way into memory, as :func:`warm_from` returns them.

    Attributes:
        total: Programs that the last run has asked for.
    """

    def __init__(self, cache: DiskCache, keys: Sequence[str], limit_bytes: int, threads: int) -> None:
        """Begin to load the programs of ``keys``, in this order."""
        self._cache, self._limit_bytes = weakref.ref(cache), limit_bytes
        self._lock = threading.RLock()  # a signal handler may ask while this thread holds it
        self._held_bytes = 0
        self._loaded = 0
        self._stopped = False
        self.total = len(keys)
        self._futures: dict[str, Future[Warmed | None]] = {key: Future() for key in keys}
        self._queue = deque(self._futures.items())
        self._all = tuple(self._futures.values())
        for number in range(min(threads, len(keys))):  # not a pool's: Python would wait for all of its jobs at exit
            threading.Thread(target=self._work, name=f"jaxcache-warm-{number}", daemon=False).start()

    @property
    def loaded(self) -> int:
        """Programs that were loaded so far."""
        return self._loaded

    @property
    def held_bytes(self) -> int:
        """Bytes that programs take by the model which were loaded and not asked for yet."""
        return self._held_bytes

    def __repr__(self) -> str:
        return f"<{self._loaded} of {self.total} programs of the last run loaded, {format_size(self._held_bytes)} held>"

    def wait(self) -> None:
        """Return when every program is loaded, or is known not to be."""
        wait(self._all)

    def close(self) -> None:
        """Load no more, and drop what was not asked for."""
        self._stopped = True
        for key in list(self._futures):
            self._futures.pop(key).cancel()
        with self._lock:
            self._held_bytes = 0

    def take(self, key: str) -> Warmed | None:
        """Return the program of a key if it is loaded or is being loaded; from here on it is the caller's."""
        if self._lock._is_owned():  # pyright: ignore[reportAttributeAccessIssue]
            return None  # in a signal handler: the thread that loads may be waiting for what this one has locked
        future = self._futures.pop(key, None)
        if future is None or future.cancel():  # no thread has come to it: the caller is as fast
            return None
        warmed = future.result()
        if warmed is not None:
            with self._lock:
                self._held_bytes -= warmed.stored.weight.size_bytes
        return warmed

    def _work(self) -> None:
        while True:
            try:
                key, future = self._queue.popleft()
            except IndexError:
                return
            if future.set_running_or_notify_cancel():
                future.set_result(self._load(key))

    def _load(self, key: str) -> Warmed | None:
        """Load a program; whatever goes wrong here happens again, and is told, where it is asked for."""
        try:
            return self._loaded_program(key)
        except Exception:
            return None

    def _loaded_program(self, key: str) -> Warmed | None:
        cache = self._cache()
        if self._stopped or cache is None or not threading.main_thread().is_alive():
            return None
        found = find_program(cache, key)
        if found is None:
            return None
        stored = decode_program(found.value)
        with self._lock:
            if self._held_bytes + stored.weight.size_bytes > self._limit_bytes:
                return None
            self._held_bytes += stored.weight.size_bytes
        try:
            whole = stored.load(imports=False)  # modules are imported by the program alone, in its own order
        except BaseException:
            with self._lock:
                self._held_bytes -= stored.weight.size_bytes
            raise
        with self._lock:
            self._loaded += 1
        return Warmed(found, stored, whole)


_warmings: "weakref.WeakKeyDictionary[DiskCache, Warming]" = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_warmings.clear)  # the threads are the parent's


def take_warmed(cache: DiskCache, key: str) -> Warmed | None:
    """Return the program of a key if ``warm_from`` has loaded it, or is just loading it."""
    warming = _warmings.get(cache)
    return None if warming is None else warming.take(key)


def warm_from(
    directory: DiskCache | str | os.PathLike[str], *, limit: int | str = "512MiB", threads: int | None = None
) -> Warming:
    """Load, in threads, the programs that the last run of this program had from a shared directory.

    They are those of functions under ``cache.jit(…, code_key=True)``, in the order in which they were asked for. Write
    it into the first lines of a program: programs are loaded while it imports its modules and reads its data. Modules
    are not imported for it, and a program that is asked for too early is loaded there and then, as without this.

    JAX's backend is started by it: set JAX's options, such as its platforms or ``jax.distributed``, before.

    Args:
        directory: What ``use_directory`` has returned; or a path, for which that is called unless it is in use already.
        limit: Bytes of memory, by the model of entries, that programs may take which were loaded and not asked for yet.
        threads: That load; by default as many as there are cores, and 4 at most.

    Returns:
        The programs on their way: how many there are, and how many were loaded so far. ``close()`` drops those that
        nobody has asked for.

    Raises:
        ValueError: If an argument is out of range, or ``directory`` is a cache that is not in use.
        UntrustedDirectoryError: As of ``use_directory``.
    """
    limit_bytes = parse_size(limit, "limit")
    if threads is None:
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
    cache = _in_use(directory)
    warming = Warming(cache, keys_of_last_run(cache), limit_bytes, check_whole_number(threads, "threads"))
    before = _warmings.get(cache)
    if before is not None:
        before.close()
    _warmings[cache] = warming
    return warming


def _in_use(directory: DiskCache | str | os.PathLike[str]) -> DiskCache:
    """Return the cache that JAX asks, which is the one of ``directory``."""
    cache = plugged_cache()
    if isinstance(directory, DiskCache):
        if directory is not cache:
            raise ValueError(f"directory must be in use, but is {directory!r}; call use_directory first")
        return directory
    if cache is not None and cache.path == Path(directory).absolute():
        return cache
    return use_directory(directory)
