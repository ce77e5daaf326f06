"""Diagnosis of a shared directory: reasons why programs miss, and what to do about each."""

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from .._jax.fingerprint import Fingerprint
from .._primitives.counted import counted, counted_entries
from .._primitives.sizes import format_size
from .connection import IndexUnavailable
from .disk_cache import DiskCache
from .stats import DISK_MISS_REASONS, FAULT_REASONS
from .tier_answers import FAULT, FIRST_FAULT, HIT, LAST_FAULT, LEFT_ALONE, MISS

_SHOWN = 5
_AS_ARGUMENTS = (
    "what changes from run to run is not compiled again if it is an argument of the function, and no constant"
)
_CALLBACKS = "; JAX 0.10 keeps no programs with host callbacks" if jax.__version_info__ < (0, 11) else ""


@dataclass(frozen=True)
class Finding:
    """Observation of ``doctor``, with advice.

    Attributes:
        severity: ``fault``, ``note`` or ``fine``.
        text: The observation.
        advice: What to do about it; empty if nothing.
    """

    severity: str
    text: str
    advice: str = ""


def examine(cache: DiskCache, current: Sequence[Fingerprint], invocation: str = "python -m jaxcache") -> list[Finding]:
    """Look at a directory without changing it.

    Args:
        cache: The cache of the directory.
        current: Fingerprints that programs of this machine may have, that without ``portable`` first; empty where they
            are not to be asked for.
        invocation: How the user starts jaxcache's commands, for advice.
    """
    findings = [*_permissions(cache), *_index(cache, f"run {invocation} verify")]
    try:
        runs = cache.index.runs.last()
        findings += [*_fingerprints(cache, current), *_misses(cache, f"{invocation} run"), *_tiers(runs), *_runs(runs)]
    except IndexUnavailable:
        pass  # _index has reported it
    return findings or [Finding("fine", "nothing was found that keeps programs from being shared")]


def _permissions(cache: DiskCache) -> Iterator[Finding]:
    if not cache.path.is_dir():
        yield Finding("fault", f"{cache.path} is not there", "it is made by the first program that uses it")
        return
    mode = stat.S_IMODE(cache.path.stat().st_mode)
    if not os.access(cache.path, os.W_OK | os.X_OK):
        yield Finding("fault", f"{cache.path} cannot be written to (mode {mode:o}): nothing new is kept",
                      f"chmod u+rwx {cache.path}")  # fmt: skip
    free = os.statvfs(cache.path)
    if free.f_bavail * free.f_frsize < 64 * 1024**2:
        yield Finding("fault", f"its disk has {format_size(free.f_bavail * free.f_frsize)} left", "free some space")


def _index(cache: DiskCache, verify: str) -> Iterator[Finding]:
    size_by_entry = {}
    try:
        size_by_entry = {row.entry_id: row.size_bytes for row in cache.index.rows()}
    except IndexUnavailable as error:
        yield Finding("fault", f"the index cannot be used: {error}", "remove it: it is made again from the entries")
        return
    stored = set(cache.files.walk())
    strays = list(cache.files.strays())
    if unknown := stored - size_by_entry.keys():
        yield Finding("note", f"{_are(len(unknown))} not in the index", verify)
    if missing := size_by_entry.keys() - stored:
        yield Finding("note", f"{_are(len(missing))} in the index without a file", verify)
    if strays:
        yield Finding("note", f"{counted(len(strays), 'stray file')} among the entries, such as {strays[0]}", verify)
    staged = [path for path in _paths_in(cache.files.staging) if _age_seconds(path) > 60]
    if staged:
        left = f"{counted(len(staged), 'file')} left half-written by a process that was killed"
        yield Finding("note", left, "the next program that writes removes them")
    if bad := _paths_in(cache.files.quarantine):
        reasons = Counter(path.name.split("-")[1] for path in bad if path.name.count("-") > 1)
        yield Finding("note", f"the quarantine holds {counted(len(bad), 'damaged file')}: {_listing(reasons)}",
                      "look at the disk if there are more of them next time")  # fmt: skip


def _age_seconds(path: Path) -> float:
    """Return how long ago a file was written; 0 if it has gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _fingerprints(cache: DiskCache, current: Sequence[Fingerprint]) -> Iterator[Finding]:
    held = cache.index.held()
    if not current or not held or any(each.id in held for each in current):
        return
    others = counted(len(held), "other")
    yield Finding("fault", f"no entry is of this machine and JAX ({current[0].id}), but of {others}",
                  "each compiles its programs once, and shares them from then on")  # fmt: skip
    for other in list(held)[:_SHOWN]:
        parts = cache.files.about(other)
        if differing := differing_parts(current[0].parts, parts):
            yield Finding("note", f"{other} differs in {differing}")


def differing_parts(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return in words in which parts two fingerprints, or two keys, differ."""
    names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    return "; ".join(f"{name}: {ours.get(name, 'none')!r} here, {theirs.get(name, 'none')!r} there" for name in names)


def _misses(cache: DiskCache, run: str) -> Iterator[Finding]:
    stats = cache.stats()
    if stats.hits + stats.misses == 0:
        yield Finding("note", "nothing has been asked of this directory yet",
                      f"call use_directory before the first program compiles, or {run}; processes that "
                      "a program starts use it where JAXCACHE_DIR names it")  # fmt: skip
        return
    by_reason = stats.misses_by_reason
    yield Finding("fine", f"{counted(stats.hits, 'hit')}, {counted(stats.misses, 'miss', 'misses')}"
                  + (f": {_listing(by_reason)}" if stats.misses else ""))  # fmt: skip
    advice = {
        "evicted": "raise limit=, or choose another eviction=",
        "refused": "raise limit=, or choose an eviction= that admits everything, such as lru",
        "not_stored": "lower min_compile_seconds or min_entry_bytes" + _CALLBACKS,
        "other_fingerprint": "they are there for another machine or build, and rightly not shared: nothing to do",
        "index_unavailable": "see the fault of the index",
    }
    for reason in DISK_MISS_REASONS:
        if by_reason.get(reason) and reason in advice:
            number = counted(by_reason[reason], "miss", "misses")
            yield Finding("note", f"{number}: {reason.replace('_', ' ')}", advice[reason])
    if broken := sum(by_reason.get(reason, 0) for reason in FAULT_REASONS):
        yield Finding("fault", f"{counted(broken, 'damaged entry', 'damaged entries')} found, and compiled again",
                      "look at the disk, and at who writes to the directory")  # fmt: skip
    if stats.below_threshold:
        yield Finding("note", f"{counted(stats.below_threshold, 'program')} compiled too fast or too small to be kept",
                      "lower min_compile_seconds or min_entry_bytes")  # fmt: skip
    if stats.wait_timeouts:
        yield Finding("note", f"gave up {counted(stats.wait_timeouts, 'time')} waiting for another process's compile",
                      "raise wait_seconds=")  # fmt: skip


def _tiers(runs: list[dict[str, Any]]) -> Iterator[Finding]:
    """Say what each store below the directory answered in the last run."""
    for store, answers in runs[0]["settings"].get("tiers", {}).items() if runs else ():
        hits, misses, faults = (answers.get(outcome, 0) for outcome in (HIT, MISS, FAULT))
        text = f"{store}, in the last run: {counted(hits, 'hit')}, {counted(misses, 'miss', 'misses')}"
        if left_alone := answers.get(LEFT_ALONE, 0):
            text += f", left alone {counted(left_alone, 'time')}"
        if not faults:
            is_unasked = not hits + misses + left_alone
            yield Finding("fine", f"{store} was not asked in the last run" if is_unasked else text)
            continue
        first, last = answers[FIRST_FAULT], answers[LAST_FAULT]
        faulty = f"it {first}" if first == last else f"first it {first}, at last it {last}"
        yield Finding("fault", f"{text}, {counted(faults, 'fault')}: {faulty}",
                      "the program went on without it; see that it is there, and open to this user")  # fmt: skip


def _runs(runs: list[dict[str, Any]]) -> Iterator[Finding]:
    """Compare the last run with the one of the same program before it, called alike if there is one."""
    if not runs:
        return
    last = runs[0]
    same = [run for run in runs[1:] if _script(run) == _script(last)]
    before = next((run for run in same if run["program"] == last["program"]), same[0] if same else None)
    if before is None:
        return
    if before["fingerprint"] != last["fingerprint"]:
        yield Finding("note", f"the last two runs of {last['program']!r} had different fingerprints: "
                      f"{before['fingerprint']} and {last['fingerprint']}")  # fmt: skip
    keys_before = _by_program(before["requests"])
    keys_now = {name: keys for name, keys in _by_program(last["requests"]).items() if name in keys_before}
    new = {name: [key for key in keys if key not in keys_before[name]] for name, keys in keys_now.items()}
    new = {name: keys for name, keys in new.items() if keys}
    if new and before["program"] != last["program"]:
        yield Finding("note", f"{counted(sum(map(len, new.values())), 'program')} new to {last['program']!r} after "
                      f"{before['program']!r}", _AS_ARGUMENTS)  # fmt: skip
    parts = {key: key_parts for run in reversed(runs) for key, (_, key_parts) in run["requests"].items() if key_parts}
    for name in list(new)[:_SHOWN]:
        yield _key_difference(name, parts.get(new[name][0], {}), [parts.get(key, {}) for key in keys_before[name]])


def _are(number: int) -> str:
    return f"{counted_entries(number)} {'is' if number == 1 else 'are'}"


def _script(run: Mapping[str, Any]) -> str:
    return run["settings"].get("script", run["program"])


def _key_difference(name: str, now: Mapping[str, Any], candidates: list[Mapping[str, Any]]) -> Finding:
    """Describe in what a key differs from the nearest key of the run before."""
    text = f"{name} was asked for under another key than in the run before"
    alike = [then for then in candidates if "constants" in then and then.get("types") == now.get("types")]
    if alike:
        nearest = min((_changed(then["constants"], now["constants"]) for then in alike), key=len)
        if nearest:
            return Finding("note", f"{text}: {'; '.join(nearest[:_SHOWN])}", _AS_ARGUMENTS)
    if "types" in now and not alike and (others := [then["types"] for then in candidates if "types" in then]):
        return Finding("note", f"{text}: its arguments were {others[0]}, and are {now['types']}",
                       "pad to a few sizes, see bucketed, where sizes change from run to run")  # fmt: skip
    return _hash_difference(text, now, candidates)


def _changed(then: list[str], now: list[str]) -> list[str]:
    if len(then) == len(now):
        return [f"a constant in it was {old}, and is {new}" for old, new in zip(then, now, strict=True) if old != new]
    return ["other constants are in it"]


def _hash_difference(text: str, now: Mapping[str, Any], candidates: list[Mapping[str, Any]]) -> Finding:
    hashes = {part: value for part, value in now.items() if part not in ("types", "constants")}
    others = [then for then in candidates if any(part in then for part in hashes)]
    if not others:
        return Finding("note", text, "run both with explain=True, or run --explain, to see in which parts")
    reasons = {
        "computation": "the program itself differs: a constant, a shape, or a name in it",
        "XLA flags": "XLA_FLAGS, LIBTPU_INIT_ARGS or --xla arguments differ",
        "compile_options": "the compile options differ: devices, debug options or profile data",
        "jax_lib version": "another jaxlib",
        "backend version": "another platform or driver",
        "accelerator_config": "other devices or another topology",
        "custom_hook": "a custom hook of the key",
        "compression": "the one has zstandard installed, the other not",
    }
    differing = min(([part for part in hashes if hashes[part] != other.get(part)] for other in others), key=len)
    return Finding("note", f"{text}: {'; '.join(reasons.get(part, part) for part in differing)}")


def _by_program(requests: Mapping[str, Any]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for key in requests:
        named.setdefault(key.rpartition("-")[0], []).append(key)
    return named


def _paths_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items() if count)
