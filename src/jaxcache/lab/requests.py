"""What a program asks of a cache, as its reference run recorded it, at the prices of the whole sweep."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import Cost, CostTable, Trace, optimum
from .run import COSTS, REFERENCES, REQUESTS
from .trial import TrialResult

Bounds = dict[tuple[str, int | None], float]  # seconds, by program id and limit in bytes


def load_requests(directory: Path, program_id: str) -> Trace:
    """Return a program's requests; each signature weighs and costs what the sweep's table says, as in its trials.

    Two references that ran at once may have measured one signature each; the table keeps the first.

    Raises:
        OSError: If there is no trace.
        ValueError: If it cannot be read.
    """
    trace = Trace.load(directory / REFERENCES / program_id / REQUESTS)
    table = CostTable.load(directory / COSTS) if (directory / COSTS).exists() else CostTable()
    measured = zip(trace.names, trace.size_bytes.tolist(), trace.compile_seconds.tolist(), strict=True)
    costs = [table.get(name, Cost(size, seconds)) for name, size, seconds in measured]
    return replace(
        trace,
        size_bytes=np.array([cost.size_bytes for cost in costs], np.int64),
        compile_seconds=np.array([cost.seconds for cost in costs]),
    )


def find_bounds(directory: Path, results: Iterable[TrialResult]) -> Bounds:
    """Return the certified bound of each program at each limit; without those whose trace cannot be read."""
    wanted = {(result.program_id, result.config.memory_limit) for result in results}
    traces: dict[str, Trace] = {}
    for program in {program for program, _ in wanted}:
        try:
            traces[program] = load_requests(directory, program)
        except (OSError, ValueError):  # of an older sweep, or cut short: the report does without
            continue
    return {
        (program, limit): optimum(traces[program], limit).lower_bound_seconds
        for program, limit in wanted
        if program in traces
    }
