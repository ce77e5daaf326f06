"""Executables: lower, compile, measure bytes and seconds; dropping the object frees the memory."""

import functools
import time
import types
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import jax

from .._calls.signature import Uncacheable
from .._jax import interfaces, tracing
from .._jax.fast_dispatch import Ask, jit_like
from .._policies.bounded_set import Weight

# The model of what a process gains for one held executable, fitted on CPU to what benchmarks/memory.py measures: a base
# for the objects around it, and so many bytes for each byte of the serialized program. Constants are held as they are
# in the optimized program: XLA folds some away, and has a copy of others for each branch that uses them.
BASE_BYTES = 172 * 1024
BYTES_PER_PAYLOAD_BYTE = 25
# Likewise for memory mappings: three for the smallest program, one more for so many bytes of the serialized program.
BASE_MAPPINGS = 3
PAYLOAD_BYTES_PER_MAPPING = 2048
# A program that cannot be serialized, such as one with host callbacks, counts as long as others with so much text.
PAYLOAD_BASE_BYTES = 4096
PAYLOAD_BYTES_PER_TEXT_BYTE = 2
LARGE_CONSTANTS_BYTES = 1024**2  # from here on, a program is lowered apart from others
# What JAX itself holds has its MLIR module beside it; up to JAX 0.10 each of them with a context of its own.
JAX_HOLDS_BYTES = (1150 if jax.__version_info__[:2] < (0, 11) else 64) * 1024
_BEHIND = "_jaxcache_function"  # attribute of a closure: a weak reference to what it calls
_PAGE = 4096
_MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
_SHARE_OF_MAPPINGS = 0.5  # for executables; the other half is for the program


@functools.cache
def mappings_limit() -> int | None:
    """Return how many memory mappings executables may take in this process; None where the system counts none.

    A process that runs out of them dies in the middle of a compile.
    """
    try:
        return int(int(_MAX_MAP_COUNT.read_text()) * _SHARE_OF_MAPPINGS)
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Executable:
    """One compiled program.

    Attributes:
        call: Takes the function's arguments; behaves as ``jax.jit`` does.
        weight: Bytes and memory mappings that holding it takes, by the model.
        constants_bytes: The constants' part of it.
        lowering_seconds: Tracing and lowering.
        compile_seconds: Compiling, or loading if ``from_disk``.
        storing_seconds: Of these, writing to the persistent cache.
        from_disk: Whether JAX's persistent cache served it.
        ask_for: Serves a call in the place of ``call`` where the program was loaded without tracing.
    """

    call: Callable[..., Any]
    weight: Weight
    constants_bytes: int
    lowering_seconds: float
    compile_seconds: float
    storing_seconds: float
    from_disk: bool
    ask_for: Ask | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the call to a program that can run: lowering and compiling or loading."""
        return self.lowering_seconds + self.compile_seconds

    @property
    def cost_seconds(self) -> float:
        """Seconds that recompiling it would take: an entry on disk is not written again."""
        return self.seconds - self.storing_seconds


def _weigh(compiled: Any, constant_arguments_bytes: int) -> tuple[Weight, int]:
    """Model the weight of a held executable; return it, and the constants' part of its bytes.

    On an accelerator the generated code that the backend reports is added: it lives on the device.
    """
    parts, payload = interfaces.contents(compiled), interfaces.payload_bytes(compiled)
    constants = constant_arguments_bytes + (parts.constants_bytes if parts else 0)
    code = _code_bytes(parts, payload)
    size = BASE_BYTES + BYTES_PER_PAYLOAD_BYTE * code + constants + interfaces.reported_code_bytes(compiled)
    weight = Weight(-(-size // _PAGE) * _PAGE, BASE_MAPPINGS + code // PAYLOAD_BYTES_PER_MAPPING)
    return weight, constants


def weigh_outside(executable: Any) -> Weight:
    """Model what a program takes that no cache holds, but JAX itself; serializing it would be too slow for a small one.

    Args:
        executable: As the compiler returns it.
    """
    parts = interfaces.contents_of(executable)
    code = _code_bytes(parts, None)
    size = BASE_BYTES + JAX_HOLDS_BYTES + BYTES_PER_PAYLOAD_BYTE * code + (parts.constants_bytes if parts else 0)
    return Weight(size, BASE_MAPPINGS + code // PAYLOAD_BYTES_PER_MAPPING)


def _code_bytes(parts: "interfaces.Contents | None", payload: int | None) -> int:
    """Return how long the serialized program is, without its constants.

    The length of a serialized constant depends on its type and values; but the text has no constants, and is otherwise
    as long as the serialized program, give or take a fifth.
    """
    if parts is None:
        return payload or 0
    if payload is None:
        return PAYLOAD_BASE_BYTES + PAYLOAD_BYTES_PER_TEXT_BYTE * parts.text_bytes
    return max(0, payload - max(0, parts.proto_bytes - parts.text_bytes))


class NotLowerable(Uncacheable):
    """The program was traced, but cannot be lowered ahead of its call, which ``jax.jit`` may still be able to run."""


class OwnJit:
    """A ``jax.jit`` of a function for one signature, whose traces and executable go with it.

    It is over a closure of its own. JAX's caches refer to both weakly through the closure, so that dropping the result
    frees everything, and a later call compiles again instead of being served out of a cache that nobody bounds. An AOT
    ``Compiled`` would be freed as well, but ignores weak types, matmul precision and the default device, silently.

    Attributes:
        call: Takes the function's arguments; behaves as ``jax.jit`` does, also for tracers.
        seconds: Spent so far on tracing and lowering here.
        anew: Whether functions within it are traced again too, whenever JAX has traced them before.
        shared: Traces of JAX's own functions that it shares with others; None if all its traces go with it.
    """

    __slots__ = ("anew", "call", "seconds", "shared")

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call: Any = call
        self.seconds = 0.0
        self.anew = False
        self.shared: tracing.SharedTraces | None = None

    @classmethod
    def over(cls, fun: Callable[..., Any], options: Mapping[str, Any], jitted: Any = None) -> Self:
        """Wrap ``fun``, which the caller of the result has to keep alive.

        Args:
            fun: The function.
            options: Those of ``jax.jit``.
            jitted: ``jax.jit(fun, **options)``, if there is one; it can be copied without a lock of JAX's.

        Raises:
            TypeError: If ``jax.jit`` refuses the function, such as one without a hash.
        """
        hash(fun)
        function: Any = weakref.ref(fun)

        @functools.wraps(fun, updated=())  # its attributes may lead back to what wraps it
        def closure(*args: Any, **kwargs: Any) -> Any:
            return function()(*args, **kwargs)

        try:
            own_jit = cls(jit_like(jitted, closure))
        except Exception:  # there is none, or JAX has changed
            own_jit = cls(interfaces.jit_quietly(closure, options))
        del closure.__wrapped__  # JAX has read what it needs, and nothing here is to keep the function alive
        vars(closure)[_BEHIND] = function
        return own_jit

    def trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what ``jax.jit(fun).trace`` does; traced once.

        Raises:
            Exception: What ``jax.jit`` raises for such a call before it compiles.
        """
        started = time.perf_counter()
        try:
            with tracing.own_traces(anew=self.anew, shared=self.shared):
                return self.call.trace(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - started

    def lower(self, traced: Any) -> Any:
        """Return what ``jax.jit(fun).lower`` does.

        Raises:
            NotLowerable: If that raises. What ``jax.jit`` raises when it is called may be something else, or nothing.
        """
        started = time.perf_counter()
        constants = getattr(getattr(traced, "jaxpr", None), "consts", ())
        apart = sum(int(getattr(constant, "nbytes", 0)) for constant in constants) >= LARGE_CONSTANTS_BYTES
        try:
            with (
                tracing.own_traces(anew=self.anew, shared=self.shared),
                tracing.own_module_context() if apart else nullcontext(),
            ):
                return jax.stages.Traced.lower(traced)
        except Exception as error:
            raise NotLowerable from error
        finally:
            self.seconds += time.perf_counter() - started


def function_behind(function: Any) -> Any:
    """Return the function that the closure of an :class:`OwnJit` calls; anything else as it is."""
    reference = vars(function).get(_BEHIND) if isinstance(function, types.FunctionType) else None
    return function if reference is None else reference() or function


class Buildable(Protocol):
    """Program of one signature that is to be compiled, or was loaded."""

    def compile(self) -> Executable:
        """Return the executable."""
        ...


class Program:
    """A function traced and lowered for one signature, to be compiled.

    Attributes:
        lowered: JAX's ``Lowered``.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        options: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        own_jit: OwnJit | None = None,
    ) -> None:
        """Trace and lower, without running anything; by ``own_jit`` if the signature was traced before.

        Raises:
            NotLowerable: If what is traced cannot be lowered ahead of the call.
            Exception: Whatever ``jax.jit(fun)(*args, **kwargs)`` raises before it compiles.
        """
        self._own_jit = own_jit or OwnJit.over(fun, options)
        self.lowered = self._own_jit.lower(self._own_jit.trace(args, kwargs))

    def compile(self) -> Executable:
        """Compile; other threads may lower and compile meanwhile.

        Raises:
            Exception: Whatever ``jax.jit`` raises when it compiles.
        """
        started, hits_before, stored_before = (
            time.perf_counter(),
            interfaces.persistent_hits(),
            interfaces.stored_seconds(),
        )
        compiled = self.lowered.compile()
        compile_seconds = time.perf_counter() - started
        weight, constants_bytes = _weigh(compiled, interfaces.constant_arguments_bytes(self.lowered))
        interfaces.forget_module(self.lowered)
        tracing.forget_values()
        return Executable(
            call=self._own_jit.call,
            weight=weight,
            constants_bytes=constants_bytes,
            lowering_seconds=self._own_jit.seconds,
            compile_seconds=compile_seconds,
            storing_seconds=interfaces.stored_seconds() - stored_before,
            from_disk=interfaces.persistent_hits() > hits_before,
        )
