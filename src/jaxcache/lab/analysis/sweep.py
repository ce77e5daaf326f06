"""Result files -> one aggregate, from which every table, plot and suggestion is made."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from ... import format_size
from ..layout import MANIFEST, REFERENCE, REFERENCES, RESULT, TRIALS
from ..result import Reference, TrialResult
from ..trial import Trial
from ..workloads import Program as UsersProgram
from .baselines import Baselines, agreed_prices, find_frames, is_bound, mean_frame
from .bounds import Bounds, find_bounds, load_prices, load_programs
from .reading import FileReader, Unreadable, fault_of_file
from .recorded import RecordedProgram


class Manifest(BaseModel):
    """Record of a sweep as a whole: written when it starts, and again when it ends.

    Attributes:
        command: What to type to run it again.
        order: The trials' ids in the order in which they were started.
        ended: How it ended; None while it runs, or if it was killed.
        words: The command's words, from which it is resumed.
        costs_hash: Of the cost table that it was given.
        reported: Whether its report is of how it ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    order: tuple[str, ...]
    persistent: tuple[str, ...]
    started_at: str
    ended: str | None = None
    wall_seconds: float | None = None
    run_url: str | None = None
    words: tuple[str, ...] = ()
    costs_hash: str | None = None
    reported: bool = True


class Program(NamedTuple):
    """Part of their configs that trials have in common which are compared with each other.

    ``workload`` and ``shapes`` are names, followed by those of their settings that differ within the sweep; ``other``
    names what else differs that is not to be chosen, such as the precision.
    """

    workload: str
    shapes: str
    persistent: str
    precision: str = "float32"
    other: str = ""

    @property
    def label(self) -> str:
        """What tells the program from others."""
        precision = "" if self.precision == "float32" else self.precision
        shapes = "" if self.shapes == "own" else self.shapes
        return ", ".join(part for part in (self.workload, shapes, precision, self.other) if part)


class Setting(NamedTuple):
    """Policy, limit and buckets: the part of a config that is to be chosen."""

    eviction: str
    memory_limit: int | None
    buckets: str = "none"

    @property
    def limit(self) -> str:
        """The limit, for people."""
        return "no limit" if self.memory_limit is None else format_size(self.memory_limit)

    @property
    def label(self) -> str:
        """What tells the setting from others."""
        return f"{self.eviction} at {self.limit}" + (f", buckets {self.buckets}" if self.buckets != "none" else "")


@dataclass(frozen=True)
class Group:
    """The successful trials of one setting on one program, one a seed.

    Attributes:
        frames: By program id, of those seeds of which it is known at the prices of their trials.
        bounds: What no policy can go below at this limit, likewise.
    """

    program: Program
    setting: Setting
    results: tuple[TrialResult, ...]
    frames: Mapping[str, Baselines]
    bounds: Mapping[str, float]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(result.config.seed for result in self.results)

    @cached_property
    def frame(self) -> Baselines | None:
        """The mean over the seeds; None unless it is known of all of them."""
        frames = [self.frames[result.program_id] for result in self.results if result.program_id in self.frames]
        return mean_frame(frames) if len(frames) == len(self.results) else None

    @cached_property
    def bound_seconds(self) -> float | None:
        """The mean over the seeds; None unless it is known of all of them."""
        bounds = [self.bounds[result.program_id] for result in self.results if result.program_id in self.bounds]
        return fmean(bounds) if len(bounds) == len(self.results) else None

    def at_seeds(self, seeds: Collection[int]) -> "Group":
        """Return the group with the trials of these seeds alone."""
        return replace(self, results=tuple(result for result in self.results if result.config.seed in seeds))

    def mean(self, name: str) -> float:
        """Return the mean over the seeds of a field of ``statistics``, ``timing`` or ``memory``."""
        return fmean(getattr(part, name) for part in self._parts(name))

    def _parts(self, name: str) -> list[BaseModel]:
        parts = [p for r in self.results for p in (r.statistics, r.timing, r.memory) if p is not None]
        return [part for part in parts if name in type(part).model_fields or hasattr(type(part), name)]

    @property
    def seconds_by_seed(self) -> dict[int, float]:
        """Reference compile seconds of the misses, by seed."""
        return {r.config.seed: r.statistics.cost_seconds for r in self.results if r.statistics}

    @property
    def total_seconds_by_seed(self) -> dict[int, float]:
        """The same with what the requests took besides."""
        return {
            r.config.seed: r.statistics.cost_seconds + r.timing.run_seconds
            for r in self.results
            if r.statistics and r.timing
        }


@dataclass(frozen=True)
class Sweep:
    """A sweep as its files tell it.

    Attributes:
        references: By program id.
        recorded: The requests of each program that has a trace, by program id.
        varying: Programs whose trials have not made these requests, by program id.
    """

    directory: Path
    manifest: Manifest | None
    results: tuple[TrialResult, ...]
    groups: tuple[Group, ...]
    unreadable: tuple[Unreadable, ...]
    references: Mapping[str, Reference] = field(default_factory=dict, repr=False)
    recorded: Mapping[str, RecordedProgram] = field(default_factory=dict, repr=False)
    varying: frozenset[str] = frozenset()

    def without_baselines(self, varying: Collection[str]) -> "Sweep":
        """Return the sweep with programs whose requests vary, so that those recorded say nothing of their trials."""
        groups = tuple(
            replace(
                group,
                frames={program: frame for program, frame in group.frames.items() if program not in varying},
                bounds={program: bound for program, bound in group.bounds.items() if program not in varying},
            )
            for group in self.groups
        )
        return replace(self, groups=groups, varying=frozenset(varying))

    @cached_property
    def _naming(self) -> "_Naming":
        return _Naming([result.config for result in self.results])

    @cached_property
    def programs(self) -> dict[str, Program]:
        """The program of each program id, named as its groups are."""
        return {result.program_id: self._naming.program(result.config) for result in self.results}

    def setting_of(self, result: TrialResult) -> Setting:
        """Return the setting of a trial, named as its group is."""
        return self._naming.setting(result.config)

    @property
    def failed_settings(self) -> list[Setting]:
        """Settings that have no successful trial."""
        succeeded = {group.setting for group in self.groups}
        failed = dict.fromkeys(self.setting_of(result) for result in self.failed)
        return [setting for setting in failed if setting not in succeeded]

    @property
    def failed_programs(self) -> list[Program]:
        """Programs that have no successful trial."""
        succeeded = {group.program for group in self.groups}
        failed = dict.fromkeys(self.programs[result.program_id] for result in self.failed)
        return [program for program in failed if program not in succeeded]

    @property
    def failed(self) -> tuple[TrialResult, ...]:
        """Trials that did not succeed."""
        return tuple(result for result in self.results if result.status == "failed")

    @property
    def damaged(self) -> tuple[Unreadable, ...]:
        """Results that cannot be used: their trials ran, and have to be run again."""
        return tuple(file for file in self.unreadable if Path(file.path).match(f"{TRIALS}/*/{RESULT}"))


def read_sweep(directory: Path, bounds: Bounds | None = None) -> Sweep:
    """Read what a sweep has left so far. Files that cannot be read are named, not fatal.

    Args:
        directory: Of the sweep.
        bounds: The fewest compile seconds that any policy could reach; None to find them from the references.

    Raises:
        FileNotFoundError: If there is no such directory, or it is not a sweep's.
    """
    if not (directory / MANIFEST).exists():
        raise FileNotFoundError(f"{directory} is not the directory of a sweep: it has no {MANIFEST}")
    files = FileReader(directory)
    manifests = files.read(Manifest, [directory / MANIFEST])
    results = files.read(TrialResult, directory.glob(f"{TRIALS}/*/{RESULT}"), fault_of_file)
    references = files.read(Reference, directory.glob(f"{REFERENCES}/*/{REFERENCE}"))
    prices = load_prices(directory, files) or agreed_prices(references)
    programs = {result.program_id for result in results}
    recorded = {} if prices is None else load_programs(directory, programs, prices, files)
    frames = find_frames(references, {program: recording.trace for program, recording in recorded.items()}, prices)
    order = {trial: rank for rank, trial in enumerate(manifests[0].order)} if manifests else {}
    results.sort(key=lambda result: order.get(result.trial_id, len(order)))
    return Sweep(
        directory=directory,
        manifest=manifests[0] if manifests else None,
        results=tuple(results),
        groups=tuple(group_trials(results, frames, find_bounds(recorded, results) if bounds is None else bounds)),
        unreadable=tuple(files.unreadable),
        references={reference.program_id: reference for reference in references},
        recorded=recorded,
    )


def group_trials(results: Sequence[TrialResult], frames: Mapping[str, Baselines], bounds: Bounds) -> list[Group]:
    """Return the successful trials by program and setting; frames and bounds only where they are at their prices."""
    done = [result for result in results if result.status == "completed" and result.statistics is not None]
    naming = _Naming([result.config for result in results])
    grouped: dict[tuple[Program, Setting], list[TrialResult]] = defaultdict(list)
    for result in done:
        grouped[naming.program(result.config), naming.setting(result.config)].append(result)

    def rank(item: tuple[Program, Setting]) -> tuple[object, ...]:
        program, setting = item
        return (*program, setting.buckets, setting.memory_limit or float("inf"), setting.eviction)

    groups: list[Group] = []
    for program, setting in sorted(grouped, key=rank):
        members = tuple(sorted(grouped[program, setting], key=lambda result: result.config.seed))
        limit = setting.memory_limit
        groups.append(Group(
            program, setting, members,
            {result.program_id: frames[result.program_id] for result in members if _is_framed(result, frames)},
            {result.program_id: bounds[result.program_id, limit] for result in members if _is_bounded(result, bounds)},
        ))  # fmt: skip
    return groups


def _is_framed(result: TrialResult, frames: Mapping[str, Baselines]) -> bool:
    """Return whether a program's frame is at the prices of this trial."""
    frame, stats = frames.get(result.program_id), result.statistics
    return frame is not None and stats is not None and frame.holds(stats.cost_seconds)


def _is_bounded(result: TrialResult, bounds: Bounds) -> bool:
    """Return whether a program's bound is at the prices of this trial."""
    bound, stats = bounds.get((result.program_id, result.config.memory_limit)), result.statistics
    return bound is not None and stats is not None and is_bound(bound, stats.cost_seconds)


class _Naming:
    """Names parts of configs, with the settings in which they differ from others of that name."""

    _TOLD = frozenset({"workload", "shapes", "persistent", "precision", "eviction", "memory_limit", "buckets", "seed"})

    def __init__(self, configs: list[Trial]) -> None:
        values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        others: dict[str, set[str]] = defaultdict(set)
        for config in configs:
            for name in Trial.model_fields:
                part = getattr(config, name)
                if name not in self._TOLD:
                    others[name].add(str(part))
                elif isinstance(part, BaseModel):
                    for key in type(part).model_fields:
                        values[name, _name_of(part), key].add(str(getattr(part, key)))
        self._differing = {key for key, seen in values.items() if len(seen) > 1}
        self._others = [name for name, seen in others.items() if len(seen) > 1]

    def part(self, config: Trial, field: str) -> str:
        """Return ``zipf``, or ``zipf exponent=1.2`` if there is another ``zipf``."""
        part = getattr(config, field)
        if not isinstance(part, BaseModel):
            return str(part)
        name = _name_of(part)
        differing = [key for key in type(part).model_fields if (field, name, key) in self._differing]
        return " ".join([name, *(f"{key}={getattr(part, key)}" for key in differing)])

    def program(self, config: Trial) -> Program:
        """Return the program of a config."""
        return Program(
            self.part(config, "workload"), self.part(config, "shapes"), self.part(config, "persistent"),
            config.precision, self.other(config),
        )  # fmt: skip

    def setting(self, config: Trial) -> Setting:
        """Return the setting of a config."""
        return Setting(self.part(config, "eviction"), config.memory_limit, self.part(config, "buckets"))

    def other(self, config: Trial) -> str:
        """Return what else differs, such as ``precision=bfloat16``."""
        return " ".join(f"{field}={getattr(config, field)}" for field in self._others)


def _name_of(part: BaseModel) -> str:
    if isinstance(part, UsersProgram):
        return part.title
    return str(getattr(part, "name", None) or getattr(part, "mode", part))
