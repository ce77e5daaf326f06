"""What is asked of the tuning, apart from the program: ``conf/tune.yaml`` and the command line."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeInt, ValidationError

from jaxcache import POLICIES, parse_size
from jaxcache.lab.trial import SMALLEST_LIMIT_BYTES
from jaxcache.lab.tuning import Recording, Tuning, tune

from .plan import CONF, Plan, UsageError

CONFIG = CONF / "tune.yaml"
_BUCKETS = sorted(path.stem for path in (CONF / "buckets").glob("*.yaml"))


def _listed(known: list[str], name: str) -> Any:
    def listed(value: Any) -> Any:
        words = value if value is None or isinstance(value, list) else [one.strip() for one in str(value).split(",")]
        for one in words or ():
            if one not in known:
                raise ValueError(f"{name} must be among {', '.join(known)}, but is {one!r}")
        if words is not None and (not words or len(set(words)) < len(words)):
            raise ValueError(f"{name} must name each value once, such as a,b, but is {value!r}")
        return words

    return BeforeValidator(listed)


def _size(value: str, name: str) -> int:
    size = parse_size(value, name)
    if size < SMALLEST_LIMIT_BYTES:
        raise ValueError(f"{name} must be at least 256KiB, what the smallest executable weighs, but is {value}")
    return size


def _limits(value: Any) -> Any:
    words = None if value is None else [one.strip() for one in str(value).split(",")]
    return None if words is None else [_size(one, "tune.limits") for one in words]


class TuneSettings(BaseModel):
    """What to look for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: Path | None
    policies: Annotated[list[str] | None, _listed(sorted(POLICIES), "tune.policies")]
    limits: Annotated[list[int] | None, BeforeValidator(_limits)]
    memory_limit: Annotated[int | None, BeforeValidator(lambda v: None if v is None else _size(v, "tune.memory_limit"))]
    buckets: Annotated[list[str], _listed(_BUCKETS, "tune.buckets")]
    verify: NonNegativeInt


def read_settings(words: list[str]) -> tuple[TuneSettings, list[str]]:
    """Return the settings, and the words that are the program's.

    Raises:
        UsageError: If a setting is wrong.
    """
    own = [word for word in words if word.startswith(("tune.", "trace="))]
    told: Any = OmegaConf.to_container(OmegaConf.load(CONFIG))
    values: dict[str, Any] = {"trace": told["trace"], **told["tune"]}
    for word in own:
        key, equals, value = word.partition("=")
        name = key.removeprefix("tune.")
        if not equals or name not in values:
            known = ", ".join(["trace", *(f"tune.{one}" for one in values if one != "trace")])
            raise UsageError(f"{word}: there is no setting {key}; there are: {known}")
        values[name] = None if value in ("null", "") else value
    try:
        return TuneSettings.model_validate(values), [word for word in words if word not in own]
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = ".".join(["tune", *map(str, first["loc"])])
        plain = message if message.startswith("tune.") else f"{name}: {message}, but is {first['input']!r}"
        raise UsageError(plain) from error


def find_setting(settings: TuneSettings, recordings: list[Recording]) -> Tuning:
    """Replay what was asked for.

    Raises:
        UsageError: If a limit or a policy is none, or the trace is empty.
    """
    try:
        policies = settings.policies or [name for name in POLICIES if name != "none"]
        return tune(recordings, policies, settings.limits, settings.memory_limit)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def new_place(plan: Plan) -> Path:
    """Return a directory for a tuning that starts now."""
    place = plan.sweep.directory / f"tune_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    place.mkdir(parents=True)
    return place
