"""Result files -> one aggregate, from which every table, plot and suggestion is made."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .buckets import Buckets
from .run import REFERENCE, REFERENCES, RESULT, TRIALS
from .shapes import Shapes
from .trial import Reference, Statistics, TrialResult
from .workloads import Workload

MANIFEST = "sweep.json"
_Model = TypeVar("_Model", bound=BaseModel)


class Manifest(BaseModel):
    """What a sweep says of itself: written when it starts, and again when it ends.

    Attributes:
        command: What to type to run it again.
        order: The trials' ids in the order in which they were started.
        ended: How it ended; None while it runs, or if it was killed.
        words: The command's words, from which it is resumed.
        costs_hash: Of the cost table that it was given.
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


class Program(NamedTuple):
    """What trials have in common that are compared with each other.

    ``workload`` and ``shapes`` are names, followed by those of their settings that differ within the sweep.
    """

    workload: str
    shapes: str
    persistent: str
    precision: str = "float32"


class Setting(NamedTuple):
    """What is to be chosen."""

    eviction: str
    memory_limit: int | None
    buckets: str = "none"


@dataclass(frozen=True)
class Frame:
    """What no cache setting can beat or miss: means over the seeds' references."""

    unbounded_bytes: float
    unbounded_seconds: float
    uncached_seconds: float


@dataclass(frozen=True)
class Group:
    """The successful trials of one setting on one program, one a seed."""

    program: Program
    setting: Setting
    results: tuple[TrialResult, ...]
    frame: Frame | None

    def mean(self, name: str) -> float:
        """Return the mean over the seeds of a field of ``statistics``, ``timing`` or ``memory``."""
        return fmean(getattr(part, name) for part in self._parts(name))

    def _parts(self, name: str) -> list[BaseModel]:
        parts = [p for r in self.results for p in (r.statistics, r.timing, r.memory) if p is not None]
        return [part for part in parts if hasattr(part, name)]

    @property
    def seconds_by_seed(self) -> dict[int, float]:
        """Reference compile seconds of the misses, by seed."""
        return {r.config.seed: r.statistics.cost_seconds for r in self.results if r.statistics}

    @property
    def worst(self) -> Statistics:
        """The statistics of the seed that compiled again the most."""
        return max((r.statistics for r in self.results if r.statistics), key=lambda one: one.repeated_cost_seconds)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its files tell it."""

    directory: Path
    manifest: Manifest | None
    results: tuple[TrialResult, ...]
    groups: tuple[Group, ...]
    unreadable: tuple[str, ...]

    @property
    def failed(self) -> tuple[TrialResult, ...]:
        """Trials that did not succeed."""
        return tuple(result for result in self.results if result.status == "failed")


def read_sweep(directory: Path) -> Sweep:
    """Read what a sweep has left so far. Files that cannot be read are named, not fatal.

    Raises:
        FileNotFoundError: If there is no such directory, or it is not a sweep's.
    """
    if not (directory / MANIFEST).exists():
        raise FileNotFoundError(f"{directory} is not the directory of a sweep: it has no {MANIFEST}")
    unreadable: list[str] = []

    def read(model: type[_Model], paths: list[Path]) -> list[_Model]:
        found: list[_Model] = []
        for path in sorted(paths):
            try:
                found.append(model.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                unreadable.append(str(path.relative_to(directory)))
        return found

    manifests = read(Manifest, [directory / MANIFEST])
    results = read(TrialResult, list(directory.glob(f"{TRIALS}/*/{RESULT}")))
    references = read(Reference, list(directory.glob(f"{REFERENCES}/*/{REFERENCE}")))
    order = {trial: place for place, trial in enumerate(manifests[0].order)} if manifests else {}
    results.sort(key=lambda result: order.get(result.trial_id, len(order)))
    return Sweep(
        directory=directory,
        manifest=manifests[0] if manifests else None,
        results=tuple(results),
        groups=tuple(_groups(results, references)),
        unreadable=tuple(unreadable),
    )


def _groups(results: list[TrialResult], references: list[Reference]) -> list[Group]:
    frames = {reference.program_id: reference for reference in references}
    done = [result for result in results if result.status == "completed"]
    grouped: dict[tuple[Program, Setting], list[TrialResult]] = defaultdict(list)
    for result in done:
        config = result.config
        program = Program(_named(config.workload, done, "workload"), _named(config.shapes, done, "shapes"),
                          config.persistent.mode, config.precision)  # fmt: skip
        setting = Setting(config.eviction.name, config.memory_limit, _named(config.buckets, done, "buckets"))
        grouped[program, setting].append(result)

    def rank(item: tuple[Program, Setting]) -> tuple[object, ...]:
        program, setting = item
        return (*program, setting.buckets, setting.memory_limit or float("inf"), setting.eviction)

    groups: list[Group] = []
    for program, setting in sorted(grouped, key=rank):
        members = tuple(sorted(grouped[program, setting], key=lambda result: result.config.seed))
        known = [frames[member.program_id] for member in members if member.program_id in frames]
        groups.append(Group(program, setting, members, _frame(known)))
    return groups


def _named(part: Workload | Shapes | Buckets, results: list[TrialResult], name: str) -> str:
    """Return a part's name with the settings in which it differs from others of that name."""
    others = [other for other in (getattr(result.config, name) for result in results) if other.name == part.name]
    differing = [key for key in type(part).model_fields if len({getattr(other, key) for other in others}) > 1]
    return " ".join([part.name, *(f"{key}={getattr(part, key)}" for key in differing)])


def _frame(references: list[Reference]) -> Frame | None:
    if not references:
        return None
    return Frame(
        unbounded_bytes=fmean(reference.unbounded_bytes for reference in references),
        unbounded_seconds=fmean(reference.unbounded_cost_seconds for reference in references),
        uncached_seconds=fmean(reference.uncached_cost_seconds for reference in references),
    )
