"""Composed config of a trial, validated by pydantic: the runner, the sweep, and the trial itself."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from jaxcache.lab.trial import Trial

from ..prefect_server.settings import DEFAULT_IDLE_HOURS
from .errors import UsageError
from .programs import PROGRAM_WORKLOADS, with_program
from .runners import Runner

_OF_THE_SWEEP = ("runner", "sweep", "server", "costs")
_OF_A_PROGRAM = "bucket_lengths"  # of a best.yaml, for jaxcache.bucketed; trials have their own buckets


class SweepSettings(BaseModel):
    """Settings of a sweep as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path
    order_seed: NonNegativeInt
    resume: Path | None = None
    retry_failed: bool = False

    @model_validator(mode="after")
    def _check_retry(self) -> Self:
        if self.retry_failed and self.resume is None:
            raise ValueError(
                "sweep.retry_failed=true needs the sweep whose failed trials are to run again; "
                "add sweep.resume=<directory>"
            )
        return self


class ServerKeys(BaseModel):
    """Settings of the project's Prefect server, should the sweep have to start it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_hours: PositiveFloat = DEFAULT_IDLE_HOURS


class ComposedConfig(BaseModel):
    """Composed config of one trial: the trial, and the sweep's settings, which all trials share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Annotated[Runner, Field(discriminator="name")]
    sweep: SweepSettings
    server: ServerKeys = ServerKeys()
    costs: Path | None
    trial: Trial


def validate(config: dict[str, Any]) -> ComposedConfig:
    """Return a composed config as a model.

    Raises:
        UsageError: If a setting is unknown, missing or invalid.
    """
    config = with_program(config)
    shared = {key: value for key, value in config.items() if key in _OF_THE_SWEEP}
    trial = {key: value for key, value in config.items() if key not in shared and key != _OF_A_PROGRAM}
    try:
        return ComposedConfig.model_validate({**shared, "trial": trial})
    except ValidationError as error:
        raise UsageError(_message(error)) from error


def check_shared_settings(composed: list[ComposedConfig]) -> None:
    """Check that all trials share the sweep's settings.

    Raises:
        UsageError: If a setting of the sweep has several values.
    """
    for setting in _OF_THE_SWEEP:
        if any(getattr(config, setting) != getattr(composed[0], setting) for config in composed):
            raise UsageError(
                f"{setting} is the same for all trials of a sweep; give it one value, in quotes of its own if that has "
                f"a comma, such as \"{setting}.key='a,b'\""
            )


def _message(error: ValidationError) -> str:
    first = error.errors()[0]
    message, path = first["msg"].removeprefix("Value error, "), _key(first["loc"])
    if first["type"] == "value_error":
        if message.startswith("program."):  # of a program as a whole
            return message
        return message if message.startswith(path) else f"{path}: {message}"
    if first["type"] == "extra_forbidden":
        return f"there is no setting {path}; see --help"
    if first["type"] == "missing":
        return f"{path} is missing; see --help"
    if first["type"] == "union_tag_not_found":
        return f"{path}.name is missing; it says of which kind {path} is, as in jaxcache's own conf/{path}/*.yaml"
    if first["type"] == "union_tag_invalid":
        context = first.get("ctx", {})
        return f"{path}.name must be one of {context['expected_tags']}, but is {context['tag']!r}"
    message = expected(message)
    return f"{path} {message}, but is {first['input']!r}"


def expected(message: str) -> str:
    """Return what pydantic expects of a value, as a part of a sentence about its key."""
    return message.replace("Input should", "must").partition(", unable to")[0]


def _key(location: tuple[int | str, ...]) -> str:
    """Return the key that a person writes: without the trial, and without the tag of a union."""
    parts = [str(part) for part in location if part != "trial"]
    if len(parts) > 2 and parts[0] == "workload" and parts[1] in PROGRAM_WORKLOADS:
        return ".".join(["program", *parts[2:]])
    if len(parts) > 1 and parts[0] in ("runner", "workload", "shapes", "buckets"):
        del parts[1]
    return ".".join(parts)
