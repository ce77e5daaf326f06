"""TrialResult and Reference: the models of ``result.json`` and ``reference.json``."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from .environment import Environment
from .trial import FrozenModel, Trial
from .workloads import Answer

if TYPE_CHECKING:
    from .. import CacheStats


class FunctionCounts(FrozenModel):
    """Counters of one function during a trial, see :class:`jaxcache.FunctionStats`."""

    hits: int = 0
    misses: int = 0
    misses_by_cause: dict[str, int] = Field(default_factory=dict)
    evictions: int = 0
    live_entries: int = 0
    live_bytes: int = 0
    compile_seconds: float = 0.0
    compile_seconds_avoided: float = 0.0


class Statistics(FrozenModel):
    """Counters of the cache during a trial, see :class:`jaxcache.CacheStats`."""

    hits: int
    misses: int
    misses_by_cause: dict[str, int]
    disk_hits: int
    compiled: int
    evictions: int
    rejected: int
    bypassed: int
    variants: int
    live_bytes: int
    peak_bytes: int
    own_elements: int = 0
    padded_elements: int = 0
    compile_seconds: float
    cost_seconds: float
    repeated_cost_seconds: float
    compile_seconds_avoided: float
    by_function: dict[str, FunctionCounts] = Field(default_factory=dict)

    @property
    def hit_rate(self) -> float:
        """Hits divided by hits and misses; 0 without calls."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0

    @property
    def padding(self) -> float:
        """Elements that padding added, divided by those that were requested."""
        return self.padded_elements / self.own_elements if self.own_elements else 0.0

    def counted(self, limit_bytes: int | None) -> "CacheStats":
        """Return these counters as the library's own type, for its suggestions."""
        from .. import CacheStats, FunctionStats  # with JAX, which those that read settings do not wait for

        values = self.model_dump(exclude={"by_function"})
        by_function = {name: FunctionStats(**counts.model_dump()) for name, counts in self.by_function.items()}
        return CacheStats(limit_bytes=limit_bytes, by_function=by_function, **values)


class Timing(FrozenModel):
    """Seconds of a trial.

    Attributes:
        work_seconds: From the trial's first import to its last result, checks included.
        serve_seconds: Total time of the requests.
        run_seconds: The part of ``serve_seconds`` that was not spent on misses.
        processor_seconds: Processor time of the requests on all cores, whatever else the machine does; 0 in older
            files.
        disk_saved_seconds: Compile seconds of the programs loaded from disk, less the seconds to read them.
        calls_per_second: Requests divided by ``serve_seconds``.
        p50_seconds: Median of a request's time, blocked until its result is ready.
        p99_seconds: 99th percentile of a request's time.
    """

    started_at: str
    work_seconds: float
    serve_seconds: float
    run_seconds: float = 0.0
    processor_seconds: float = 0.0
    disk_saved_seconds: float = 0.0
    calls_per_second: float
    p50_seconds: float
    p99_seconds: float


class Memory(FrozenModel):
    """Resident memory of the trial's process.

    Attributes:
        start_rss_bytes: Resident memory before the workload, with JAX imported.
        peak_rss_bytes: Largest resident memory, as the kernel reports it.
    """

    start_rss_bytes: int
    peak_rss_bytes: int


class Latency(FrozenModel):
    """Latency quantiles, in seconds, of requests whose programs came from one source."""

    requests: int
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    max_seconds: float


class Timeline(FrozenModel):
    """Course of a trial over its requests.

    Attributes:
        requests: Number of requests served at each sample, at the end of each stretch; at most 200 samples.
        live_bytes: Largest number of bytes held within each stretch.
        lengths: Number of requests by length.
        buckets: Lengths that requests were padded to; empty without buckets.
        latency: Latency by the slowest source among a request's calls: ``held``, ``loaded`` from disk, ``compiled``.
        loading_seconds: Time to read executables from JAX's persistent cache, a part of ``compile_seconds``.
    """

    requests: tuple[int, ...]
    live_bytes: tuple[int, ...]
    lengths: dict[int, int]
    buckets: tuple[int, ...] = ()
    latency: dict[str, Latency]
    loading_seconds: float


class FunctionProfile(FrozenModel):
    """Time of one function in a profiled trial, which waits for the result of every call.

    Attributes:
        name: Name of the function.
        calls: Number of calls.
        misses: Number of calls that missed.
        compile_seconds: Time of the misses' lowering, compiling and loading.
        run_seconds: The rest of the calls' time, until their results were ready.
    """

    name: str
    calls: int
    misses: int
    compile_seconds: float
    run_seconds: float


class ProgramRun(FrozenModel):
    """Figures of one run of a user's program as a whole.

    Attributes:
        wall_seconds: From the program's first line to the end of its process.
        compile_seconds: Lowering, compiling and loading, of all that the process compiled.
        programs: Number of programs that XLA compiled.
        peak_rss_bytes: Largest resident memory.
        outside_bytes: What JAX itself held beside the cache at the end, such as eager operations.
    """

    wall_seconds: float
    compile_seconds: float
    programs: int
    peak_rss_bytes: int
    outside_bytes: int = 0


class TrialResult(FrozenModel):
    """Outcome of one trial. ``statistics`` and the fields after it are None if the trial failed before it had them.

    ``attempted`` is False if its process was never started, because the reference run of its program failed.
    """

    schema_version: Literal[1] = 1
    attempted: bool = True
    trial_id: str
    program_id: str
    label: str
    status: Literal["completed", "failed"]
    reason: str | None = None
    stderr_tail: str = ""
    config: Trial
    costs_hash: str | None = None
    environment: Environment
    device: str | None = None
    statistics: Statistics | None = None
    timing: Timing | None = None
    memory: Memory | None = None
    course: Timeline | None = None
    answer: Answer | None = None
    checksum: str | None = None
    reference_checksum: str | None = None
    profile: tuple[FunctionProfile, ...] = ()
    program: ProgramRun | None = None


class ProgramReference(FrozenModel):
    """Part of a reference that only a user's program has.

    Attributes:
        recorded: The run that recorded the requests, with a cache without a limit.
        plain: The run under ``jax.jit`` alone.
        repeats: Whether a second recording has the same requests in the same order; None if there is none.
        repeat_note: Where the recordings differ first; empty if they do not.
        output: What trials' output is compared with, compressed and in base64; empty if a checksum is enough.
    """

    recorded: ProgramRun
    plain: ProgramRun
    repeats: bool | None = None
    repeat_note: str = ""
    output: str = ""


class Reference(FrozenModel):
    """Measurements of a program without a limit, which its trials are compared with.

    Attributes:
        checksum: Checksum of the output with every call handed to ``jax.jit`` itself.
        requests: Number of requests.
        distinct: Number of signatures compiled.
        unbounded_bytes: Bytes of all executables together.
        unbounded_cost_seconds: Compile seconds with each signature compiled once.
        uncached_cost_seconds: Compile seconds with each call compiled anew.
        jit_seconds: Time of the requests under ``jax.jit`` itself, its compiles served from disk.
        run_seconds: Time of the requests under the unbounded cache that was not spent on misses; 0 in older files.
        processor_seconds: Processor time of these requests on all cores, with the misses; 0 in older files.
        costs: Bytes and seconds of each signature, as in a cost table.
        program: What else is known of a user's program; None for a workload of the lab.
    """

    program_id: str
    workload: str
    shapes: str
    seed: int
    device: str
    slot: str
    environment: Environment
    checksum: str
    requests: int
    distinct: int
    unbounded_bytes: int
    unbounded_cost_seconds: float
    uncached_cost_seconds: float
    jit_seconds: float
    run_seconds: float = 0.0
    processor_seconds: float = 0.0
    costs: dict[str, tuple[int, float]]
    program: ProgramReference | None = None
