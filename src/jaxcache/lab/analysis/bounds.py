"""What a program asks of a cache, as its reference run recorded it, at the prices of the whole sweep."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ... import Cost, CostTable, Trace, optimum
from ..layout import COSTS, REFERENCES, REQUESTS
from ..result import TrialResult
from .reading import FileReader

Bounds = dict[tuple[str, int | None], float]  # seconds, by program id and limit in bytes


def load_requests(directory: Path, program_id: str) -> Trace:
    """Return a program's requests; each signature weighs and costs what the sweep's table says, as in its trials.

    Two references that ran at once may have measured one signature each; the table keeps the first.

    Raises:
        OSError: If there is no trace.
        ValueError: If it cannot be read.
    """
    trace = Trace.load(directory / REFERENCES / program_id / REQUESTS)
    return _priced(trace, CostTable.load(directory / COSTS) if (directory / COSTS).exists() else CostTable())


def _priced(trace: Trace, table: CostTable) -> Trace:
    measured = zip(trace.names, trace.size_bytes.tolist(), trace.compile_seconds.tolist(), strict=True)
    costs = [table.get(name, Cost(size, seconds)) for name, size, seconds in measured]
    return replace(
        trace,
        size_bytes=np.array([cost.size_bytes for cost in costs], np.int64),
        compile_seconds=np.array([cost.seconds for cost in costs]),
    )


def load_prices(directory: Path, files: FileReader) -> CostTable | None:
    """Return the cost table by which a sweep's trials were priced; None if there is none that can be read."""
    path = directory / COSTS
    if not path.exists():
        return None
    try:
        return CostTable.load(path)
    except OSError as error:
        files.refuse(path, f"cannot be read: {error.strerror}")
    except ValueError:
        files.refuse(path, "is no cost table, so that the prices of the trials are not known")
    return None


def load_traces(directory: Path, programs: Iterable[str], prices: CostTable, files: FileReader) -> dict[str, Trace]:
    """Return the requests of each program that has any, at these prices."""
    traces: dict[str, Trace] = {}
    for program in sorted(set(programs)):
        path = directory / REFERENCES / program / REQUESTS
        if not path.exists():  # of an older sweep: the report does without
            continue
        try:
            traces[program] = _priced(Trace.load(path), prices)
        except (OSError, ValueError):
            files.refuse(path, "is no trace of requests, as if cut short")
    return traces


def find_bounds(traces: Mapping[str, Trace], results: Iterable[TrialResult]) -> Bounds:
    """Return the certified bound of each program at each limit; without those that have no trace."""
    wanted = {(result.program_id, result.config.memory_limit) for result in results}
    return {
        (program, limit): optimum(traces[program], limit).lower_bound_seconds
        for program, limit in wanted
        if program in traces
    }
