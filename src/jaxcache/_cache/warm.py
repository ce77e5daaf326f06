"""Compile ahead of the first call, several programs at a time."""

import contextlib
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .._calls.description import Description
from .._calls.misses import Miss
from .._calls.signature import Call, Key, Uncacheable
from .._jax.compile_events import caused_by
from .entries import PendingCompile
from .executable import NotLowerable

if TYPE_CHECKING:
    from .cached_function import Dispatcher


def warm(cached: "Dispatcher", signatures: Iterable[Any], threads: int | None) -> int:
    """Do what ``CachedFunction.warm`` promises.

    Programs are traced and lowered in this thread, where the caller's configuration contexts hold, and since Python
    does that one at a time anyway; XLA compiles them in a pool. At most twice as many wait as are compiled at a time.
    """
    workers = (os.cpu_count() or 1) if threads is None else threads
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"threads must be a whole number, 1 or more, or None, but is {threads!r}")
    calls = _calls_by_key(cached, signatures)
    pending: deque[Future[PendingCompile]] = deque()
    made = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="jaxcache-warm") as pool:
        for key, (call, description) in calls.items():
            while len(pending) >= 2 * workers:
                cached._cache._warn_of_misses(pending.popleft().result())
            compiling = _begin(cached, key, call, description, pool)
            if compiling is not None:
                pending.append(compiling)
                made += 1
        for compiling in pending:
            cached._cache._warn_of_misses(compiling.result())
    return made


def _calls_by_key(cached: "Dispatcher", signatures: Iterable[Any]) -> dict[Key, tuple[Call, Description]]:
    calls: dict[Key, tuple[Call, Description]] = {}
    for signature in signatures:
        call = Call.of(signature)
        key, description = cached._key_of(call.args, call.kwargs), None
        if key is not None:
            with contextlib.suppress(Uncacheable):
                description = cached._describe(key, call.args, call.kwargs)
        if key is None or description is None:
            raise TypeError(
                "signatures must be of arrays or jax.ShapeDtypeStruct, outside of transformations and with jit "
                f"enabled, but one is {call}"
            )
        calls[key] = call, description
    return calls


def _begin(
    cached: "Dispatcher", key: Key, call: Call, description: Description, pool: ThreadPoolExecutor
) -> "Future[PendingCompile] | None":
    """Lower a program and hand it to the pool; None if it is held, or under way elsewhere."""
    cache, flight = cached._cache, PendingCompile()
    within = cache._compiling.here()
    with cache._compiling.lock, flight.busy:
        try:
            if not cache._begin(cached, key, flight):
                return None
            cache._check_max_compiles(cached, key, description, flight, within)
            program = cached.program(key, call.args, call.kwargs)
            cause = cached._variants.cause(Miss(description.text, "warmed", "compiled ahead by warm"))

            def finish() -> PendingCompile:
                try:
                    with caused_by(lambda: cause):
                        executable = program.compile()
                    cache._keep(cached, key, description, executable, flight, requested=False)
                finally:
                    cache._finish(cached, key, flight)
                return flight

            flight.queued = pool.submit(finish)
        except NotLowerable as error:
            cache._finish(cached, key, flight)
            message = f"signatures must be of what can be compiled ahead of a call, but {call} is not"
            raise TypeError(message) from error
        except BaseException:
            cache._finish(cached, key, flight)
            raise
    return flight.queued
