"""Memory that JAX's tracing leaves behind: kept with the entry that it was traced for, and freed with it.

JAX remembers what it traced weakly, by the Python function. An entry's own function is a closure that goes with the
entry, but ``jnp``'s functions live for ever, and with them 50 to 170 KiB a shape: their jaxprs, which only
``jax.clear_caches()`` would give back, and everybody compiles again after that. So while an entry is traced, those of
JAX's functions that it calls are known to JAX by stand-ins that go with the entry too. Outside of a build nothing of
JAX is changed; inside, other threads trace as ever. What a program's own inner ``jax.jit`` functions leave behind
stays, as it does under ``jax.jit``.

Where nothing has to go, since a cache has no limit, its builds share stand-ins, and trace ``jnp``'s functions once.

Besides, a few of JAX's caches of values computed from shapes grow with each shape. They are emptied now and then: what
they hold is computed again in microseconds, and nothing is traced or compiled for it.
"""

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_USES_OF_SHARED = 512  # two for a program; some 40 MiB may stay behind programs that have gone
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


_TRACES = (  # JAX's memories of traced functions beside the one that is patched
    ("ad_checkpoint", "_trace_to_jaxpr"),
    ("compute_on", "_trace_to_jaxpr"),
    ("custom_derivatives", "_closure_convert_for_avals"),
    ("interpreters.partial_eval", "_cached_trace_to_jaxpr"),
    ("lax.lax", "_reduction_jaxpr"),
    ("lax.lax", "_trace_composite_to_jaxpr"),
    ("lax.lax", "_variadic_reduction_jaxpr"),
    ("state.discharge", "_initial_style_jaxpr"),
)


StandIns = dict[Callable[..., Any], Callable[..., Any]]


class SharedTraces:
    """Stand-ins that builds share, so that the next one need not trace what one has traced of JAX's own functions.

    What was traced for them stays until others take their place, now and then, also where the entry has gone. So they
    are for a cache without a limit.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.clear()

    def clear(self) -> None:
        """Let go what was traced, as far as no entry needs it."""
        self._stand_ins: StandIns = {}
        self._uses = 0

    def use(self) -> StandIns:
        """Return the stand-ins for a tracing or lowering."""
        self._uses += 1
        if self._uses > _USES_OF_SHARED:
            self.clear()
        return self._stand_ins


class _Build(threading.local):
    """Stand-ins of this thread's build under way, by the function that they stand for."""

    stand_ins: StandIns | None = None
    shared: StandIns | None = None  # those that outlive the build
    anew = False  # whether the program's own functions have stand-ins too


_build = _Build()
_lock = threading.RLock()  # a signal handler may compile while this thread holds it
_under_way: list["weakref.ref[_Token]"] = []  # builds; weak, since an interrupt may keep one from taking itself out
_builds_since = 0


class _Token:
    """Build under way; it lives as long as the frame of :func:`own_traces` does."""


class _Patch:
    """Replacement of two of JAX's functions while something is built."""

    def __init__(self) -> None:
        """Bind; raises whatever shows that the installed JAX is another."""
        from jax._src import config, core, pjit, util
        from jax._src.interpreters import partial_eval

        if list(inspect.signature(pjit._infer_params).parameters) != ["fun", "ji", "args", "kwargs"]:
            raise TypeError("pjit._infer_params takes other arguments")
        if not callable(partial_eval.trace_to_jaxpr) or not callable(partial_eval.trace_to_jaxpr.evict_weakref):
            raise TypeError("partial_eval.trace_to_jaxpr is no weak cache")
        self._pjit: Any = pjit
        self._partial_eval: Any = partial_eval
        self._fun_name = util.fun_name
        self._at_top, self._folding = core.trace_state_clean, config.eager_constant_folding
        self._checks_leaks = config.check_tracer_leaks
        hash((self._at_top(), self._folding.value, self._checks_leaks.value))
        self._infer: Any = None
        self._trace: Any = None
        self._ours = (self._infer_params, _TraceToJaxpr(self))

    def may_apply(self) -> bool:
        """Return whether nobody looks at what tracing leaves behind, as ``jax.checking_leaks`` does."""
        return not self._checks_leaks.value

    def apply(self) -> None:
        """Take the place of what is there, JAX's own or another patch."""
        if self._pjit._infer_params is not self._ours[0]:
            self._infer, self._pjit._infer_params = self._pjit._infer_params, self._ours[0]
        if self._partial_eval.trace_to_jaxpr is not self._ours[1]:
            self._trace, self._partial_eval.trace_to_jaxpr = self._partial_eval.trace_to_jaxpr, self._ours[1]

    def undo(self) -> None:
        """Put back what was there, unless other code has replaced our functions."""
        if self._pjit._infer_params is self._ours[0]:
            self._pjit._infer_params = self._infer
        if self._partial_eval.trace_to_jaxpr is self._ours[1]:
            self._partial_eval.trace_to_jaxpr = self._trace

    def _infer_params(self, fun: Any, ji: Any, args: Any, kwargs: Any) -> Any:
        return self._infer(self.stand_in(fun), ji, args, kwargs)

    def stand_in(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        # Not for other threads, nor for what runs at once (the entry's own function, eager work on constants), nor for
        # the program's own functions: it may rely on their being traced once.
        if _build.stand_ins is None or self._at_top() or self._folding.value or not (_build.anew or _is_of_jax(fun)):
            return fun
        stand_ins = _build.stand_ins if _build.shared is None or not _lives_for_ever(fun) else _build.shared
        try:
            replacement = stand_ins.get(fun)
        except Exception:  # not hashable, or not comparable: JAX knows what to say
            return fun
        if replacement is None:
            replacement = _wrap(fun, self._fun_name(fun))
            stand_ins[fun] = stand_ins[replacement] = replacement
        return replacement


class _TraceToJaxpr:
    """JAX's cache of traces, asked for stand-ins."""

    def __init__(self, patch: _Patch) -> None:
        self._patch = patch

    def __call__(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        return self._patch._trace(self._patch.stand_in(fun), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._patch._trace, name)


def _bind() -> tuple[_Patch | None, str | None]:
    """Return what changes JAX for a build, and what is wrong, if anything is."""
    try:
        return _Patch(), None
    except Exception as error:  # more memory stays behind then, nothing else changes
        return None, f"{type(error).__name__}: {error}"


def _is_of_jax(fun: Callable[..., Any]) -> bool:
    while isinstance(fun, functools.partial):
        fun = fun.func
    return (getattr(fun, "__module__", None) or "").startswith("jax.")


def _lives_for_ever(fun: Callable[..., Any]) -> bool:
    """Return whether a function, or stand-in, of JAX is one of a module's, which holds nothing of the program's."""
    fun = getattr(fun, "_stands_for", fun)
    return isinstance(fun, types.FunctionType) and fun.__closure__ is None and "<locals>" not in fun.__qualname__


def _wrap(fun: Callable[..., Any], name: str) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return fun(*args, **kwargs)

    functools.update_wrapper(stand_in, fun).__name__ = name
    vars(stand_in)["_stands_for"] = fun
    return stand_in


def _bind_caches(names: Iterable[tuple[str, str]]) -> list[Callable[[], None]]:
    import importlib

    clears = []
    for module, name in names:
        try:
            clears.append(getattr(importlib.import_module(f"jax._src.{module}"), name).cache_clear)
        except Exception:  # another version: a little more memory stays behind
            continue
    return clears


_patch, FAULT = _bind()
_empty_value_caches = _bind_caches(_VALUE_CACHES)
_forget_traces = _bind_caches(_TRACES)


@contextmanager
def own_traces(*, anew: bool = False, shared: SharedTraces | None = None) -> Iterator[None]:
    """Have what this thread traces belong to what it builds, while this is open.

    Args:
        shared: Used for JAX's own functions; None has all that is traced go with what is built.
        anew: Whether the program's own functions are traced for this build alone as well, so that it depends on nothing
            that they have seen before.
    """
    if _patch is None or not _patch.may_apply():
        yield
        return
    outer, build = (_build.stand_ins, _build.shared, _build.anew), _Token()
    try:
        with _lock:
            _under_way.append(weakref.ref(build))
            _patch.apply()
        _build.stand_ins, _build.shared, _build.anew = {}, None if anew or shared is None else shared.use(), anew
        if anew:
            for forget in _forget_traces:  # nothing is compiled again for it
                forget()
        yield
    finally:
        _build.stand_ins, _build.shared, _build.anew = outer
        with _lock:
            _under_way[:] = [other for other in _under_way if other() not in (None, build)]
            if not _under_way:
                _patch.undo()


def is_held_here() -> bool:
    """Return whether this thread has the lock of the builds: a signal handler has interrupted it then."""
    return _lock._is_owned()  # pyright: ignore[reportAttributeAccessIssue]


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
    """Have this thread lower in an MLIR context of its own, while this is open.

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


def forget_values(*, now: bool = False) -> None:
    """Empty the caches of values, at every 16th call or at once: static arguments are in them too."""
    global _builds_since
    with _lock:
        _builds_since += 1
        due = now or _builds_since >= _BUILDS_BETWEEN
        if due:
            _builds_since = 0
    if due:
        for empty in _empty_value_caches:
            empty()
