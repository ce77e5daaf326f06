"""Traces of requests for programs that differ in bytes and compile seconds: those adaptive was designed on, and others.

``DESIGN`` was looked at while the policy was made. ``HELD_OUT`` was written before, with other seeds, sizes, costs and
streams, and looked at when the policy was done. ``UNSEEN`` was written after that, of streams that neither has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

Keys = NDArray[np.int64]
COUNT = 12_000


@dataclass(frozen=True)
class FunctionEntries:
    """A stream: ``keys`` one a request; ``size_bytes`` and ``compile_seconds`` one a key."""

    keys: Keys
    size_bytes: NDArray[np.int64]
    compile_seconds: NDArray[np.float64]


def of(draw: Generator, keys: Keys, kind: str) -> FunctionEntries:
    """Give the keys sizes and costs of a kind."""
    count = int(keys.max()) + 1
    if kind == "root":  # costs grow with the root of the sizes, with a wide scatter
        sizes = np.exp(draw.normal(13, 1.2, count))
        costs = np.sqrt(sizes) / 1e3 * np.exp(draw.normal(0, 1, count))
    elif kind == "free":  # sizes and costs know nothing of each other
        sizes, costs = np.exp(draw.normal(13, 1.5, count)), np.exp(draw.normal(-1, 1.5, count))
    elif kind == "dear":  # few programs cost most
        sizes, costs = np.exp(draw.normal(12, 0.7, count)), (draw.pareto(1.1, count) + 1) * 0.05
    elif kind == "huge":  # few programs are sixty times as large
        sizes = np.exp(draw.normal(11, 0.6, count)) * np.where(draw.random(count) < 0.03, 60, 1)
        costs = 0.1 + sizes / sizes.mean() * 0.3 * np.exp(draw.normal(0, 0.7, count))
    elif kind == "equal":
        sizes, costs = np.full(count, 1e5), np.ones(count)
    elif kind == "classes":  # small cheap helpers and large dear steps
        step = draw.random(count) < 0.2
        sizes = np.where(step, 2e6, 1e5) * np.exp(draw.normal(0, 0.3, count))
        costs = np.where(step, 8.0, 0.1) * np.exp(draw.normal(0, 0.5, count))
    else:  # "proportional"
        sizes = np.exp(draw.normal(12, 1, count))
        costs = 0.05 + sizes / 1e6 * np.exp(draw.normal(0, 0.2, count))
    return FunctionEntries(keys, sizes.astype(np.int64) + 1, costs)


def weights_of(keys: int, exponent: float) -> NDArray[np.float64]:
    """Return the probabilities of ranks from 1 on."""
    weights = np.arange(1, keys + 1.0) ** -exponent
    return weights / weights.sum()


def zipf(
    seed: int, keys: int, exponent: float, kind: str, phases: int = 1, once: float = 0.0, drift: int = 0
) -> FunctionEntries:
    """A few keys often.

    ``phases`` reorder the ranks, ``once`` is the share of requests for keys that come once, and after ``drift``
    requests each rank passes to the next key.
    """
    draw, at = default_rng(seed), np.arange(COUNT)
    ranks = draw.choice(keys, size=COUNT, p=weights_of(keys, exponent))
    orders = np.stack([draw.permutation(keys) for _ in range(phases)])
    asked = (ranks + at // drift) % keys if drift else orders[at * phases // COUNT, ranks]
    return of(draw, np.where(draw.random(COUNT) < once, keys + at, asked), kind)


def loop(seed: int, keys: int, kind: str, noise: float) -> FunctionEntries:
    """Round and round, a share of requests elsewhere."""
    draw = default_rng(seed)
    return of(draw, np.where(draw.random(COUNT) < noise, draw.integers(0, keys, COUNT), np.arange(COUNT) % keys), kind)


def scans(seed: int, keys: int, exponent: float, kind: str, every: int, length: int) -> FunctionEntries:
    """Popular keys, and runs of keys that are asked for once."""
    draw = default_rng(seed)
    asked = draw.choice(keys, size=COUNT, p=weights_of(keys, exponent))
    scanned = (np.arange(COUNT) >= every) & (np.arange(COUNT) % every < length)
    asked[scanned] = keys + np.arange(int(scanned.sum()))
    return of(draw, asked, kind)


def working_sets(seed: int, keys: int, kind: str, phases: int) -> FunctionEntries:
    """Stretches over a share of the keys each; one request in ten looks elsewhere."""
    draw = default_rng(seed)
    shares = np.array_split(draw.permutation(keys), phases)
    asked = np.array([draw.choice(shares[index * phases // COUNT]) for index in range(COUNT)])
    return of(draw, np.where(draw.random(COUNT) < 0.1, draw.integers(0, keys, COUNT), asked), kind)


def chains(seed: int, keys: int, kind: str, follow: float) -> FunctionEntries:
    """Each key has a successor that often comes next, as steps of a pipeline do."""
    draw = default_rng(seed)
    starts, successor = draw.choice(keys, size=COUNT, p=weights_of(keys, 0.8)), draw.permutation(keys)
    follows, asked, key = draw.random(COUNT) < follow, np.zeros(COUNT, np.int64), 0
    for index in range(COUNT):
        key = successor[key] if follows[index] else starts[index]
        asked[index] = key
    return of(draw, asked, kind)


def bursts(seed: int, keys: int, kind: str, mean: float = 8.0) -> FunctionEntries:
    """Each key comes some times at a stretch, and sleeps."""
    draw = default_rng(seed)
    events: list[tuple[float, int]] = []
    while len(events) < COUNT:
        key, times = int(draw.choice(keys, p=weights_of(keys, 0.6))), draw.geometric(1 / mean)
        events += [(float(time), key) for time in draw.random() * COUNT + np.cumsum(draw.exponential(60, times))]
    return of(draw, np.array([key for _, key in sorted(events)[:COUNT]]), kind)


def lengths(seed: int, stream: str, distinct: int, count: int, phases: int = 4) -> FunctionEntries:
    """The streams of the lab's trials; bytes and seconds grow with the length, as in its workloads."""
    draw = default_rng(seed)
    values = np.unique(np.geomspace(8, 4096, distinct).round().astype(np.int64))
    if stream == "uniform":
        asked = draw.integers(0, len(values), count)
    elif stream == "zipf":
        asked = draw.permutation(len(values))[draw.choice(len(values), size=count, p=weights_of(len(values), 1.0))]
    else:
        shares = np.array_split(draw.permutation(len(values)), phases)
        asked = np.array([draw.choice(shares[index * phases // count]) for index in range(count)])
        asked = np.where(draw.random(count) < 0.1, draw.integers(0, len(values), count), asked)
    return _growing(draw, asked, values, 6e4, 40.0, 0.15, 1.2e-4)


def serving(path: Path, seed: int, column: int, bucket: int, half: int, square: float = 0.0) -> FunctionEntries:
    """Lengths of a serving log in buckets; the first or the second half of 18,000 requests."""
    log = np.loadtxt(path, delimiter=",", skiprows=1, usecols=column, dtype=np.int64, max_rows=18_000)
    values, asked = np.unique(log[9000 * half : 9000 * (half + 1)] // bucket, return_inverse=True)
    return _growing(default_rng(seed), asked, (values + 1) * bucket, 5e4, 300.0, 0.2, 5e-4, square / 4e6)


def _growing(
    draw: Generator, asked: Keys, values: Keys, size: float, slope: float, cost: float, rate: float, square: float = 0.0
) -> FunctionEntries:
    scatter = np.exp(draw.normal(0, 0.3, (2, len(values))))
    sizes, costs = (size + slope * values) * scatter[0], (cost + rate * values + square * values**2) * scatter[1]
    return FunctionEntries(asked, sizes.astype(np.int64), costs)


def mixed(seed: int, *parts: FunctionEntries, block: int = 1) -> FunctionEntries:
    """Parts side by side: which one a block of requests is of is drawn."""
    draw, firsts = default_rng(seed), np.cumsum([0, *(len(part.size_bytes) for part in parts)])
    which = np.repeat(draw.integers(0, len(parts), COUNT // block), block)
    asked = np.zeros(len(which), np.int64)
    for number, part in enumerate(parts):
        own = which == number
        asked[own] = firsts[number] + part.keys[: int(own.sum())]
    sizes = np.concatenate([part.size_bytes for part in parts])
    return FunctionEntries(asked, sizes, np.concatenate([part.compile_seconds for part in parts]))


def renewals(seed: int, keys: int, kind: str, shape: float) -> FunctionEntries:
    """Each key at a rhythm of its own: gaps of a gamma distribution, regular if ``shape`` is large."""
    draw = default_rng(seed)
    means = 1 / weights_of(keys, 0.7)
    events = []
    for key, mean in enumerate(means):
        times = draw.random() * mean + np.cumsum(draw.gamma(shape, mean / shape, int(3 * COUNT / mean) + 5))
        events += [(float(time), key) for time in times if time < COUNT]
    return of(draw, np.array([key for _, key in sorted(events)]), kind)


def recency(seed: int, keys: int, kind: str, spread: float) -> FunctionEntries:
    """Stack distances are lognormal: what was asked for lately is asked for again soon, whatever its past."""
    draw, stack, asked = default_rng(seed), list(range(keys)), []
    for depth in np.minimum(draw.lognormal(3.0, spread, COUNT), keys - 1).astype(int).tolist():
        asked.append(stack.pop(depth))
        stack.insert(0, asked[-1])
    return of(draw, np.array(asked), kind)


def nested(seed: int, outer: int, inner: int, repeats: int, kind: str) -> FunctionEntries:
    """Loops in a loop: each inner one is repeated, then the next comes."""
    asked = [block * inner + step for block in range(outer) for _ in range(repeats) for step in range(inner)]
    whole = np.resize(np.array(asked), COUNT)
    return of(default_rng(seed), whole, kind)


def alternating(seed: int, kind: str, train: int = 900, evaluate: int = 300) -> FunctionEntries:
    """Two working sets in turns, as training and evaluation are."""
    draw, at = default_rng(seed), np.arange(COUNT)
    training = at % (train + evaluate) < train
    first = draw.choice(400, size=COUNT, p=weights_of(400, 0.9))
    second = 400 + draw.choice(500, size=COUNT, p=weights_of(500, 0.4))
    return of(draw, np.where(training, first, second), kind)


def walking(seed: int, keys: int, kind: str, step: float) -> FunctionEntries:
    """Popularities walk at random in logarithm."""
    draw = default_rng(seed)
    logs, asked = np.log(weights_of(keys, 0.8)), []
    for _ in range(COUNT // 100):
        logs = logs + draw.normal(0, step, keys)
        chances = np.exp(logs - logs.max())
        asked.append(draw.choice(keys, size=100, p=chances / chances.sum()))
    return of(draw, np.concatenate(asked), kind)


Family = Mapping[str, Callable[[], FunctionEntries]]

DESIGN: Family = {
    "zipf 0.7, root": lambda: zipf(1, 1500, 0.7, "root"),
    "zipf 1.0, free": lambda: zipf(2, 1000, 1.0, "free"),
    "zipf 0.9, dear": lambda: zipf(3, 800, 0.9, "dear"),
    "zipf 1.0, 5 phases, a third once": lambda: zipf(4, 1500, 1.0, "root", 5, 0.33),
    "zipf 0.9, 40 phases, huge": lambda: zipf(5, 1000, 0.9, "huge", 40),
    "loop, equal": lambda: loop(6, 300, "equal", 0.1),
    "loop, root": lambda: loop(7, 700, "root", 0.2),
    "scans, root": lambda: scans(8, 800, 1.0, "root", 1500, 500),
    "uniform, free": lambda: zipf(9, 500, 0.0, "free"),
    "6 working sets": lambda: working_sets(10, 900, "proportional", 6),
    "mixture": lambda: mixed(
        13, zipf(14, 500, 1.0, "root"), loop(15, 300, "free", 0.1), scans(16, 300, 0.8, "dear", 1500, 500)
    ),
    "chains, root": lambda: chains(17, 600, "root", 0.7),
    "lengths, zipf": lambda: lengths(18, "zipf", 200, 3000),
    "lengths, phased": lambda: lengths(19, "phased", 200, 3000),
}
HELD_OUT: Family = {
    "zipf 0.8, free": lambda: zipf(101, 2000, 0.8, "free"),
    "zipf 1.2, root": lambda: zipf(102, 1200, 1.2, "root"),
    "zipf 1.0, huge": lambda: zipf(103, 900, 1.0, "huge"),
    "zipf 0.9, 8 phases, dear": lambda: zipf(104, 900, 0.9, "dear", 8, 0.1),
    "zipf 1.0, drift, free": lambda: zipf(105, 1500, 1.0, "free", drift=20),
    "loop, free": lambda: loop(106, 400, "free", 0.05),
    "loop, huge": lambda: loop(107, 500, "huge", 0.3),
    "scans, dear": lambda: scans(108, 600, 0.8, "dear", 1000, 400),
    "uniform, root": lambda: zipf(109, 800, 0.0, "root"),
    "12 working sets": lambda: working_sets(110, 1200, "free", 12),
    "blocks": lambda: mixed(
        113, zipf(114, 700, 0.9, "root"), loop(115, 400, "free", 0.1), working_sets(116, 500, "dear", 5), block=2000
    ),
    "chains, free": lambda: chains(117, 900, "free", 0.85),
    "bursts, root": lambda: bursts(118, 1500, "root"),
    "lengths, uniform": lambda: lengths(119, "uniform", 128, 2000),
    "lengths, 8 phases": lambda: lengths(120, "phased", 300, 4000, 8),
}
UNSEEN: Family = {
    "regular rhythms": lambda: renewals(201, 900, "root", 6.0),
    "clustered rhythms": lambda: renewals(202, 900, "classes", 0.3),
    "stack distances": lambda: recency(203, 1500, "root", 1.5),
    "stack distances, wide": lambda: recency(204, 800, "classes", 2.2),
    "nested loops": lambda: nested(205, 30, 25, 6, "root"),
    "training and evaluation": lambda: alternating(206, "free"),
    "popularity walks": lambda: walking(207, 1000, "dear", 0.3),
    "small and short": lambda: lengths(208, "zipf", 40, 400),
}


def served(path: Path) -> dict[str, Family]:
    """Return what a serving log adds to the families, by their names."""
    return {
        "design": {
            "context lengths by 16": lambda: serving(path, 11, 1, 16, 0),
            "generated lengths": lambda: serving(path, 12, 2, 1, 0, 0.5),
        },
        "held-out": {
            "context lengths": lambda: serving(path, 111, 1, 1, 1),
            "generated lengths by 8": lambda: serving(path, 112, 2, 8, 1, 1.0),
        },
    }
