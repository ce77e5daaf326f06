"""Replays against libCacheSim and against Python, a whole grid, the bound, and what recording adds to a hit.

    python -m benchmarks.replay [--requests 1000000] [--rounds 9]

Zipf traces with sizes and costs of heavy tails, at a tenth of their bytes. libCacheSim's C++ reader takes the same
requests from a file in the page cache, without costs, which it has no notion of; each round times both, in an order
that alternates, with the trace made and the kernels compiled before. The bound is that of traces of 100,000 requests
(and, if ``../shared/data`` has it, of the public Azure LLM trace with a program a length).
"""

import argparse
import dataclasses
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import libcachesim
import numpy as np
from numpy.typing import NDArray

from benchmarks.record import quartiles, record
from jaxcache import POLICIES, JitCache, Trace, limits_of, optimum, replay, replay_grid
from jaxcache._replay.trace import Event

AZURE = Path(__file__).resolve().parents[2] / "shared" / "data" / "azure_llm_conversation_2023.csv"
PEERS = {"lru": libcachesim.LRU, "gdsf": libcachesim.GDSF}


def zipf(requests: int, keys: int, phases: int = 1, seed: int = 0) -> tuple[Trace, NDArray[Any], NDArray[Any]]:
    """Return a trace, its keys and the size of each key. The popularity 1/rank changes hands at each phase."""
    draw = np.random.default_rng(seed)
    weights = 1 / np.arange(1, keys + 1.0)
    ranks = draw.choice(keys, size=requests, p=weights / weights.sum())
    orders = np.stack([draw.permutation(keys) for _ in range(phases)])
    asked = orders[np.arange(requests) * phases // requests, ranks]
    sizes = np.exp(draw.normal(13, 1.2, keys)).astype(np.int64) + 1
    costs = np.sqrt(sizes) / 1e3 * np.exp(draw.normal(0, 1, keys))
    return Trace.from_arrays(keys=asked, size_bytes=sizes[asked], compile_seconds=costs[asked]), asked, sizes


def write_for_libcachesim(path: Path, keys: NDArray[Any], sizes: NDArray[Any]) -> Any:
    """Write its binary format; return a reader of it."""
    rows = np.zeros(len(keys), np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]))
    rows["time"], rows["id"], rows["size"], rows["next"] = np.arange(len(keys)), keys + 1, sizes[keys], -1
    rows.tofile(path)
    return libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)  # pyright: ignore


def seconds(work: Callable[[], Any]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def against_libcachesim(requests: int, rounds: int) -> dict[str, Any]:
    """Print and return how much faster a replay is, by policy and number of keys."""
    measured = {}
    print(f"{requests:,} requests, one core, times in ms\n{'':24}{'libCacheSim':>12} {'replay':>8}   ratio")
    for keys in (1_000, 100_000):
        trace, asked, sizes = zipf(requests, keys)
        limit = int(sizes.sum()) // 10
        with tempfile.TemporaryDirectory() as folder:
            reader = write_for_libcachesim(Path(folder) / "trace.bin", asked, sizes)
            for policy, peer in PEERS.items():

                def theirs(peer: Any = peer, reader: Any = reader, limit: int = limit) -> None:
                    reader.reset()
                    peer(limit).process_trace(reader)

                def ours(policy: str = policy, trace: Trace = trace, limit: int = limit) -> None:
                    replay(trace, policy, limit, compiled=True)

                first, ratios, times = seconds(ours), [], ([], [])
                theirs()
                for number in range(rounds):
                    pair = [(theirs, times[0]), (ours, times[1])]
                    for work, taken in pair if number % 2 else pair[::-1]:
                        taken.append(seconds(work))
                    ratios.append(times[0][-1] / times[1][-1])
                ratio, (their_ms, our_ms) = quartiles(ratios), (1e3 * statistics.median(one) for one in times)
                measured[f"{policy}, {keys} keys"] = {
                    "ratio": ratio, "libcachesim_ms": round(their_ms, 1), "replay_ms": round(our_ms, 1),
                    "first_call_seconds": round(first, 2),
                }  # fmt: skip
                print(
                    f"{policy + ', ' + format(keys, ',') + ' keys':24}{their_ms:12.0f} {our_ms:8.0f}   "
                    f"{ratio['median']:.1f} ({ratio['low']:.1f}–{ratio['high']:.1f}) ×"
                )
    return measured


def cleared(requests: int) -> dict[str, Any]:
    """Print and return how much faster numba replays a trace of which a hundredth of the rows are clears."""
    plain, _, _ = zipf(requests, 5_000)
    events = (np.random.default_rng(0).random(requests) < 0.01) * np.uint8(Event.CLEAR)
    trace = dataclasses.replace(plain, events=events.astype(np.uint8))
    limit = trace.working_set_bytes // 10
    measured = {}
    print(f"\n{requests:,} rows, 1 % cleared: numba over Python")
    for policy in POLICIES:
        replay(trace, policy, limit, compiled=True)  # compiles what is not yet
        slow, fast = (seconds(lambda: replay(trace, policy, limit, compiled=way)) for way in (False, True))  # noqa: B023
        measured[policy] = {"python_seconds": round(slow, 3), "numba_seconds": round(fast, 4)}
        print(f"{policy:12}{slow:8.2f} s {1e3 * fast:8.1f} ms {slow / fast:6.0f} ×")
    return measured


def whole_grid(requests: int) -> dict[str, Any]:
    """Print and return what every policy at ten limits takes, on all cores."""
    trace, _, _ = zipf(requests, 5_000)
    limits = limits_of(trace, 10).tolist()
    names = [name for name in POLICIES if name != "adaptive"]
    replay_grid(trace, names, limits[:1])  # compiles what is not yet
    taken = seconds(lambda: replay_grid(trace, names, limits))
    print(f"\n{len(names)} policies × {len(limits)} limits × {requests:,} requests: {taken:.1f} s")
    return {"policies": len(names), "limits": len(limits), "requests": requests, "seconds": round(taken, 2)}


def bounds() -> dict[str, Any]:
    """Print and return times and gaps of the bound, and lru and the best policy over it."""
    traces = {
        "zipf, 1,500 keys": zipf(100_000, 1_500)[0],
        "zipf, 20,000 keys, 5 phases": zipf(100_000, 20_000, 5)[0],
        "zipf, 100 keys": zipf(100_000, 100)[0],
    }
    if AZURE.exists():
        columns: Any = ("ContextTokens",)  # NumPy's types know positions alone
        rows: Any = np.genfromtxt(AZURE, delimiter=",", names=True, usecols=columns, dtype=np.int64)
        lengths = rows["ContextTokens"][rows["ContextTokens"] > 0]
        traces["Azure LLM conversations"] = Trace.from_lengths(
            lengths, size_bytes=lambda n: 300_000 + 40 * n, compile_seconds=lambda n: 0.5 + n / 4_000
        )
    measured: dict[str, Any] = {}
    print(f"\n{'the bound':30}{'limit':>7} {'seconds':>8} {'gap':>7} {'lru':>7} {'best':>7}   over bound")
    for title, trace in traces.items():
        for share in (0.05, 0.1, 0.3):
            limit = int(share * trace.working_set_bytes)
            optimum(trace, limit, steps=1)
            started = time.perf_counter()
            found = optimum(trace, limit)
            taken = time.perf_counter() - started
            results = {name: replay(trace, name, limit).compile_seconds for name in POLICIES if name != "adaptive"}
            best = min(results, key=results.__getitem__)
            over = {name: one / found.lower_bound_seconds for name, one in results.items()}
            measured[f"{title}, {share:.0%}"] = {
                "requests": trace.requests, "seconds": round(taken, 2), "gap": round(found.gap, 4), "best": best,
                "over_bound": {name: round(one, 3) for name, one in over.items()},
            }  # fmt: skip
            print(
                f"{title:30}{share:7.0%} {taken:8.2f} {found.gap:7.4f} {over['lru']:7.3f} {over[best]:7.3f}   ({best})"
            )
    return measured


def recording(rounds: int) -> dict[str, Any]:
    """Print and return what recording adds to a hit, in processor time: one shape, several in turn, at random."""
    folder = Path(tempfile.mkdtemp())
    plain, recorded = JitCache("64MiB"), JitCache("64MiB", record=folder / "trace.parquet")
    at_random = np.random.default_rng(0).integers(8, size=1000)
    measured = {}
    print(f"\n{'recording adds':30}µs a hit")
    for title, lengths in (("one shape", [3]), ("8 in turn", range(3, 11)), ("8 at random", 3 + at_random)):
        calls = [(jnp.ones(int(n)), jnp.ones(int(n))) for n in lengths]
        functions = [cache.jit(lambda x, y: x + y) for cache in (plain, recorded)]

        def block(function: Any, calls: list[Any] = calls) -> float:
            result = None
            started = time.process_time()
            for _ in range(2000 // len(calls)):
                for args in calls:
                    result = function(*args)
            jax.block_until_ready(result)
            return (time.process_time() - started) / 2000  # of all threads: the one that writes counts too

        for function in functions:
            block(function)
        added, bare = [], []
        for number in range(rounds):
            times = {one: block(one) for one in (functions if number % 2 else functions[::-1])}
            bare.append(1e6 * times[functions[0]])
            added.append(1e6 * (times[functions[1]] - times[functions[0]]))
        measured[title] = {"added": quartiles(added), "without": quartiles(bare)}
        told = measured[title]["added"]
        print(
            f"{title:30}{told['median']:.2f} ({told['low']:.2f}–{told['high']:.2f}), "
            f"to {measured[title]['without']['median']:.2f}"
        )
    recorded.__exit__()
    shutil.rmtree(folder)
    return measured


def main() -> None:
    """Print and record the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    measured = {
        "against_libcachesim": against_libcachesim(asked.requests, asked.rounds),
        "cleared": cleared(asked.requests // 10),
        "grid": whole_grid(asked.requests),
        "bounds": bounds(),
        "recording_microseconds": recording(20 * asked.rounds),
    }
    print(f"\nwritten to benchmarks/results/{record('replay', measured).name}")


if __name__ == "__main__":
    main()
