"""First look at a program: what its trials will take, replayed as soon as its reference has recorded the requests."""

from collections.abc import Iterable
from pathlib import Path

from ... import CostTable, format_size
from ..trial import Trial
from .bounds import load_programs
from .reading import FileReader

_MOST_SHOWN = 3
_MOST_ROWS = 1_000_000  # of all replays together: they are not to hold up the trials


def first_look(directory: Path, program_id: str, trials: Iterable[Trial], prices: CostTable) -> str:
    """Return the compile seconds predicted for the settings of a program's trials; empty if nothing was recorded.

    Args:
        directory: Directory of the sweep.
        program_id: Program whose reference is done.
        trials: Trials of that program.
        prices: Cost table of the sweep so far, which has all signatures of the program.
    """
    recording = load_programs(directory, [program_id], prices, FileReader(directory)).get(program_id)
    settings = {(trial.eviction.name, trial.memory_limit): trial.seed for trial in trials}
    if recording is None or not len(recording.trace) or len(settings) * len(recording.trace) > _MOST_ROWS:
        return ""
    seconds = {
        _name(policy, limit): recording.predict(policy, limit, seed).compile_seconds
        for (policy, limit), seed in settings.items()
    }
    least = sorted(seconds, key=lambda name: (seconds[name], name))[:_MOST_SHOWN]
    more = f"; the fewest of {len(seconds)} settings" if len(seconds) > len(least) else ""
    return "predicted: " + ", ".join(f"{name} {seconds[name]:.1f} s" for name in least) + more


def _name(policy: str, limit_bytes: int | None) -> str:
    return f"{policy} {'no limit' if limit_bytes is None else format_size(limit_bytes)}"
