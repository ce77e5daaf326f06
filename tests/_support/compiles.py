"""Count what XLA really compiles: JAX's own events are the oracle, not the cache's counters."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from jax import monitoring

_counts: Counter[str] = Counter()
monitoring.register_event_duration_secs_listener(lambda event, _seconds, **_: _counts.update([event]))


@contextmanager
def count_compiles() -> Iterator[list[int]]:
    """Yield a list that holds, at the end, how many programs the backend compiled or loaded meanwhile."""
    event = "/jax/core/compile/backend_compile_duration"
    before, counted = _counts[event], []
    yield counted
    counted.append(_counts[event] - before)
