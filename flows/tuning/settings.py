"""Settings of a tuning, apart from the program: ``conf/tune.yaml`` and the command line."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeInt, ValidationError

from jaxcache import POLICIES, format_size, parse_size
from jaxcache.lab.trial import SMALLEST_LIMIT_BYTES

from ..planning.compose import did_you_mean
from ..planning.errors import UsageError
from ..planning.locations import CONF
from ..planning.plan import Plan
from ..planning.settings import expected
from .words import split_words

CONFIG = CONF / "tune.yaml"
_WITH_A_TRACE = ("sweep.directory", "eviction", "memory_limit", "seed")
_OF_THE_TUNING = ("policies", "limits", "verify")  # which no program has
_BUCKETS = sorted(path.stem for path in (CONF / "buckets").glob("*.yaml"))


def _listed(choices: list[str], name: str) -> Any:
    def listed(value: Any) -> Any:
        words = value if value is None or isinstance(value, list) else [word.strip() for word in str(value).split(",")]
        for word in words or ():
            if word not in choices:
                raise ValueError(f"{name} must be among {', '.join(choices)}, but is {word!r}")
        if words is not None and (not words or len(set(words)) < len(words)):
            raise ValueError(f"{name} must name each value once, such as a,b, but is {value!r}")
        return words

    return BeforeValidator(listed)


def _limits(value: Any) -> Any:
    return None if value is None else [parse_size(word.strip(), "tune.limits") for word in str(value).split(",")]


def _limit(value: Any) -> int | None:
    return None if value is None else parse_size(value, "tune.memory_limit")


class TuneSettings(BaseModel):
    """Settings of a tuning: the policies, limits and buckets to compare, and the number of settings to verify."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: Path | None
    policies: Annotated[list[str] | None, _listed(sorted(POLICIES), "tune.policies")]
    limits: Annotated[list[int] | None, BeforeValidator(_limits)]
    memory_limit: Annotated[int | None, BeforeValidator(_limit)]
    buckets: Annotated[list[str], _listed(_BUCKETS, "tune.buckets")]
    buckets_named: bool = False
    verify: NonNegativeInt

    @property
    def named_limits(self) -> list[tuple[str, int]]:
        """Requested limits, each with the name of its setting."""
        chosen = [] if self.memory_limit is None else [("tune.memory_limit", self.memory_limit)]
        return chosen + [("tune.limits", limit) for limit in self.limits or ()]


def read_settings(words: list[str]) -> tuple[TuneSettings, list[str]]:
    """Return the settings, and the words that describe the program.

    Raises:
        UsageError: If a setting is wrong.
    """
    tune_words, program = split_words(words)
    settings = _validate(_values(tune_words))
    _refuse_bare_names(program)
    if settings.memory_limit is not None and settings.limits is not None:
        raise UsageError("tune.memory_limit and tune.limits both say which limits to look at; give one of them")
    if settings.trace is None:
        _refuse_prices(program)
        refuse_limits_below(settings, SMALLEST_LIMIT_BYTES, "what the smallest executable weighs")
    else:
        _refuse_for_a_trace(program)
    return settings, program


def _values(words: list[str]) -> dict[str, Any]:
    """Return the defaults of ``conf/tune.yaml`` with the command line's words over them."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONFIG))
    values: dict[str, Any] = {"trace": config["trace"], **config["tune"]}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.removeprefix("tune.")
        if not equals or name not in values:
            names = ["trace", *(f"tune.{name}" for name in values if name != "trace")]
            hint = did_you_mean(name, names) or f"there are: {', '.join(names)}"
            raise UsageError(f"{word}: there is no setting {key}; {hint}")
        values[name] = None if value in ("null", "") else value
    values["buckets_named"] = any(word.startswith("tune.buckets=") for word in words)
    return values


def _validate(values: dict[str, Any]) -> TuneSettings:
    try:
        return TuneSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = ".".join(["tune", *map(str, first["loc"])])
        plain = message if message.startswith("tune.") else f"{name} {expected(message)}, but is {first['input']!r}"
        raise UsageError(plain) from error


def refuse_limits_below(settings: TuneSettings, smallest_bytes: int, why: str) -> None:
    """Refuse limits below a size, with the reason for it.

    Raises:
        UsageError: If a limit is smaller.
    """
    for name, limit in settings.named_limits:
        if limit < smallest_bytes:
            least = format_size(smallest_bytes)
            raise UsageError(f"{name} must be at least {least}, {why}, but is {format_size(limit)}")


def _refuse_bare_names(program: list[str]) -> None:
    """Refuse settings of the tuning alone that lack its name."""
    for word in program:
        key = word.partition("=")[0]
        if key in _OF_THE_TUNING:
            raise UsageError(f"{word}: there is no setting {key}; did you mean tune.{key}?")


def _refuse_prices(program: list[str]) -> None:
    """Refuse prices of buckets and programs, which would hold for the verifying runs but not for the recording."""
    for word in program:
        key = word.partition("=")[0]
        if key.startswith("buckets."):
            raise UsageError(f"{word}: sets of buckets are compared as conf/buckets has them; change them there")
        if key == "costs":
            raise UsageError(f"{word}: tuning measures what programs cost; leave costs out")


def _refuse_for_a_trace(program: list[str]) -> None:
    """Refuse overrides that describe what to run, since a trace is only replayed."""
    for word in program:
        if word.partition("=")[0] not in _WITH_A_TRACE:
            raise UsageError(f"{word} says what to run, and trace= runs nothing; with it go {', '.join(_WITH_A_TRACE)}")


def new_directory(plan: Plan) -> Path:
    """Create a directory for a tuning that starts now, and return it."""
    directory = plan.sweep.directory / f"tune_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    directory.mkdir(parents=True)
    return directory
