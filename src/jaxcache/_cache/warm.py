"""Compile ahead of the first call, several programs at a time."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from .._calls.description import Description
from .._calls.signature import Call, Key, Uncacheable
from .._primitives.checks import check_optional_whole_number
from .compiler import Compilable, Compiler
from .entries import PendingCompile


def warm(compiler: Compiler, dispatcher: Compilable, signatures: Iterable[Any], threads: int | None) -> int:
    """Do what ``CachedFunction.warm`` promises.

    Programs are traced and lowered in this thread, where the caller's configuration contexts hold, and since Python
    does that one at a time anyway; XLA compiles them in a pool. At most twice as many wait as are compiled at a time.
    """
    workers = check_optional_whole_number(threads, "threads") or os.cpu_count() or 1
    calls = _calls_by_key(dispatcher, signatures)
    pending: deque[Future[PendingCompile]] = deque()
    compiled = 0
    is_alone = not compiler.may_wait(dispatcher)
    with _Here() if is_alone else ThreadPoolExecutor(workers, thread_name_prefix="jaxcache-warm") as pool:
        for key, (call, description) in calls.items():
            while len(pending) >= 2 * workers:
                compiler.warn_of_misses(pending.popleft().result())
            future = compiler.compile_ahead(dispatcher, key, call, description, pool)
            if future is not None:
                pending.append(future)
                compiled += 1
        for future in pending:
            compiler.warn_of_misses(future.result())
    return compiled


class _Here(Executor):
    """Executor that works in the thread that submits, in a signal handler above all, which may wait for no other."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return what is done already; an exception is the submitter's."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _calls_by_key(dispatcher: Compilable, signatures: Iterable[Any]) -> dict[Key, tuple[Call, Description]]:
    calls: dict[Key, tuple[Call, Description]] = {}
    for signature in signatures:
        call = Call.of(signature)
        key, description = dispatcher.key_of(call.args, call.kwargs), None
        if key is not None:
            with contextlib.suppress(Uncacheable):
                description = dispatcher.describe(key, call.args, call.kwargs)
        if key is None or description is None:
            raise TypeError(
                "signatures must be of arrays or jax.ShapeDtypeStruct, outside of transformations and with jit "
                f"enabled, but one is {call}"
            )
        calls[key] = call, description
    return calls
