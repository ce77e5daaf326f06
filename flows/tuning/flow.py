"""Prefect flow of a tuning: its recordings are one sweep, its verifications another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow

from jaxcache.lab.analysis.bounds import load_requests
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.buckets import Optimal
from jaxcache.lab.layout import COSTS, RECORDED, RECORDED_WITH_BUCKETS, REFERENCE, REFERENCES, VERIFIED
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.trial import Trial
from jaxcache.lab.tuning.report import Tuned, Verified
from jaxcache.lab.tuning.search import Candidate, Recording

from ..planning.overrides import join_lists
from ..planning.plan import Plan, make_plan
from ..running import resume
from ..running.flow import sweep
from .program import describe_program
from .recordings import advise_padding, find_setting, replay_present
from .settings import TuneSettings

_LEAST_PRICE = 1e-12
_SETTING_KEYS = ("eviction", "memory_limit", "buckets", "costs")


class RunFailed(Exception):
    """Raised when a run that the tuning needs did not succeed."""

    def __init__(self, message: str, interrupted: bool) -> None:
        super().__init__(message)
        self.interrupted = interrupted


@flow(name="tune", flow_run_name="{directory}", persist_result=False, validate_parameters=False)
def tune_flow(
    program: list[str], settings: TuneSettings, directory: str, command: str, config_dir: str | None = None
) -> Tuned:
    """Record the program, replay every setting, choose, and verify the best.

    Args:
        program: Overrides that describe the program and its present setting.
        settings: Settings of the tuning.
        directory: Existing directory for the tuning's files.
        command: Command that was typed.
        config_dir: Directory in which configs are looked for first.

    Raises:
        RunFailed: If a run did not succeed.
    """
    home = Path(directory)
    runs = _Runs(config_dir)
    present = runs.plan(program).trials[0].trial
    fixed = [word for word in program if word.partition("=")[0].partition(".")[0] not in _SETTING_KEYS]
    named = ["none"] if present.program is not None else settings.buckets  # which lengths it has nobody knows ahead
    sets = list(dict.fromkeys([*named, present.buckets.name]))
    recorded = _record_sets(runs, fixed, sets, home)
    tuning = find_setting(settings, [recorded[name].recording for name in sets], present.seed, present.memory_limit)
    now = replay_present(tuning, present)
    contenders = tuning.contenders(settings.verify)
    checked = list({each.setting: each for each in [*contenders, *([now] if now else [])]}.values())
    results = _verify(runs, checked, fixed, recorded, home / VERIFIED) if checked else {}
    optimal = recorded["optimal"].trial.buckets if "optimal" in sets else None
    return Tuned(
        what=present.program_name,
        command=command,
        tuning=tuning,
        verified=tuple(Verified(each, results[each.setting]) for each in contenders),
        present=None if now is None else Verified(now, results[now.setting]),
        reference=recorded[sets[0]].reference,
        lengths=_lengths({name: recorded[name].trial for name in sets}),
        optimal=optimal if isinstance(optimal, Optimal) else None,
        program=describe_program(program, config_dir),
        padding=advise_padding(settings, tuning, present.seed) if present.program is not None else None,
    )


@dataclass(frozen=True)
class _Recorded:
    """Unbounded run of a program with one set of buckets, and the overrides that name the set."""

    overrides: tuple[str, ...]
    trial: Trial
    reference: Reference
    recording: Recording
    directory: Path


def _record_sets(runs: "_Runs", fixed: Sequence[str], sets: Sequence[str], home: Path) -> dict[str, _Recorded]:
    """Record a program with each set of buckets; first without, which measures the prices of the optimal set."""
    first = _record(runs, {"none": ("buckets=none",)}, fixed, home / RECORDED)
    others = {
        name: (f"buckets={name}", *(_prices(first["none"]) if name == "optimal" else ()))
        for name in sets if name != "none"
    }  # fmt: skip
    if not others:
        return first
    costs = f"costs={home / RECORDED / COSTS}"
    return {**first, **_record(runs, others, [*fixed, costs], home / RECORDED_WITH_BUCKETS)}


def _record(
    runs: "_Runs", sets: Mapping[str, tuple[str, ...]], fixed: Sequence[str], directory: Path
) -> dict[str, _Recorded]:
    """Run the reference of each program, without trials, which would only repeat it."""
    overrides = join_lists([*fixed, "eviction=none", "memory_limit=null", *buckets] for buckets in sets.values())
    runs.run(overrides, directory, trials=False)
    recorded: dict[str, _Recorded] = {}
    for trial in (planned.trial for planned in runs.plan(overrides).trials):
        name, reference = trial.buckets.name, _reference(directory, trial.program_id)
        recording = Recording(name, load_requests(directory, trial.program_id), reference.run_seconds)
        recorded[name] = _Recorded(sets[name], trial, reference, recording, directory)
    return recorded


def _prices(recorded: _Recorded) -> tuple[str, ...]:
    """Return the compile seconds of a length's programs, and the run seconds of an element, as overrides."""
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
    runs: "_Runs",
    candidates: Sequence[Candidate],
    fixed: Sequence[str],
    recorded: Mapping[str, _Recorded],
    directory: Path,
) -> dict[tuple[str, str, int], TrialResult]:
    """Run settings for real, as one sweep; return the results by setting.

    They load nothing that the recording left in a shared directory, unless asked to: seconds are verified too.
    """
    is_named = any(word.partition("=")[0].partition(".")[0] == "persistent" for word in fixed)
    costs = f"costs={[*recorded.values()][-1].directory / COSTS}"  # the last table includes the rows of the earlier
    lists = [
        [
            *fixed,
            *([] if is_named else ["persistent=off"]),
            f"eviction={candidate.replayed.policy}",
            f"memory_limit={candidate.limit_bytes}",
            *recorded[candidate.buckets].overrides,
            costs,
        ]
        for candidate in candidates
    ]
    runs.run(join_lists(lists), directory, trials=True)
    ran = [(result.config, result) for result in read_sweep(directory).results]
    return {(config.buckets.name, config.eviction.name, config.memory_limit or 0): result for config, result in ran}


@dataclass(frozen=True)
class _Runs:
    """Plans and sweeps of a tuning, whose configs are looked for in one directory first."""

    config_dir: str | None

    def plan(self, overrides: Sequence[str]) -> Plan:
        """Return the plan of overrides."""
        return make_plan(tuple(overrides), config_dir=self.config_dir)

    def run(self, overrides: list[str], directory: Path, *, trials: bool) -> None:
        """Run a sweep.

        Raises:
            RunFailed: If it did not succeed.
        """
        resume.begin(self.plan(overrides), directory)
        state: Any = sweep(
            overrides, str(directory), config_dir=self.config_dir, quiet=False, trials=trials, return_state=True
        )
        if state.is_completed():
            return
        failed = read_sweep(directory).failed
        step = "verifying the settings" if trials else "recording the program"
        reason = f"{failed[0].label}: {failed[0].reason}" if failed else state.message
        raise RunFailed(f"{step} did not succeed: {reason}; see {directory}", state.is_cancelled())


def _reference(recorded: Path, program_id: str) -> Reference:
    return Reference.model_validate_json((recorded / REFERENCES / program_id / REFERENCE).read_bytes())


def _lengths(configs: dict[str, Trial]) -> dict[str, tuple[int, ...]]:
    chosen = {name: trial.buckets.lengths(trial.shapes, trial.workload, trial.seed) for name, trial in configs.items()}
    return {name: lengths for name, lengths in chosen.items() if lengths is not None}
