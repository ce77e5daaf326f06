"""What a warm start takes, from the import of a program's modules to its first results, against JAX's own cache.

    python -m benchmarks.warm_start [--rounds 7] [--workloads transformer …]

Fresh processes, interleaved: JAX's own persistent cache; ``jax.jit`` and ``cache.jit`` behind our directory; the
latter under ``code_key=True``, which starts without tracing, and the same with ``warm_from``, which loads programs by
threads while the program imports. The clock runs from before the first call of the first function until all results
are there; importing JAX and making its backend, which all have in common, comes before. So do the program's other
imports, here of SciPy; since ``warm_from`` slows them down, "seconds with imports" begin before these. Of JAX's own
starts a share is given, which no key spares: reading and loading what was compiled, and waiting for the results.
"""

import argparse
import gc
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.record import quartiles, record

KINDS = ("jax", "shared", "directory", "code_key", "warm_from")
IMPORTS = ("scipy.stats", "scipy.optimize")
LENGTHS = (48, 56, 64, 72, 80, 88, 96, 104)
LAYERS = 12
LOADING = "/jax/compilation_cache/cache_retrieval_time_sec"  # reading, unpacking and loading a program, as JAX tells it


# -- programs


def fit(jit: Callable[..., Any]) -> list[Any]:
    """Train a network of three layers by gradient steps, for batches of each length."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def loss(params: Any, x: Any, y: Any) -> Any:
        for weights, bias in params[:-1]:
            x = jnp.tanh(x @ weights + bias)
        weights, bias = params[-1]
        return jnp.mean((x @ weights + bias - y) ** 2)

    def step(params: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, x, y)
        return value, jax.tree.map(lambda p, g: p - 0.02 * g, params, gradients)

    rng = np.random.default_rng(0)
    sizes = (32, 64, 64, 1)
    params = [
        (rng.normal(size=(n, m)).astype(np.float32), np.zeros(m, np.float32)) for n, m in itertools.pairwise(sizes)
    ]
    jitted, losses = jit(step), []
    for length in LENGTHS:
        value, params = jitted(params, np.ones((length, 32), np.float32), np.ones((length, 1), np.float32))
        losses.append(value)
    return losses


def solve(jit: Callable[..., Any]) -> list[Any]:
    """Solve linear systems of each size by conjugate gradients in a loop."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def cg(matrix: Any, b: Any) -> Any:
        def going_on(state: Any) -> Any:
            return (state[3] > 1e-6) & (state[4] < 500)

        def step(state: Any) -> Any:
            x, r, p, rr, n = state
            ap = matrix @ p
            alpha = rr / jnp.vdot(p, ap)
            r = r - alpha * ap
            new = jnp.vdot(r, r)
            return x + alpha * p, r, r + new / rr * p, new, n + 1

        return jax.lax.while_loop(going_on, step, (jnp.zeros_like(b), b, b, jnp.vdot(b, b), 0))[0]

    jitted = jit(cg)
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(n, n)).astype(np.float32) / n for n in LENGTHS]
    return [jitted(a @ a.T + np.eye(len(a), dtype=np.float32), np.ones(len(a), np.float32)) for a in factors]


def simulate(jit: Callable[..., Any]) -> list[Any]:
    """Price an option by paths of each number of steps."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def price(key: Any, times: Any) -> Any:
        def step(log_price: Any, keyed: Any) -> Any:
            noise = jax.random.normal(keyed, log_price.shape)
            return log_price - 0.02 / times.shape[0] + 0.2 * noise / jnp.sqrt(times.shape[0]), None

        end, _ = jax.lax.scan(step, jnp.zeros(512), jax.random.split(key, times.shape[0]))
        payoff = jnp.maximum(jnp.exp(end) - 1.0, 0.0)
        return payoff.mean(), payoff.std() / jnp.sqrt(512.0)

    jitted = jit(price)
    return [jitted(np.zeros(2, np.uint32), np.zeros(length, np.float32)) for length in LENGTHS]


def transformer(jit: Callable[..., Any]) -> list[Any]:
    """Take one training step of a transformer."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    width, heads, tokens = 64, 4, 32

    def norm(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def attend(layer: Any, x: Any) -> Any:
        q, k, v = (jnp.reshape(x @ layer[name], (tokens, heads, -1)) for name in ("q", "k", "v"))
        scores = jnp.einsum("qhd,khd->hqk", q, k) / jnp.sqrt(width / heads)
        scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -1e9)
        return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v).reshape(tokens, width) @ layer["o"]

    def loss(params: Any, x: Any) -> Any:
        for layer in params:
            x = x + attend(layer, norm(x))
            x = x + jax.nn.gelu(norm(x) @ layer["up"]) @ layer["down"]
        return jnp.mean(x**2)

    def step(params: Any, moments: Any, x: Any) -> Any:
        value, gradients = jax.value_and_grad(lambda p: jnp.mean(jax.vmap(lambda each: loss(p, each))(x)))(params)
        moments = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments, gradients)
        return value, jax.tree.map(lambda p, m: p - 1e-3 * m, params, moments), moments

    rng = np.random.default_rng(0)
    shapes = {**dict.fromkeys("qkvo", (width, width)), "up": (width, 4 * width), "down": (4 * width, width)}
    params = [
        {name: rng.normal(size=shape).astype(np.float32) * 0.02 for name, shape in shapes.items()}
        for _ in range(LAYERS)
    ]
    return [jit(step)(params, params, np.ones((2, tokens, width), np.float32))]


PROGRAMS = {"gradient steps": fit, "iterative solver": solve, "monte carlo": simulate, "transformer": transformer}


# -- processes


def start(kind: str, directory: str, workload: str, collects: str) -> None:
    """In a child: run a program once, and print the seconds."""
    import jax

    import jaxcache
    from jaxcache._code_key.background import background

    if kind == "jax":
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    else:
        jaxcache.use_directory(directory)
    cache = jaxcache.JitCache()
    jit: Callable[..., Any] = jax.jit
    if kind not in ("jax", "shared"):
        jit = lambda f: cache.jit(f, code_key=kind != "directory")  # noqa: E731
    loading: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **_: loading.append(duration_secs) if event == LOADING else None
    )
    jax.block_until_ready(jax.device_put(1.0))
    if collects == "no":
        gc.disable()
    began, processor = time.perf_counter(), time.process_time()
    if kind == "warm_from":
        jaxcache.warm_from(directory)
    for name in IMPORTS:
        importlib.import_module(name)
    started = time.perf_counter()
    results = PROGRAMS[workload](jit)
    returned = time.perf_counter()
    jax.block_until_ready(results)
    ended = time.perf_counter()
    measured = {
        "seconds": ended - started,
        "share_of_loading_and_waiting": (sum(loading) + ended - returned) / (ended - started),
        "seconds_with_imports": ended - began,
        "processor_seconds_with_imports": time.process_time() - processor,
        "sum": float(sum(map(_total, results))),
    }
    background.wait()
    print(json.dumps(measured))


def _total(result: Any) -> float:
    import jax
    import numpy as np

    return sum(float(np.sum(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(result))


def child(*arguments: str) -> Any:
    """Run a child and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.warm_start", "--child", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else modules are compiled from their source in the time measured
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def warm_starts(workload: str, rounds: int, collects: str) -> dict[str, Any]:
    """Return medians of the seconds of each kind, and their quotients by JAX's own, round by round."""
    with tempfile.TemporaryDirectory() as root:
        sums = {child(kind, f"{root}/{kind}", workload, collects)["sum"] for kind in KINDS}
        for kind in ("code_key", "warm_from"):
            child(kind, f"{root}/{kind}", workload, collects)  # each entry is compared once
        runs: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for number in range(rounds):
            for kind in KINDS[:: 1 if number % 2 else -1]:
                runs[kind].append(child(kind, f"{root}/{kind}", workload, collects))
    sums |= {run["sum"] for each in runs.values() for run in each}
    measured: dict[str, Any] = {"same_results": len(sums) == 1}
    measured["jax_share_of_loading_and_waiting"] = quartiles(
        [run["share_of_loading_and_waiting"] for run in runs["jax"]]
    )
    for name in ("seconds", "seconds_with_imports", "processor_seconds_with_imports"):
        times = {kind: [run[name] for run in each] for kind, each in runs.items()}
        measured[name] = {kind: round(statistics.median(each), 3) for kind, each in times.items()}
        for kind in KINDS[1:]:
            ratios = [mine / theirs for mine, theirs in zip(times[kind], times["jax"], strict=True)]
            measured[f"{kind}_over_jax_{name}"] = quartiles(ratios)
    return measured


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workloads", nargs="+", choices=PROGRAMS, default=[*PROGRAMS])
    parser.add_argument(
        "--no-garbage-collection",
        action="store_true",
        help="switch Python's off: after so many imports, one takes a third of a short start, if it falls into it",
    )
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        start(*given.child)
        return
    name = "warm_start_uncollected" if given.no_garbage_collection else "warm_start"
    measured = {}
    for workload in given.workloads:
        measured[workload] = warm_starts(workload, given.rounds, "no" if given.no_garbage_collection else "yes")
        print(f"{workload}: {json.dumps(measured[workload])}", flush=True)
    print(f"\nwritten to {record(name, measured)}")


if __name__ == "__main__":
    main()
