"""Every private JAX interface that we touch, each checked once at import.

JAX offers no public way to ask whether it is tracing, which configuration a compilation depends on, or how large an
executable is. What is read from private modules is read in this package alone; ``FAULT`` says why an installed JAX
cannot be served, and the cache then hands every call to plain ``jax.jit``.
"""

import copy
import math
import operator
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
from jax import monitoring
from jax.experimental.layout import Format

from . import frames as frames  # what uses JAX hides our frames from it
from .versions import OLDEST

jit = jax.jit  # bound now: a program may replace jax.jit by cache.jit later
jitted_type = type(jit(lambda: None))
array_types: set[type] = set()  # the type of concrete arrays, once bound

# Read on every call, so bound directly; what stands here is replaced unless FAULT is set. ``trace_context`` is JAX's
# own key for tracing: x64, matmul precision, default device, mesh, …
is_top_level: Callable[[], bool] = bool
aval_of = operator.attrgetter("aval")
is_committed = operator.attrgetter("_committed")  # of a concrete array: its public property takes twice as long
trace_context: Callable[[], tuple[Hashable, ...]] = tuple
disable_jit: Any = None
enable_x64: Any = None


def _bind() -> str | None:
    """Bind the private interfaces; return what is wrong, or None."""
    global is_top_level, trace_context, disable_jit, enable_x64
    version = jax.__version_info__[:2]
    if version < OLDEST:
        return f"jaxcache needs JAX {'.'.join(map(str, OLDEST))} or newer, but this is {jax.__version__}"
    try:
        from jax._src import config, core
        from jax._src.array import ArrayImpl

        top_level, context = core.trace_state_clean, config.trace_context
        hash((top_level(), context()))
        disabled, x64 = config.disable_jit, config.enable_x64
        hash((disabled.value, x64.value, ArrayImpl.aval, ArrayImpl._committed))
    except Exception as error:  # whatever a future JAX does, the user's program must go on
        return f"jaxcache cannot serve JAX {jax.__version__} ({type(error).__name__}: {error})"
    is_top_level, trace_context = top_level, context
    disable_jit, enable_x64 = disabled, x64
    array_types.add(ArrayImpl)
    return None


FAULT: str | None = _bind()


def _clear_lowerings() -> Callable[[], None]:
    """Return what empties JAX's memory of lowered modules; where there is none, what does nothing."""
    try:
        from jax._src.interpreters import pxla

        return pxla._cached_lowering_to_hlo.cache_clear
    except Exception:  # more memory is held then, nothing else changes
        return lambda: None


_forget_lowerings = _clear_lowerings()


class _WhenCleared:
    """Member of JAX's list of caches, which hands ``jax.clear_caches()`` on."""

    def __init__(self) -> None:
        self.listeners: weakref.WeakSet[Any] = weakref.WeakSet()

    def cache_clear(self) -> None:
        for listener in list(self.listeners):
            listener.clear()

    def cache_info(self) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0  # hits, misses, limit, size: JAX's own debugging asks

    def cache_keys(self) -> list[Any]:
        return []


_when_cleared = _WhenCleared()


def _register_among_caches() -> bool:
    try:
        from jax._src import util

        util.register_cache(_when_cleared, "jaxcache")
    except Exception:  # what is compiled again after jax.clear_caches() counts as hits then, nothing else
        return False
    return True


HEARS_CLEAR_CACHES = _register_among_caches()


def clear_with_jax(listener: Any) -> None:
    """Have ``listener.clear()`` called whenever the program calls ``jax.clear_caches()``, for as long as it lives.

    JAX frees the executables of our entries too, and announces it nowhere.
    """
    _when_cleared.listeners.add(listener)


def listeners_to_clear() -> list[Any]:
    """Return the living listeners of :func:`clear_with_jax`: the compilers of all caches of the process."""
    return list(_when_cleared.listeners)


def context_names() -> tuple[str, ...]:
    """Return the names of what ``trace_context`` returns, in order; empty where JAX does not tell."""
    try:
        from jax._src import config

        return tuple(config.trace_context_names())
    except Exception:  # only the wording of an explanation depends on it
        return ()


def jit_quietly(fun: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Return ``jax.jit(fun, **options)`` without a word on options that the user has been warned of already."""
    if not options.keys() & {"device", "backend"}:
        return jit(fun, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return jit(fun, **options)


def taken_apart(jitted: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return what ``jax.jit`` was given: the function, and the options without those left out.

    Of ``pjit``, whose shardings mean something else to ``jax.jit``: itself, and what an outer ``jax.jit`` has to know.
    None where JAX does not tell.
    """
    try:
        info = jitted._jit_info
        names = ("static_argnums", "static_argnames", "donate_argnums", "donate_argnames")
        options = {name: getattr(info, name) for name in names if getattr(info, name)}
        if info.use_resource_env:
            return jitted, options
        options |= {name: getattr(info, name) for name in ("device", "backend") if getattr(info, name) is not None}
        options |= {"keep_unused": True} if info.keep_unused else {}
        if info.inline and getattr(info.inline, "name", None) != "AUTO":
            options["inline"] = info.inline
        if info.compiler_options_kvs:
            options["compiler_options"] = dict(info.compiler_options_kvs)
        for side in ("in", "out"):
            leaves, layouts = getattr(info, f"{side}_shardings_leaves"), getattr(info, f"{side}_layouts_leaves")
            if not (len(leaves) == 1 and type(leaves[0]).__name__ == "UnspecifiedValue"):
                treedef = getattr(info, f"{side}_shardings_treedef")
                options[f"{side}_shardings"] = treedef.unflatten(map(_with_layout, leaves, layouts))
        return jitted._fun, options
    except Exception:
        return None


def _with_layout(sharding: Any, layout: Any) -> Any:
    return sharding if layout is None else Format(layout, sharding)


def weakly_typed(array: jax.Array) -> jax.Array:
    """Return an array of the same buffers whose type gives way to others; where JAX does not allow that, as it is.

    JAX has no public way but a program, which would be compiled for each shape.
    """
    try:
        from jax._src.array import ArrayImpl

        aval: Any = array.aval
        buffers = [shard.data for shard in array.addressable_shards]
        return ArrayImpl(aval.update(weak_type=True), array.sharding, buffers, committed=is_committed(array))
    except Exception:  # who compares what comes of it finds another type
        return array


def payload_bytes(compiled: Any) -> int | None:
    """Return the length of the serialized executable; None where JAX itself would not serialize it, or cannot.

    XLA does not refuse a program with ordered effects or host callbacks, but may end the process over it. JAX's own
    persistent cache asks first (``jax._src.compiler``), and so do we; where nothing can be asked, the answer is no.
    """
    try:
        call = compiled._executable.unsafe_call
        if call.ordered_effects or call.has_host_callbacks:
            return None
        return len(compiled.runtime_executable().serialize())
    except Exception:  # some backends cannot serialize
        return None


_SMALLEST_CONSTANT = 1024  # bytes; those of numbers and index tables are the program's own, whatever it captures
_CONSTANT = re.compile(r" (pred|[a-z]+(\d+)\w*)\[([\d,]*)\]\S* constant\(")


class Contents(NamedTuple):
    """Parts of an optimized program, in bytes."""

    text_bytes: int  # without the values of constants
    proto_bytes: int  # serialized, with them; 0 where none is large
    constants_bytes: int  # of the large ones


def contents(compiled: Any) -> Contents | None:
    """Return what the optimized program of an AOT ``Compiled`` consists of; None where the backend does not show it."""
    try:
        return contents_of(compiled.runtime_executable())
    except Exception:
        return None


def contents_of(executable: Any) -> Contents | None:
    """Return what an executable's optimized program consists of; None where the backend does not show it.

    The constants are those that are left after XLA has copied and folded what the program captured.
    """
    try:
        modules = executable.hlo_modules()
        texts = [module.to_string() for module in modules]
        each = [_bytes_of(*match) for text in texts for match in _CONSTANT.findall(text)]
        constants = sum(size for size in each if size >= _SMALLEST_CONSTANT)
        # To serialize a program is to copy its constants: only if there are any worth looking at.
        protos = [len(module.as_serialized_hlo_module_proto()) for module in modules] if constants else [0]
        return Contents(sum(map(len, texts)), sum(protos), constants)
    except Exception:
        return None


def _bytes_of(kind: str, bits: str, lengths: str) -> int:
    return -(-int(bits or 8) * math.prod(map(int, filter(None, lengths.split(",")))) // 8)


def constant_arguments_bytes(lowered: Any) -> int:
    """Return the bytes of captured arrays that the program is called with (``JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS``)."""
    constants = getattr(getattr(lowered, "_lowering", None), "const_args", ())
    return sum(int(getattr(constant, "nbytes", 0)) for constant in constants)


def reported_code_bytes(compiled: Any) -> int:
    """Return the size of the generated code as the backend reports it; 0 where it does not (as on CPU)."""
    try:
        return int(compiled.memory_analysis().generated_code_size_in_bytes)
    except Exception:
        return 0


def forget_module(lowered: Any) -> None:
    """Free the MLIR module of a program that is compiled, which JAX keeps for as long as the function lives.

    It is most of what a small program weighs: see ``benchmarks/memory.py``, which holds entries against plain
    ``jax.jit``. The executable is cached beside it, so that only profile-guided recompilation would look at it again.
    JAX's other memory of lowered modules is emptied too, for all functions: it is asked only when a function that has
    been lowered is lowered again from scratch, and causes no compile.
    """
    lowering = getattr(lowered, "_lowering", None)
    profile_guided = getattr(jax.config, "jax_enable_pgle", True)
    if lowering is not None and getattr(lowering, "_executable", None) is not None and not profile_guided:
        lowering._hlo = None
        _forget_lowerings()


def own_module(traced: Any, lowered: Any) -> Any:
    """Return a lowered program whose MLIR module stays; None if that cannot be had.

    ``forget_module`` takes away that of a program that is compiled, and lowering it once more gives the same object.
    """
    try:
        lowering = lowered._lowering
        module = lowering._hlo
        if module is None:
            again: Any = jax.stages.Traced.lower(traced, _private_parameters=_parameters_of_their_own())
            module, again._lowering._hlo = again._lowering._hlo, None
            _forget_lowerings()
        lowered._lowering = copy.copy(lowering)
        lowered._lowering._hlo = module
    except Exception:
        return None
    return lowered


def _parameters_of_their_own() -> Any:
    """Return JAX's parameters for lowering, equal to no others, so that none of its caches has a module for them."""
    from jax._src.interpreters import mlir

    class Parameters(mlir.LoweringParameters):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    return Parameters()


def share_executable(compiled: Any, lowered: Any) -> None:
    """Give a lowered program the executable of another, equal program."""
    executable = getattr(getattr(compiled, "_lowering", None), "_executable", None)
    if executable is not None:
        lowered._lowering._executable = executable


class _Hits(threading.local):
    """Count of the persistent-cache hits that JAX announced in this thread."""

    count = 0


_hits = _Hits()


def _listen(event: str, **_: object) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _hits.count += 1


monitoring.register_event_listener(_listen)


def persistent_hits() -> int:
    """Return how many executables this thread has loaded from JAX's persistent cache so far."""
    return _hits.count


class _Stored(threading.local):
    seconds = 0.0


_stored = _Stored()


def note_stored(seconds: float) -> None:
    """Add the seconds that this thread has spent on storing an executable, within a compile."""
    _stored.seconds += seconds


def stored_seconds() -> float:
    """Return how long this thread has spent on storing executables so far."""
    return _stored.seconds
