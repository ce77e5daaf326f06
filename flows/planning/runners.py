"""Settings of the runners, validated by pydantic: where trials run, and the limits of each trial's process."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from jaxcache import parse_size

_SHORTEST_WALLTIME_SECONDS = 60
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?) ?(d|h|m|min)", re.IGNORECASE)
_SECONDS_OF_UNIT = {"d": 86400, "h": 3600, "m": 60, "min": 60}
_AS_SBATCH = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_NAME = re.compile(r"[\w.,@+-]+")
_OWN_OPTIONS = {  # of sbatch, each with the setting that gives it; empty if there is none
    "--partition": "partition", "-p": "partition", "--account": "account", "-A": "account", "--qos": "qos",
    "-q": "qos", "--time": "time", "-t": "time", "--cpus-per-task": "cpus_per_task", "-c": "cpus_per_task",
    "--mem": "mem", "--gpus-per-node": "gpus_per_node", "--signal": "signal_seconds", "--array": "jobs", "-a": "jobs",
    "--dependency": "", "-d": "", "--output": "", "-o": "", "--error": "", "-e": "", "--parsable": "", "--wrap": "",
    "--job-name": "", "-J": "", "--nodes": "", "-N": "", "--ntasks": "", "-n": "", "--chdir": "", "-D": "",
    "--requeue": "", "--no-requeue": "", "--hold": "", "-H": "", "--wait": "", "-W": "", "--test-only": "",
}  # fmt: skip


def _size(value: Any, info: ValidationInfo) -> Any:
    """Return a size in bytes, of the setting that the field's alias or name says."""
    try:
        return None if value is None else parse_size(value, f"runner.{str(info.field_name).removesuffix('_bytes')}")
    except TypeError as error:
        raise ValueError(str(error)) from error


def _name(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and _NAME.fullmatch(value) is None:
        raise ValueError(f"runner.{info.field_name} must be a name that sbatch takes, such as gpu, but is {value!r}")
    return value


def _walltime(value: Any) -> int | None:
    """Return a walltime in seconds, rounded up to SLURM's resolution of a minute."""
    if value is None:
        return None
    seconds = _seconds_of(str(value).strip())
    if seconds is None or seconds < _SHORTEST_WALLTIME_SECONDS:
        raise ValueError(
            "runner.time must be the walltime of a job, at least a minute, such as 2h, 90m, 1-12:00:00 or a number of "
            f"minutes, but is {value!r}"
        )
    return -(-seconds // 60) * 60


def _seconds_of(text: str) -> int | None:
    if match := _WITH_UNIT.fullmatch(text):
        return round(float(match[1]) * _SECONDS_OF_UNIT[match[2].lower()])
    match = _AS_SBATCH.fullmatch(text)
    if match is None:
        return None
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is None and len(parts) < 3:  # minutes, or minutes:seconds
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((int(match["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _sbatch_arguments(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return further options of sbatch.

    Raises:
        ValueError: If one is no option, or one that the sweep gives itself.
    """
    for value in values:
        option = value.partition("=")[0]
        if not option.startswith("-"):
            raise ValueError(
                "runner.sbatch_arguments must be options with their values, such as --constraint=a100, but has "
                f"{value!r}"
            )
        if option in _OWN_OPTIONS:
            setting = _OWN_OPTIONS[option]
            advice = f"write runner.{setting}= instead" if setting else "the sweep gives it itself; leave it out"
            raise ValueError(f"runner.sbatch_arguments must not have {option}: {advice}")
    return values


def _lines(value: Any) -> Any:
    return value.splitlines() if isinstance(value, str) else () if value is None else value


def _interpreter(path: Path | None) -> Path | None:
    if path is not None and not path.is_absolute():
        raise ValueError(f"runner.python must be the whole path of an interpreter on the nodes, but is {path}")
    return path


_Name = Annotated[str, BeforeValidator(_name)]


class RunnerLimits(BaseModel):
    """Settings that every runner has: the devices of its workers, and the limits of each trial's process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = None
    device: Literal["auto", "cpu", "gpu"]
    workers: PositiveInt | None = None
    gpus: tuple[NonNegativeInt, ...] | None = None
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    timeout_seconds: PositiveFloat
    memory_limit: Annotated[int | None, BeforeValidator(_size)] = None
    retries: NonNegativeInt = 2

    @property
    def most_at_once(self) -> int | None:
        """Largest number of trials that run at a time; None if the machines decide."""
        return self.workers


class ProcessRunner(RunnerLimits):
    """Workers that the sweep's process gives trials to: slots of this machine, or workers of a Dask cluster."""

    name: Literal["local", "dask"]


class SlurmRunner(RunnerLimits):
    """Jobs of SLURM that pull trials from the sweep's directory. What is None is left to the cluster.

    Attributes:
        time_seconds: Walltime of each job.
        mem_bytes: Memory of each job on its node.
        jobs: Number of jobs that run trials, the tasks of one array.
        max_running: Largest number of these jobs that run at a time.
        signal_seconds: Seconds before the end of the walltime at which a job puts its trials back.
        sbatch_arguments: Further options of sbatch.
        setup: Shell lines before the worker, such as ``module load cuda``.
        python: Interpreter on the nodes; None for that of the command that submits.
    """

    name: Literal["slurm"]
    partition: _Name | None = None
    account: _Name | None = None
    qos: _Name | None = None
    time_seconds: Annotated[int | None, Field(alias="time"), BeforeValidator(_walltime)] = None
    cpus_per_task: PositiveInt = 2
    mem_bytes: Annotated[int | None, Field(alias="mem"), BeforeValidator(_size)] = None
    gpus_per_node: NonNegativeInt = 0
    jobs: PositiveInt = 4
    max_running: PositiveInt | None = None
    signal_seconds: Annotated[int, Field(ge=10, le=3600)] = 60
    sbatch_arguments: Annotated[tuple[str, ...], AfterValidator(_sbatch_arguments)] = ()
    setup: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    python: Annotated[Path | None, AfterValidator(_interpreter)] = None

    @property
    def most_at_once(self) -> int:
        """Largest number of trials that run at a time: in each job one, or one on each of its GPUs."""
        return min(self.jobs, self.max_running or self.jobs) * max(1, self.gpus_per_node)

    @property
    def asks_for_gpus(self) -> bool:
        """Whether jobs get GPUs; those of a node that were not asked for are others'."""
        return self.gpus_per_node > 0 or any("gpu" in word for word in self.sbatch_arguments)

    @model_validator(mode="after")
    def _check_gpus(self) -> Self:
        if self.device == "gpu" and not self.asks_for_gpus:
            raise ValueError("runner.device is gpu, but no GPU is asked for; write runner.gpus_per_node=1")
        if self.device == "cpu" and self.gpus_per_node:
            raise ValueError(
                f"runner.gpus_per_node={self.gpus_per_node} asks for GPUs, but runner.device is cpu; "
                "write runner.device=gpu"
            )
        return self


Runner = ProcessRunner | SlurmRunner
