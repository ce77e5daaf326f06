"""Why are there no hits: what can be wrong with a shared directory, and what to do about it."""

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from ._bytesize import format_size
from ._disk import DiskCache
from ._disk_database import IndexUnavailable
from ._disk_stats import DISK_MISS_REASONS, FAULT_REASONS
from ._fingerprint import Fingerprint

_SHOWN = 5
_CALLBACKS = "; JAX 0.10 keeps no programs with host callbacks" if jax.__version_info__ < (0, 11) else ""


@dataclass(frozen=True)
class Finding:
    """One thing that doctor has to say.

    Attributes:
        severity: ``fault``, ``note`` or ``fine``.
        text: What was found.
        advice: What to do about it; empty if nothing.
    """

    severity: str
    text: str
    advice: str = ""


def examine(cache: DiskCache, current: Fingerprint | None) -> list[Finding]:
    """Look at a directory without changing it.

    Args:
        cache: Of the directory.
        current: The fingerprint of this machine; None where it is not to be asked for.
    """
    findings = [*_permissions(cache), *_index(cache)]
    try:
        runs = cache.index.runs.last()
        findings += [*_fingerprints(cache, current), *_misses(cache), *_runs(runs)]
    except IndexUnavailable:
        pass  # told by _index
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


def _index(cache: DiskCache) -> Iterator[Finding]:
    known = {}
    try:
        known = {row.place: row.size_bytes for row in cache.index.rows()}
    except IndexUnavailable as error:
        yield Finding("fault", f"the index cannot be used: {error}", "it is made anew once it is removed")
        return
    there = set(cache.files.walk())
    strays = list(cache.files.strays())
    if unknown := there - known.keys():
        yield Finding("note", f"{len(unknown)} entries are not in the index", "python -m jaxcache verify")
    if gone := known.keys() - there:
        yield Finding("note", f"{len(gone)} entries of the index have no file", "python -m jaxcache verify")
    if strays:
        yield Finding("note", f"{len(strays)} files among the entries are none, such as {strays[0]}",
                      "python -m jaxcache verify")  # fmt: skip
    staged = [one for one in _listed(cache.files.staging) if time.time() - one.stat().st_mtime > 60]
    if staged:
        yield Finding("note", f"{len(staged)} files were left behind by writers that died",
                      "the next program that writes removes them")  # fmt: skip
    if bad := _listed(cache.files.quarantine):
        reasons = Counter(one.name.split("-")[1] for one in bad if one.name.count("-") > 1)
        yield Finding("note", f"the quarantine holds {len(bad)} files: {_told(reasons)}",
                      "look at the disk if they become more")  # fmt: skip


def _fingerprints(cache: DiskCache, current: Fingerprint | None) -> Iterator[Finding]:
    held = cache.index.held()
    if current is None or not held or current.id in held:
        return
    yield Finding("fault", f"no entry is of this machine and JAX ({current.id}); there are {len(held)} others",
                  "programs are compiled once for each, and shared from then on")  # fmt: skip
    for other in list(held)[:_SHOWN]:
        parts = cache.files.about(other)
        if differing := differing_parts(current.parts, parts):
            yield Finding("note", f"{other} differs in {differing}")


def differing_parts(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return in words in which parts two fingerprints, or two keys, differ."""
    names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    return "; ".join(f"{name}: {ours.get(name, 'none')!r} here, {theirs.get(name, 'none')!r} there" for name in names)


def _misses(cache: DiskCache) -> Iterator[Finding]:
    stats = cache.stats()
    if stats.hits + stats.misses == 0:
        yield Finding("note", "nothing has been asked of this directory yet",
                      "call use_directory before the first program compiles, or python -m jaxcache run")  # fmt: skip
        return
    by_reason = stats.misses_by_reason
    yield Finding("fine", f"{stats.hits} hits, {stats.misses} misses: {_told(by_reason)}")
    advice = {
        "evicted": "raise the limit, or choose another policy",
        "refused": "raise the limit, or choose a policy that admits everything",
        "not_stored": "lower min_compile_seconds or min_entry_bytes" + _CALLBACKS,
        "other_fingerprint": "the same program is there for another machine or build, and rightly not shared",
        "index_unavailable": "see above",
    }
    for reason in DISK_MISS_REASONS:
        if by_reason.get(reason) and reason in advice:
            yield Finding("note", f"{by_reason[reason]} misses: {reason.replace('_', ' ')}", advice[reason])
    if broken := sum(by_reason.get(reason, 0) for reason in FAULT_REASONS):
        yield Finding("fault", f"{broken} entries were not what they should be; each was compiled again",
                      "look at the disk, and at who writes to the directory")  # fmt: skip
    if stats.below_threshold:
        yield Finding("note", f"{stats.below_threshold} programs compiled too fast or were too small to be kept",
                      "lower min_compile_seconds or min_entry_bytes")  # fmt: skip
    if stats.wait_timeouts:
        yield Finding("note", f"{stats.wait_timeouts} requests gave up waiting for another process's compile",
                      "raise wait_seconds")  # fmt: skip


def _runs(runs: list[dict[str, Any]]) -> Iterator[Finding]:
    """Compare the last run with the one of the same program before it."""
    if not runs:
        return
    last = runs[0]
    before = next((one for one in runs[1:] if one["program"] == last["program"]), None)
    if before is None:
        return
    if before["fingerprint"] != last["fingerprint"]:
        yield Finding("note", f"the last two runs of {last['program']!r} had different fingerprints: "
                      f"{before['fingerprint']} and {last['fingerprint']}")  # fmt: skip
    told = 0
    known = _by_program(before["requests"])
    for name, keys in _by_program(last["requests"]).items():
        new = [key for key in keys if key not in known.get(name, ())]
        if not new or name not in known or told == _SHOWN:
            continue
        told += 1
        yield _key_difference(name, new[0], known[name], last["requests"], before["requests"])


def _key_difference(
    name: str, key: str, candidates: list[str], now: Mapping[str, Any], then: Mapping[str, Any]
) -> Finding:
    parts = now[key][1]
    others = [then[one][1] for one in candidates]
    if not parts or not any(others):
        return Finding("note", f"{name} was asked for under another key than in the run before",
                       "run both with explain=True, or run --explain, to see in which parts")  # fmt: skip
    differences = [[part for part in parts if parts[part] != other.get(part)] for other in others if other]
    differing: list[str] = min(differences, key=len)
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
    why = "; ".join(reasons.get(part, part) for part in differing)
    return Finding("note", f"{name} was asked for under another key than in the run before: {why}")


def _by_program(requests: Mapping[str, Any]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for key in requests:
        named.setdefault(key.rpartition("-")[0], []).append(key)
    return named


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items() if count)
