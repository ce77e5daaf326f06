"""The Prefect flow of the tuning: its recordings are one sweep, its verifications another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow

from jaxcache.lab.analysis.bounds import load_requests
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.buckets import Optimal
from jaxcache.lab.running.launch import COSTS, REFERENCE, REFERENCES
from jaxcache.lab.trial import Reference, Trial, TrialResult
from jaxcache.lab.tuning.report import Tuned, Verified
from jaxcache.lab.tuning.search import Candidate, Recording

from ..planning.plan import added, make_plan
from ..running import resume
from ..running.flow import sweep
from .settings import TuneSettings, describe_program, find_setting, replay_present

_LEAST_PRICE = 1e-12
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
    recorded = _record_sets(fixed, sets, place)
    tuning = find_setting(settings, [recorded[name].recording for name in sets], present.seed)
    now = replay_present(tuning, present)
    checked = list(
        {one.setting: one for one in [*tuning.contenders(settings.verify), *([now] if now else [])]}.values()
    )
    results = _verify(checked, fixed, recorded, place / "verified") if checked else {}
    optimal = recorded["optimal"].trial.buckets if "optimal" in sets else None
    return Tuned(
        what=present.program_name,
        command=command,
        tuning=tuning,
        verified=tuple(Verified(one, results[one.setting]) for one in tuning.contenders(settings.verify)),
        present=None if now is None else Verified(now, results[now.setting]),
        reference=recorded[sets[0]].reference,
        lengths=_lengths({name: recorded[name].trial for name in sets}),
        optimal=optimal if isinstance(optimal, Optimal) else None,
        program=describe_program(program),
    )


@dataclass(frozen=True)
class _Recorded:
    """The unbounded run of a program with one set of buckets: what was said of them, and what came of it."""

    words: tuple[str, ...]
    trial: Trial
    reference: Reference
    recording: Recording
    directory: Path


def _record_sets(fixed: Sequence[str], sets: Sequence[str], place: Path) -> dict[str, _Recorded]:
    """Record a program with each set of buckets; first without, which says what the optimal ones are chosen by."""
    first = _record({"none": ("buckets=none",)}, fixed, place / "recorded")
    others = {
        name: (f"buckets={name}", *(_prices(first["none"]) if name == "optimal" else ()))
        for name in sets if name != "none"
    }  # fmt: skip
    if not others:
        return first
    costs = f"costs={place / 'recorded' / COSTS}"
    return {**first, **_record(others, [*fixed, costs], place / "recorded_buckets")}


def _record(sets: Mapping[str, tuple[str, ...]], fixed: Sequence[str], directory: Path) -> dict[str, _Recorded]:
    """Make the reference run of each program, and no trials: these would do it once more."""
    words = added([*fixed, "eviction=none", "memory_limit=null", *own] for own in sets.values())
    _run(words, directory, trials=False)
    found: dict[str, _Recorded] = {}
    for trial in (one.trial for one in make_plan(tuple(words)).trials):
        name, reference = trial.buckets.name, _reference(directory, trial.program_id)
        recording = Recording(name, load_requests(directory, trial.program_id), reference.run_seconds)
        found[name] = _Recorded(sets[name], trial, reference, recording, directory)
    return found


def _prices(recorded: _Recorded) -> tuple[str, ...]:
    """Return what the programs of a length took to compile, and an element of a call to run, as overrides."""
    trial, reference = recorded.trial, recorded.reference
    lengths = trial.shapes.lengths(trial.workload.requests, trial.seed)
    elements = float(np.sum(trial.workload.elements(np.asarray(lengths, float))))
    compiling = reference.unbounded_cost_seconds / len(np.unique(lengths))
    running = reference.run_seconds / elements
    return (
        f"buckets.compile_seconds={max(compiling, _LEAST_PRICE):.4g}",
        f"buckets.seconds_per_element={max(running, _LEAST_PRICE):.4g}",
    )


def _verify(
    candidates: Sequence[Candidate], fixed: Sequence[str], recorded: Mapping[str, _Recorded], place: Path
) -> dict[tuple[str, str, int], TrialResult]:
    """Run settings for real, as one sweep over a list of them; return the results by setting."""
    costs = f"costs={[*recorded.values()][-1].directory / COSTS}"  # the last table has the rows of those before
    lists = [
        [
            *fixed,
            f"eviction={one.replayed.policy}",
            f"memory_limit={one.limit_bytes}",
            *recorded[one.buckets].words,
            costs,
        ]
        for one in candidates
    ]
    _run(added(lists), place, trials=True)
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


def _lengths(configs: dict[str, Trial]) -> dict[str, tuple[int, ...]]:
    chosen = {name: one.buckets.lengths(one.shapes, one.workload, one.seed) for name, one in configs.items()}
    return {name: lengths for name, lengths in chosen.items() if lengths is not None}
