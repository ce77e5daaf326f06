"""Overrides -> trials: Hydra expands and composes, pydantic validates every trial before the first starts."""

import functools
import itertools
import random
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from jaxcache import CostTable, parse_size
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.running.launch import REFERENCES, Bounds
from jaxcache.lab.running.memory_check import check_memory, memory_warning
from jaxcache.lab.trial import Device, Trial

from .compose import Composer, line

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"
CONFIG_NAME = "sweep"
PLUS = "+"  # between two lists of overrides


class UsageError(Exception):
    """The command is wrong; the message is one line that says what to write instead."""


def _memory_limit(value: Any) -> Any:
    try:
        return None if value is None else parse_size(value, "runner.memory_limit")
    except TypeError as error:
        raise ValueError(str(error)) from error


class Runner(BaseModel):
    """Where trials run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["local", "dask"]
    address: str | None = None
    device: Literal["auto", "cpu", "gpu"]
    workers: PositiveInt | None
    gpus: tuple[NonNegativeInt, ...] | None = None
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    timeout_seconds: PositiveFloat
    memory_limit: Annotated[int | None, BeforeValidator(_memory_limit)] = None
    retries: NonNegativeInt = 2


class SweepSettings(BaseModel):
    """What holds for a sweep as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path
    order_seed: NonNegativeInt
    resume: Path | None = None


class _Composed(BaseModel):
    """One composed config: a trial, and how to run it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Runner
    sweep: SweepSettings
    costs: Path | None
    trial: Trial


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, the name that tells it from the others of its sweep, and the config it was made from."""

    trial: Trial
    trial_id: str
    program_id: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do.

    Attributes:
        command: What comes after ``python -m flows.sweep``.
        trials: In the order in which they will run, those of one program among themselves.
        devices: As many trials run at a time; empty if the workers are those at ``runner.address``.
        costs: The table that ``costs`` names; empty if it names none.
        references: Where the sweep that the table is from has its reference runs; None without a table.
    """

    command: tuple[str, ...]
    trials: tuple[PlannedTrial, ...]
    runner: Runner
    sweep: SweepSettings
    devices: tuple[Device, ...]
    costs: CostTable
    references: Path | None

    @property
    def bounds(self) -> Bounds:
        """What each process may take."""
        return Bounds(self.runner.memory_limit, self.runner.retries)

    @property
    def memory_warning(self) -> str | None:
        """What to say if the workers are likely to need more memory than is free now, or None."""
        caches = max(planned.trial.memory_limit or 0 for planned in self.trials)
        return memory_warning(len(self.devices), self.runner.memory_limit, caches)


@functools.lru_cache(maxsize=8)
def make_plan(overrides: tuple[str, ...], config_name: str = CONFIG_NAME, config_dir: str | None = None) -> Plan:
    """Return the plan that a list of Hydra overrides describes; ``+`` between them adds the trials of two lists.

    Raises:
        UsageError: If anything about it is wrong. Nothing was started or written then.
    """
    configs, names = _compose(overrides, config_name, config_dir)
    composed = [_validate(config) for config in configs]
    first = composed[0]
    for setting in ("runner", "sweep", "costs"):
        if any(getattr(one, setting) != getattr(first, setting) for one in composed):
            raise UsageError(f"{setting} is the same for all trials of a sweep; give it one value")
    planned = [
        PlannedTrial(one.trial, one.trial.id, one.trial.program_id, name, config)
        for one, name, config in zip(composed, names, configs, strict=True)
    ]
    _refuse_equal(planned)
    random.Random(first.sweep.order_seed).shuffle(planned)
    return Plan(
        command=(
            *(() if config_dir is None else ("--config-dir", config_dir)),
            *(() if config_name == CONFIG_NAME else ("--config-name", config_name)),
            *overrides,
        ),
        trials=tuple(planned),
        runner=first.runner,
        sweep=first.sweep,
        devices=tuple(_devices(first.runner)),
        costs=_costs(first.costs),
        references=first.costs and first.costs.parent / REFERENCES,
    )


def check_directories(plan: Plan) -> None:
    """Make the directories that the plan writes to.

    Raises:
        UsageError: If one cannot be made or written to.
    """
    shared = {planned.trial.persistent.directory for planned in plan.trials}
    for name, directory in [("sweep.directory", plan.sweep.directory), *(("persistent.directory", d) for d in shared)]:
        if directory is None:
            continue
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{name}={directory} cannot be made ({error.strerror}); give a directory of yours"
            ) from error
        try:
            tempfile.TemporaryFile(dir=directory).close()  # what permissions say is not all: file systems refuse too
        except OSError as error:
            raise UsageError(
                f"{name}={directory} cannot be written to ({error.strerror}); change its permissions or give another"
            ) from error


def _compose(
    overrides: tuple[str, ...], config_name: str, config_dir: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each trial's resolved config, and its name."""
    own = None if config_dir is None else Path(config_dir).resolve()
    if own is not None and not own.is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a directory")
    primary, beside = (own, CONF) if own and (own / f"{config_name}.yaml").exists() else (CONF, own)
    search = [] if beside is None else [f"hydra.searchpath=[file://{beside}]"]
    with initialize_config_dir(str(primary), version_base="1.3", job_name="sweep"):
        loader = GlobalHydra.instance().config_loader()
        try:
            lists = summands(overrides)
            combinations = [one for words in lists for one in _expand(loader, config_name, search, words, own)]
            configs = Composer(loader, config_name, search).compose_all(combinations)
            plain = [OmegaConf.to_container(config, resolve=True) for config in configs]
        except OverrideParseException as error:
            raise UsageError(f"{error.override} cannot be read; write key=value, such as seed=0,1") from error
        except (HydraException, OmegaConfBaseException, ValueError, AttributeError, TypeError) as error:
            raise UsageError(" ".join(str(error).split())) from error
    told = cast("list[dict[str, Any]]", plain)
    return told, _names(combinations, told)


# Expanding: which values does each key take?


def added(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return the words of one sweep of several lists of overrides."""
    return [word for each in lists for word in (PLUS, *each)][1:]


def summands(words: tuple[str, ...]) -> list[list[str]]:
    """Return the lists of overrides between the pluses."""
    ends = [*(place for place, word in enumerate(words) if word == PLUS), len(words)]
    starts = [0, *(end + 1 for end in ends)]
    lists = [list(words[start:end]) for start, end in zip(starts, ends, strict=False)]
    if len(lists) > 1 and not all(lists):
        raise UsageError(f"{PLUS} stands between two lists of overrides, such as eviction=lru {PLUS} eviction=gdsf")
    return lists


def _expand(
    loader: ConfigLoader, config_name: str, search: list[str], overrides: list[str], own: Path | None
) -> list[dict[str, Override]]:
    """Return one dict a trial, from the key to a plain override.

    What the command line does not say, ``hydra.sweeper.params`` of the primary config or of the study does.
    """
    parser = OverridesParser.create(config_loader=loader)
    given = parser.parse_overrides(overrides)
    _check_given(loader, given, own)
    studies = [line(one) for one in given if one.key_or_group == "experiment" or one.key_or_group.startswith("hydra.")]
    primary = loader.load_configuration(config_name, [*search, *studies], run_mode=RunMode.MULTIRUN)
    defaults = OmegaConf.to_container(primary.hydra.sweeper.get("params") or OmegaConf.create({}))
    assert isinstance(defaults, dict)
    axes = {one.key_or_group: one for one in parser.parse_overrides([f"{k}={v}" for k, v in defaults.items()])}
    _check_given(loader, axes.values(), own)
    for override in given:
        if not override.key_or_group.startswith("hydra."):
            _replace(axes, override)
    choices = [[(key, one) for one in _values(parser, override)] for key, override in axes.items()]
    return [dict(combination) for combination in itertools.product(*choices)]


def _replace(axes: dict[str, Override], given: Override) -> None:
    """Take what the command line says of a key in place of what the study does.

    What a study says of the one program that it was made for, such as the number of its requests, goes with that
    program where the command line names another.
    """
    key = given.key_or_group
    study = axes.get(key)
    if study is not None and not study.is_sweep_override() and line(study) != line(given):
        for other in [one for one in axes if one.startswith(f"{key}.")]:
            del axes[other]
    axes[key] = given


def _values(parser: OverridesParser, override: Override) -> list[Override]:
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep():
        raise UsageError(f"{override.input_line}: a sweep needs listed values, such as seed=0,1,2")
    key = override.get_key_element()
    values = parser.parse_overrides([f"{key}={value}" for value in override.sweep_string_iterator()])
    if not values:
        raise UsageError(f"{override.input_line} matches nothing")
    return values


def _check_given(loader: ConfigLoader, given: Iterable[Override], own: Path | None) -> None:
    seen: dict[str, Override] = {}
    for override in given:
        key = override.key_or_group
        if key in seen:
            raise UsageError(
                f"{key} is given twice, as {seen[key].input_line} and {override.input_line}; "
                f"write {key}=a,b to try both"
            )
        seen[key] = override
        options = loader.get_group_options(key)
        if options:
            found = set() if own is None else {path.stem for path in (own / key).glob("*.yaml")}
            _check_choice(override, sorted(found.union(options)))


def _check_choice(override: Override, options: list[str]) -> None:
    key, value = override.key_or_group, override.value()
    listed = ", ".join(options)
    if isinstance(value, list):
        raise UsageError(f"{override.input_line} is one list; write {key}={','.join(map(str, value))} to try each")
    if isinstance(value, Glob):
        if not value.filter(options):
            raise UsageError(f"{override.input_line} matches none of: {listed}")
        return
    names = list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]
    if key == "experiment" and len(names) > 1:
        raise UsageError(f"{override.input_line}: experiment takes one study at a time; choose one of: {listed}")
    for name in names:
        if str(name) not in options and not (name is None and key == "experiment"):
            raise UsageError(f"{key} must be one of {listed}, but is {'null' if name is None else repr(str(name))}")


def _names(combinations: list[dict[str, Override]], configs: list[dict[str, Any]]) -> list[str]:
    """Name each trial after the keys whose value differs within the sweep; a lone one after its policy."""
    values = [{key: _value(override) for key, override in one.items()} for one in combinations]
    named = dict.fromkeys(key for one in values for key in one)
    varied = [key for key in named if len({one.get(key) for one in values}) > 1]
    if not varied:
        return [f"eviction={config['eviction']['name']}" for config in configs]
    names = [" ".join(f"{key}={one[key]}" for key in varied if key in one) for one in values]
    return [name or f"eviction={config['eviction']['name']}" for name, config in zip(names, configs, strict=True)]


def _value(override: Override) -> str:
    return override.get_value_element_as_str()


# Validating.


def _validate(config: dict[str, Any]) -> _Composed:
    own = {key: value for key, value in config.items() if key in ("runner", "sweep", "costs")}
    trial = {key: value for key, value in config.items() if key not in own}
    try:
        return _Composed.model_validate({**own, "trial": trial})
    except ValidationError as error:
        raise UsageError(_plain_message(error)) from error


def _plain_message(error: ValidationError) -> str:
    first = error.errors()[0]
    message, path = first["msg"].removeprefix("Value error, "), _path(first["loc"])
    if first["type"] == "value_error":
        return message if message.startswith(path) else f"{path}: {message}"
    if first["type"] == "extra_forbidden":
        return f"there is no setting {path}; see --help"
    if first["type"] == "missing":
        return f"{path} is missing; see --help"
    message = message.replace("Input should", "must")
    return f"{path} {message}, but is {first['input']!r}"


def _path(location: tuple[int | str, ...]) -> str:
    """Return the key that a person would write: without the trial, and without the tag of a union."""
    parts = [str(part) for part in location if part != "trial"]
    if len(parts) > 1 and parts[0] in ("workload", "shapes", "buckets"):
        del parts[1]
    return ".".join(parts)


def _refuse_equal(planned: list[PlannedTrial]) -> None:
    seen: dict[str, PlannedTrial] = {}
    for one in planned:
        if one.trial_id in seen:
            raise UsageError(f"two trials are equal ({one.name}); name each value once")
        seen[one.trial_id] = one


def _devices(runner: Runner) -> list[Device]:
    if runner.address is not None:
        return []
    try:
        devices = find_devices(runner.device, runner.workers, runner.gpus, runner.gpu_memory_fraction)
        check_memory(len(devices), runner.memory_limit)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return devices


def _costs(path: Path | None) -> CostTable:
    if path is None:
        return CostTable()
    try:
        return CostTable.load(path)
    except OSError as error:
        raise UsageError(f"costs={path} cannot be read ({error.strerror}); give the costs.json of a sweep") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
