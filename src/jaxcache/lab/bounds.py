"""What no policy can go below: the certified bound of each program of a sweep at each of its limits."""

from collections.abc import Iterable
from pathlib import Path

from .. import Trace, optimum
from .run import REFERENCES, REQUESTS
from .trial import TrialResult

Bounds = dict[tuple[str, int | None], float]  # seconds, by program id and limit in bytes


def find_bounds(directory: Path, results: Iterable[TrialResult]) -> Bounds:
    """Return the bounds of the programs whose reference run has left a trace of its requests."""
    wanted = {(result.program_id, result.config.memory_limit) for result in results}
    traces: dict[str, Trace] = {}
    for program in {program for program, _ in wanted}:
        try:
            traces[program] = Trace.load(directory / REFERENCES / program / REQUESTS)
        except (OSError, ValueError):  # of an older sweep, or cut short: the report does without
            continue
    return {
        (program, limit): optimum(traces[program], limit).lower_bound_seconds
        for program, limit in wanted
        if program in traces
    }
