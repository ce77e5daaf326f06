"""Made-up results of trials, for the rooms that only read results."""

from pathlib import Path

from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.environment import environment
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import MANIFEST, REFERENCE, RESULT
from jaxcache.lab.result import FunctionCounts, Latency, Memory, Reference, Statistics, Timeline, Timing, TrialResult
from jaxcache.lab.workloads import Answer

from .trials import small_trial

COURSE = Timeline(
    requests=(1, 2, 3, 4), live_bytes=(500_000, 1_000_000, 2_000_000, 1_900_000), lengths={4: 30, 9: 15, 20: 5},
    latency={
        "held": Latency(requests=30, p50_seconds=0.001, p90_seconds=0.002, p99_seconds=0.003, max_seconds=0.004),
        "compiled": Latency(requests=20, p50_seconds=0.3, p90_seconds=0.4, p99_seconds=0.5, max_seconds=0.6),
    },
    loading_seconds=0.4,
)  # fmt: skip


def result(
    eviction="lru", seed=0, limit="2MiB", workload="monte_carlo", cost_seconds=10.0, hits=60, misses=40,
    persistent=None, **changes
):  # fmt: skip
    settings = {} if persistent is None else {"persistent": persistent}
    trial = small_trial(workload, eviction={"name": eviction}, seed=seed, memory_limit=limit, **settings)
    made = TrialResult(
        trial_id=trial.id, program_id=trial.program_id, label=trial.label, status="completed", config=trial,
        environment=environment(), device="cpu on 1 of 2 cores",
        statistics=Statistics(
            hits=hits, misses=misses, misses_by_cause={"first_call": 2, "new_shape": 4, "evicted": misses - 6},
            disk_hits=3, compiled=misses - 3, evictions=misses - 8, rejected=0, bypassed=0, variants=4,
            live_bytes=1_900_000, peak_bytes=2_000_000, compile_seconds=cost_seconds / 2, cost_seconds=cost_seconds,
            repeated_cost_seconds=cost_seconds * 0.8, compile_seconds_avoided=20.0,
            by_function={"paths": FunctionCounts(
                hits=hits, misses=misses, misses_by_cause={"first_call": 2, "new_shape": 4, "evicted": misses - 6},
                evictions=misses - 8, compile_seconds=cost_seconds / 2,
            )},
        ),
        timing=Timing(started_at="2026-01-01T00:00:00", work_seconds=5, serve_seconds=4, calls_per_second=2,
                      p50_seconds=0.01, p99_seconds=0.5),
        memory=Memory(start_rss_bytes=100_000_000, peak_rss_bytes=200_000_000),
        course=COURSE,
        answer=Answer(measure="error", error=0.1, tolerance=1), checksum="c", reference_checksum="c",
    )  # fmt: skip
    return made.model_copy(update=changes)


def failed(reason="the process was killed by SIGKILL", **settings):
    return result(**settings).model_copy(
        update={"status": "failed", "reason": reason, "stderr_tail": "Traceback\nBoom: pipe | here", "statistics": None,
                "timing": None, "memory": None, "device": None}
    )  # fmt: skip


def write_sweep(directory: Path, results, ended="completed", references=True, costs=None, run_seconds=None) -> Path:
    for one in results:
        place = directory / "trials" / one.trial_id
        place.mkdir(parents=True)
        write_json(place / RESULT, one, durable=False)
        home = directory / "references" / one.program_id
        if references and not home.exists():
            home.mkdir(parents=True)
            config = one.config
            reference = Reference(
                program_id=one.program_id, workload=config.workload.name, shapes=config.shapes.name, seed=config.seed,
                device="cpu", slot="1 cores", environment=environment(), checksum="c", requests=50, distinct=6,
                unbounded_bytes=6_000_000, unbounded_cost_seconds=2.0, uncached_cost_seconds=50.0, jit_seconds=1.0,
                run_seconds=(run_seconds or {}).get(config.buckets.name, 0.0),
                costs=costs or {"f(float32[3])": (300000, 0.3)},
            )  # fmt: skip
            write_json(home / REFERENCE, reference, durable=False)
    directory.mkdir(exist_ok=True)
    manifest = Manifest(
        command="python -m flows.sweep eviction=lru,gdsf", order=tuple(one.trial_id for one in results),
        persistent=("off",), started_at="2026-01-01T00:00:00", ended=ended, wall_seconds=12.0,
    )  # fmt: skip
    write_json(directory / MANIFEST, manifest, durable=False)
    return directory
