"""What the eviction policies cost and what they save: nanoseconds a call, and compile seconds over those of lru.

    python -m benchmarks.policies [--requests 15000]

First the nanoseconds of a hit and of an eviction (``victim``, ``remove``, ``add``) with 100 to 100,000 entries held,
beside cachetools in the same run: what a policy does must not grow with what is held. Then the total cost of the
misses on synthetic traces with heavy-tailed sizes and costs, at limits of 5, 10 and 30 % of the bytes of all keys.
``lnc_ra`` looks at 64 entries drawn at random; ``lnc_ra, exact`` looks at all of them.
"""

import argparse
import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import cachetools
import numpy as np

from benchmarks.record import record
from jaxcache._policies import POLICIES, Policy, make_policy

ENTRIES = (100, 1_000, 10_000, 100_000)
SHARES = (0.05, 0.1, 0.3)


@dataclass(frozen=True)
class Requests:
    """A trace: ``keys`` one a request; ``sizes`` in bytes and ``costs`` in seconds one a key."""

    name: str
    keys: list[int]
    sizes: list[int]
    costs: list[float]


def traces(requests: int, keys: int = 1500) -> list[Requests]:
    """Return stationary and changing streams. Costs grow with the sizes' root, with a wide scatter of their own."""
    made = []
    for seed, (name, exponent, phases, once) in enumerate(
        [
            ("zipf 0.7", 0.7, 1, 0.0),
            ("zipf 1.0", 1.0, 1, 0.0),
            ("zipf 1.0, 5 phases", 1.0, 5, 0.0),
            ("zipf 0.9, 40 phases", 0.9, 40, 0.0),
            ("zipf 1.0, a third asked for once", 1.0, 1, 0.33),
            ("zipf 1.0, 5 phases, a third once", 1.0, 5, 0.33),
        ]
    ):
        draw = np.random.default_rng(seed)
        weights = np.arange(1, keys + 1.0) ** -exponent
        ranks = draw.choice(keys, size=requests, p=weights / weights.sum())
        orders = np.stack([draw.permutation(keys) for _ in range(phases)])
        asked = orders[np.arange(requests) * phases // requests, ranks]
        asked = np.where(draw.random(requests) < once, keys + np.arange(requests), asked)
        sizes = np.exp(draw.normal(13, 1.2, keys + requests))
        costs = np.sqrt(sizes) / 1e3 * np.exp(draw.normal(0, 1, keys + requests))
        made.append(Requests(name, asked.tolist(), sizes.astype(int).tolist(), costs.tolist()))
    return made


def miss_cost_seconds(policy: Policy, trace: Requests, limit_bytes: int) -> float:
    """Serve a trace as the cache does, and return what its misses cost."""
    held: set[int] = set()
    held_bytes, total = 0, 0.0
    for key in trace.keys:
        if key in held:
            policy.hit(key)
            continue
        size, cost = trace.sizes[key], trace.costs[key]
        total += cost
        if size > limit_bytes or (held_bytes + size > limit_bytes and not policy.admit(key, size, cost)):
            continue
        while held_bytes + size > limit_bytes:
            victim = policy.victim()
            policy.remove(victim)
            held.remove(victim)
            held_bytes -= trace.sizes[victim]
        policy.add(key, size, cost)
        held.add(key)
        held_bytes += size
    return total


def quality(requests: int) -> dict[str, dict[str, float]]:
    """Print and return each policy's miss cost over that of lru: the geometric mean, and by trace."""
    candidates: dict[str, Callable[[], Policy]] = {name: lambda name=name: make_policy(name) for name in POLICIES}
    candidates["lnc_ra, exact"] = lambda: make_policy("lnc_ra", candidates=10**9)
    logarithms: dict[str, dict[str, list[float]]] = {name: {} for name in candidates}
    for trace in traces(requests):
        working_set = sum(trace.sizes[key] for key in set(trace.keys))
        for share in SHARES:
            limit = int(share * working_set)
            lru = miss_cost_seconds(make_policy("lru"), trace, limit)
            for name, make in candidates.items():
                ratio = miss_cost_seconds(make(), trace, limit) / lru
                logarithms[name].setdefault(trace.name, []).append(float(np.log(ratio)))
    measured = {}
    for name, by_trace in logarithms.items():
        means = {trace: float(np.exp(np.mean(values))) for trace, values in by_trace.items()}
        mean = float(np.exp(np.mean(list(by_trace.values()))))
        measured[name] = {"geometric_mean": round(mean, 4)} | {trace: round(one, 4) for trace, one in means.items()}
    titles = list(next(iter(measured.values())))
    print("\nmiss cost over that of lru, geometric mean of three limits\n")
    for number, title in enumerate(titles):
        print(f"({number}) {title.replace('_', ' ')}")
    print(f"{'':14}" + "".join(f"{f'({number})':>8}" for number in range(len(titles))))
    for name, row in measured.items():
        print(f"{name:14}" + "".join(f"{row[title]:8.3f}" for title in titles))
    return measured


def nanoseconds(calls: int, seconds: float) -> float:
    """Return nanoseconds a call."""
    return 1e9 * seconds / calls


def time_policy(policy: Policy, entries: int, rounds: int, calls: int) -> tuple[float, float]:
    """Return the nanoseconds of a hit and of an eviction with ``entries`` held, medians over rounds."""
    draw = random.Random(0)
    sizes_costs = [(draw.randrange(1, 1000), draw.random()) for _ in range(1024)]
    for key in range(entries):
        policy.add(key, *sizes_costs[key % 1024])
    held, newest = list(range(entries)), entries
    hits, evictions = [], []
    for _ in range(rounds):
        asked = draw.choices(held, k=calls)
        hit = policy.hit
        started = time.perf_counter()
        for key in asked:
            hit(key)
        hits.append(nanoseconds(calls, time.perf_counter() - started))
        gone = set()
        started = time.perf_counter()
        for key in range(newest, newest + calls):
            victim = policy.victim()
            policy.remove(victim)
            policy.add(key, *sizes_costs[key % 1024])
            gone.add(victim)
        evictions.append(nanoseconds(calls, time.perf_counter() - started))
        newest += calls
        held = [key for key in (*held, *range(newest - calls, newest)) if key not in gone]
    return float(np.median(hits)), float(np.median(evictions))


class Peer:
    """A cache of cachetools behind the calls of a policy."""

    def __init__(self, cache: cachetools.Cache) -> None:
        self._cache = cache
        self.hit = cache.__getitem__

    def add(self, key: int, size: int, cost: float) -> None:
        self._cache[key] = None

    def victim(self) -> int:
        return self._cache.popitem()[0]

    def remove(self, key: int) -> None:
        pass

    def admit(self, key: int, size: int, cost: float) -> bool:
        return True


def speed(rounds: int = 5, calls: int = 2000) -> dict[str, dict[str, dict[str, float]]]:
    """Print and return the nanoseconds of each policy by entries held, and how they grow."""
    candidates: dict[str, Callable[[], Policy]] = {name: lambda name=name: make_policy(name) for name in POLICIES}
    candidates["cachetools LRU"] = lambda: Peer(cachetools.LRUCache(10**9))
    candidates["cachetools LFU"] = lambda: Peer(cachetools.LFUCache(10**9))
    measured: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':16}{'ns a hit':>36}{'ns an eviction':>40}")
    print(f"{'entries held':16}" + 2 * ("".join(f"{entries:8,}" for entries in ENTRIES) + "   growth "))
    for name, make in candidates.items():
        columns: dict[str, dict[str, float]] = {"hit": {}, "eviction": {}}
        for entries in ENTRIES:
            policy = make()
            gc.collect()
            gc.disable()
            times = time_policy(policy, entries, rounds, calls)
            gc.enable()
            for column, one in zip(columns.values(), times, strict=True):
                column[str(entries)] = round(one, 1)
        line = f"{name:16}"
        for column in columns.values():
            few, *_, many = column.values()
            line += "".join(f"{one:8.0f}" for one in column.values()) + f"{many / few:8.1f}× "
            column["growth"] = round(many / few, 2)
        print(line)
        measured[name] = columns
    return measured


def main() -> None:
    """Print and record the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policies", description=__doc__)
    parser.add_argument("--requests", type=int, default=15_000)
    requests = parser.parse_args().requests
    measured = {"nanoseconds": speed(), "miss_cost_over_lru": quality(requests)}
    print(f"\nwritten to benchmarks/results/{record('policies', measured).name}")


if __name__ == "__main__":
    main()
