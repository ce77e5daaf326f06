"""Lower, compile, measure bytes and seconds; drop the object and the memory is free again."""

import functools
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _jax, _jax_tracing
from ._residents import Weight

# The model of what a process gains for one held executable, fitted on CPU to what benchmarks/memory.py measures: a base
# for the objects around it, and so many bytes for each byte of the serialized program. Captured constants are held as
# they are.
BASE_BYTES = 172 * 1024
BYTES_PER_PAYLOAD_BYTE = 25
# Likewise for memory mappings: three for the smallest program, one more for so many bytes of the serialized program.
BASE_MAPPINGS = 3
PAYLOAD_BYTES_PER_MAPPING = 2048
LARGE_CONSTANTS_BYTES = 1024**2  # from here on, a program is lowered apart from others
_PAGE = 4096
_MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
_SHARE_OF_MAPPINGS = 0.5  # what executables may take of them; the rest is for the program


@functools.cache
def mappings_limit() -> int | None:
    """Return how many memory mappings executables may take in this process; None where nobody counts them.

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
        weight: What holding it takes, by the model.
        constants_bytes: The captured constants' part of it.
        lowering_seconds: Tracing and lowering.
        compile_seconds: Compiling, or loading if ``from_disk``.
        storing_seconds: Of these, writing to the persistent cache.
        from_disk: Whether JAX's persistent cache served it.
    """

    call: Callable[..., Any]
    weight: Weight
    constants_bytes: int
    lowering_seconds: float
    compile_seconds: float
    storing_seconds: float
    from_disk: bool

    @property
    def seconds(self) -> float:
        """Seconds from the call to a program that can run: lowering and compiling or loading."""
        return self.lowering_seconds + self.compile_seconds

    @property
    def cost_seconds(self) -> float:
        """Seconds that making it again would take: what is on disk is not written again."""
        return self.seconds - self.storing_seconds


def _weigh(compiled: Any, constants_bytes: int) -> Weight:
    """Model what a held executable takes.

    On an accelerator the generated code that the backend reports is added: it lives on the device.
    """
    payload = _jax.payload_bytes(compiled) or 0
    code = max(0, payload - constants_bytes)
    size = BASE_BYTES + BYTES_PER_PAYLOAD_BYTE * code + constants_bytes + _jax.reported_code_bytes(compiled)
    return Weight(-(-size // _PAGE) * _PAGE, BASE_MAPPINGS + code // PAYLOAD_BYTES_PER_MAPPING)


class Program:
    """A function traced and lowered for one signature, to be compiled."""

    def __init__(
        self, fun: Callable[..., Any], options: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Trace and lower, without running anything.

        The executable will be held by a ``jax.jit`` of its own over a closure of its own. JAX's caches refer to both
        weakly through the closure, so that dropping the result frees everything, and a later call compiles again
        instead of being served out of a cache that nobody bounds. An AOT ``Compiled`` would be freed as well, but
        ignores weak types, matmul precision and the default device, silently.

        Raises:
            Exception: Whatever ``jax.jit(fun)(*args, **kwargs)`` raises before it compiles.
        """
        hash(fun)  # jax.jit refuses a function without a hash
        function: Any = weakref.ref(fun)  # whoever calls the program keeps the function

        @functools.wraps(fun, updated=())  # its attributes may lead back to what wraps it
        def closure(*args: Any, **kwargs: Any) -> Any:
            return function()(*args, **kwargs)

        self._jitted = _jax.jit(closure, **options)
        started = time.perf_counter()
        with _jax_tracing.own_traces():
            traced = self._jitted.trace(*args, **kwargs)
            constants = getattr(getattr(traced, "jaxpr", None), "consts", ())
            self._constants_bytes = sum(int(getattr(constant, "nbytes", 0)) for constant in constants)
            apart = self._constants_bytes >= LARGE_CONSTANTS_BYTES
            with _jax_tracing.own_module_context() if apart else nullcontext():
                self._lowered = traced.lower()
        self._lowering_seconds = time.perf_counter() - started
        del closure.__wrapped__  # JAX has read what it needs, and nothing here is to keep the function alive

    def compile(self) -> Executable:
        """Compile; other threads may lower and compile meanwhile.

        Raises:
            Exception: Whatever ``jax.jit`` raises when it compiles.
        """
        started, hits_before, stored_before = time.perf_counter(), _jax.persistent_hits(), _jax.stored_seconds()
        compiled = self._lowered.compile()
        compile_seconds = time.perf_counter() - started
        _jax.forget_module(self._lowered)
        _jax_tracing.forget_values()
        return Executable(
            call=self._jitted,
            weight=_weigh(compiled, self._constants_bytes),
            constants_bytes=self._constants_bytes,
            lowering_seconds=self._lowering_seconds,
            compile_seconds=compile_seconds,
            storing_seconds=_jax.stored_seconds() - stored_before,
            from_disk=_jax.persistent_hits() > hits_before,
        )
