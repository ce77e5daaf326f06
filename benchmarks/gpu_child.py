"""One measurement of ``benchmarks.gpu``, in this process; what it found is the last line printed, as JSON."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import get_backend

import jaxcache
from benchmarks.device_memory import ask_driver
from benchmarks.disk import counted
from benchmarks.hit_path import add, add_leaves, compare, fifty_leaves, two_arrays
from benchmarks.memory import Call, conjugate_gradients, elementwise, matmul, mlp_gradient

TOLERANCE = 1e-4  # a program that is compiled again may be tuned otherwise, and round otherwise


def about() -> dict[str, Any]:
    """Say on what this runs."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "driver": (ask_driver("driver_version") if device.platform == "gpu" else None) or "none",
        "backend": " ".join(get_backend().platform_version.split()),
        "memory_bytes": stats.get("bytes_limit"),
        "jax": jax.__version__,
    }


def hit_path(rounds: str) -> dict[str, Any]:
    """Time hits against ``jax.jit``, interleaved."""
    turns = [two_arrays(3 + n) for n in range(8)]
    return {
        "two_arrays": compare("2 arrays", add, [two_arrays(3)], int(rounds)),
        "fifty_leaves": compare("a pytree of 50 leaves", add_leaves, [fifty_leaves(3)], int(rounds)),
        "two_arrays_in_turn": compare("2 arrays, 8 in turn", add, turns, int(rounds)),
    }


def calls(number: int) -> Iterator[Call]:
    """Yield programs, none of which is like another."""
    kinds = (elementwise, matmul, conjugate_gradients, mlp_gradient)
    for n in range(number):
        yield kinds[n % len(kinds)](16 + n)


def start(kind: str, directory: str, programs: str) -> dict[str, Any]:
    """Run programs once, with a directory that may hold them."""
    if kind == "jaxcache":
        jaxcache.use_directory(directory)
    else:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    asked = counted("/jax/compilation_cache/compile_requests_use_cache")
    found = counted("/jax/compilation_cache/cache_hits")
    jax.devices()  # the backend's own start is the same for both
    sums = []
    started = time.perf_counter()
    for function, args in calls(int(programs)):
        sums.append(jax.jit(function)(*args))
    jax.block_until_ready(sums)
    seconds = time.perf_counter() - started
    compiled = asked() - found()
    return {"seconds": seconds, "compiled": compiled, "sums": [_total(one) for one in sums]}


def _total(tree: Any) -> float:
    return float(sum(np.sum(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)))


def results() -> dict[str, Any]:
    """Compare every tier's results with those of ``jax.jit``."""
    checks: dict[str, Callable[[], float]] = {
        "evicted and compiled again": evicted,
        "read from the directory": from_directory,
        "kept by DiskCache": kept_bytes,
        "padded to buckets": padded,
    }
    deviations = {}
    for name, check in checks.items():
        deviations[name] = check()
        verdict = "right" if deviations[name] <= TOLERANCE else "WRONG"
        print(f"{name:28} {verdict}, deviates by {deviations[name]:.1e}")
    return {"deviations": deviations, "right": all(one <= TOLERANCE for one in deviations.values())}


def deviation(ours: Any, theirs: Any) -> float:
    """Return the largest difference over the largest value."""
    pairs = zip(map(np.asarray, jax.tree.leaves(ours)), map(np.asarray, jax.tree.leaves(theirs)), strict=True)
    return max(float(np.max(np.abs(a - b)) / max(1e-30, float(np.max(np.abs(b))))) for a, b in pairs)


def evicted() -> float:
    """Call programs in turn under a limit that holds a few of them."""
    worst, evictions = 0.0, 0
    with jaxcache.JitCache("2MiB", "lru") as cache:
        for _ in range(2):
            for function, args in calls(12):
                worst = max(worst, deviation(cache.jit(function)(*args), jax.jit(function)(*args)))
        evictions = cache.stats().evictions
    assert evictions > 0, "nothing was evicted"
    return worst


def from_directory() -> float:
    """Compile programs into a directory, and read them from it under another function."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        theirs = [jax.jit(function)(*args) for function, args in calls(8)]
        jax.clear_caches()
        with jaxcache.use_directory(Path(scratch) / "programs") as shared:
            for _ in range(2):
                ours = [jax.jit(function)(*args) for function, args in calls(8)]
                worst = max(worst, *(deviation(one, other) for one, other in zip(ours, theirs, strict=True)))
                jax.clear_caches()
            assert shared.stats().process.hits >= 8, "nothing was read"
    return worst


def kept_bytes() -> float:
    """Put bytes, and get them; 0 if they are the same."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        jaxcache.DiskCache(Path(scratch) / "bytes", "1MiB", single_flight=False) as cache,
    ):
        values = {f"jit_f-{n}": np.random.default_rng(n).bytes(1000 * (n + 1)) for n in range(8)}
        for key, value in values.items():
            cache.put(key, value, 1.0)
        return float(any(cache.get(key) != value for key, value in values.items()))


def padded() -> float:
    """Pad inputs of many lengths to a few."""

    def spread(x: jax.Array, mask: jax.Array) -> jax.Array:
        mean = jnp.mean(x, where=mask)
        return jnp.where(mask, x - mean, 0) * jnp.sqrt(jnp.mean((x - mean) ** 2, where=mask))

    worst = 0.0
    with jaxcache.JitCache("64MiB") as cache:
        ours = jaxcache.bucketed(spread, cache=cache, buckets=(16, 32, 64))
        for length in (5, 16, 17, 31, 50, 64):
            x = np.random.default_rng(length).normal(size=length).astype(np.float32)
            worst = max(worst, deviation(ours(x), jax.jit(spread)(x, np.ones(length, bool))))
        assert cache.stats().variants <= 3 + 6, "every length was compiled"
    return worst


if __name__ == "__main__":
    parts: dict[str, Callable[..., dict[str, Any]]] = {one.__name__: one for one in (about, hit_path, start, results)}
    print(json.dumps(parts[sys.argv[1]](*sys.argv[2:])))
