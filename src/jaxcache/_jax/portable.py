"""Levels of x86-64 processors: programs that a fleet of different machines can share."""

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAG = "--xla_cpu_max_isa"
_V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
_V3 = f"{_V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
_V4 = f"{_V3} avx512f avx512bw avx512cd avx512dq avx512vl"
LEVELS = {  # what XLA calls the level, and the names of its parts in /proc/cpuinfo; see the psABI of x86-64
    "x86-64-v2": ("SSE4_2", _V2),
    "x86-64-v3": ("AVX2", _V3),
    "x86-64-v4": ("AVX512", _V4),
}


def compile_for(level: str) -> None:
    """Have XLA compile for a level of processors, rather than for this one. No backend may have started.

    Raises:
        ValueError: If there is no such level, this processor has less, or ``XLA_FLAGS`` asks for another one.
        RuntimeError: If a backend of JAX has started: it has read its flags.
    """
    if level not in LEVELS:
        raise ValueError(f"portable must be one of {', '.join(LEVELS)}, but is {level!r}")
    isa, features = LEVELS[level]
    if missing := sorted(set(features.split()) - _features()):
        raise ValueError(f"portable={level!r} needs a processor with {', '.join(missing)}, which this one lacks")
    flags = os.environ.get("XLA_FLAGS", "").split()
    wanted = f"{_FLAG}={isa}"
    if wanted in flags:
        return
    if other := [flag for flag in flags if flag.startswith(_FLAG)]:
        raise ValueError(f"portable={level!r} is {wanted}, but XLA_FLAGS has {other[-1]}: take one away")
    if _has_backend():
        raise RuntimeError(f"portable={level!r} must come before JAX computes anything: JAX has begun already")
    os.environ["XLA_FLAGS"] = " ".join([*flags, wanted])


def level_parts(level: str) -> str:
    """Return what a fingerprint says of the processor, where programs are compiled for a level."""
    return f"{platform.system()} {platform.machine()} {level}"


def _features() -> set[str]:
    try:
        with _CPUINFO.open() as lines:
            return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return set()


def _has_backend() -> bool:
    """Return whether a backend has started; where JAX does not tell, none is assumed to have."""
    try:
        from jax._src import xla_bridge

        return bool(xla_bridge.backends_are_initialized())
    except Exception:
        return False
