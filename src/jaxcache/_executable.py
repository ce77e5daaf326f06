"""Lower, compile, measure bytes and seconds; drop the object and the memory is free again."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _jax

# The model of what a process gains for one held executable, fitted on CPU to what benchmarks/memory.py measures: a base
# for the objects around it, and so many bytes for each byte of the serialized program. Captured constants are held as
# they are.
BASE_BYTES = 180 * 1024
BYTES_PER_PAYLOAD_BYTE = 24
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Executable:
    """One compiled program.

    Attributes:
        call: Takes the function's arguments; behaves as ``jax.jit`` does.
        size_bytes: What holding it costs, see :func:`_size_bytes`; a multiple of 4096.
        constants_bytes: The captured constants' part of it.
        lowering_seconds: Tracing and lowering.
        compile_seconds: Compiling, or loading if ``from_disk``.
        from_disk: Whether JAX's persistent cache served it.
    """

    call: Callable[..., Any]
    size_bytes: int
    constants_bytes: int
    lowering_seconds: float
    compile_seconds: float
    from_disk: bool

    @property
    def seconds(self) -> float:
        """Seconds from the call to a program that can run: lowering and compiling or loading."""
        return self.lowering_seconds + self.compile_seconds


def _size_bytes(compiled: Any, constants_bytes: int) -> int:
    """Model the memory that a held executable takes.

    On an accelerator the generated code that the backend reports is added: it lives on the device.
    """
    payload = _jax.payload_bytes(compiled) or 0
    code = max(0, payload - constants_bytes)
    size = BASE_BYTES + BYTES_PER_PAYLOAD_BYTE * code + constants_bytes + _jax.reported_code_bytes(compiled)
    return -(-size // _PAGE) * _PAGE


def build(
    fun: Callable[..., Any], options: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Executable:
    """Compile ``fun`` for this call, without running it.

    The executable is held by a ``jax.jit`` of its own over a closure of its own. JAX's caches refer to both weakly
    through the closure, so that dropping the result frees everything, and a later call compiles again instead of
    being served out of a cache that nobody bounds. An AOT ``Compiled`` would be freed as well, but ignores weak types,
    matmul precision and the default device, silently.

    Raises:
        Exception: Whatever ``jax.jit(fun)(*args, **kwargs)`` raises before it runs.
    """

    @functools.wraps(fun)
    def closure(*args: Any, **kwargs: Any) -> Any:
        return fun(*args, **kwargs)

    jitted = _jax.jit(closure, **options)
    started = time.perf_counter()
    traced = jitted.trace(*args, **kwargs)
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    hits_before = _jax.persistent_hits()
    compiled = lowered.compile()
    compiled_at = time.perf_counter()
    _jax.forget_module(lowered)
    constants = getattr(getattr(traced, "jaxpr", None), "consts", ())
    constants_bytes = sum(int(getattr(constant, "nbytes", 0)) for constant in constants)
    return Executable(
        call=jitted,
        size_bytes=_size_bytes(compiled, constants_bytes),
        constants_bytes=constants_bytes,
        lowering_seconds=lowered_at - started,
        compile_seconds=compiled_at - lowered_at,
        from_disk=_jax.persistent_hits() > hits_before,
    )
