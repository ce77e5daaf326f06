"""What the shared directory costs, against JAX's own persistent cache with and without a size cap.

    python -m benchmarks.disk [--sizes 100 1000 10000 100000] [--rounds 5]

Three questions, each interleaved with JAX's own cache in one run: what ``put`` and ``get`` take with many entries
resident; what a warm start of the three workloads takes more; how many compiles processes do that start at once on a
cold directory. Needs the ``lab`` extra.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import quartiles, record
from jaxcache import DiskCache, use_directory

VALUE_BYTES = 4096
CAPPED_PUTS = 5  # of JAX's cache with a cap, which takes longer the more there is
PROCESSES = 8
PARTS = ("cold_start", "warm_start", "put_and_get_ms")
LENGTHS = (48, 56, 64, 72, 80, 88, 96, 104)
WORKLOADS: dict[str, dict[str, Any]] = {
    "gradient_optimization": {"features": 32, "rows": 8192, "rows_per_length": 8, "learning_rate": 0.02},
    "iterative_solver": {"max_steps": 500},
    "monte_carlo": {"paths": 512, "steps": 16, "volatility": 0.2},
}
TOLERANCES = {"gradient_optimization": 1e-3, "iterative_solver": 1e-5}


# -- put and get


def directories(root: Path, size: int) -> dict[str, Any]:
    """Return caches that hold ``size`` entries each: ours full, and JAX's as full as it gets."""
    from jax._src.lru_cache import LRUCache

    ours = DiskCache(root / "ours", eviction="gdsf", max_entries=size, fingerprint={"benchmark": "disk"},
                     single_flight=False)  # fmt: skip
    for number in range(ours.stats().entries, size):
        ours.put(f"jit_f-{number}", value(number), 1.0)
    for name in ("jax", "jax_capped"):
        folder = root / name
        folder.mkdir(exist_ok=True)
        for number in range(len(list(folder.glob("*-cache"))), size):
            (folder / f"jit_f-{number}-cache").write_bytes(value(number))
            (folder / f"jit_f-{number}-atime").write_bytes(time.time_ns().to_bytes(8, "little"))
    capped = LRUCache(str(root / "jax_capped"), max_size=size * VALUE_BYTES)
    return {"ours": ours, "jax": LRUCache(str(root / "jax"), max_size=-1), "jax_capped": capped}


def value(number: int) -> bytes:
    """Return an entry's content."""
    return random.Random(number).randbytes(VALUE_BYTES)


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call(*arguments)
    return 1000 * (time.perf_counter() - started)


def put_and_get(sizes: list[int], rounds: int) -> dict[str, Any]:
    """Return medians in ms by size, contender and operation."""
    print(
        f"{'entries':>8}  " + "  ".join(f"{name:>22}" for name in ("ours", "jax", "jax_capped")) + "   (put, get, ms)"
    )
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        for size in sizes:
            caches = directories(Path(root), size)
            drawn, times = random.Random(size), {name: ([], []) for name in caches}
            for number in range(40 * rounds):
                for name in sorted(caches, key=lambda _: drawn.random()):
                    if name == "jax_capped" and number >= CAPPED_PUTS and size > 1000:
                        continue
                    cache, content = caches[name], value(number)
                    key = f"jit_f-{drawn.randrange(size // 2, size)}"
                    times[name][1].append(timed(lambda cache=cache, key=key: cache.get(key)))
                    fresh = f"jit_g-{size}-{number}"
                    times[name][0].append(
                        timed(lambda cache=cache, key=fresh, content=content: cache.put(key, content))
                    )
            medians = {name: [round(statistics.median(one), 4) for one in each] for name, each in times.items()}
            measured[str(size)] = medians
            print(
                f"{size:>8}  " + "  ".join(f"{put:>10.3f}  {get:>10.3f}" for put, get in medians.values()), flush=True
            )
            caches["ours"].close()
    first, last = measured[str(sizes[0])], measured[str(sizes[-1])]
    for number, operation in enumerate(("put", "get")):
        growth = {name: round(last[name][number] / first[name][number], 2) for name in first}
        measured[f"{operation}_growth"] = growth
        print(f"{operation}: {sizes[-1]} entries over {sizes[0]}: {growth}")
    return measured


# -- warm start


def serve(kind: str, directory: str, workload: str) -> None:
    """In a child: serve each length once, and print the seconds."""
    import jax
    from pydantic import TypeAdapter

    from jaxcache import JitCache
    from jaxcache.lab.workloads import Workload
    from jaxcache.lab.workloads.compiler import Compiler
    from jaxcache.lab.workloads.sessions import start_session

    options = {"name": workload, "requests": len(LENGTHS), **WORKLOADS[workload]}
    if workload in TOLERANCES:
        options["tolerance"] = TOLERANCES[workload]
    session = start_session(TypeAdapter(Workload).validate_python(options), Compiler(JitCache()), 0)
    if kind == "ours":
        use_directory(directory)
    else:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    hits, reads = counted("/jax/compilation_cache/cache_hits"), timed_reads()
    started = time.perf_counter()
    for number, length in enumerate(LENGTHS):
        session.serve(number, length)
    print(json.dumps({"seconds": time.perf_counter() - started, "hits": hits(), "reads_ms": reads}))


def timed_reads() -> list[float]:
    """Return a list to which the milliseconds of each of JAX's look-ups are added: reading, checking, loading."""
    from jax._src import compilation_cache

    reads: list[float] = []
    read = compilation_cache.get_executable_and_time

    def timed_read(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return read(*args, **kwargs)
        finally:
            reads.append(1000 * (time.perf_counter() - started))

    compilation_cache.get_executable_and_time = timed_read
    return reads


def counted(name: str) -> Callable[[], int]:
    """Return what tells how often JAX has announced an event since now."""
    from jax import monitoring

    seen: list[str] = []
    monitoring.register_event_listener(lambda event, **_: seen.append(event))
    return lambda: seen.count(name)


def child(*arguments: str) -> Any:
    """Run a child and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.disk", "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=on_cpu())
    return json.loads(done.stdout.splitlines()[-1])


def on_cpu() -> dict[str, str]:
    """Return the environment of a child."""
    return {**os.environ, "JAX_PLATFORMS": "cpu"}


def warm_starts(rounds: int) -> dict[str, Any]:
    """Return, by workload, how many ms reading an entry takes more than under JAX's own cache."""
    measured: dict[str, Any] = {}
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory() as root:
            reads: dict[str, list[float]] = {"ours": [], "jax": []}
            firsts: list[float] = []
            entries = 0
            for kind in reads:
                child("serve", kind, f"{root}/{kind}", workload)
            for number in range(rounds):
                for kind in list(reads)[:: 1 if number % 2 else -1]:
                    told = child("serve", kind, f"{root}/{kind}", workload)
                    entries = told["hits"]
                    reads[kind].append(sum(told["reads_ms"]) / entries)
                    if kind == "ours":
                        firsts.append(told["reads_ms"][0])
        more = [ours - jax for ours, jax in zip(reads["ours"], reads["jax"], strict=True)]
        measured[workload] = {
            "entries": entries,
            "more_ms_an_entry": quartiles(more),
            "first_ms": round(statistics.median(firsts), 2),
            **{f"{kind}_ms_an_entry": round(statistics.median(each), 3) for kind, each in reads.items()},
        }
        print(f"warm start of {workload}: {measured[workload]}", flush=True)
    return measured


# -- a cold directory


def start_cold(kind: str, directory: str, at: str) -> None:
    """In a child: wait for the moment, compile a few programs, print how many XLA compiled."""
    import jax
    import numpy as np

    if kind == "ours":
        use_directory(directory)
    else:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.devices()
    asked, hits = (
        counted("/jax/compilation_cache/compile_requests_use_cache"),
        counted("/jax/compilation_cache/cache_hits"),
    )
    time.sleep(max(0.0, float(at) - time.time()))
    started = time.perf_counter()
    for width in (8, 16, 24, 32):
        x = np.ones((width, width), np.float32)
        jax.jit(lambda x: [x := jax.numpy.tanh(x @ x + k) for k in range(40)][-1]).lower(x).compile()
    print(json.dumps({"compiled": asked() - hits(), "asked": asked(), "seconds": time.perf_counter() - started}))


def cold_starts(rounds: int) -> dict[str, Any]:
    """Return compiles done over compiles needed, with all processes starting at once."""
    measured: dict[str, Any] = {}
    for kind in ("ours", "jax"):
        ratios, seconds = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as root:
                at = str(time.time() + 2.5 * PROCESSES)
                command = [sys.executable, "-m", "benchmarks.disk", "--child", "cold", kind, f"{root}/{kind}", at]
                environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
                running = [
                    subprocess.Popen(
                        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
                    )
                    for _ in range(PROCESSES)
                ]
                told = [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]
            ratios.append(sum(one["compiled"] for one in told) / told[0]["asked"])
            seconds.append(max(one["seconds"] for one in told))
        measured[kind] = {"compiles_over_needed": quartiles(ratios), "seconds": round(statistics.median(seconds), 2)}
        print(f"{PROCESSES} processes on a cold directory, {kind}: {measured[kind]}", flush=True)
    return measured


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        {"serve": serve, "cold": start_cold}[given.child[0]](*given.child[1:])
        return
    parts: dict[str, Callable[[], Any]] = {
        "cold_start": lambda: cold_starts(min(3, given.rounds)),
        "warm_start": lambda: warm_starts(given.rounds),
        "put_and_get_ms": lambda: put_and_get(given.sizes, given.rounds),
    }
    measured = {name: parts[name]() for name in given.parts}
    print(f"\nwritten to {record('disk', measured)}")


if __name__ == "__main__":
    main()
