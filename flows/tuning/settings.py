"""What is asked of the tuning, apart from the program: ``conf/tune.yaml`` and the command line."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from omegaconf import OmegaConf
from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeInt, ValidationError

from jaxcache import POLICIES, Trace, format_size, parse_size
from jaxcache.lab.trial import SMALLEST_LIMIT_BYTES, Trial
from jaxcache.lab.tuning.bucketed_traces import choose, derive, read_prices
from jaxcache.lab.tuning.search import Candidate, Recording, Tuning
from jaxcache.lab.tuning.search import tune as replay_settings

from ..planning.plan import CONF, Plan, UsageError, make_plan

CONFIG = CONF / "tune.yaml"
_WITH_A_TRACE = ("sweep.directory", "eviction", "memory_limit", "seed")
_GROUPS = ("workload", "shapes", "persistent")
_NOT_THE_PROGRAM = ("eviction", "memory_limit", "buckets", "costs", "runner", "sweep")
_PLAIN = re.compile(r"[A-Za-z_./-][\w./-]*")
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


def _limits(value: Any) -> Any:
    words = None if value is None else [one.strip() for one in str(value).split(",")]
    return None if words is None else [parse_size(one, "tune.limits") for one in words]


def _limit(value: Any) -> int | None:
    return None if value is None else parse_size(value, "tune.memory_limit")


class TuneSettings(BaseModel):
    """What to look for."""

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
        """The limits that were asked for, each with the setting that did."""
        one = [] if self.memory_limit is None else [("tune.memory_limit", self.memory_limit)]
        return one + [("tune.limits", limit) for limit in self.limits or ()]


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
    values["buckets_named"] = any(word.startswith("tune.buckets=") for word in own)
    try:
        settings = TuneSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = ".".join(["tune", *map(str, first["loc"])])
        plain = message if message.startswith("tune.") else f"{name}: {message}, but is {first['input']!r}"
        raise UsageError(plain) from error
    program = [word for word in words if word not in own]
    if settings.memory_limit is not None and settings.limits is not None:
        raise UsageError("tune.memory_limit and tune.limits say both what to look at; give one of them")
    if settings.trace is None:
        _refuse_own_prices(program)
        _refuse_below(settings, SMALLEST_LIMIT_BYTES, "what the smallest executable weighs")
    else:
        _refuse_for_a_trace(program)
    return settings, program


def _refuse_below(settings: TuneSettings, smallest_bytes: int, why: str) -> None:
    for name, limit in settings.named_limits:
        if limit < smallest_bytes:
            least = format_size(smallest_bytes)
            raise UsageError(f"{name} must be at least {least}, {why}, but is {format_size(limit)}")


def _refuse_own_prices(program: list[str]) -> None:
    """Refuse what would hold for the run of one setting and not for the recording that it is replayed on."""
    for word in program:
        key = word.partition("=")[0]
        if key.startswith("buckets."):
            raise UsageError(f"{word}: sets of buckets are compared as conf/buckets has them; change them there")
        if key == "costs":
            raise UsageError(f"{word}: tuning measures what programs cost; leave costs out")


def _refuse_for_a_trace(program: list[str]) -> None:
    """Refuse what a trace cannot answer: nothing is run, so nothing can be said of other programs."""
    for word in program:
        if word.partition("=")[0] not in _WITH_A_TRACE:
            raise UsageError(f"{word} says what to run, and trace= runs nothing; with it go {', '.join(_WITH_A_TRACE)}")


def derive_recordings(
    settings: TuneSettings, trace: Trace
) -> tuple[list[Recording], dict[str, tuple[int, ...]], str | None]:
    """Return what a trace says of each set of buckets, their lengths, and why it says nothing of them if it does not.

    Raises:
        UsageError: If buckets were asked for and the trace says nothing of them.
    """
    named = [name for name in settings.buckets if name != "none"]
    try:
        prices = read_prices(trace)
    except ValueError as error:
        if settings.buckets_named and named:
            asked = ",".join(settings.buckets)
            raise UsageError(f"tune.buckets={asked}: {error}; else give tune.buckets=none") from error
        return [Recording("none", trace, 0.0)], {}, str(error)
    linear: Any = OmegaConf.load(CONF / "buckets" / "linear.yaml")
    lengths = {name: choose(name, prices, linear.count) for name in named}
    unpadded = derive("none", prices, None)
    if prices.recorded_without_buckets:
        unpadded = replace(unpadded, trace=trace)
    return [unpadded, *(derive(name, prices, buckets) for name, buckets in lengths.items())], lengths, None


def find_setting(settings: TuneSettings, recordings: list[Recording], seed: int) -> Tuning:
    """Replay what was asked for; the seed is that of the run, for policies that draw.

    Raises:
        UsageError: If a limit or a policy is none, a limit holds no program, or the trace is empty.
    """
    sizes = [int(one.trace.size_bytes.min()) for one in recordings if len(one.trace.size_bytes)]
    _refuse_below(settings, min(sizes, default=0), "what the smallest program of the trace weighs")
    try:
        policies = settings.policies or [name for name in POLICIES if name != "none"]
        return replay_settings(recordings, policies, settings.limits, settings.memory_limit, seed)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def replay_present(tuning: Tuning, trial: Trial) -> Candidate | None:
    """Return the replay of the present setting; None if it has no limit."""
    if trial.memory_limit is None:
        return None
    recording = next(one for one in tuning.recordings if one.buckets == trial.buckets.name)
    return replay_settings([recording], [trial.eviction.name], memory_limit=trial.memory_limit, seed=trial.seed).best


def replay_recorded(tuning: Tuning) -> Candidate | None:
    """Return the replay of the setting that a trace was recorded with; None if it had no limit, or is not known."""
    recording = tuning.recordings[0]
    eviction, limit = (recording.trace.setting.get(name) for name in ("eviction", "limit_bytes"))
    if eviction not in POLICIES or not isinstance(limit, int):
        return None
    seed = recording.trace.setting.get("seed", 0)
    return replay_settings([recording], [str(eviction)], memory_limit=limit, seed=seed).best


def loaded_share(trace: Trace) -> float:
    """Return the share of the signatures whose first program came from a directory: its price is that of loading it."""
    tiers = trace.columns.get("tier")
    if tiers is None or not len(trace):
        return 0.0
    return float(np.mean(tiers[np.unique(trace.signatures, return_index=True)[1]] == "disk"))


def describe_program(program: Sequence[str]) -> dict[str, str]:
    """Return the program and its present conditions as overrides by key: options of groups, and what differs from them.

    Left out is what tuning chooses (policy, limit, buckets, costs), and what holds for a sweep as a whole.
    """
    config = make_plan(tuple(program)).trials[0].config
    named = {key: value for key, _, value in (word.partition("=") for word in program)}
    options = {group: named.get(group, str(config[group].get("name", config[group].get("mode")))) for group in _GROUPS}
    usual = make_plan(tuple(f"{group}={option}" for group, option in options.items())).trials[0].config
    overrides = dict(options)
    for key in (one for one in config if one not in _NOT_THE_PROGRAM):
        parts = config[key].items() if isinstance(config[key], dict) else [("", config[key])]
        for name, value in parts:
            if (usual[key][name] if name else usual[key]) != value:
                overrides[f"{key}.{name}" if name else key] = _written(value)
    return overrides


def _written(value: Any) -> str:
    """Return a value as Hydra's command line reads it back."""
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return value if _PLAIN.fullmatch(value) else f"'{escaped}'"


def new_place(plan: Plan) -> Path:
    """Return a directory for a tuning that starts now."""
    place = plan.sweep.directory / f"tune_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    place.mkdir(parents=True)
    return place
