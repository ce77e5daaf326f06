"""What a policy gains that weighs programs by the seconds of loading them, where a shared directory holds them.

    python -m benchmarks.reload_costs

Behind a directory a miss costs tracing, lowering and a load, not a compile. Both are measured for each program, in
fresh processes. Each policy then replays Zipf streams of requests twice, knowing the compile seconds or the reload
seconds of each program; what its misses take to reload is added up. A cache that learns reload seconds as it goes
cannot gain more.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from benchmarks import warm_start
from benchmarks.record import quartiles, record

LENGTHS = range(32, 128, 12)
POLICIES = ("gdsf", "gdsf_admit", "lnc_ra", "adaptive")
SHARES = (0.1, 0.2, 0.3, 0.5)  # of the bytes of all programs
REQUESTS = 3000
SEEDS = 8


def run_programs(directory: str) -> None:
    """In a child: run every program once behind a directory, and print what each took."""
    import jax.numpy as jnp

    import jaxcache

    jaxcache.use_directory(directory)
    cache = jaxcache.JitCache()
    warm_start.LENGTHS = tuple(LENGTHS)
    for name in ("gradient steps", "iterative solver", "monte carlo"):
        warm_start.PROGRAMS[name](cache.jit)
    for warm_start.LAYERS in (1, 2, 4, 6):
        warm_start.PROGRAMS["transformer"](cache.jit)
    for size in range(2, 26, 2):

        def unrolled(x: Any, steps: int = 4 * size) -> Any:
            for number in range(steps):
                x = jnp.sin(x) + number
            return x

        def eigenvalues(a: Any) -> Any:
            return jnp.linalg.eigh(a + a.T)[0]

        cache.jit(unrolled)(np.ones(size, np.float32))
        cache.jit(eigenvalues)(np.ones((size, size), np.float32))
    print(json.dumps({name: [cost.size_bytes, cost.seconds] for name, cost in cache.costs().items()}))


def child(directory: str) -> dict[str, list[float]]:
    """Run every program in a fresh process; return bytes and seconds of each."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.reload_costs", "--child", directory]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def reloading(policy: str, share: float, sizes: Any, compiling: Any, loading: Any) -> dict[str, float]:
    """Return the seconds of reloading of a policy that knows loading seconds, ÷ those of one that knows compiling."""
    from jaxcache import Trace, replay

    limit = max(int(sizes.sum() * share), int(sizes.max()))
    ratios = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        popularity = 1 / np.arange(1, len(sizes) + 1) ** 0.8
        requests = rng.permutation(len(sizes))[rng.choice(len(sizes), REQUESTS, p=popularity / popularity.sum())]
        seconds = []
        for costs in (compiling, loading):
            trace = Trace.from_arrays(keys=requests, size_bytes=sizes[requests], compile_seconds=costs[requests])
            misses = np.array(replay(trace, policy, limit).misses_by_signature)
            seconds.append(float(misses @ loading[[int(label) for label in trace.labels]]))
        ratios.append(seconds[1] / seconds[0])
    return quartiles(ratios)


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_programs(given.child)
        return
    with tempfile.TemporaryDirectory() as directory:
        cold, *warm = [child(directory) for _ in range(4)]
    names = [name for name in cold if all(name in run for run in warm)]
    sizes = np.array([int(cold[name][0]) for name in names])
    compiling = np.array([cold[name][1] for name in names])
    loading = np.array([float(np.median([run[name][1] for run in warm])) for name in names])
    measured: dict[str, Any] = {"programs": len(names), "reload_over_compile": quartiles(list(loading / compiling))}
    for policy in POLICIES:
        measured[policy] = {f"{share}": reloading(policy, share, sizes, compiling, loading) for share in SHARES}
        print(f"{policy}: {json.dumps(measured[policy])}", flush=True)
    print(f"\nwritten to {record('reload_costs', measured)}")


if __name__ == "__main__":
    main()
