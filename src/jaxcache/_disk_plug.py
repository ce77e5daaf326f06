"""The one place that puts a DiskCache where JAX keeps its file cache.

JAX offers no public way. What is touched: ``compilation_cache._cache`` and ``_cache_initialized``, which hold the
cache in use, ``CacheInterface``, which it has to be, ``put_executable_and_time``, which is entered the moment a compile
ends, and the logger that tells the parts of a key. A JAX that lacks one of the first four keeps its own cache.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax import monitoring

from . import _jax
from ._disk import DiskCache, Surroundings
from ._disk_faults import DiskCacheWarning
from ._notices import warn
from ._same_program import is_same_program

_OLDEST = (0, 10)
_SETTINGS: dict[str, Any] = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}  # the thresholds are the DiskCache's own
_PART = "get_cache_key hash of serialized %s: %s"

_lock = threading.RLock()
_plugged: "_Plug | None" = None


class _Made(threading.local):
    """What this thread has just compiled."""

    executable: Any = None


_made = _Made()


class _Plug:
    """A DiskCache in use, and what stood there before."""

    def __init__(self, cache: DiskCache, interface: Any) -> None:
        self.cache = cache
        self.settings = dict(_SETTINGS)
        if (named := cache.imported_from()) and not getattr(jax.config, "jax_compilation_cache_dir", None):
            self.settings["jax_compilation_cache_dir"] = named  # JAX's keys depend on it
        self.before = {name: getattr(jax.config, name) for name in self.settings}
        self.interface = interface


def plug(cache: DiskCache, explain: bool = False) -> bool:
    """Put ``cache`` behind every ``jax.jit`` of the process; what stood there before is let go.

    Args:
        cache: To be asked from here on.
        explain: Whether to write down what each key is made of, so that ``doctor`` can tell why two runs differ.

    Returns:
        Whether this JAX has a place for it. If not, JAX's own cache is used in the same directory, with a warning.
    """
    global _plugged
    with _lock:
        unplug()
        try:
            modules = _modules()
        except Exception as error:  # whatever a future JAX does, the user's program must go on
            _fall_back(cache, error)
            return False
        compilation_cache, interface = modules
        plugged = _Plug(cache, _interface_of(cache, interface))
        for name, value in plugged.settings.items():
            jax.config.update(name, value)
        compilation_cache._cache = plugged.interface
        compilation_cache._cache_initialized = True
        compilation_cache._cache_checked = False  # it may have been found to be off
        _tell_of_compiles(compilation_cache)
        _plugged = plugged
        cache.surroundings = Surroundings(
            same=_same,
            key_parts=_listen_for_parts() if explain else lambda _: {},
            is_distributed=is_distributed,
            closed=lambda: unplug(cache),
        )
        return True


def unplug(cache: DiskCache | None = None) -> None:
    """Give JAX its own cache back, if ``cache``, or any, is plugged in."""
    global _plugged
    with _lock:
        plugged = _plugged
        if plugged is None or (cache is not None and plugged.cache is not cache):
            return
        _plugged = None
        compilation_cache, _ = _modules()
        if compilation_cache._cache is plugged.interface:
            compilation_cache.reset_cache()
        for name, value in plugged.before.items():
            if getattr(jax.config, name) == plugged.settings[name]:
                jax.config.update(name, value)


def plugged_cache() -> DiskCache | None:
    """Return the cache that is behind every ``jax.jit`` now."""
    plugged = _plugged
    return None if plugged is None else plugged.cache


def is_distributed() -> bool:
    """Say whether JAX runs one program over several processes."""
    try:
        from jax._src import distributed

        return distributed.global_state.client is not None
    except Exception:  # where it does not tell, nobody has to be waited for
        return False


def decompressed(value: bytes) -> tuple[bytes, int]:
    """Return the program and the whole seconds of one of JAX's own entries.

    Raises:
        Exception: If it is none.
    """
    compilation_cache, _ = _modules()
    return compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(value))


def _same(known: bytes, made: bytes) -> bool:
    try:
        return is_same_program(decompressed(known)[0], decompressed(made)[0], _made.executable)
    except Exception:  # what cannot be loaded is not the same
        return False


def _modules() -> tuple[Any, Any]:
    from jax._src import compilation_cache
    from jax._src.compilation_cache_interface import CacheInterface

    used = ("_cache", "_cache_initialized", "_cache_checked", "put_executable_and_time", "reset_cache")
    missing = [name for name in (*used, "decompress_executable") if not hasattr(compilation_cache, name)]
    if missing or not set(CacheInterface.__abstractmethods__) <= {"get", "put"}:
        raise LookupError(f"its compilation_cache has no {', '.join(missing) or 'get and put'}")
    if jax.__version_info__[:2] < _OLDEST:
        raise LookupError(f"it is older than {'.'.join(map(str, _OLDEST))}")
    return compilation_cache, CacheInterface


def _interface_of(cache: DiskCache, interface: Any) -> Any:
    class Plugged(interface):
        """What JAX asks."""

        def __init__(self) -> None:
            self._path = Path(cache.path)  # JAX names it in its logs

        def get(self, key: str) -> bytes | None:
            return cache.get(key)

        def put(self, key: str, value: bytes) -> None:
            cache.put(key, value)

    return Plugged()


def _tell_of_compiles(compilation_cache: Any) -> None:
    """Have the DiskCache told when a compile ends: JAX hands over its time cut to whole seconds."""
    put = compilation_cache.put_executable_and_time
    if getattr(put, "_told_by_jaxcache", False):
        return

    @functools.wraps(put)
    def told(*args: Any, **kwargs: Any) -> Any:
        plugged = _plugged  # once: another thread may close it meanwhile
        if plugged is None:
            return put(*args, **kwargs)
        plugged.cache.compiled()
        _made.executable = args[2] if len(args) > 2 else kwargs.get("executable")
        started = time.perf_counter()
        try:
            return put(*args, **kwargs)
        finally:
            _made.executable = None
            _jax.note_stored(time.perf_counter() - started)

    vars(told)["_told_by_jaxcache"] = True
    compilation_cache.put_executable_and_time = told


def _landed(event: str, duration_secs: float, **_: object) -> None:
    """Let others compile what this thread has compiled and not put, or failed to compile."""
    plugged = _plugged  # once: another thread may close it meanwhile
    if event == "/jax/core/compile/backend_compile_duration" and plugged is not None:
        plugged.cache.land()


monitoring.register_event_duration_secs_listener(_landed)


class _Parts(logging.Handler):
    """Collects, in each thread, the hash of each part of the key that JAX is making."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _PART and isinstance(record.args, tuple):
            part, digest = record.args
            if part == "computation" or not hasattr(self._local, "parts"):
                self._local.parts = {}
            self._local.parts[str(part)] = str(digest)[:16]

    def of(self, _key: str) -> Mapping[str, str]:
        return dict(getattr(self._local, "parts", {}))


def _listen_for_parts() -> Callable[[str], Mapping[str, str]]:
    logger = logging.getLogger("jax._src.cache_key")
    handler = next((one for one in logger.handlers if isinstance(one, _Parts)), None)
    if handler is None:
        handler = _Parts()
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return handler.of


def _fall_back(cache: DiskCache, error: Exception) -> None:
    warn(
        f"jaxcache cannot take the place of the compile cache of JAX {jax.__version__} ({type(error).__name__}: "
        f"{error}); JAX's own is used in {cache.path / 'jax'} instead, without a limit or checks",
        DiskCacheWarning,
    )
    jax.config.update("jax_compilation_cache_dir", str(cache.path / "jax"))
