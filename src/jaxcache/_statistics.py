"""What a cache counted: frozen snapshots, by cache and by function."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from ._misses import Miss


@dataclass(frozen=True)
class FunctionStats:
    """The counts of one function; functions of the same name are counted together.

    Attributes:
        hits: Calls served by an executable that was held, or that another thread was compiling.
        misses: Calls for which a program was lowered, and compiled or loaded from disk.
        misses_by_cause: ``misses`` taken apart, see :class:`CacheStats`.
        warmed: Programs made ahead of a call by ``warm``.
        evictions: Entries that went to make room.
        live_entries: Entries held now.
        live_bytes: What they weigh.
        compile_seconds: Seconds spent on misses and warming: lowering, compiling and loading.
        compile_seconds_avoided: The cost of each hit's signature, added up.
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


def add_up(parts: Iterable[FunctionStats]) -> FunctionStats:
    """Return the counts of several functions together."""
    listed = list(parts)
    causes: Counter[str] = Counter()
    for part in listed:
        causes.update(part.misses_by_cause)
    numbers = [one.name for one in fields(FunctionStats) if one.name != "misses_by_cause"]
    sums = {name: sum(getattr(part, name) for part in listed) for name in numbers}
    return FunctionStats(misses_by_cause=dict(causes), **sums)


@dataclass(frozen=True)
class CacheStats:
    """The counts of one cache since it was made.

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
        live_bytes: What they weigh; never above ``limit_bytes``.
        live_mappings: Memory mappings that they take, by the model.
        peak_bytes: The largest ``live_bytes`` so far.
        limit_bytes: The limit; None if there is none.
        compile_seconds: Seconds spent on misses and warming: lowering, compiling and loading.
        cost_seconds: The cost of each miss's signature, added up: what the misses would have taken had each been
            compiled as when its cost was measured. Comparable between runs that share a cost table.
        repeated_cost_seconds: The part of it for signatures that had been compiled before: what a larger limit or a
            better policy could have saved.
        compile_seconds_avoided: The cost of each hit's signature, added up.
        by_function: The same by function name.
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

    @property
    def hit_rate(self) -> float:
        """Hits over hits and misses; 0 before the first call."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0
