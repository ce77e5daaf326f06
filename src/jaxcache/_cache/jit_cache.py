"""JitCache: face of the memory tier. Hits are in ``cached_function``, misses in ``compiler``, counts in ``state``."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, overload

from .._calls.misses import Explanation
from .._jax import interfaces
from .._policies import Policy, policy_maker
from .._policies.bounded_set import BoundedSet
from .._primitives.checks import check_optional_whole_number, check_seed, check_share
from .._primitives.sizes import format_size, parse_size
from .._replay.costs import Cost, CostTable
from .cached_function import CachedFunction, Dispatcher
from .compiler import Compiler
from .executable import mappings_limit
from .front import call_behind, dispatcher_behind
from .recorded_function import RecordedDispatcher, RecordedFunction
from .recorder import Recorder
from .settings_file import check_buckets, read_settings
from .state import CacheState
from .stats import CacheStats

_DECORATOR = object()  # a default for the function, which a decorator gets later


class JitCache:
    """A cache of compiled JAX programs with a limit in bytes.

    ``cache.jit(f)`` replaces ``jax.jit(f)``: same arguments, same results, same errors. Programs are held until the
    limit is reached; then the eviction policy chooses entries to drop, and their memory is really freed.

    Threads may share a cache. No thread holds its lock while XLA compiles, and equal calls that miss at the same time
    compile once. As a context manager it clears itself at the end.
    """

    def __init__(
        self,
        limit: int | str | None = None,
        eviction: str | Policy = "lru",
        *,
        seed: int = 0,
        costs: Mapping[str, Cost] | str | os.PathLike[str] | None = None,
        max_compiles: int | None = None,
        enabled: bool = True,
        record: str | os.PathLike[str] | None = None,
        buckets: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Make an empty cache.

        Args:
            limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit. The weight of an entry is
                modelled, see ``_cache/executable.py``. Memory mappings, which Linux bounds, have their own limit: half
                of ``vm.max_map_count``.
            eviction: A name in ``jaxcache.POLICIES``, or an object with the methods of ``jaxcache.Policy``.
            seed: For policies that use random numbers.
            costs: A cost table, or the path of one, from ``cache.costs()`` of an earlier run. Signatures in it have
                these weights and costs, so that decisions repeat; others those that are measured first.
            max_compiles: For tests and CI: a call that would make more programs than this raises
                :class:`CompileLimitExceeded`, which says why it missed. None for no such limit.
            enabled: False hands every call to ``jax.jit`` itself, counted as bypassed: to see whether the cache causes
                a problem, or how much it gains, without another change to the program.
            record: A directory to be made, such as ``"trace.parquet"``: every request is written there, for
                :meth:`jaxcache.Trace.load`, until the cache is left as a context manager or the program ends. A
                crash loses the requests of the last half minute. Needs pyarrow, unless its name ends in ``.npz``; to
                load it takes pyarrow either way. None for no recording.
            buckets: Lengths that :func:`jaxcache.bucketed` pads a function to where it is not given any, by the
                function's name; ``"*"`` is any other function.

        Raises:
            ValueError: If an argument is out of range; the message says what to write.
            TypeError: If ``eviction`` is neither a name nor a policy.
            OSError: If the cost table cannot be read, or what ``record`` names is there already or cannot be made.
            ImportError: If ``record`` is given and pyarrow is missing; the message names the extra to install.
        """
        limit_bytes = None if limit is None else parse_size(limit, "limit")
        cost_table = CostTable(costs) if costs is None or isinstance(costs, Mapping) else CostTable.load(costs)
        seed = check_seed(seed)
        residents = BoundedSet(policy_maker(eviction, seed), limit_bytes, mappings_limit())
        max_compiles = _check_max_compiles(max_compiles)
        self._buckets = check_buckets(buckets, "buckets")
        name = eviction if isinstance(eviction, str) else type(eviction).__name__
        setting = {"eviction": name, "limit_bytes": limit_bytes, "mappings_limit": mappings_limit(), "seed": seed}
        self._recorder = None if record is None else Recorder(record, setting)
        self._state = CacheState(residents, cost_table, self._recorder)
        self._compiler = Compiler(self._state, max_compiles, enabled=enabled, recorder=self._recorder)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Make a cache with the settings that a file recommends, such as the best.yaml of ``flows.tune``.

        They are its limit, its policy, and the buckets that :func:`jaxcache.bucketed` takes from it.

        Args:
            path: Of the file, see ``_cache/settings_file.py``.
            **settings: Other arguments of the constructor, or values that override those of the file.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it holds no such settings; the message names the key.
            ImportError: If PyYAML is missing.
        """
        return cls(**{**read_settings(path), **settings})

    @property
    def limit_bytes(self) -> int | None:
        """The limit; None if there is none."""
        return self._state.residents.limit_bytes

    @property
    def buckets(self) -> Mapping[str, tuple[int, ...]]:
        """Lengths to pad to by a function's name, as given; ``"*"`` is any other function."""
        return self._buckets

    @property
    def recording_fault(self) -> str | None:
        """What ended the recording before the program did; None if nothing has, or nothing is recorded."""
        return None if self._recorder is None else self._recorder.fault

    @overload
    def jit(self, fun: Callable[..., Any], /, **options: Any) -> CachedFunction: ...
    @overload
    def jit(self, /, **options: Any) -> Callable[[Callable[..., Any]], CachedFunction]: ...
    def jit(
        self,
        fun: Any = _DECORATOR,
        /,
        *,
        key: Callable[..., Any] | None = None,
        max_compiles: int | None = None,
        code_key: bool = False,
        verify: float = 0.05,
        **options: Any,
    ) -> CachedFunction | Callable[[Callable[..., Any]], CachedFunction]:
        """Return ``fun`` as a function compiled on demand and held by this cache.

        Works as a decorator, as a decorator with arguments, and as a call.

        Args:
            fun: A function, as ``jax.jit`` takes it.
            key: Replaces the signature: called with the arguments, it returns something hashable. Calls with equal
                keys share an entry; if they differ in shape, that entry compiles for each and weighs more than it says.
            max_compiles: As for the cache, but for this function.
            code_key: Whether programs are looked up in the shared directory by the function's code and all that it
                reaches, before anything is traced. Needs ``jaxcache.use_directory``; what cannot be looked up so is
                traced, and :meth:`explain` says why.
            verify: Of ``code_key``: share of the programs loaded that are traced in the background and compared, from 0
                to 1. Each is so once for every state of the source files, whatever the share.
            **options: Options of ``jax.jit``: ``static_argnums``, ``static_argnames``, ``donate_argnums``, …
        """
        if fun is _DECORATOR:
            return functools.partial(
                self.jit, key=key, max_compiles=max_compiles, code_key=code_key, verify=verify, **options
            )
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function of the arguments, but is {key!r}")
        max_compiles, verify = _check_max_compiles(max_compiles), check_share(verify, "verify")
        if code_key and key is not None:
            raise ValueError("key must be None with code_key=True, which looks programs up by their whole signature")
        if code_key and interfaces.FAULT is None:
            from .code_keyed import code_keyed_function  # here: few programs need what it imports

            return code_keyed_function(self._compiler, fun, max_compiles, verify, options, self._recorder)
        if self._recorder is None:
            return CachedFunction(Dispatcher(self._compiler, fun, key, max_compiles, options), fun)
        return RecordedFunction(
            RecordedDispatcher(self._compiler, fun, key, max_compiles, options, self._recorder), fun
        )

    def stats(self) -> CacheStats:
        """Return the counts so far, as one consistent snapshot."""
        return self._state.stats()

    def costs(self) -> CostTable:
        """Return the weight and the cost of each signature, for ``JitCache(costs=…)`` of a later run.

        Of signatures that are not held, it has the last 4096 of each function, and of functions that were freed.
        """
        return self._state.costs()

    def explain(self, fun: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """Say whether a call would be a hit or a miss, and why. Nothing is run, compiled or counted.

        Args:
            fun: A function from ``cache.jit``, as a method too; a bucketed function, a loop or a step.
            *args: The call's arguments; ``jax.ShapeDtypeStruct`` may stand for arrays.
            **kwargs: The call's keyword arguments.

        Raises:
            TypeError: If ``fun`` is not from ``cache.jit`` of this cache.
        """
        dispatcher = self._dispatcher_behind(fun)
        return dispatcher.explain(*call_behind(fun, args, kwargs))

    def clear(self, fun: Callable[..., Any] | None = None) -> None:
        """Free all entries, or those of one function. Counters stay."""
        self._compiler.clear(None if fun is None else self._dispatcher_behind(fun).function)

    def _dispatcher_behind(self, fun: Callable[..., Any]) -> Dispatcher:
        """Return the dispatcher of a function of this cache, or of one that a bucketed function, a loop, … calls."""
        dispatcher = dispatcher_behind(fun)
        if dispatcher is None or dispatcher.compiler is not self._compiler:
            raise TypeError(f"fun must be a function from jit of this cache, such as f = cache.jit(g), but is {fun!r}")
        return dispatcher

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._compiler.warn_of_recording()
        self.clear()

    def __repr__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else format_size(self.limit_bytes)
        return f"<JitCache {len(self._state)} entries, {format_size(self._state.residents.live_bytes)} of {limit}>"


def check_cache(cache: Any) -> JitCache:
    """Return the argument ``cache``: a :class:`JitCache`, or an object whose ``jit`` stands for its.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(cache, type) or not callable(getattr(cache, "jit", None)):
        raise TypeError(f'cache must be a JitCache, such as JitCache("64MiB"), but is {cache!r}')
    return cache


def cache_or_new(cache: Any) -> JitCache:
    """Return the argument ``cache``, or a new one without a limit if it is None.

    Raises:
        TypeError: If it is neither.
    """
    return JitCache() if cache is None else check_cache(cache)


def _check_max_compiles(value: object) -> int | None:
    return check_optional_whole_number(value, "max_compiles", 0)
