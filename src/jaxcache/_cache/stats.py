"""Statistics: frozen snapshots of a cache's counts, by cache and by function."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .._calls.misses import Miss

MOST_NAMES = 512
OTHER_FUNCTIONS = "(other functions)"
_MOST_CAPTURED = 64
_MOST_CALLED = 16  # kinds of calls past the cache


@dataclass(frozen=True)
class FunctionStats:
    """The counts of one function; functions of the same name are counted together.

    So are functions of one source under more than 16 names, which are generated, and all functions beyond 512 names,
    as ``(other functions)``.

    Attributes:
        hits: Calls served by an executable that was held, or that another thread was compiling.
        misses: Calls for which a program was lowered, and compiled or loaded from disk.
        misses_by_cause: ``misses`` taken apart, see :class:`CacheStats`.
        warmed: Programs made ahead of a call by ``warm``.
        evictions: Entries that went to make room.
        live_entries: Entries held now.
        live_bytes: Their weight.
        compile_seconds: Seconds spent on misses and warming: lowering, compiling and loading.
        compile_seconds_avoided: The cost of each hit's signature, added up.
        seconds_by_cause: ``compile_seconds`` of the misses of each cause.
        bypassed: Calls handed to ``jax.jit`` itself.
        bypassed_programs: Programs that XLA compiled for such calls, by what was called: ``jax.grad(f)``, or ``f``
            where no transformation was the reason. The cache holds none of them, and its limit bounds none.
        bypassed_seconds: Seconds that compiling them took.
        captured: Names of captured values that were not the same for all functions of one source.
        library: The installed package that wrapped one of these functions again and again; empty if none did.
    """

    hits: int = 0
    misses: int = 0
    misses_by_cause: Mapping[str, int] = field(default_factory=dict)
    warmed: int = 0
    evictions: int = 0
    live_entries: int = 0
    live_bytes: int = 0
    compile_seconds: float = 0.0
    compile_seconds_avoided: float = 0.0
    seconds_by_cause: Mapping[str, float] = field(default_factory=dict)
    bypassed: int = 0
    bypassed_programs: Mapping[str, int] = field(default_factory=dict)
    bypassed_seconds: float = 0.0
    captured: tuple[str, ...] = ()
    library: str = ""


@dataclass(slots=True)
class Counts:
    """Running counts of the functions of one name; hits and seconds avoided are those of entries no longer held."""

    hits: int = 0
    misses: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    seconds_by_cause: Counter[str] = field(default_factory=Counter)
    warmed: int = 0
    evictions: int = 0
    compile_seconds: float = 0.0
    avoided_seconds: float = 0.0
    bypassed: int = 0
    bypassed_programs: Counter[str] = field(default_factory=Counter)
    bypassed_seconds: float = 0.0
    captured: dict[str, None] = field(default_factory=dict)
    library: str = ""
    warned_of_bypasses: bool = False

    def count_bypassed(self, called: str, seconds: float) -> None:
        """Count a program that was compiled past the cache."""
        fits = called in self.bypassed_programs or len(self.bypassed_programs) < _MOST_CALLED
        self.bypassed_programs[called if fits else next(iter(self.bypassed_programs))] += 1
        self.bypassed_seconds += seconds

    def count_miss(self, miss: Miss, seconds: float) -> None:
        """Count a call for which a program was compiled or loaded."""
        self.misses += 1
        self.causes[miss.cause] += 1
        self.seconds_by_cause[miss.cause] += seconds  # pyright: ignore[reportArgumentType]  # a Counter takes floats
        self.library = self.library or miss.library
        if len(self.captured) < _MOST_CAPTURED:
            self.captured.update(dict.fromkeys(miss.captured))

    def snapshot(self, held: "HeldCounts | None") -> FunctionStats | None:
        """Return the counts, with those of entries that are held; None if nothing was counted."""
        if not (self.misses or self.warmed or self.bypassed or self.hits or held):
            return None
        held = held or HeldCounts()
        return FunctionStats(
            hits=self.hits + held.hits,
            misses=self.misses,
            misses_by_cause=dict(self.causes),
            warmed=self.warmed,
            evictions=self.evictions,
            live_entries=held.entries,
            live_bytes=held.size_bytes,
            compile_seconds=self.compile_seconds,
            compile_seconds_avoided=self.avoided_seconds + held.avoided_seconds,
            seconds_by_cause=dict(self.seconds_by_cause),
            bypassed=self.bypassed,
            bypassed_programs=dict(self.bypassed_programs),
            bypassed_seconds=self.bypassed_seconds,
            captured=tuple(self.captured),
            library=self.library,
        )


@dataclass(slots=True)
class HeldCounts:
    """Counts of the entries that are held."""

    entries: int = 0
    size_bytes: int = 0
    hits: int = 0
    avoided_seconds: float = 0.0

    def add(self, size_bytes: int, hits: int, seconds: float) -> None:
        """Add an entry that costs so many seconds."""
        self.entries += 1
        self.size_bytes += size_bytes
        self.hits += hits
        self.avoided_seconds += hits * seconds


class CountsByName:
    """The counts of all functions, under a bounded number of names."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def of(self, name: str) -> Counts:
        """Return the counts of a name, which are those of all others if there are too many names."""
        if name not in self._counts and len(self._counts) >= MOST_NAMES:
            name = OTHER_FUNCTIONS
        return self._counts.setdefault(name, Counts())

    def snapshot(self, held: Iterable[tuple[Counts, int, int, float]]) -> dict[str, FunctionStats]:
        """Return all counts by name.

        Args:
            held: Of each entry: the counts of its function, its bytes, its hits, and the seconds that each hit avoided.
        """
        by_counts: dict[int, HeldCounts] = {}
        for counts, size_bytes, hits, seconds in held:
            by_counts.setdefault(id(counts), HeldCounts()).add(size_bytes, hits, seconds)
        snapshots = {name: counts.snapshot(by_counts.get(id(counts))) for name, counts in list(self._counts.items())}
        return {name: counted for name, counted in snapshots.items() if counted is not None}


@dataclass(frozen=True)
class CacheStats:
    """The counts of one cache since it was created.

    Attributes:
        hits: Calls served by an executable that was held, or that another thread was compiling.
        misses: Calls for which a program was lowered, and compiled or loaded from disk. Calls that failed to compile
            are not among them.
        misses_by_cause: ``misses`` taken apart. Signatures that are new: ``first_call`` of a function;
            ``function_recreated``, the first call of a function whose source was wrapped and called so before;
            ``static_metadata``, ``tree_structure``, ``static_value``, ``config_context``, ``device_or_sharding``,
            ``new_dtype``, ``weak_type``, ``new_shape``, the first of these in which the call differs from the most
            similar known one; ``own_key``, a new value of ``key=``; ``other``. Signatures that were compiled before:
            ``evicted``; ``not_kept``, because it was refused or larger than the limit; ``cleared`` by the program.
        recent_misses: The last 64 of them with their reasons, the latest last.
        warmed: Programs made ahead of a call by ``warm``.
        disk_hits: Programs that JAX's persistent cache served, for misses and for warming.
        compiled: Programs that XLA compiled, for misses and for warming.
        evictions: Entries that went to make room.
        rejected: Programs that ran but were not kept: refused by the policy, or larger than the limit.
        bypassed: Calls handed to ``jax.jit`` itself: under a transformation, with jit disabled, or not cacheable.
        own_elements: Elements of dynamic dimensions that calls of ``bucketed`` functions asked for.
        padded_elements: Elements that padding added to them.
        functions: Functions with at least one call, counted by name.
        variants: Entries held now.
        live_bytes: Their weight; never above ``limit_bytes``.
        live_mappings: Their memory mappings, by the model.
        peak_bytes: The largest ``live_bytes`` so far.
        limit_bytes: The limit; None if there is none.
        compile_seconds: Seconds spent on misses and warming: lowering, compiling and loading.
        cost_seconds: The cost of each miss's signature, added up: the seconds of all misses, had each compile taken as
            long as when its cost was measured. Comparable between runs that share a cost table.
        repeated_cost_seconds: The part of it for signatures that had been compiled before, which a larger limit or a
            better policy could have saved.
        compile_seconds_avoided: The cost of each hit's signature, added up.
        by_function: The same by function name.
        run_seconds: Seconds since the cache was created.
        jax_programs: Programs that JAX itself holds now, past the cache, such as eager operations; 0 unless the cache
            is installed.
        jax_bytes: What they weigh, by the model. Beyond 16 MiB they take from the limit, half of it at most.
        jax_releases: How often JAX was made to forget all of them, so that the process keeps to the limit.
    """

    hits: int = 0
    misses: int = 0
    misses_by_cause: Mapping[str, int] = field(default_factory=dict)
    recent_misses: tuple[Miss, ...] = ()
    warmed: int = 0
    disk_hits: int = 0
    compiled: int = 0
    evictions: int = 0
    rejected: int = 0
    bypassed: int = 0
    own_elements: int = 0
    padded_elements: int = 0
    functions: int = 0
    variants: int = 0
    live_bytes: int = 0
    live_mappings: int = 0
    peak_bytes: int = 0
    limit_bytes: int | None = None
    compile_seconds: float = 0.0
    cost_seconds: float = 0.0
    repeated_cost_seconds: float = 0.0
    compile_seconds_avoided: float = 0.0
    by_function: Mapping[str, FunctionStats] = field(default_factory=dict)
    run_seconds: float = field(default=0.0, compare=False)
    jax_programs: int = 0
    jax_bytes: int = 0
    jax_releases: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits over hits and misses; 0 before the first call."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0
