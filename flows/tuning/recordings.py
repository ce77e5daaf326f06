"""Recordings of a trace with each set of buckets, and their replay by the settings of a tuning."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from jaxcache import POLICIES, Trace
from jaxcache.lab.trial import Trial
from jaxcache.lab.tuning.bucketed_traces import choose, derive, read_prices
from jaxcache.lab.tuning.padding_advice import PaddingAdvice, advise
from jaxcache.lab.tuning.search import Candidate, Recording, Tuning, search

from ..planning.errors import UsageError
from ..planning.locations import CONF
from .settings import TuneSettings, refuse_limits_below


def load_trace(path: Path) -> Trace:
    """Return the trace in a file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return Trace.load(path)
    except OSError as error:
        raise UsageError(f"trace={path} cannot be read ({error.strerror or 'no such file'})") from error
    except ValueError as error:
        raise UsageError(f"trace={path}: {error}") from error


def derive_recordings(
    settings: TuneSettings, trace: Trace
) -> tuple[list[Recording], dict[str, tuple[int, ...]], str | None]:
    """Return a trace's recording with each set of buckets, the sets' lengths, and why there are none, or None.

    Raises:
        UsageError: If buckets were requested and the trace does not determine their recordings.
    """
    named = [name for name in settings.buckets if name != "none"]
    try:
        prices = read_prices(trace)
    except ValueError as error:
        if settings.buckets_named and named:
            names = ",".join(settings.buckets)
            raise UsageError(f"tune.buckets={names}: {error}; else give tune.buckets=none") from error
        return [Recording("none", trace, 0.0)], {}, str(error)
    linear: Any = OmegaConf.load(CONF / "buckets" / "linear.yaml")
    lengths = {name: choose(name, prices, linear.count) for name in named}
    unpadded = derive("none", prices, None)
    if prices.recorded_without_buckets:
        unpadded = replace(unpadded, trace=trace)
    return [unpadded, *(derive(name, prices, buckets) for name, buckets in lengths.items())], lengths, None


def find_setting(settings: TuneSettings, recordings: list[Recording], seed: int, present_limit: int | None) -> Tuning:
    """Replay the requested settings.

    Args:
        settings: Settings of the tuning.
        recordings: One recording for each set of buckets.
        seed: Of the run, for policies that draw random numbers.
        present_limit: Limit that the program has today, in bytes; None if it has none.

    Raises:
        UsageError: If a limit or a policy is invalid, a limit holds no program, or the trace is empty.
    """
    sizes = [int(recording.trace.size_bytes.min()) for recording in recordings if len(recording.trace.size_bytes)]
    refuse_limits_below(settings, min(sizes, default=0), "what the smallest program of the trace weighs")
    try:
        policies = settings.policies or [name for name in POLICIES if name != "none"]
        return search(recordings, policies, settings.limits, settings.memory_limit, seed, present_limit)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def advise_padding(settings: TuneSettings, tuning: Tuning, seed: int) -> PaddingAdvice | None:
    """Return the advice to pad a program that pads nothing; None if there is none."""
    policies = settings.policies or [name for name in POLICIES if name != "none"]
    return advise(tuning.recordings[0].trace, policies, tuning.best.limit_bytes, seed)


def replay_present(tuning: Tuning, trial: Trial) -> Candidate | None:
    """Return the replay of the present setting; None if it has no limit."""
    if trial.memory_limit is None:
        return None
    recording = next(each for each in tuning.recordings if each.buckets == trial.buckets.name)
    return search([recording], [trial.eviction.name], memory_limit=trial.memory_limit, seed=trial.seed).best


def recorded_limit(trace: Trace) -> int | None:
    """Return the limit that a trace was recorded with, in bytes; None if it is unknown or there was none."""
    limit = trace.setting.get("limit_bytes")
    return limit if trace.setting.get("eviction") in POLICIES and isinstance(limit, int) else None


def replay_recorded(tuning: Tuning) -> Candidate | None:
    """Return the replay of the setting that a trace was recorded with; None if it is unknown or had no limit."""
    recording = tuning.recordings[0]
    limit, eviction = recorded_limit(recording.trace), recording.trace.setting.get("eviction")
    if limit is None:
        return None
    seed = recording.trace.setting.get("seed", 0)
    return search([recording], [str(eviction)], memory_limit=limit, seed=seed).best


def loaded_share(trace: Trace) -> float:
    """Return the share of signatures whose first program was loaded from a directory, which is then its price."""
    tiers = trace.columns.get("tier")
    if tiers is None or not len(trace):
        return 0.0
    return float(np.mean(tiers[np.unique(trace.signatures, return_index=True)[1]] == "disk"))
