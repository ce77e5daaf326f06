"""Made-up sweeps whose references recorded their requests, so that a map can be replayed from them."""

from itertools import product
from pathlib import Path

import numpy as np

from jaxcache import Cost, CostTable, Trace, replay
from jaxcache.lab.layout import COSTS, REFERENCES, REQUESTS

from .results import result, write_sweep
from .trials import WORKLOADS

SHAPES = {"name": "zipf", "smallest": 4, "largest": 60, "distinct": 12, "exponent": 1.0}


def prices_of(length, call):
    """Bytes and seconds of one of the two calls that a request of a length makes."""
    return 60_000 * call + 4_000 * length, 0.2 * call + 0.03 * length + (length % 7) * 0.1


def requests_of(trial):
    """The trace that a trial's reference records: one call before the requests, then two for each."""
    rows = [("start(float32[])", 40_000, 0.5)]
    lengths = trial.shapes.lengths(trial.workload.requests, trial.seed)
    if trial.buckets.name == "pow2":
        lengths = 2 ** np.ceil(np.log2(lengths)).astype(int)
    for length in lengths.tolist():
        rows += [(f"call{call}(float32[{length}])", *prices_of(length, call)) for call in (1, 2)]
    names, sizes, seconds = zip(*rows, strict=True)
    return Trace.from_arrays(keys=list(names), size_bytes=np.array(sizes), compile_seconds=np.array(seconds))


def mapped_result(policy, limit, seed=0, workload="monte_carlo", requests=60, shapes=None, buckets="none", **changes):
    """A trial's result that is what the replay of its requests says."""
    config = {
        "workload": {**WORKLOADS[workload], "requests": requests}, "shapes": shapes or SHAPES,
        "buckets": {"name": buckets},
    }  # fmt: skip
    made = result(policy, seed, limit, cost_seconds=1.0)
    trial = made.config.model_validate({**made.config.model_dump(), **config})
    replayed = replay(requests_of(trial), policy, trial.memory_limit, seed=seed)
    statistics = made.statistics.model_copy(update={
        "hits": replayed.hits, "misses": replayed.misses, "evictions": replayed.evictions,
        "cost_seconds": replayed.compile_seconds, "peak_bytes": replayed.peak_bytes, "by_function": {},
        "misses_by_cause": {"evicted": replayed.misses},
    })  # fmt: skip
    return made.model_copy(update={
        "config": trial, "trial_id": trial.id, "program_id": trial.program_id, "label": trial.label,
        "statistics": statistics, **changes,
    })  # fmt: skip


def write_mapped(directory: Path, results, **options) -> Path:
    """Write a sweep with the recorded requests of its programs, all priced by one table."""
    write_sweep(directory, results, **options)
    table: dict[str, Cost] = {}
    for one in results:
        trace = requests_of(one.config)
        trace.save(directory / REFERENCES / one.program_id / REQUESTS)
        rows = zip(trace.names, trace.size_bytes.tolist(), trace.compile_seconds.tolist(), strict=True)
        table |= {name: Cost(size, seconds) for name, size, seconds in rows}
    CostTable(table).save(directory / COSTS)
    return directory


def mapped_grid(policies=("lru", "gdsf"), limits=("512KiB", "1MiB"), seeds=(0,), workloads=("monte_carlo",), **changes):
    return [
        mapped_result(policy, limit, seed, workload, **changes)
        for policy, limit, seed, workload in product(policies, limits, seeds, workloads)
    ]
