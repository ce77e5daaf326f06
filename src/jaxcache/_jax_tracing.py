"""What JAX's tracing leaves behind: kept with the entry that it was traced for, and freed with it.

Private JAX, as ``_jax.py``, in a room of its own since it belongs together. JAX remembers what it traced weakly, by the
Python function. An entry's own function is a closure that goes with the entry, but ``jnp``'s functions, and whatever
else the program calls through ``jax.jit``, live for ever, and with them 50 to 170 KiB a shape: their jaxprs, which
only ``jax.clear_caches()`` would give back, and everybody compiles again after that. So while an entry is traced, its
inner functions are known to JAX by stand-ins that go with the entry too. Outside of a build nothing of JAX is changed;
inside, other threads trace as ever.

Besides, a few of JAX's caches of values computed from shapes grow with each shape. They are emptied now and then: what
they hold is computed again in microseconds, and nobody traces or compiles for it.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_BUILDS_BETWEEN = 16  # emptyings of the caches of values; up to 1.5 MiB gathers meanwhile, and one takes 2 ms

_VALUE_CACHES = (
    ("interpreters.partial_eval", "_cached_abstract_eval"),
    ("pjit", "_process_in_axis_resources"),
    ("pjit", "_check_and_canonicalize_out_shardings"),
    ("pjit", "create_meta_ty"),
    ("core", "get_sharding"),
    ("core", "update_aval_with_sharding"),
    ("interpreters.pxla", "is_default_layout"),
    ("sharding", "_common_shard_shape"),
    ("api", "_check_sharding"),
)


class _Build(threading.local):
    """This thread's: the stand-ins of the build under way, by the function they stand for."""

    stand_ins: dict[Callable[..., Any], Callable[..., Any]] | None = None


_build = _Build()
_lock = threading.Lock()
_builds_under_way = 0
_builds_since = 0


def _bind() -> tuple[Callable[[], None], Callable[[], None], str | None]:
    """Return what changes JAX for a build, what changes it back, and what is wrong, if anything is."""
    try:
        from jax._src import core, pjit, util
        from jax._src.interpreters import partial_eval

        infer, trace, at_top = pjit._infer_params, partial_eval.trace_to_jaxpr, core.trace_state_clean
        if list(inspect.signature(infer).parameters) != ["fun", "ji", "args", "kwargs"]:
            raise TypeError("pjit._infer_params takes other arguments")
        if not callable(trace) or not callable(trace.evict_weakref):
            raise TypeError("partial_eval.trace_to_jaxpr is no weak cache")
        fun_name = util.fun_name
    except Exception as error:  # more memory stays behind then, nothing else changes
        return _do_nothing, _do_nothing, f"{type(error).__name__}: {error}"

    def stand_in(fun: Callable[..., Any]) -> Callable[..., Any]:
        if _build.stand_ins is None or at_top():  # another thread; the entry's own function, or eager work
            return fun
        try:
            found = _build.stand_ins.get(fun)
        except TypeError:  # not hashable: JAX knows what to say
            return fun
        if found is None:
            found = _wrap(fun, fun_name(fun))
            _build.stand_ins[fun] = _build.stand_ins[found] = found
        return found

    def infer_params(fun: Any, ji: Any, args: Any, kwargs: Any) -> Any:
        return infer(stand_in(fun), ji, args, kwargs)

    class TraceToJaxpr:
        """The cache, asked for stand-ins."""

        def __call__(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
            return trace(stand_in(fun), *args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(trace, name)

    trace_to_jaxpr = TraceToJaxpr()

    def change() -> None:
        pjit._infer_params, partial_eval.trace_to_jaxpr = infer_params, trace_to_jaxpr

    def change_back() -> None:
        pjit._infer_params, partial_eval.trace_to_jaxpr = infer, trace

    return change, change_back, None


def _wrap(fun: Callable[..., Any], name: str) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return fun(*args, **kwargs)

    functools.update_wrapper(stand_in, fun).__name__ = name
    return stand_in


def _do_nothing() -> None:
    pass


def _bind_value_caches() -> list[Callable[[], None]]:
    import importlib

    found = []
    for module, name in _VALUE_CACHES:
        try:
            found.append(getattr(importlib.import_module(f"jax._src.{module}"), name).cache_clear)
        except Exception:  # another version: a little more memory stays behind
            continue
    return found


_change, _change_back, FAULT = _bind()
_empty_value_caches = _bind_value_caches()


@contextmanager
def own_traces() -> Iterator[None]:
    """While this is open, what this thread traces belongs to what it builds."""
    global _builds_under_way
    outer = _build.stand_ins
    with _lock:
        _builds_under_way += 1
        _change()
    try:
        _build.stand_ins = {}
        yield
    finally:
        _build.stand_ins = outer
        with _lock:
            _builds_under_way -= 1
            if not _builds_under_way:
                _change_back()


def _thread_context() -> Any:
    try:
        from jax._src.interpreters import mlir

        config: Any = getattr(mlir, "_thread_local_context")  # noqa: B009 -- what JAX 0.10 lacks, pyright would refuse
        config.set_local(config.get_local())
    except Exception:  # JAX 0.10 lowers each program in a context of its own
        return None
    return config


@contextmanager
def own_module_context() -> Iterator[None]:
    """While this is open, this thread lowers in an MLIR context of its own.

    From JAX 0.11 on, several programs share one, and what one of them holds, a constant above all, lives as long as
    any of their modules: those of the user's eager operations live for ever. A new context takes 2 ms.
    """
    config = _thread_context()
    if config is None:
        yield
        return
    shared = config.get_local()
    config.set_local(None)
    try:
        yield
    finally:
        config.set_local(shared)


def forget_values() -> None:
    """Empty the caches of values, at every 16th call."""
    global _builds_since
    with _lock:
        _builds_since += 1
        due = _builds_since >= _BUILDS_BETWEEN
        if due:
            _builds_since = 0
    if due:
        for empty in _empty_value_caches:
            empty()
