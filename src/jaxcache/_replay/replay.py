"""Replays of a trace under any policy and limit: the hits, misses and evictions that a run with them would have had."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._policies import POLICIES, Policy, policy_maker
from .._primitives.checks import as_real_number, check_instance, check_optional_whole_number, check_seed
from .._primitives.sizes import parse_size
from .decisions import EVENT, REJECTED, SMALL_ROWS, UNKEPT, Decisions, decide_with_objects, sample_rows
from .trace import Event, Trace, check_trace


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """Decisions of a cache over the requests of a trace.

    Attributes:
        policy: Its name, or that of its class.
        limit_bytes: None for no limit.
        requests: Hits and misses.
        hits: Requests for what was held.
        misses: The others.
        evictions: Entries that went to make room.
        rejected: Programs that were made, also ahead of a request, but not kept: refused by the policy, or larger than
            the limit.
        compile_seconds: The cost of each miss's signature, added up. With a directory under the cache, what was
            loaded from it is not in it.
        load_seconds: Of the misses that a directory served.
        peak_bytes: The most that was held at a time.
        misses_by_signature: Of each signature; int64.
        outcomes: Of each row of the trace: ``HIT``, ``MISS``, ``REJECTED`` (a miss too), ``EVENT``; uint8.
        sampled_rows: Rows after which the bytes held were noted, evenly apart, the last row among them; int64.
        sampled_bytes: What was held after them; int64.
    """

    policy: str
    limit_bytes: int | None
    requests: int
    hits: int
    misses: int
    evictions: int
    rejected: int
    compile_seconds: float
    load_seconds: float
    peak_bytes: int
    misses_by_signature: NDArray[np.int64]
    outcomes: NDArray[np.uint8]
    sampled_rows: NDArray[np.int64]
    sampled_bytes: NDArray[np.int64]

    def __repr__(self) -> str:
        limit = "no limit" if self.limit_bytes is None else f"{self.limit_bytes} bytes"
        return (
            f"<{self.policy} at {limit}: {self.hits} hits, {self.misses} misses, "
            f"{self.evictions} evictions, {self.compile_seconds:.6g} s of compiling>"
        )


@dataclass(frozen=True)
class Disk:
    """A directory under the cache: what was compiled once is loaded after.

    Attributes:
        load_share: Of a signature's compile seconds that loading it takes; 0.05 is usual for programs of a second.
        warm: Whether the directory has all signatures from the start.
    """

    load_share: float = 0.05
    warm: bool = False

    def __post_init__(self) -> None:
        share = as_real_number(self.load_share)
        if share is None or not 0 <= share < math.inf:
            raise ValueError(f"load_share must be 0 or more, such as 0.05, but is {self.load_share!r}")


def replay(
    trace: Trace,
    policy: str | Policy,
    limit: int | str | None = None,
    *,
    seed: int = 0,
    warm: Iterable[Any] = (),
    disk: Disk | None = None,
    compiled: bool | None = None,
) -> ReplayResult:
    """Return what ``JitCache(limit, policy)`` does with the requests of a trace, request for request.

    Args:
        trace: Whose signatures weigh and cost what was first recorded.
        policy: A name in ``jaxcache.POLICIES``, or a new object with the methods of ``jaxcache.Policy``.
        limit: Bytes, as an int or as text such as ``"64MiB"``; None for no limit.
        seed: For policies that draw.
        warm: Labels of the trace that are made ahead of the first request, in this order.
        disk: A directory under the cache; None for none.
        compiled: Whether numba runs it. None if it is there, has the policy and the trace is worth it; True to be told
            if it cannot. The decisions are the same.

    Raises:
        ValueError: If an argument is out of range; the message says what to write.
        TypeError: If ``trace`` is no trace, ``policy`` neither a name nor a policy, or ``disk`` no directory.
        ImportError: If ``compiled`` is True and numba is missing.
    """
    limit_bytes, seed = _check_arguments(trace, policy, limit, disk), check_seed(seed)
    rows = _with_warm(trace, list(warm))
    decisions = _decide(rows, policy, limit_bytes, seed, compiled)
    return _result(rows, _name(policy), limit_bytes, decisions, len(rows) - len(trace), disk)


def replay_grid(
    trace: Trace,
    policies: Sequence[str],
    limits: Sequence[int | str | None],
    *,
    seed: int = 0,
    disk: Disk | None = None,
    threads: int | None = None,
) -> list[ReplayResult]:
    """Return the replays of all policies at all limits, policies outermost.

    Args:
        trace: As for :func:`replay`.
        policies: Names.
        limits: As for :func:`replay`.
        seed: For policies that draw.
        disk: A directory under the cache; None for none.
        threads: How many run at a time; all cores if None. Only compiled replays gain.

    Raises:
        ValueError: As for :func:`replay`, before the first one starts.
    """
    check_seed(seed)
    for policy in policies:
        for limit in limits:
            _check_arguments(trace, policy, limit, disk)
    workers = check_optional_whole_number(threads, "threads") or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="jaxcache-replay") as pool:
        pending = [
            pool.submit(replay, trace, policy, limit, seed=seed, disk=disk) for policy in policies for limit in limits
        ]
        return [future.result() for future in pending]


def _check_arguments(trace: object, policy: object, limit: int | str | None, disk: object) -> int | None:
    """Return the limit in bytes; refuse what cannot be replayed."""
    check_trace(trace)
    policy_maker(policy, 0, "policy")
    if disk is not None:
        check_instance(disk, Disk, "disk", "Disk(load_share=0.05)")
    return None if limit is None else parse_size(limit, "limit")


def _with_warm(trace: Trace, labels: list[Any]) -> Trace:
    """Return a trace that begins with the making ahead of some signatures."""
    if not labels:
        return trace
    numbers: dict[Any, list[int]] = {}
    for number, label in enumerate(trace.labels.tolist()):
        numbers.setdefault(label, []).append(number)
    missing = [label for label in labels if label not in numbers]
    if missing:
        raise ValueError(f"warm must name labels of the trace, but {missing[0]!r} is none")
    ahead = np.array([number for label in labels for number in numbers[label]], np.int64)
    return Trace(
        np.concatenate([ahead, trace.signatures]), trace.labels, trace.size_bytes, trace.compile_seconds,
        trace.mappings, np.concatenate([np.full(len(ahead), Event.WARM, np.uint8), trace.events]), trace.mappings_limit,
    )  # fmt: skip


def _decide(trace: Trace, policy: Any, limit_bytes: int | None, seed: int, compiled: bool | None) -> Decisions:
    """Replay with numba where it may and can, else with the cache's own objects."""
    decide = _compiled_decider(policy, compiled) if compiled or (compiled is None and len(trace) > SMALL_ROWS) else None
    if decide is not None:
        return decide(trace, policy, limit_bytes, seed)
    return decide_with_objects(trace, policy_maker(policy, seed), limit_bytes)


def _compiled_decider(policy: Any, required: bool | None) -> Callable[..., Decisions] | None:
    """Return what replays a policy with numba; None if that cannot be, or an error if it is required."""
    try:
        from . import compiled  # needs numba
    except ImportError as error:
        if required:
            raise ImportError("compiled replays need numba: pip install 'jaxcache[lab]'") from error
        return None
    if isinstance(policy, str) and policy in compiled.POLICIES:
        return compiled.decide_compiled
    if required:
        raise ValueError(f"compiled must be None or False for a policy of your own, but is True for {policy!r}")
    return None


def _name(policy: Any) -> str:
    if isinstance(policy, str):
        return policy
    return next((name for name, kind in POLICIES.items() if type(policy) is kind), type(policy).__name__)


def _result(
    trace: Trace, policy: str, limit_bytes: int | None, decisions: Decisions, ahead: int, disk: Disk | None
) -> ReplayResult:
    """Put a result together; the first ``ahead`` rows of the trace are not the caller's."""
    unkept = decisions.outcomes == UNKEPT
    outcomes = np.where(unkept, np.uint8(EVENT), decisions.outcomes)[ahead:]
    by_signature, requests = decisions.misses, trace.requests
    misses = int(by_signature.sum())
    compiles, loads = by_signature, np.zeros_like(by_signature)
    if disk is not None:
        compiles = np.zeros_like(by_signature) if disk.warm else np.minimum(by_signature, _compiled_when_asked(trace))
        loads = by_signature - compiles
    rows = sample_rows(len(trace)) - ahead
    kept = rows >= 0
    return ReplayResult(
        policy=policy,
        limit_bytes=limit_bytes,
        requests=requests,
        hits=requests - misses,
        misses=misses,
        evictions=decisions.evictions,
        rejected=int(np.count_nonzero(outcomes == REJECTED) + np.count_nonzero(unkept)),
        compile_seconds=math.fsum((compiles * trace.compile_seconds).tolist()),
        load_seconds=math.fsum((loads * trace.compile_seconds).tolist()) * (disk.load_share if disk else 0.0),
        peak_bytes=decisions.peak_bytes,
        misses_by_signature=by_signature,
        outcomes=outcomes,
        sampled_rows=rows[kept],
        sampled_bytes=decisions.sampled_bytes[kept],
    )


def _compiled_when_asked(trace: Trace) -> NDArray[np.int64]:
    """Return 1 for each signature that its first request compiles, 0 for what was made ahead: a directory has it."""
    firsts = np.full(len(trace.labels), Event.REQUEST, np.uint8)
    seen, rows = np.unique(trace.signatures, return_index=True)
    firsts[seen] = trace.events[rows]
    return (firsts == Event.REQUEST).astype(np.int64)
