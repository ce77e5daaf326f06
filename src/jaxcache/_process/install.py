"""install: every ``jax.jit`` that is made from here on, in whatever library, is that of one cache."""

import dataclasses
import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from .._cache.executable import BASE_BYTES
from .._cache.jit_cache import JitCache
from .._cache.stats import CacheStats
from .._calls.misses import listed
from .._jax import interfaces as _jax
from .._jax.jit_names import BoundName, bound_names, jitted_names, replace_jit, with_function
from .._jax.notices import warn
from .._policies import Policy
from .._primitives.sizes import format_size, parse_size
from .._replay.costs import Cost
from .outside_programs import OutsidePrograms

_OF_THE_CACHE = {"key", "max_compiles"}  # options of cache.jit that jax.jit does not have

_lock = threading.RLock()
_installed: "_Installation | None" = None


class ProcessCache(JitCache):
    """The cache of a process, behind every ``jax.jit`` that was made since it was installed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._outside = OutsidePrograms(self)

    def stats(self) -> CacheStats:
        """Return what was counted so far, of the cache and of what JAX itself holds."""
        programs, size_bytes = self._outside.held()
        return dataclasses.replace(
            super().stats(), jax_programs=programs, jax_bytes=size_bytes, jax_releases=self._outside.releases
        )

    def uninstall(self) -> None:
        """Give ``jax.jit`` back, if this cache has it; functions that it has made go on."""
        _uninstall(self)


class _Installation:
    """A cache in the place of ``jax.jit``, and what stood there before."""

    def __init__(self, cache: ProcessCache, packages: Sequence[str]) -> None:
        self.cache = cache
        self.original = jax.jit
        self.jit = _stand_in(cache, self.original, tuple(packages))
        self.names: list[BoundName] = []

    def begin(self) -> None:
        """Take the place of ``jax.jit``, also where modules have bound it; warn of these."""
        self.cache._outside.begin()
        before = bound_names(self.original)
        replace_jit(self.jit, self.original)
        self.names = [bound for bound in before if bound.rebind(with_function(bound.value, self.jit), bound.value)]
        others = [bound for bound in before if bound not in self.names]
        _warn_of(self.names, others, [] if not before else jitted_names())

    def end(self) -> None:
        """Give back what is still in our place, partials that were made meanwhile too."""
        self.cache._outside.end()
        replace_jit(self.original, self.jit)
        for bound in bound_names(self.jit):
            before = next((each for each in self.names if each[:2] == bound[:2]), None)
            bound.rebind(with_function(bound.value, self.original) if before is None else before.value, bound.value)


def _stand_in(cache: ProcessCache, original: Callable[..., Any], packages: tuple[str, ...]) -> Callable[..., Any]:
    """Return what is called, looks and travels as ``jax.jit``, and is ``cache.jit``, by code for some packages."""

    def cached(fun: Any, **options: Any) -> Any:
        return cache.jit(fun, code_key=_is_of(fun, packages), **options)

    @functools.wraps(original)
    def jit(*fun: Any, **options: Any) -> Any:
        if len(fun) > 1 or options.keys() & _OF_THE_CACHE:
            return original(*fun, **options)  # which refuses it
        return cached(*fun, **options) if fun else functools.partial(cached, **options)

    jit.__module__, jit.__qualname__ = "jax", "jit"  # under which pickle finds it, and in other processes their own
    return jit


def _is_of(fun: Any, packages: tuple[str, ...]) -> bool:
    """Return whether a function, or what a partial of it calls, was defined in one of some packages or modules."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    module = getattr(inspect.unwrap(fun) if callable(fun) else fun, "__module__", None)
    return isinstance(module, str) and any(f"{module}.".startswith(f"{package}.") for package in packages)


def _warn_of(served: list[BoundName], others: list[BoundName], jitted: list[BoundName]) -> None:
    """Warn, once, of what was bound or jitted before."""
    if not served and not others:
        return
    parts = [f"{listed(bound.text for bound in served)} had bound jax.jit before, and now have that of the cache"] * (
        bool(served)
    )
    parts += [f"{listed(bound.text for bound in others)} keep jax.jit"] * bool(others)
    parts += [
        f"what {listed(bound.text for bound in jitted)}, jitted before, compile is evicted as a whole, not one by one"
    ] * bool(jitted)
    warn(f"jaxcache.install: {'; '.join(parts)}. Install before such modules are imported", RuntimeWarning)


def install(
    limit: int | str | None = None,
    eviction: str | Policy = "gdsf",
    *,
    record: str | os.PathLike[str] | None = None,
    seed: int = 0,
    costs: Mapping[str, Cost] | str | os.PathLike[str] | None = None,
    max_compiles: int | None = None,
    code_key: Sequence[str] = (),
    enabled: bool = True,
) -> ProcessCache:
    """Put a cache behind every ``jax.jit`` that is made from now on, whichever library makes it.

    Call it before the libraries are imported. Modules that have bound ``jax.jit`` already get that of the cache, and a
    warning names them.

    Args:
        limit: Bytes of all programs of the process, such as ``"2GiB"``; None is no limit.
        eviction: A name in ``jaxcache.POLICIES``, or an object with the methods of ``jaxcache.Policy``.
        record: A directory to be made, such as ``"trace.parquet"``, that requests are written to.
        seed: For policies that draw.
        costs: A cost table, or the path of one.
        max_compiles: The most programs that functions of the cache may make; ``no_compiles(allow=…)`` bounds those of
            the whole process.
        code_key: Packages or modules, such as ``["mypkg", "__main__"]``, whose functions start without tracing where
            the shared directory has their programs, as those of ``cache.jit(…, code_key=True)``.
        enabled: False hands every call to ``jax.jit`` itself.

    Returns:
        The cache, for its ``stats()``, ``explain()`` and ``uninstall()``.

    Raises:
        RuntimeError: If there is one already, or the call is within a function that JAX traces.
        ValueError: If an argument is out of range, or no program fits the limit.
        TypeError: If ``eviction`` is neither a name nor a policy, or ``code_key`` is no sequence of names.
        OSError: If a file cannot be read, or what ``record`` names is there already or cannot be made.
        ImportError: If ``record`` is given and pyarrow is missing.
    """
    global _installed
    with _lock:
        if _installed is not None:
            raise RuntimeError(
                f"install was called twice: {_installed.cache!r} is installed; call jaxcache.uninstall() first"
            )
        if not _jax.FAULT and not _jax.is_top_level():
            raise RuntimeError(
                "install must be called outside of functions that JAX traces, but is called within one; call it at the "
                "start of the program"
            )
        check_limit(limit, "limit")
        if isinstance(code_key, str) or not all(isinstance(package, str) for package in code_key):
            raise TypeError(f'code_key must be a list of names, such as ["mypkg"], but is {code_key!r}')
        cache = ProcessCache(
            limit, eviction, record=record, seed=seed, costs=costs, max_compiles=max_compiles, enabled=enabled
        )
        installation = _installed = _Installation(cache, code_key)
        installation.begin()
        return cache


def check_limit(limit: int | str | None, name: str) -> None:
    """Refuse a limit that the smallest program does not fit.

    Raises:
        ValueError: With the argument's name.
    """
    if limit is not None and parse_size(limit, name) < BASE_BYTES:
        raise ValueError(
            f"{name} must hold at least the smallest program, {format_size(BASE_BYTES)}, but is {limit}; "
            "some hundred programs take 64MiB"
        )


def uninstall() -> None:
    """Give ``jax.jit`` back; functions made meanwhile go on with the cache. Does nothing if none is installed."""
    _uninstall(None)


def _uninstall(cache: ProcessCache | None) -> None:
    """End an installation: that of ``cache``, or any."""
    global _installed
    with _lock:
        installation = _installed
        if installation is None or (cache is not None and installation.cache is not cache):
            return
        _installed = None
        installation.end()


def installed_cache() -> ProcessCache | None:
    """Return the cache that is installed."""
    installation = _installed
    return None if installation is None else installation.cache


@contextmanager
def installed(
    limit: int | str | None = None, eviction: str | Policy = "gdsf", **settings: Any
) -> Iterator[ProcessCache]:
    """Install a cache for a while: ``with jaxcache.installed("2GiB") as cache``. At the end it is cleared.

    Args:
        limit: As for :func:`install`.
        eviction: As for :func:`install`.
        **settings: What else :func:`install` takes.

    Yields:
        The cache.
    """
    with install(limit, eviction, **settings) as cache:
        try:
            yield cache
        finally:
            cache.uninstall()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
