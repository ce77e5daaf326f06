"""Execution of one trial, or of one reference run, in this process."""

import hashlib
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil

from ... import CacheStats, DiskCache, JitCache, MissStormWarning, Trace, use_directory
from ..layout import REQUESTS
from ..result import FunctionCounts, FunctionProfile, Memory, ProgramRun, Reference, Statistics, Timeline, Timing
from ..trial import Persistent, Trial
from ..workloads import Answer, Session
from ..workloads.compiler import Compiler
from ..workloads.sessions import start_session
from .job import TrialJob
from .profiling import ProfilingCache, profiler_trace
from .progress_file import ProgressWriter
from .timeline import TimelineRecorder

_PROGRAMS = "programs"  # in a job's scratch directory


@contextmanager
def persistent_cache(persistent: Persistent, scratch: Path) -> Iterator[DiskCache | None]:
    """Use the trial's directory of compiled programs, with thresholds that store everything; yield None if it is off.

    A fresh directory is in ``scratch``, which the parent process removes, since this process may be killed.
    """
    jax.config.update("jax_enable_compilation_cache", persistent.mode != "off")
    directory = scratch / _PROGRAMS if persistent.mode == "fresh" else persistent.shared_directory
    if directory is None:
        yield None
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    tiers: dict[str, Any] = {"layers": persistent.layers, "remote": persistent.remote}
    with use_directory(directory, persistent.limit, persistent.eviction, **tiers) as cache:
        yield cache


@contextmanager
def _leaving_programs(persistent: Persistent, scratch: Path) -> Iterator[None]:
    """Load what a reference has compiled into ``scratch``, and write what is loaded to the trials' shared directory.

    So no trial compiles again, on the way, what its reference has measured. Other tiers behind the shared directory are
    the trials' own to fill.
    """
    directory = persistent.shared_directory
    if directory is None or persistent.layers or persistent.remote is not None:
        with persistent_cache(Persistent(mode="fresh"), scratch):
            yield
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    compiled = {"layers": [scratch / _PROGRAMS], "copy_layer_hits": True}
    with use_directory(directory, persistent.limit, persistent.eviction, **compiled):
        yield


@dataclass
class Served:
    """Result of serving a workload's requests. The session, None of a user's program, keeps its programs alive."""

    checksum: str
    answer: Answer
    seconds: list[float] = field(repr=False)
    processor_seconds: float
    session: Session | None = field(repr=False)


def serve(trial: Trial, cache: JitCache, after: Callable[[int, float], None] | None = None) -> Served:
    """Serve all requests of the trial's workload with programs from ``cache``.

    ``after`` is called between the requests, outside the measured time, with a request's length and its seconds.
    """
    lengths = trial.shapes.lengths(trial.workload.requests, trial.seed)
    buckets = trial.buckets.lengths(trial.shapes, trial.workload, trial.seed)
    digest, seconds, processor_seconds = hashlib.sha256(), [], 0.0
    with jax.enable_x64(trial.precision == "float64"):
        session = start_session(trial.workload, Compiler(cache, trial.precision, buckets), trial.seed)
        for number, length in enumerate(lengths.tolist()):
            started, processor_started = time.perf_counter(), time.process_time()
            result = session.serve(number, length)
            seconds.append(time.perf_counter() - started)
            processor_seconds += time.process_time() - processor_started
            if after is not None:
                after(length, seconds[-1])
            session.check(result)
            digest.update(f"{result.dtype}{result.shape}".encode())
            digest.update(np.ascontiguousarray(result).tobytes())
    return Served(digest.hexdigest()[:16], session.answer(), seconds, processor_seconds, session)


@dataclass(frozen=True)
class Outcome:
    """Measurements of a trial, before its answer is judged."""

    served: Served
    statistics: Statistics
    timing: Timing
    memory: Memory
    timeline: Timeline
    profile: tuple[FunctionProfile, ...]
    program: ProgramRun | None = None


def execute_trial(job: TrialJob) -> Outcome:
    """Run a trial in this process."""
    trial = job.trial
    started_at, started = datetime.now(UTC), time.perf_counter()
    start_rss_bytes = psutil.Process().memory_info().rss
    warnings.simplefilter("ignore", MissStormWarning)  # a trial under a tight limit misses often on purpose
    settings: dict[str, Any] = {"seed": trial.seed, "costs": job.costs}
    kind = ProfilingCache if trial.profiling else JitCache
    tracing = profiler_trace(job.directory, job.scratch) if trial.profiling else nullcontext()
    with persistent_cache(trial.persistent, job.scratch) as disk:
        cache = kind(trial.memory_limit, trial.eviction.name, **settings)
        progress = ProgressWriter(job.scratch, trial.workload.requests, cache)
        with tracing, TimelineRecorder(cache, trial) as recorder:

            def after(length: int, seconds: float) -> None:
                recorder.after(length, seconds)
                progress.after_request(length, seconds)

            served = serve(trial, cache, after)
        disk_saved_seconds = 0.0 if disk is None else disk.stats().process.seconds_saved
        statistics = _statistics(cache.stats())
    return Outcome(
        served,
        statistics,
        _timing(served, started_at, started, statistics.compile_seconds, disk_saved_seconds),
        Memory(start_rss_bytes=start_rss_bytes, peak_rss_bytes=_peak_bytes()),
        recorder.timeline(),
        cache.profile() if isinstance(cache, ProfilingCache) else (),
    )


def _timing(
    served: Served, started_at: datetime, started: float, compile_seconds: float, disk_saved_seconds: float
) -> Timing:
    p50, p99 = np.quantile(served.seconds, [0.5, 0.99])
    total = sum(served.seconds)
    return Timing(
        started_at=started_at.isoformat(timespec="milliseconds"),
        work_seconds=time.perf_counter() - started,
        serve_seconds=total,
        run_seconds=max(0.0, total - compile_seconds),
        processor_seconds=served.processor_seconds,
        disk_saved_seconds=disk_saved_seconds,
        calls_per_second=len(served.seconds) / total,
        p50_seconds=float(p50),
        p99_seconds=float(p99),
    )


def _statistics(stats: CacheStats) -> Statistics:
    values: dict[str, Any] = {name: getattr(stats, name) for name in Statistics.model_fields}
    by_function = {
        function: FunctionCounts(**{name: getattr(counts, name) for name in FunctionCounts.model_fields})
        for function, counts in stats.by_function.items()
    }
    return Statistics(**{**values, "by_function": by_function})


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def execute_reference(job: TrialJob, device: str) -> Reference:
    """Run a trial's program without a limit, and under ``jax.jit`` itself.

    First an unbounded cache compiles every signature in full, which measures its bytes and its cost. Then ``jax.jit``
    computes the output that every trial must equal; it loads what the first pass compiled, and leaves that in the
    directory that the trials share. Signatures that an earlier reference of the sweep measured keep its values. The
    requests are saved as a trace, for the bound.
    """
    trial, requests = job.trial, job.scratch / "requests"
    with persistent_cache(Persistent(mode="fresh"), job.scratch):
        with JitCache(None, "none", costs=job.costs, record=requests) as cache:
            progress = ProgressWriter(job.scratch, 2 * trial.workload.requests, cache)  # over both passes
            served = serve(trial, cache, progress.after_request)
            stats, costs = cache.stats(), cache.costs()
        Trace.load(requests).save(job.directory / REQUESTS)
    with _leaving_programs(trial.persistent, job.scratch):
        plain = serve(trial, JitCache(enabled=False), progress.after_request)
    for name, run in (("an unbounded cache", served), ("jax.jit", plain)):
        if not run.answer.right:
            raise RuntimeError(f"wrong answer under {name}: {describe_answer(run.answer)}")
    if served.checksum != plain.checksum:
        raise RuntimeError(
            f"the output's checksum is {served.checksum} with an unbounded cache, but {plain.checksum} under jax.jit: "
            "the cache changed a result"
        )
    return Reference(
        program_id=job.program_id,
        workload=trial.workload.name,
        shapes=trial.shapes.name,
        seed=trial.seed,
        device=device,
        slot=job.device.slot,
        environment=job.environment,
        checksum=plain.checksum,
        requests=len(plain.seconds),
        distinct=len(costs),
        unbounded_bytes=stats.live_bytes,
        unbounded_cost_seconds=stats.cost_seconds,
        uncached_cost_seconds=stats.cost_seconds + stats.compile_seconds_avoided,
        jit_seconds=sum(plain.seconds),
        run_seconds=max(0.0, sum(served.seconds) - stats.compile_seconds),
        processor_seconds=served.processor_seconds,
        costs={signature: (cost.size_bytes, cost.seconds) for signature, cost in costs.items()},
    )


def describe_answer(answer: Answer) -> str:
    """Return a one-line description of an answer."""
    return f"{answer.measure} is {answer.error:.3g}, at most {answer.tolerance:.3g} is right"
