"""Adapter that puts a DiskCache where JAX keeps its persistent cache.

JAX offers no public way. What is touched: ``compilation_cache._cache`` and ``_cache_initialized``, which hold the
cache in use, ``CacheInterface``, which it has to be, ``put_executable_and_time``, which is entered the moment a compile
ends, and the logger of the parts of a key. A JAX that lacks one of the first four keeps its own cache. Where
they are there, ``is_executable_in_cache``, a probe that is no request, and ``_initialize_cache``, which would make a
cache of JAX's own after ``reset_cache``, are answered here too.
"""

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax import monitoring

from .._jax import interfaces as _jax
from .._jax.notices import warn
from .._jax.plugins import installed_plugins
from .._jax.same_program import is_same_program, parts_of
from .._jax.versions import OLDEST
from .disk_cache import DiskCache
from .faults import DiskCacheWarning
from .imported_from import imported_from
from .jax_hooks import JaxHooks
from .key_probe import answer_probe

_FREE_KEYS = (0, 11)  # from here on keys do not depend on JAX's own directory
_SETTINGS: dict[str, Any] = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}  # the thresholds are the DiskCache's own
_PART = "get_cache_key hash of serialized %s: %s"

_lock = threading.RLock()
_plugged: "_Plug | None" = None


class _CompiledByThread(threading.local):
    """Executable that this thread has just compiled, module of which it has just made a key, and key just served."""

    executable: Any = None
    module: Any = None
    served_key: str | None = None


_compiled = _CompiledByThread()


class _Plug:
    """DiskCache in use, and the settings of JAX before."""

    def __init__(self, cache: DiskCache, interface: Any) -> None:
        self.cache = cache
        self.settings = dict(_SETTINGS)
        if not getattr(jax.config, "jax_compilation_cache_dir", None) and (named := _directory_for_xla(cache)):
            self.settings["jax_compilation_cache_dir"] = named
        self.before = {name: getattr(jax.config, name) for name in self.settings}
        self.interface = interface


def _directory_for_xla(cache: DiskCache) -> str | None:
    """Return where XLA keeps the caches that JAX derives from its own directory, such as that of its autotuning.

    None where that would only keep those apart who reach the directory by different paths: keys contain it, and XLA
    autotunes nothing.
    """
    if jax.__version_info__[:2] >= _FREE_KEYS:
        return str(cache.path)
    if named := imported_from(cache.path):
        return named  # the keys of what was imported contain it
    return str(cache.path) if _may_use_accelerators() else None


def _may_use_accelerators() -> bool:
    """Return whether a plug-in for accelerators is installed and allowed by ``JAX_PLATFORMS``; start no backend."""
    platforms: str | None = getattr(jax.config, "jax_platforms", None)
    return (not platforms or set(platforms.lower().split(",")) != {"cpu"}) and bool(installed_plugins())


def plug(cache: DiskCache, explain: bool = False) -> bool:
    """Put ``cache`` behind every ``jax.jit`` of the process, in place of a former one.

    Args:
        cache: The cache that JAX asks from here on.
        explain: Whether to record the parts of each key, so that ``doctor`` can tell why two runs differ.

    Returns:
        Whether this JAX can use it. If not, JAX's own cache is used in the same directory, with a warning.
    """
    global _plugged
    with _lock:
        unplug()
        try:
            compilation_cache, interface = _modules()
            plugged = _Plug(cache, _interface_of(cache, interface))
        except Exception as error:  # whatever a future JAX does, the user's program must go on
            _fall_back(cache, error)
            return False
        for name, value in plugged.settings.items():
            jax.config.update(name, value)
        compilation_cache._cache = plugged.interface
        compilation_cache._cache_initialized = True
        compilation_cache._cache_checked = False  # it may have been found to be off
        _replace(compilation_cache, "put_executable_and_time", _put_after_compile)
        _replace(compilation_cache, "is_executable_in_cache", _answer_probe)
        _replace(compilation_cache, "_initialize_cache", _restore_cache)
        _replace(compilation_cache, "get_cache_key", _remember_module)
        _plugged = plugged
        cache.hooks = JaxHooks(
            same=_same,
            key_parts=_key_parts(_listen_for_parts() if explain else lambda _: {}),
            is_distributed=is_distributed,
            puts_only_what_is_lost=True,
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


def just_served(cache: DiskCache) -> bytes | None:
    """Return the executable, as XLA serializes it, that JAX has last read from ``cache`` in this thread.

    One that was loaded cannot be serialized again: XLA's CPU backend then leaves out its functions.
    """
    key = _compiled.served_key
    value = None if key is None else cache.peek(key)
    return None if value is None else decompressed(value)[0]


def is_distributed() -> bool:
    """Return whether JAX runs one program over several processes."""
    try:
        from jax._src import distributed

        return distributed.global_state.client is not None
    except Exception:  # where that is unknown, one process is assumed
        return False


def decompressed(value: bytes) -> tuple[bytes, int]:
    """Return the program and the whole seconds of one of JAX's own entries.

    Raises:
        Exception: If it is none.
    """
    compilation_cache, _ = _modules()
    return compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(value))


def _same(stored: bytes, compiled: bytes) -> bool:
    try:
        return is_same_program(decompressed(stored)[0], decompressed(compiled)[0], _compiled.executable)
    except Exception:  # what cannot be loaded is not the same
        return False


def _modules() -> tuple[Any, Any]:
    from jax._src import compilation_cache
    from jax._src.compilation_cache_interface import CacheInterface

    used = ("_cache", "_cache_initialized", "_cache_checked", "put_executable_and_time", "reset_cache")
    missing = [name for name in (*used, "decompress_executable") if not hasattr(compilation_cache, name)]
    if missing:
        raise LookupError(f"its compilation_cache has no {', '.join(missing)}")
    if jax.__version_info__[:2] < OLDEST:
        raise LookupError(f"it is older than {'.'.join(map(str, OLDEST))}")
    return compilation_cache, CacheInterface


def _interface_of(cache: DiskCache, interface: Any) -> Any:
    class Plugged(interface):
        """Cache as JAX uses it."""

        def __init__(self) -> None:
            self._path = Path(cache.path)  # JAX names it in its logs

        def get(self, key: str) -> bytes | None:
            answer_probe(key)
            value = cache.get(key)
            _compiled.served_key = None if value is None else key
            return value

        def put(self, key: str, value: bytes) -> None:
            cache.put(key, value)

        def exists(self, key: str) -> bool:  # not asked for yet: JAX means to have such a method
            return cache.contains(key)

        contains = __contains__ = exists

    unknown = sorted(name for name in interface.__abstractmethods__ if name not in vars(Plugged))
    if unknown:
        raise LookupError(f"its caches have to {' and '.join(unknown)}")
    return Plugged()


def _replace(module: Any, name: str, answer: Callable[..., Any]) -> None:
    """Replace a function of JAX by ``answer(plugged, original, *args)`` while a DiskCache is in use."""
    original = getattr(module, name, None)
    if original is None or getattr(original, "_replaced_by_jaxcache", False):
        return

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        plugged = _plugged  # once: another thread may close it meanwhile
        return original(*args, **kwargs) if plugged is None else answer(plugged, original, *args, **kwargs)

    vars(replaced)["_replaced_by_jaxcache"] = True
    setattr(module, name, replaced)


def _remember_module(_plugged: _Plug, get_cache_key: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Keep the program of a key until the key is a hit or a miss."""
    _compiled.module = args[0] if args else kwargs.get("module")
    return get_cache_key(*args, **kwargs)


def _key_parts(hashes: Callable[[str], Mapping[str, Any]]) -> Callable[[str, bool], Mapping[str, Any]]:
    """Return a function that gives the parts of a key: hashes and, for a miss, the program's constants and types."""

    def parts(key: str, is_hit: bool) -> Mapping[str, Any]:
        module, _compiled.module = _compiled.module, None
        parts_of_key = dict(hashes(key))
        if not is_hit and module is not None:
            with contextlib.suppress(Exception):  # a JAX whose programs are made otherwise: less is explained
                parts_of_key |= parts_of(module)
        return parts_of_key

    return parts


def _put_after_compile(plugged: _Plug, put: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Tell the DiskCache when a compile ends: JAX hands over its time cut to whole seconds."""
    plugged.cache.compiled()
    _compiled.executable = args[2] if len(args) > 2 else kwargs.get("executable")
    started = time.perf_counter()
    try:
        return put(*args, **kwargs)
    finally:
        _compiled.executable = None
        _jax.note_stored(time.perf_counter() - started)


def _answer_probe(plugged: _Plug, probe: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Answer a probe: JAX looks for profiled programs, mostly in vain, before it asks for the one that it will load."""
    key = args[1] if len(args) > 1 else kwargs.get("cache_key")
    return plugged.cache.contains(key) if isinstance(key, str) and key else probe(*args, **kwargs)


def _restore_cache(plugged: _Plug, _initialize: Callable[..., Any]) -> None:
    """Put the DiskCache back after a reset of JAX's cache: JAX would make a cache of its own, or none."""
    compilation_cache, _ = _modules()
    compilation_cache._cache, compilation_cache._cache_initialized = plugged.interface, True


def _release_lease(event: str, duration_secs: float, **_: object) -> None:
    """Let others compile what this thread has compiled and not put, or failed to compile."""
    plugged = _plugged  # once: another thread may close it meanwhile
    if event == "/jax/core/compile/backend_compile_duration" and plugged is not None:
        plugged.cache.release()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


monitoring.register_event_duration_secs_listener(_release_lease)
os.register_at_fork(after_in_child=_after_fork)


class _Parts(logging.Handler):
    """Log handler that collects, in each thread, the hash of each part of the key that JAX is making."""

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
    handler = next((handler for handler in logger.handlers if isinstance(handler, _Parts)), None)
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
