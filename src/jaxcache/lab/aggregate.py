"""Result files -> one aggregate, from which every table, plot and suggestion is made."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .._bytesize import format_size
from .requests import Bounds, find_bounds
from .run import REFERENCE, REFERENCES, RESULT, TRIALS
from .trial import Reference, Trial, TrialResult

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
    """What trials have in common that are compared with each other.

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
        return ", ".join(part for part in (self.workload, self.shapes, precision, self.other) if part)


class Setting(NamedTuple):
    """What is to be chosen."""

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
class Frame:
    """What no cache setting can beat or miss: means over the seeds' references.

    Attributes:
        largest: The signature that weighs most, in the reference of the first seed.
        largest_bytes: What it weighs.
        median_bytes: What the median signature weighs.
    """

    unbounded_bytes: float
    unbounded_seconds: float
    uncached_seconds: float
    largest: str = ""
    largest_bytes: int = 0
    median_bytes: float = 0.0


class Unreadable(NamedTuple):
    """A file that the report goes without."""

    path: str
    reason: str


@dataclass(frozen=True)
class Group:
    """The successful trials of one setting on one program, one a seed.

    Attributes:
        bound_seconds: What no policy can go below at this limit, a mean over the seeds; None where it is not known.
    """

    program: Program
    setting: Setting
    results: tuple[TrialResult, ...]
    frame: Frame | None
    bound_seconds: float | None = None

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
    def total_seconds_by_seed(self) -> dict[int, float]:
        """The same with what the requests took besides."""
        return {
            r.config.seed: r.statistics.cost_seconds + r.timing.run_seconds
            for r in self.results
            if r.statistics and r.timing
        }


@dataclass(frozen=True)
class Sweep:
    """A sweep as its files tell it."""

    directory: Path
    manifest: Manifest | None
    results: tuple[TrialResult, ...]
    groups: tuple[Group, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def failed(self) -> tuple[TrialResult, ...]:
        """Trials that did not succeed."""
        return tuple(result for result in self.results if result.status == "failed")


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
    unreadable: list[Unreadable] = []

    def read(model: type[_Model], paths: list[Path]) -> list[_Model]:
        found: list[_Model] = []
        for path in sorted(paths):
            content = b""
            try:
                content = path.read_bytes()
                found.append(model.model_validate_json(content))
            except OSError as error:
                unreadable.append(Unreadable(str(path.relative_to(directory)), str(error.strerror)))
            except ValidationError as error:
                unreadable.append(Unreadable(str(path.relative_to(directory)), _what_is_wrong(content, error)))
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
        groups=tuple(_groups(results, references, find_bounds(directory, results) if bounds is None else bounds)),
        unreadable=tuple(unreadable),
    )


def _what_is_wrong(content: bytes, error: ValidationError) -> str:
    """Return why a file is not what it should be: cut short, of another version, or with what field wrong."""
    try:
        found = json.loads(content)
    except ValueError:
        return "is empty" if not content.strip() else "is no JSON, as if cut short"
    version = found.get("schema_version", 1) if isinstance(found, dict) else None
    if version != 1:
        return f"is of schema version {version}, this jaxcache reads version 1"
    first = error.errors()[0]
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}{more}"


def _groups(results: list[TrialResult], references: list[Reference], bounds: Bounds) -> list[Group]:
    frames = {reference.program_id: reference for reference in references}
    done = [result for result in results if result.status == "completed" and result.statistics is not None]
    naming = _Naming([result.config for result in done])
    grouped: dict[tuple[Program, Setting], list[TrialResult]] = defaultdict(list)
    for result in done:
        config = result.config
        program = Program(
            naming.part(config, "workload"), naming.part(config, "shapes"), naming.part(config, "persistent"),
            config.precision, naming.other(config),
        )  # fmt: skip
        setting = Setting(naming.part(config, "eviction"), config.memory_limit, naming.part(config, "buckets"))
        grouped[program, setting].append(result)

    def rank(item: tuple[Program, Setting]) -> tuple[object, ...]:
        program, setting = item
        return (*program, setting.buckets, setting.memory_limit or float("inf"), setting.eviction)

    groups: list[Group] = []
    for program, setting in sorted(grouped, key=rank):
        members = tuple(sorted(grouped[program, setting], key=lambda result: result.config.seed))
        known = [frames[member.program_id] for member in members if member.program_id in frames]
        limit = setting.memory_limit
        bound = [bounds[one.program_id, limit] for one in members if (one.program_id, limit) in bounds]
        complete = len(bound) == len(members)
        groups.append(Group(program, setting, members, _frame(known), fmean(bound) if complete else None))
    return groups


class _Naming:
    """Names parts of configs, with the settings in which they differ from others of that name."""

    _TOLD = frozenset({"workload", "shapes", "persistent", "precision", "eviction", "memory_limit", "buckets", "seed"})

    def __init__(self, configs: list[Trial]) -> None:
        values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        others: dict[str, set[str]] = defaultdict(set)
        for config in configs:
            for field in Trial.model_fields:
                part = getattr(config, field)
                if field not in self._TOLD:
                    others[field].add(str(part))
                elif isinstance(part, BaseModel):
                    for key in type(part).model_fields:
                        values[field, _name_of(part), key].add(str(getattr(part, key)))
        self._differing = {key for key, seen in values.items() if len(seen) > 1}
        self._others = [field for field, seen in others.items() if len(seen) > 1]

    def part(self, config: Trial, field: str) -> str:
        """Return ``zipf``, or ``zipf exponent=1.2`` if there is another ``zipf``."""
        part = getattr(config, field)
        if not isinstance(part, BaseModel):
            return str(part)
        name = _name_of(part)
        differing = [key for key in type(part).model_fields if (field, name, key) in self._differing]
        return " ".join([name, *(f"{key}={getattr(part, key)}" for key in differing)])

    def other(self, config: Trial) -> str:
        """Return what else differs, such as ``precision=bfloat16``."""
        return " ".join(f"{field}={getattr(config, field)}" for field in self._others)


def _name_of(part: BaseModel) -> str:
    return str(getattr(part, "name", None) or getattr(part, "mode", part))


def _frame(references: list[Reference]) -> Frame | None:
    if not references:
        return None
    sizes = {signature: size for signature, (size, _) in references[0].costs.items()}
    largest = max(sizes, key=lambda signature: sizes[signature], default="")
    return Frame(
        unbounded_bytes=fmean(reference.unbounded_bytes for reference in references),
        unbounded_seconds=fmean(reference.unbounded_cost_seconds for reference in references),
        uncached_seconds=fmean(reference.uncached_cost_seconds for reference in references),
        largest=largest,
        largest_bytes=sizes.get(largest, 0),
        median_bytes=median(sizes.values()) if sizes else 0.0,
    )
