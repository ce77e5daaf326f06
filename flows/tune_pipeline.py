"""The Prefect flow of the tuning: its recordings and its verifications are sweeps of their own."""

from pathlib import Path
from typing import Any

from prefect import flow

from jaxcache.lab.aggregate import Sweep, read_sweep
from jaxcache.lab.requests import load_requests
from jaxcache.lab.run import COSTS, REFERENCE, REFERENCES
from jaxcache.lab.trial import Reference, Trial, TrialResult
from jaxcache.lab.tuning import Candidate, Recording
from jaxcache.lab.tuning_report import Tuned, Verified

from . import resume
from .pipeline import sweep
from .plan import make_plan
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
    recorded = _sweep([*fixed, "eviction=none", "memory_limit=null", f"buckets={','.join(sets)}"], place / "recorded")
    by_set = {result.config.buckets.name: result for result in recorded.results}
    tuning = find_setting(settings, [_recording(recorded, by_set[name]) for name in sets], present.seed)
    costs = f"costs={recorded.directory / COSTS}"

    def verify(one: Candidate) -> Verified:
        words = [f"eviction={one.replayed.policy}", f"memory_limit={one.limit_bytes}", f"buckets={one.buckets}", costs]
        name = f"verified_{one.buckets}_{one.replayed.policy}_{one.limit_bytes}"
        return Verified(one, _sweep([*fixed, *words], place / name).results[0])

    verified = tuple(verify(one) for one in tuning.contenders(settings.verify))
    already = {one.candidate.setting: one for one in verified}  # one directory a setting
    now = replay_present(tuning, present)
    return Tuned(
        what=present.program_name,
        command=command,
        tuning=tuning,
        verified=verified,
        present=None if now is None else already.get(now.setting) or verify(now),
        reference=_reference(recorded, by_set[sets[0]]),
        lengths=_lengths({name: result.config for name, result in by_set.items()}),
    )


def _sweep(overrides: list[str], directory: Path) -> Sweep:
    resume.begin(make_plan(tuple(overrides)), directory)
    state: Any = sweep(overrides, str(directory), quiet=False, return_state=True)
    if state.is_completed():
        return read_sweep(directory)
    failed = read_sweep(directory).failed
    reason = failed[0].reason if failed else state.message
    raise RunFailed(f"{' '.join(overrides)}: {reason}; see {directory}", state.is_cancelled())


def _recording(recorded: Sweep, result: TrialResult) -> Recording:
    trace = load_requests(recorded.directory, result.program_id)
    return Recording(result.config.buckets.name, trace, result.timing.run_seconds if result.timing else 0.0)


def _reference(recorded: Sweep, result: TrialResult) -> Reference:
    path = recorded.directory / REFERENCES / result.program_id / REFERENCE
    return Reference.model_validate_json(path.read_bytes())


def _lengths(configs: dict[str, Trial]) -> dict[str, tuple[int, ...]]:
    chosen = {name: one.buckets.lengths(one.shapes, one.workload, one.seed) for name, one in configs.items()}
    return {name: lengths for name, lengths in chosen.items() if lengths is not None}
