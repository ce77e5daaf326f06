"""Timeline of a trial, recorded request by request: memory held, lengths, latency by the source of programs."""

from collections import Counter, defaultdict
from typing import Any, Self

import numpy as np
from jax import monitoring

from ... import JitCache
from ..result import Latency, Timeline
from ..trial import Trial

SAMPLES = 200
_RETRIEVAL = "/jax/compilation_cache/cache_retrieval_time_sec"


class TimelineRecorder:
    """Recorder of a cache's state while requests are served; a context manager that listens to JAX's events."""

    def __init__(self, cache: JitCache, trial: Trial) -> None:
        self._cache, self._stretch = cache, -(-trial.workload.requests // SAMPLES)
        self._buckets = trial.buckets.lengths(trial.shapes, trial.workload, trial.seed) or ()
        self._served, self._compiled, self._loaded = 0, 0, 0
        self._highest_bytes: list[int] = []
        self._lengths: Counter[int] = Counter()
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._loading_seconds = 0.0

    def __enter__(self) -> Self:
        monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _RETRIEVAL:
            self._loading_seconds += duration_secs

    def after(self, length: int, seconds: float) -> None:
        """Record a request that was just served."""
        stats = self._cache.stats()
        source = (
            "compiled" if stats.compiled > self._compiled
            else "loaded" if stats.disk_hits > self._loaded
            else "held"
        )  # fmt: skip
        self._compiled, self._loaded = stats.compiled, stats.disk_hits
        self._seconds[source].append(seconds)
        self._lengths[length] += 1
        if self._served % self._stretch == 0:
            self._highest_bytes.append(0)
        self._highest_bytes[-1] = max(self._highest_bytes[-1], stats.live_bytes)
        self._served += 1

    def timeline(self) -> Timeline:
        """Return the timeline of the requests recorded so far."""
        ends = [min((n + 1) * self._stretch, self._served) for n in range(len(self._highest_bytes))]
        return Timeline(
            requests=tuple(ends),
            live_bytes=tuple(self._highest_bytes),
            lengths=dict(sorted(self._lengths.items())),
            buckets=self._buckets,
            latency={source: quantiles(seconds) for source, seconds in sorted(self._seconds.items())},
            loading_seconds=self._loading_seconds,
        )


def quantiles(seconds: list[float]) -> Latency:
    """Return the latency quantiles of requests."""
    p50, p90, p99 = np.quantile(seconds, [0.5, 0.9, 0.99]).tolist()
    return Latency(requests=len(seconds), p50_seconds=p50, p90_seconds=p90, p99_seconds=p99, max_seconds=max(seconds))
