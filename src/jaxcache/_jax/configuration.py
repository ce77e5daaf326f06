"""Configuration of JAX and XLA on which a program may depend, as names and values."""

import os
from typing import Any

import jax

from . import interfaces

_WITHOUT_EFFECT = (
    "jax_array_garbage_collection_guard",
    "jax_captured_constants_",
    "jax_compilation_cache_",
    "jax_debug_leaked_",
    "jax_debug_log_modules",
    "jax_distributed_",
    "jax_dump_ir_",
    "jax_enable_compilation_cache",
    "jax_explain_cache_misses",
    "jax_hlo_source_file_",
    "jax_include_debug_info_in_dumps",
    "jax_include_full_tracebacks_",
    "jax_log",
    "jax_mtls_",
    "jax_persistent_cache_",
    "jax_platform_name",  # the devices are known otherwise
    "jax_platforms",
    "jax_pprint_",
    "jax_raise_persistent_cache_errors",
    "jax_source_url_",
    "jax_traceback_",
    "jax_tracer_error_",
)  # beginnings of the names of settings that change what is logged or stored, and no program
_SUPERVISING = (
    "jax_check_tracer_leaks",
    "jax_debug_infs",
    "jax_debug_key_reuse",
    "jax_debug_nans",
    "jax_enable_pgle",
    "jax_no_execution",
)  # under which JAX watches a program being traced, run or profiled
_VARIABLES = ("XLA_", "LIBTPU", "TPU_", "NVIDIA_TF32_OVERRIDE", "TF_XLA_FLAGS", "MOSAIC_")


def settings() -> list[tuple[str, Any]]:
    """Return JAX's settings as this thread has them, the parts of its trace context, and variables that XLA reads.

    Raises:
        Exception: If this JAX does not tell.
    """
    from jax._src import config

    names = interfaces.context_names()
    parts = interfaces.trace_context()
    labels = names if len(names) == len(parts) else [f"context {number}" for number in range(len(parts))]
    states = {name: state.value for name, state in config.config_states.items()}
    values = {**jax.config.values, **states}
    kept = [(name, values[name]) for name in sorted(values) if not name.startswith(_WITHOUT_EFFECT)]
    variables = [(name, os.environ[name]) for name in sorted(os.environ) if name.startswith(_VARIABLES)]
    context = [(f"traced under {name}", part) for name, part in zip(labels, parts, strict=True)]
    return [
        *kept,
        *((name, _readable(part)) for name, part in context if not name.endswith(_WITHOUT_EFFECT[0])),
        *variables,
    ]


def _readable(part: Any) -> Any:
    """Return a part of the trace context; the axes of a ``vmap`` with names, of which none is open here, as texts."""
    if type(part).__name__ == "AxisEnv":
        return repr(part.axis_sizes), repr(sorted(map(str, part.spmd_axis_names)))
    return part


def supervision() -> str | None:
    """Return the setting under which JAX watches programs, if there is one: they are traced as JAX expects then."""
    return next((name for name in _SUPERVISING if getattr(jax.config, name, False)), None)


def devices() -> list[Any]:
    """Return the devices of the default platform, in JAX's order. Starts the backend."""
    return jax.devices()
