"""Suggestions that are predictions: one lever each, from what was run to what to run, replayed to the last digit.

Levers are looked at one by one, from the best setting that was run: its limit, its buckets, its policy. Those that gain
less than ``LEAST_SHARE``, or less than a second, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ... import find_knee, format_size
from ..._advice.suggestion import WORTH_SECONDS, Suggestion
from ..buckets import Buckets, Linear, PowersOfTwo
from ..trial import Trial
from .map_choice import Joint, MapChoice, trials_by_program
from .map_words import limit_text
from .other_seeds import padded_lengths, predict_buckets
from .policy_map import ProgramMap
from .ranking import limit_order
from .recommendation import python_size, typed_size
from .suggestions import Advice
from .sweep import Program, Setting, Sweep

LEAST_SHARE = 0.05
_LINEAR_COUNT = 8


@dataclass(frozen=True)
class _Step:
    """A change of one lever: the setting after it, its seconds, and how it is typed."""

    rule: str
    title: str
    setting: Setting
    seconds: float
    override: str
    python: str
    remark: str = ""


def is_worth(before_seconds: float, after_seconds: float) -> bool:
    """Return whether a change gains enough to be suggested."""
    saved = before_seconds - after_seconds
    return saved >= max(WORTH_SECONDS, LEAST_SHARE * before_seconds)


def advise_from_map(sweep: Sweep, choice: MapChoice) -> list[Advice]:
    """Return what to change in the best setting that was run, the most seconds first."""
    before, seconds = choice.best_run, choice.best_run_seconds
    if before is None or seconds is None:
        return []
    steps = [*_limit_steps(choice, before), *_policy_steps(choice, before), *_bucket_steps(sweep, choice, before)]
    worth = [step for step in steps if is_worth(seconds, step.seconds)]
    return [_advice(choice, before, seconds, step) for step in sorted(worth, key=lambda step: step.seconds)]


def _limit_steps(choice: MapChoice, before: Setting) -> Iterator[_Step]:
    """Yield the limit to take, or where that is reached the knee of what is left; nothing where only all would do."""
    joint, taken_bytes = choice.joint, choice.point.limit_bytes
    above = [limit for limit in joint.limits_bytes if limit >= limit_order(before.memory_limit)]
    if len(above) < 2:
        return
    knee = find_knee(above, [joint.seconds(before.eviction, limit) for limit in above])
    limit = taken_bytes if taken_bytes is not None and taken_bytes > above[0] else knee
    if limit in (above[0], above[-1]):
        return
    reason = {
        joint.knee_bytes: "the knee of the curve",
        joint.close_bytes: "beyond which little is gained",
    }
    what = reason.get(limit, "the knee of the curve from there on")
    text = typed_size(limit)
    yield _Step(
        "limit", f"Raise the limit from {before.limit} to {limit_text(limit)}, {what}",
        before._replace(memory_limit=limit), joint.seconds(before.eviction, limit),
        f"memory_limit={text}", f'JitCache({python_size(limit)}, eviction="{before.eviction}")',
    )  # fmt: skip


def _policy_steps(choice: MapChoice, before: Setting) -> Iterator[_Step]:
    """Yield the policy that was chosen at the limit of the setting."""
    for point in choice.points:
        if point.limit_bytes == before.memory_limit and point.policy != before.eviction:
            yield _Step(
                "policy", f"Take {point.policy} in place of {before.eviction}, at the same limit of {before.limit}",
                before._replace(eviction=point.policy), point.seconds,
                f"eviction={point.policy}", f'JitCache({python_size(before.memory_limit)}, eviction="{point.policy}")',
            )  # fmt: skip


def _bucket_steps(sweep: Sweep, choice: MapChoice, before: Setting) -> Iterator[_Step]:
    """Yield the set of buckets with the fewest compile seconds; nothing where the sweep tried buckets itself."""
    if before.buckets != "none" or choice.others:
        return
    trials = trials_by_program(sweep, choice.joint.buckets)
    best: _Step | None = None
    for buckets in (PowersOfTwo(name="pow2"), Linear(name="linear", count=_LINEAR_COUNT)):
        padded = [
            _padded(program_map, trials[program_map.program], buckets, before) for program_map in choice.joint.maps
        ]
        ready = [each for each in padded if each is not None]
        if len(ready) < len(padded) or not ready:
            return
        seconds, padding = fmean(each[0] for each in ready), fmean(each[1] for each in ready)
        is_powers = buckets.name == "pow2"
        what = "powers of two" if is_powers else f"{_LINEAR_COUNT} equal steps"
        count = "" if is_powers else f" buckets.count={_LINEAR_COUNT}"
        step = _Step(
            "buckets", f"Pad lengths to {what}",
            before._replace(buckets=buckets.name), seconds, f"buckets={buckets.name}{count}",
            f"bucketed(f, cache=cache, buckets={_edges(choice.joint, trials, buckets)}, axes=…)",
            f"requests then compute with {padding:.0%} more elements, whose time is not in these seconds",
        )  # fmt: skip
        if best is None or step.seconds < best.seconds:
            best = step
    if best is not None:
        yield best


def _edges(joint: Joint, trials: Mapping[Program, Mapping[int, Trial]], buckets: Buckets) -> str:
    """Return the lengths of the buckets, where all programs have the same."""
    edges = {
        buckets.lengths(trial.shapes, trial.workload, trial.seed)
        for program_map in joint.maps for trial in trials[program_map.program].values()
    }  # fmt: skip
    return str(edges.pop()) if len(edges) == 1 else "…"


def _padded(
    program_map: ProgramMap, trials: Mapping[int, Trial], buckets: Buckets, before: Setting
) -> tuple[float, float] | None:
    """Return the seconds of a program with buckets, and the elements that padding adds over its own."""
    seconds: list[float] = []
    added: list[float] = []
    for seed, recording in program_map.recorded.items():
        predicted = predict_buckets(trials[seed], recording, buckets)
        if predicted is None:
            return None
        seconds.append(predicted.predict(before.eviction, before.memory_limit, seed).compile_seconds)
        workload = trials[seed].workload
        plain = trials[seed].shapes.lengths(workload.requests, seed).astype(np.float64)
        padded = padded_lengths(trials[seed], buckets, seed).astype(np.float64)
        added.append(float(workload.elements(padded).sum() / workload.elements(plain).sum()) - 1)
    return fmean(seconds), fmean(added)


def _advice(choice: MapChoice, before: Setting, seconds: float, step: _Step) -> Advice:
    saved = seconds - step.seconds
    checks = [check for program_map in choice.joint.maps for check in program_map.checks]
    basis = "replayed over the recorded requests"
    if step.rule == "buckets":
        basis = "replayed over the recorded lengths, programs of the buckets priced off neighbouring lengths"
    equal = f"; {len(checks)} of {len(checks)} measured trials equal their prediction" if checks else ""
    about = _about(choice.joint.maps)
    effect = f"{saved:.1f} s a run less: {seconds:.1f} → {step.seconds:.1f} s (−{saved / seconds:.0%})"
    evidence = (
        f"{before.label} compiles for {seconds:.1f} s a run, measured; {step.setting.label} for {step.seconds:.1f} s"
    )
    if step.setting.memory_limit is not None and step.rule == "limit":
        evidence += f"; no limit would hold {format_size(choice.joint.working_set_bytes)}"
    if step.remark:
        evidence += f"; {step.remark}"
    suggestion = Suggestion(step.rule, step.title, evidence, effect, step.override, step.python, saved)
    return Advice(f"{about}, {before.label}", suggestion, effect, f"{basis}{equal}", saved, "replayed")


def _about(maps: Sequence[ProgramMap]) -> str:
    return maps[0].program.label if len(maps) == 1 else f"mean of {len(maps)} programs"
