"""The Prefect flow of the tuning: its recordings are one sweep, its verifications another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from jaxcache.lab.aggregate import read_sweep
from jaxcache.lab.requests import load_requests
from jaxcache.lab.run import COSTS, REFERENCE, REFERENCES
from jaxcache.lab.trial import Reference, Trial, TrialResult
from jaxcache.lab.tuning import Candidate, Recording
from jaxcache.lab.tuning_report import Tuned, Verified

from . import resume
from .pipeline import sweep
from .plan import PLUS, make_plan
from .tune_settings import TuneSettings, find_setting, replay_present

_SETTING = ("eviction", "memory_limit", "buckets", "costs")


class RunFailed(Exception):
    """A run that the tuning needs did not succeed."""

    def __init__(self, message: str, interrupted: bool) -> None:
        super().__init__(message)
        self.interrupted = interrupted


@flow(name="tune", flow_run_name="{directory}", persist_result=False, validate_parameters=False)
def tune(program: list[str], settings: TuneSettings, directory: str, command: str) -> Tuned:
    """Record, replay, choose, verify.

    Args:
        program: Overrides that say what the program and its present setting are.
        settings: What to look for.
        directory: Where the files go; it exists.
        command: What was typed.

    Raises:
        RunFailed: If a run did not succeed.
    """
    place = Path(directory)
    present = make_plan(tuple(program)).trials[0].trial
    fixed = [word for word in program if word.partition("=")[0].partition(".")[0] not in _SETTING]
    sets = list(dict.fromkeys([*settings.buckets, present.buckets.name]))
    recorded = place / "recorded"
    references = _record([*fixed, "eviction=none", "memory_limit=null", f"buckets={','.join(sets)}"], recorded)
    by_set = {trial.buckets.name: (trial, reference) for trial, reference in references}
    recordings = [_recording(recorded, name, by_set[name][1]) for name in sets]
    tuning = find_setting(settings, recordings, present.seed)
    now = replay_present(tuning, present)
    checked = list(
        {one.setting: one for one in [*tuning.contenders(settings.verify), *([now] if now else [])]}.values()
    )
    results = _verify(checked, fixed, recorded, place / "verified") if checked else {}
    return Tuned(
        what=present.program_name,
        command=command,
        tuning=tuning,
        verified=tuple(Verified(one, results[one.setting]) for one in tuning.contenders(settings.verify)),
        present=None if now is None else Verified(now, results[now.setting]),
        reference=by_set[sets[0]][1],
        lengths=_lengths({name: trial for name, (trial, _) in by_set.items()}),
    )


def _record(overrides: list[str], directory: Path) -> list[tuple[Trial, Reference]]:
    """Make the reference run of each program, and no trials: these would do it once more."""
    _run(overrides, directory, trials=False)
    trials = [one.trial for one in make_plan(tuple(overrides)).trials]
    return [(trial, _reference(directory, trial.program_id)) for trial in trials]


def _verify(
    candidates: Sequence[Candidate], fixed: Sequence[str], recorded: Path, place: Path
) -> dict[tuple[str, str, int], TrialResult]:
    """Run settings for real, as one sweep over a list of them; return the results by setting."""
    words: list[str] = []
    for one in candidates:
        setting = [f"eviction={one.replayed.policy}", f"memory_limit={one.limit_bytes}", f"buckets={one.buckets}"]
        words += [*([PLUS] if words else []), *fixed, *setting, f"costs={recorded / COSTS}"]
    _run(words, place, trials=True)
    ran = [(result.config, result) for result in read_sweep(place).results]
    return {(config.buckets.name, config.eviction.name, config.memory_limit or 0): result for config, result in ran}


def _run(overrides: list[str], directory: Path, *, trials: bool) -> None:
    resume.begin(make_plan(tuple(overrides)), directory)
    state: Any = sweep(overrides, str(directory), quiet=False, trials=trials, return_state=True)
    if state.is_completed():
        return
    failed = read_sweep(directory).failed
    reason = failed[0].reason if failed else state.message
    raise RunFailed(f"{' '.join(overrides)}: {reason}; see {directory}", state.is_cancelled())


def _reference(recorded: Path, program_id: str) -> Reference:
    return Reference.model_validate_json((recorded / REFERENCES / program_id / REFERENCE).read_bytes())


def _recording(recorded: Path, buckets: str, reference: Reference) -> Recording:
    return Recording(buckets, load_requests(recorded, reference.program_id), reference.run_seconds)


def _lengths(configs: dict[str, Trial]) -> dict[str, tuple[int, ...]]:
    chosen = {name: one.buckets.lengths(one.shapes, one.workload, one.seed) for name, one in configs.items()}
    return {name: lengths for name, lengths in chosen.items() if lengths is not None}
