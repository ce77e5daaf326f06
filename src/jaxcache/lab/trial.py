"""Trial: one run of one workload under one cache setting, with the models that it consists of, and the device."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from .. import POLICIES, format_size, parse_size
from .._disk.priority import STORED_POLICIES
from .._remote.urls import check_url
from .buckets import Buckets, Unbucketed
from .environment import code_version
from .shapes import Shapes
from .workloads import Precision, Program, Workload

_PROGRAM_FIELDS = {"workload", "shapes", "buckets", "precision", "seed"}  # they decide what is computed
SMALLEST_LIMIT_BYTES = 256 * 1024  # hardly any executable is smaller


class FrozenModel(BaseModel):
    """Base of immutable models that refuse unknown fields."""

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


class Eviction(FrozenModel):
    """Eviction policy of a trial's cache, by name. Policies that draw random numbers use the trial's seed."""

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


def _remote(value: Any) -> Any:
    if value is None:
        return None
    address = check_url(value, "persistent.remote").text
    if importlib.util.find_spec("obstore") is None:
        raise ValueError(f"persistent.remote={value} needs obstore: pip install 'jaxcache[remote]'")
    return address


class Persistent(FrozenModel):
    """Directory of compiled programs during a trial, see :func:`jaxcache.use_directory`.

    Attributes:
        mode: ``shared``: one directory for all trials of all sweeps; ``fresh``: an empty one for each trial; ``off``.
        directory: Root of the shared directories, given only for ``shared``. Each limit and policy has a directory in
            it, since a directory has one limit and one policy.
        limit: Size limit of the directory, in bytes; None for no limit.
        eviction: Policy that decides which entries of the directory are evicted.
        layers: Directories that are read after it, in order.
        remote: Object store that is asked last, and written to: with ``fresh``, machines need share no file system.
    """

    mode: Literal["shared", "fresh", "off"]
    directory: Path | None = None
    limit: Annotated[int | None, BeforeValidator(_disk_limit)] = None
    eviction: Annotated[str, BeforeValidator(_stored_policy)] = "lru"
    layers: tuple[Path, ...] = ()
    remote: Annotated[str | None, BeforeValidator(_remote)] = None

    @model_validator(mode="after")
    def _check_directory(self) -> Self:
        if self.mode == "shared" and self.directory is None:
            raise ValueError("persistent.directory must be given for persistent=shared, such as outputs/compile_cache")
        if self.mode != "shared" and self.directory is not None:
            raise ValueError(
                f"persistent.directory={self.directory} is for persistent=shared, but persistent is {self.mode}; write "
                f"persistent=shared, or persistent={self.mode} without a directory"
            )
        if self.mode == "off" and (self.layers or self.remote):
            raise ValueError(
                "persistent.layers and persistent.remote go with persistent=fresh or persistent=shared, "
                "but persistent is off"
            )
        return self

    @property
    def shared_directory(self) -> Path | None:
        """Directory of programs with this limit and policy; None unless the mode is ``shared``."""
        limit = "no-limit" if self.limit is None else format_size(self.limit).replace(" ", "")
        return self.directory and self.directory / f"{self.eviction}-{limit}"


class Trial(FrozenModel):
    """One run of one workload under one cache setting: everything its decisions depend on.

    Attributes:
        seed: Seed of the stream of shapes, of the workload's data and of policies that draw random numbers.
        memory_limit: Limit of the cache, in bytes; None for no limit.
        precision: Dtype of the workload's data; sums, parameters and factorisations are in at least float32.
        profiling: Whether to record a JAX profiler trace, and the time of each function.
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

    @model_validator(mode="after")
    def _check_program(self) -> Self:
        if self.program is None:
            if self.shapes.name == "own":
                raise ValueError(
                    f"shapes=own is for workload=program, but workload is {self.workload.name}; "
                    "choose one of uniform, zipf, phased"
                )
            return self
        drawn = {"shapes": self.shapes.name, "buckets": self.buckets.name, "precision": self.precision}
        usual = {"shapes": "own", "buckets": "none", "precision": "float32"}
        for key, value in drawn.items():
            if value != usual[key]:
                raise ValueError(
                    f"{key}={value} is for the lab's own workloads, but workload is {self.workload.name}, which brings "
                    f"its own; leave {key} out"
                )
        if self.profiling:
            raise ValueError(
                f"profiling=true is for the lab's own workloads, but workload is {self.workload.name}; "
                "python -m jaxcache run --profile page.html says what compiles in a program"
            )
        return self

    @property
    def program(self) -> Program | None:
        """The user's program; None for a workload of the lab."""
        return self.workload if isinstance(self.workload, Program) else None

    @property
    def id(self) -> str:
        """Hash of the config and of jaxcache's source files: trials with equal ids do the same work."""
        return _hash(self.model_dump(mode="json"))

    @property
    def program_id(self) -> str:
        """Hash of the computation, without the cache's settings: trials with equal program ids are compared."""
        return _hash(self.model_dump(mode="json", include=_PROGRAM_FIELDS))

    @property
    def label(self) -> str:
        """Short description of the trial: ``lru 8 MiB iterative_solver zipf seed 0``."""
        limit = "no limit" if self.memory_limit is None else format_size(self.memory_limit)
        return f"{self.eviction.name} {limit} {self.program_name}"

    @property
    def program_name(self) -> str:
        """Short description of the computation: ``iterative_solver zipf seed 0``; buckets and precision if unusual."""
        unusual = [f"buckets {self.buckets.name}"] * (self.buckets.name != "none")
        unusual += [self.precision] * (self.precision != "float32")
        if self.program is not None:
            return f"{self.program.label} seed {self.seed}"
        return " ".join([self.workload.name, self.shapes.name, *unusual, f"seed {self.seed}"])


def _hash(config: dict[str, Any]) -> str:
    text = json.dumps({"config": config, "code": code_version()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Device(FrozenModel):
    """GPU, or slot of CPU cores, that a process runs on.

    Attributes:
        platform: ``cpu`` or ``gpu``.
        index: Position of the GPU among the visible ones, or number of the slot of CPU cores.
        cores: CPU cores that the process is pinned to; empty for all.
        memory_fraction: Share of the GPU's memory that JAX allocates ahead; None to allocate as needed.
        model: The GPU's model name, as the driver reports it; empty if unknown.
        identity: The GPU's UUID, which does not depend on which GPUs are visible; empty if unknown.
    """

    platform: Literal["cpu", "gpu"]
    index: NonNegativeInt
    cores: tuple[int, ...] = ()
    memory_fraction: float | None = None
    model: str = ""
    identity: str = ""

    @property
    def slot(self) -> str:
        """Kind of the device. Sums may round differently on another number of cores, or on another GPU model."""
        return f"{len(self.cores)} cores" if self.platform == "cpu" else f"gpu {self.model}".rstrip()
