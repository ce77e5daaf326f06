"""Plan of a sweep: Hydra composes each trial's config, pydantic validates every trial before the first starts."""

import functools
import random
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcache import CostTable, format_size
from jaxcache.lab.layout import REFERENCES
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.running.launch import ProcessLimits
from jaxcache.lab.running.memory_check import check_memory, memory_warning
from jaxcache.lab.trial import Device, Trial

from .composition import CONFIG_NAME, compose
from .errors import UsageError
from .locations import config_directories
from .programs import check_turns, with_whole_paths
from .runners import Runner
from .settings import ServerKeys, SweepSettings, check_shared_settings, validate

_BYTES = re.compile(r"(?<!\S)memory_limit=(\d+)(?!\S)")


@dataclass(frozen=True)
class PlannedTrial:
    """Trial of a sweep, with a name that is unique in the sweep, and its composed config."""

    trial: Trial
    trial_id: str
    program_id: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Plan of a sweep.

    Attributes:
        command: Words after ``python -m flows.sweep``.
        trials: Trials in the order in which those of one program run.
        runner: Workers, and the limits of each trial's process.
        sweep: Settings of the sweep as a whole.
        server: Settings of the Prefect server.
        devices: Devices of this machine, of which each runs one trial at a time; empty if the workers are those at
            ``runner.address``, or jobs of SLURM.
        costs: Table that ``costs`` names; empty without one.
        references: Directory of the reference runs of the sweep that the table is from; None without a table.
    """

    command: tuple[str, ...]
    trials: tuple[PlannedTrial, ...]
    runner: Runner
    sweep: SweepSettings
    server: ServerKeys
    devices: tuple[Device, ...]
    costs: CostTable
    references: Path | None

    @property
    def programs(self) -> int:
        """Number of programs, each of which has a reference run."""
        return len({planned.program_id for planned in self.trials})

    def trials_of(self, program_id: str) -> list[Trial]:
        """Return the trials of a program."""
        return [planned.trial for planned in self.trials if planned.program_id == program_id]

    @property
    def process_limits(self) -> ProcessLimits:
        """Limits of each trial's process, beside its time."""
        return ProcessLimits(self.runner.memory_limit, self.runner.retries)

    @property
    def memory_warning(self) -> str | None:
        """Warning if the workers are likely to need more memory than is free now, or None."""
        caches = max(planned.trial.memory_limit or 0 for planned in self.trials)
        return memory_warning(len(self.devices), self.runner.memory_limit, caches)


def make_plan(overrides: tuple[str, ...], config_name: str = CONFIG_NAME, config_dir: str | None = None) -> Plan:
    """Return the plan of a list of Hydra overrides; ``+`` between two lists adds their trials.

    Args:
        overrides: Words of the command line.
        config_name: Name of the primary config.
        config_dir: Directory in which configs are looked for first, before those of :func:`config_directories`.

    Raises:
        UsageError: If anything about the overrides is wrong. Nothing was started or written then.
    """
    return _make_plan(overrides, config_name, config_dir, Path.cwd(), config_directories(config_dir))


@functools.lru_cache(maxsize=8)
def _make_plan(
    overrides: tuple[str, ...], config_name: str, config_dir: str | None, _here: Path, _directories: tuple[Path, ...]
) -> Plan:
    """Return a plan, once for each working directory, from which paths are, and each list of config directories."""
    configs, names = compose(overrides, config_name, config_dir)
    names = _with_units(names)
    configs = [with_whole_paths(config) for config in configs]
    composed = [validate(config) for config in configs]
    check_shared_settings(composed)
    planned = [
        PlannedTrial(each.trial, each.trial.id, each.trial.program_id, name, config)
        for each, name, config in zip(composed, names, configs, strict=True)
    ]
    _refuse_equal(planned)
    first = composed[0]
    programs = [each.trial.program for each in composed if each.trial.program is not None]
    check_turns(programs, first.runner.workers, first.runner.name)
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
        server=first.server,
        devices=tuple(_devices(first.runner)),
        costs=_costs(first.costs),
        references=first.costs and first.costs.parent / REFERENCES,
    )


def _with_units(names: list[str]) -> list[str]:
    """Return the names of trials with limits in bytes as sizes, unless that makes two of them equal."""
    readable = [_BYTES.sub(lambda match: f"memory_limit={format_size(int(match[1]))}", name) for name in names]
    return readable if len(set(readable)) == len(set(names)) else names


def check_directories(plan: Plan) -> None:
    """Create the directories that the plan writes to.

    Raises:
        UsageError: If a directory cannot be created or written to.
    """
    shared = {planned.trial.persistent.directory for planned in plan.trials}
    for name, directory in [("sweep.directory", plan.sweep.directory), *(("persistent.directory", d) for d in shared)]:
        if directory is None:
            continue
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{name}={directory} cannot be made ({error.strerror}); give one that you may write to"
            ) from error
        try:
            tempfile.TemporaryFile(dir=directory).close()  # permissions do not tell: a file system may refuse too
        except OSError as error:
            raise UsageError(
                f"{name}={directory} cannot be written to ({error.strerror}); change its permissions or give another"
            ) from error


def _refuse_equal(planned: list[PlannedTrial]) -> None:
    seen: dict[str, PlannedTrial] = {}
    for trial in planned:
        if trial.trial_id in seen:
            raise UsageError(f"two trials are equal ({trial.name}); name each value once")
        seen[trial.trial_id] = trial


def _devices(runner: Runner) -> list[Device]:
    if runner.address is not None or runner.name == "slurm":
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
