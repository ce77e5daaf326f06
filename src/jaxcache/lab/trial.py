"""Trial (what to run) and TrialResult (what happened): the two types that every other room passes on."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from .._cache.stats import CacheStats, FunctionStats
from .._disk.priority import STORED_POLICIES
from .._policies import POLICIES
from .._primitives.atomic_files import write_file
from .._primitives.sizes import format_size, parse_size
from .buckets import Buckets, Unbucketed
from .environment import Environment, code_version
from .shapes import Shapes
from .workloads import Answer, Precision, Workload

_PROGRAM = {"workload", "shapes", "buckets", "precision", "seed"}  # what is computed
SMALLEST_LIMIT_BYTES = 256 * 1024  # hardly any executable weighs less


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _limit(value: Any) -> Any:
    if value is None:
        return None
    try:
        size = parse_size(value, "memory_limit")
    except TypeError as error:
        raise ValueError(str(error)) from error
    if size < SMALLEST_LIMIT_BYTES:
        raise ValueError(
            f"memory_limit must be at least 256KiB, what the smallest executable weighs, but is {value}; "
            "write null for no limit"
        )
    return size


def _known_policy(value: Any) -> Any:
    if not isinstance(value, str) or value not in POLICIES:
        raise ValueError(f"eviction must be one of {', '.join(POLICIES)}, but is {value!r}")
    return value


class Eviction(_Model):
    """Which policy decides who goes. ``seed``s of policies that draw are the trial's."""

    name: Annotated[str, BeforeValidator(_known_policy)]


def _disk_limit(value: Any) -> Any:
    try:
        return None if value is None else parse_size(value, "persistent.limit")
    except TypeError as error:
        raise ValueError(str(error)) from error


def _stored_policy(value: Any) -> Any:
    if value not in STORED_POLICIES:
        raise ValueError(f"persistent.eviction must be one of {', '.join(STORED_POLICIES)}, but is {value!r}")
    return value


class Persistent(_Model):
    """The directory of compiled programs during a trial, see :func:`jaxcache.use_directory`.

    Attributes:
        mode: ``shared``: one directory for all trials of all sweeps; ``fresh``: an empty one for each trial; ``off``.
        directory: Of ``shared``. Trials with another limit or policy have one of their own in it, since a directory has
            one of each.
        limit: Of the directory, in bytes; None for no limit.
        eviction: Which policy keeps it.
    """

    mode: Literal["shared", "fresh", "off"]
    directory: Path | None = None
    limit: Annotated[int | None, BeforeValidator(_disk_limit)] = None
    eviction: Annotated[str, BeforeValidator(_stored_policy)] = "lru"

    @model_validator(mode="after")
    def _check_directory(self) -> Self:
        if (self.mode == "shared") != (self.directory is not None):
            raise ValueError("persistent.directory must be given for shared, and only for shared")
        return self

    @property
    def place(self) -> Path | None:
        """Where programs are kept; None unless the mode is ``shared``."""
        limit = "no-limit" if self.limit is None else format_size(self.limit).replace(" ", "")
        return self.directory and self.directory / f"{self.eviction}-{limit}"


class Trial(_Model):
    """One run of one workload under one cache setting: everything its decisions depend on.

    Attributes:
        seed: Of the stream of shapes, of the workload's data and of policies that draw.
        memory_limit: Of the cache, in bytes; None for no limit.
        precision: Of the workload's data; sums, parameters and factorisations are in at least float32.
        profiling: Whether to record a JAX profiler trace, and what each function took.
    """

    workload: Workload
    shapes: Shapes
    buckets: Buckets = Unbucketed()
    precision: Precision = "float32"
    eviction: Eviction
    memory_limit: Annotated[int | None, BeforeValidator(_limit)]
    persistent: Persistent
    seed: NonNegativeInt = Field(lt=2**32)
    profiling: bool = False

    @property
    def id(self) -> str:
        """The hash of the config and of jaxcache's own code: equal ids do the same work."""
        return _hash(self.model_dump(mode="json"))

    @property
    def program_id(self) -> str:
        """The hash of what is computed, whatever the cache: trials with equal ones are compared."""
        return _hash(self.model_dump(mode="json", include=_PROGRAM))

    @property
    def label(self) -> str:
        """What tells the trial from others at a glance: ``lru 8 MiB iterative_solver zipf seed 0``."""
        limit = "no limit" if self.memory_limit is None else format_size(self.memory_limit)
        return f"{self.eviction.name} {limit} {self.program_name}"

    @property
    def program_name(self) -> str:
        """What is computed: ``iterative_solver zipf seed 0``, with buckets and precision where they are not usual."""
        unusual = [f"buckets {self.buckets.name}"] * (self.buckets.name != "none")
        unusual += [self.precision] * (self.precision != "float32")
        return " ".join([self.workload.name, self.shapes.name, *unusual, f"seed {self.seed}"])


def _hash(config: dict[str, Any]) -> str:
    text = json.dumps({"config": config, "code": code_version()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Device(_Model):
    """Where a process is to run.

    Attributes:
        platform: ``cpu`` or ``gpu``.
        index: Which GPU, by its position among those that are visible; or which slot of CPU cores.
        cores: The CPU cores that the process is held to; empty for all.
        memory_fraction: How much of the GPU's memory JAX takes ahead; None to take what it needs when it needs it.
        model: Of the GPU, as the driver calls it; empty if that is not known.
        identity: The GPU's UUID, the same whichever are visible; empty if that is not known.
    """

    platform: Literal["cpu", "gpu"]
    index: NonNegativeInt
    cores: tuple[int, ...] = ()
    memory_fraction: float | None = None
    model: str = ""
    identity: str = ""

    @property
    def slot(self) -> str:
        """What makes a device like another: sums may round differently on another number of cores, or another GPU."""
        return f"{len(self.cores)} cores" if self.platform == "cpu" else f"gpu {self.model}".rstrip()


class FunctionCounts(_Model):
    """What the cache counted of one function during a trial, see :class:`jaxcache.FunctionStats`."""

    hits: int = 0
    misses: int = 0
    misses_by_cause: dict[str, int] = {}
    evictions: int = 0
    live_entries: int = 0
    live_bytes: int = 0
    compile_seconds: float = 0.0
    compile_seconds_avoided: float = 0.0


class Statistics(_Model):
    """What the cache counted during a trial, see :class:`jaxcache.CacheStats`."""

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
    by_function: dict[str, FunctionCounts] = {}

    @property
    def hit_rate(self) -> float:
        """Hits over hits and misses."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0

    @property
    def padding(self) -> float:
        """Elements that padding added over those that were asked for."""
        return self.padded_elements / self.own_elements if self.own_elements else 0.0

    def counted(self, limit_bytes: int | None) -> CacheStats:
        """Return the same as the library's own type, for its suggestions."""
        values = self.model_dump(exclude={"by_function"})
        by_function = {name: FunctionStats(**one.model_dump()) for name, one in self.by_function.items()}
        return CacheStats(limit_bytes=limit_bytes, by_function=by_function, **values)


class Timing(_Model):
    """Seconds of a trial.

    Attributes:
        work_seconds: From the first import of the trial's own to its last result, checks included.
        serve_seconds: Of the requests alone.
        run_seconds: Of them, what was not spent on misses.
        processor_seconds: Of the requests, on all cores, whatever else the machine does meanwhile; 0 in older files.
        disk_saved_seconds: Compile seconds of the programs loaded from disk, less the seconds to read them.
        calls_per_second: Requests over ``serve_seconds``.
        p50_seconds: Median of a request, blocked until its result is there.
        p99_seconds: Of a request.
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


class Memory(_Model):
    """Resident memory of the trial's process.

    Attributes:
        start_rss_bytes: Before the workload, with JAX imported.
        peak_rss_bytes: The largest, by the kernel's account.
    """

    start_rss_bytes: int
    peak_rss_bytes: int


class Latency(_Model):
    """Seconds of the requests that were served in one way, blocked until the result is there."""

    requests: int
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    max_seconds: float


class Timeline(_Model):
    """What went on from request to request.

    Attributes:
        requests: How many had been served at each sample, the last of each stretch of requests; 200 samples at most.
        live_bytes: The most that was held within the stretch.
        lengths: How many requests came with each length.
        buckets: The lengths that they were padded to; empty without buckets.
        latency: By what the slowest of a request's calls needed: ``held``, ``loaded`` from disk, or ``compiled``.
        loading_seconds: Spent reading executables from JAX's persistent cache, part of ``compile_seconds``.
    """

    requests: tuple[int, ...]
    live_bytes: tuple[int, ...]
    lengths: dict[int, int]
    buckets: tuple[int, ...] = ()
    latency: dict[str, Latency]
    loading_seconds: float


class FunctionProfile(_Model):
    """What one function took in a profiled trial, in which every call is waited for.

    Attributes:
        name: The function's.
        calls: How many there were.
        misses: Of them.
        compile_seconds: Of the misses: lowering, compiling and loading.
        run_seconds: What else the calls took until their results were there.
    """

    name: str
    calls: int
    misses: int
    compile_seconds: float
    run_seconds: float


class TrialResult(_Model):
    """What happened to one trial. ``statistics`` and what follows are None if it failed before it had them.

    ``attempted`` is False if its process was never started, since the reference of its program failed.
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


class Reference(_Model):
    """What a program needs and gives without a bound, the frame that its trials are held against.

    Attributes:
        checksum: Of the output with every call handed to ``jax.jit`` itself.
        requests: How many there were.
        distinct: How many signatures were compiled.
        unbounded_bytes: What holding all of them weighs.
        unbounded_cost_seconds: Each signature compiled once.
        uncached_cost_seconds: Each call compiled anew.
        jit_seconds: Of the requests under ``jax.jit`` itself, its compiles served from disk.
        run_seconds: Of the requests under the unbounded cache, what was not spent on misses; 0 in older files.
        processor_seconds: Of them, on all cores, with the misses; 0 in older files.
        costs: The signatures' bytes and seconds, as in a cost table.
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


def write_json(path: Path, model: BaseModel, durable: bool = True) -> None:
    """Write a model in one step, so that whoever finds the file finds all of it, if durable also after a power cut."""
    write_file(path, f"{model.model_dump_json(indent=2)}\n", durable=durable)
