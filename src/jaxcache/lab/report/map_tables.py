"""The map as tables: the limits that a reader asks for, and every policy at every limit."""

from collections.abc import Sequence

from ..analysis.answer import describe_ratio
from ..analysis.map_choice import Joint, MapChoice, Point
from ..analysis.map_words import limit_text
from ..analysis.policy_map import ProgramMap

POINT_COLUMNS = ("limit", "take", "compile s", "known", "lru", "no policy below", "over lru", "why this limit")
MEASURED = "*"


def point_rows(choice: MapChoice) -> list[tuple[str, ...]]:
    """Return one row for each limit of interest, in the order of ``POINT_COLUMNS``."""
    return [_point_row(choice, point) for point in choice.points]


def _point_row(choice: MapChoice, point: Point) -> tuple[str, ...]:
    chosen = ", to take" if point == choice.point and point.reason else "to take" if point == choice.point else ""
    is_free = point.limit_bytes is None or point.limit_bytes >= choice.joint.working_set_bytes
    ratio = "–" if point.against is None or point.policy == choice.baseline else describe_ratio(point.against.ratio)
    return (
        limit_text(point.limit_bytes),
        "any" if is_free else point.policy,
        f"{point.seconds:.1f}",
        "measured" if point.measured_seconds is not None else "replayed",
        f"{point.baseline_seconds:.1f}",
        f"{point.bound_seconds:.1f}",
        ratio,
        f"{point.reason}{chosen}",
    )


def point_columns(choice: MapChoice) -> tuple[str, ...]:
    """Return the columns, with the policy that others are held against."""
    return tuple(name.replace("lru", choice.baseline) for name in POINT_COLUMNS)


def map_rows(program_map: ProgramMap, limits: Sequence[int]) -> list[tuple[str, ...]]:
    """Return one row for each policy over some limits, the fewest seconds first, then the bound and the two ends.

    A cell ends with ``*`` where a trial of every seed replayed has measured it.
    """
    measured = measured_cells(program_map)
    order = sorted(program_map.policies, key=lambda name: sum(program_map.seconds(name, limit) for limit in limits))
    rows = [
        (
            name,
            *(f"{program_map.seconds(name, limit):.1f}" + MEASURED * ((name, limit) in measured) for limit in limits),
        )
        for name in order
    ]
    rows.append(("bound: no policy below", *(f"{program_map.bound_seconds(limit):.1f}" for limit in limits)))
    rows.append(("no limit", *(f"{program_map.unlimited_seconds:.1f}" for _ in limits)))
    rows.append(("every call compiled", *(f"{program_map.uncached_seconds:.1f}" for _ in limits)))
    return rows


def measured_cells(program_map: ProgramMap) -> set[tuple[str, int | None]]:
    """Return the policies and limits that trials of every seed replayed have measured, as predicted."""
    seeds: dict[tuple[str, int | None], set[int]] = {}
    for check in program_map.checks:
        if check.is_equal:
            config = check.result.config
            seeds.setdefault((config.eviction.name, config.memory_limit), set()).add(config.seed)
    return {cell for cell, measured_seeds in seeds.items() if measured_seeds >= set(program_map.seeds)}


def map_title(program_map: ProgramMap) -> str:
    """Return what a map is of."""
    return program_map.program.label + (f", buckets {program_map.buckets}" if program_map.buckets != "none" else "")


def seeds_text(program_map: ProgramMap) -> str:
    """Return which seeds a map is the mean of, and which were left out."""
    count = len(program_map.seeds)
    text = f"seed {program_map.seeds[0]}" if count == 1 else f"mean of {count} seeds"
    more = (
        f", {program_map.left_out_seeds} more not replayed for the time that takes"
        if program_map.left_out_seeds
        else ""
    )
    return text + more


def spread(limits: Sequence[int], most: int, kept: Sequence[int | None] = ()) -> list[int]:
    """Return at most so many limits, ascending: those to keep, the last, and others evenly among the rest."""
    wanted = [limit for limit in limits if limit in set(kept)][:most]
    rest = [limit for limit in limits if limit not in wanted][::-1]
    room = most - len(wanted)
    if room > 0 and rest:
        stride = max(1, -(-len(rest) // room))
        wanted += rest[::stride]
    return sorted(wanted)


def joint_rows(joint: Joint, limits: Sequence[int], shown: Sequence[str]) -> list[tuple[str, ...]]:
    """Return one row for each of some policies over limits, and the bound: means over the programs."""
    measured = set.intersection(*(measured_cells(program_map) for program_map in joint.maps))
    rows = [
        (name, *(f"{joint.seconds(name, limit):.1f}" + MEASURED * ((name, limit) in measured) for limit in limits))
        for name in shown
    ]
    return [*rows, ("bound", *(f"{joint.bound_seconds(limit):.1f}" for limit in limits))]
