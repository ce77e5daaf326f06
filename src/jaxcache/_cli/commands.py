"""The commands of ``python -m jaxcache``."""

import argparse
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._disk.database import IndexUnavailable
from .._disk.disk_cache import DiskCache
from .._disk.doctor import examine
from .._disk.index import Limits, Row
from .._disk.jax_import import import_entries
from .._disk.priority import STORED_POLICIES
from .._disk.stats import DiskStats
from .._jax.fingerprint import fingerprint_of, machine_parts
from .._primitives.sizes import format_size, parse_size
from .._process.environment import DIRECTORY_VARIABLE
from .._process.run_program import ProgramNotFound
from . import run_command

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_ORDERS: dict[str, Callable[[Row], float]] = {
    "largest": lambda row: -row.size_bytes,
    "coldest": lambda row: row.used,
    "costliest": lambda row: -row.compile_seconds,
    "newest": lambda row: -row.created,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 something was found or failed, 2 the command is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return given.command(given)
    except (ValueError, OSError, IndexUnavailable, ProgramNotFound) as error:
        if given.command is run_command.run and not isinstance(error, _OURS):
            raise  # the program's own
        print(f"jaxcache: {error}", file=sys.stderr)
        return 2


class _Refused(ValueError):
    """The command is wrong."""


_OURS = (run_command.Refused, ProgramNotFound)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m jaxcache",
        description="Run a program as it is, bounded, recorded or watched, or look after a shared directory.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[..., int], text: str, *, needs_directory: bool | None = True, **options: Any
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, **options)
        made.set_defaults(command=run)
        if needs_directory is None:
            return made
        known = os.environ.get(DIRECTORY_VARIABLE) or None
        made.add_argument("--dir", required=needs_directory and known is None, default=known, type=_named_directory,
                          metavar="DIR", help=f"the shared directory (or {DIRECTORY_VARIABLE})")  # fmt: skip
        made.add_argument("--key-file", metavar="FILE", help="with the key for entries (or JAXCACHE_KEY_FILE)")
        return made

    run = command(
        "run", run_command.run, "Run a Python program, unchanged: bounded, recorded, watched or guarded.",
        needs_directory=False, usage=run_command.USAGE,
    )  # fmt: skip
    run_command.add_options(run)

    command("ci-key", _ci_key, "Print what a cache of CI has to be keyed by.", needs_directory=None)

    stats = command("stats", _stats, "Hits, misses by reason, seconds saved and spent, bytes, by build and machine.")
    stats.add_argument("--json", action="store_true")
    stats.add_argument("--reset", action="store_true", help="begin counting anew, after printing")

    listed = command("list", _list, "The entries.")
    listed.add_argument("--sort", choices=_ORDERS, default="largest")
    listed.add_argument("--top", type=_count, default=20, metavar="N", help="how many; 0 is all (20)")
    listed.add_argument("--json", action="store_true")

    verify = command("verify", _verify, "Check every byte of every entry, and the index; bad files go to quarantine.")
    verify.add_argument("--json", action="store_true")

    prune = command("prune", _prune, "Remove entries until the directory keeps to a limit, or those not used for long.")
    prune.add_argument("--limit", metavar="SIZE", help="keep no more bytes: 20GiB, 500MiB")
    prune.add_argument("--max-entries", type=_count, metavar="N", help="keep no more")
    prune.add_argument(
        "--policy",
        default="lru",
        choices=STORED_POLICIES,
        help="who goes first, whatever the directory's own policy is (lru)",
    )
    prune.add_argument("--older-than", metavar="TIME", help="not used for so long: 30d, 12h, 90m")
    prune.add_argument("--dry-run", action="store_true", help="say what would go")
    prune.add_argument("--json", action="store_true")

    clear = command("clear", _clear, "Remove all entries, or those of one build and machine.")
    clear.add_argument("--fingerprint", metavar="ID", help="as stats shows it")
    clear.add_argument("--json", action="store_true")

    doctor = command("doctor", _doctor, "Why are there no hits: permissions, builds, thresholds, bad files, keys.")
    doctor.add_argument("--json", action="store_true")

    taken = command("import", _import, "Take over what JAX's own cache wrote, on this machine, with this JAX.")
    taken.add_argument("source", type=Path, metavar="JAX_DIR")
    taken.add_argument("--limit", metavar="SIZE")
    taken.add_argument("--eviction", default="lru", choices=STORED_POLICIES)
    taken.add_argument("--json", action="store_true")
    return parser


def _named_directory(text: str) -> Path:
    """Return the directory of ``--dir``; an empty name, as of a variable that is not set, is not the present one."""
    if not text:
        raise argparse.ArgumentTypeError("must name a directory, but is empty")
    return Path(text)


def _count(text: str) -> int:
    """Return a number of things."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, but is {text!r}")
    return int(text)


def _open(given: argparse.Namespace, *, only_looks: bool = False) -> DiskCache:
    if not given.dir.is_dir():
        raise _Refused(f"--dir must be a shared directory, but there is none at {given.dir}")
    cache = DiskCache(given.dir, eviction=None, key_file=given.key_file)
    database = cache.index.database
    is_shared_directory = cache.files.entries.is_dir() or os.path.lexists(database.path)
    database.is_read_only = only_looks or not is_shared_directory  # else it would become one
    return cache


def _say(given: argparse.Namespace, told: Any, *lines: str) -> None:
    print(json.dumps(told, indent=1, default=str) if given.json else "\n".join(lines))


def _ci_key(_given: argparse.Namespace) -> int:
    """Print versions for people and the fingerprint that entries of a shared directory are told apart by."""
    parts = machine_parts()
    names = [parts["platform"], f"jax{parts['jax']}", f"python{sys.version_info.major}.{sys.version_info.minor}"]
    print("-".join(["jaxcache", *names, fingerprint_of(parts).id]))
    return 0


def _stats(given: argparse.Namespace) -> int:
    with _open(given, only_looks=True) as cache:
        cache.index.state()  # one that cannot be used is told, and not shown as an empty one
        stats = cache.stats()
        told = dataclasses.asdict(stats)
        del told["process"]
        _say(given, told, *_stats_lines(stats))
        if given.reset:
            cache.index.reset_counters()
    return 0


def _stats_lines(stats: DiskStats) -> list[str]:
    asked = stats.hits + stats.misses
    limit = "no limit" if stats.limit_bytes is None else format_size(stats.limit_bytes)
    lines = [
        f"since           {datetime.fromtimestamp(stats.since, UTC):%Y-%m-%d %H:%M} UTC",
        f"hits            {stats.hits}" + (f" ({stats.hits / asked:.0%})" if asked else ""),
        f"misses          {stats.misses}",
        *(f"  {reason.replace('_', ' '):<13} {count}" for reason, count in stats.misses_by_reason.items()),
        f"seconds saved   {stats.seconds_saved:.1f}",
        f"seconds spent   {stats.seconds_spent:.1f}",
        f"entries         {stats.entries}, {format_size(stats.size_bytes)} of {limit}, eviction {stats.eviction}",
        f"written         {stats.puts}, {format_size(stats.bytes_written)}; evicted {stats.evictions}, "
        f"refused {stats.refused}, below the thresholds {stats.below_threshold}",
        f"waited          {stats.waited} for another's compile, {stats.wait_timeouts} in vain",
        f"quarantined     {stats.quarantined}",
    ]
    if stats.verified:
        lines.append(f"verified        {stats.verified}, of which {stats.mismatched} differed")
    for name, one in stats.by_fingerprint.items():
        about = ", ".join(one.parts[part] for part in ("jax", "platform", "device_kinds") if one.parts.get(part))
        lines.append(f"{name}  {one.entries} entries, {format_size(one.size_bytes)}, {one.hits} hits, "
                     f"{one.misses} misses  {about}")  # fmt: skip
    return lines


def _list(given: argparse.Namespace) -> int:
    with _open(given, only_looks=True) as cache:
        rows = sorted(cache.index.rows(), key=_ORDERS[given.sort])
    rows = rows[: given.top or None]
    now = time.time()
    _say(
        given,
        [dataclasses.asdict(row) for row in rows],
        f"{'size':>10}  {'compile s':>9}  {'asked':>6}  {'used':>10}  key",
        *(
            f"{format_size(row.size_bytes):>10}  {row.compile_seconds:9.3f}  {row.frequency:6}  "
            f"{_ago(now - row.used):>10}  {_short(row.key)}"
            for row in rows
        ),
    )
    return 0


def _short(key: str) -> str:
    name, _, digest = key.rpartition("-")
    return f"{name}-{digest[:12]}" if name else key[:60]


def _ago(seconds: float) -> str:
    for unit in ("w", "d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f}{unit} ago"
    return f"{max(0.0, seconds):.0f}s ago"


def _verify(given: argparse.Namespace) -> int:
    with _open(given) as cache:
        checked = cache.verify()
    _say(
        given,
        dataclasses.asdict(checked),
        f"{checked.good} entries are whole, {checked.bad} were not and went to quarantine"
        + "".join(f"\n  {reason.replace('_', ' ')}: {count}" for reason, count in checked.reasons.items()),
        f"the index had not known {checked.unknown} entries, and knew {checked.gone} that are gone; "
        f"{checked.left_behind} files of dead writers were removed",
    )
    return 1 if checked.bad else 0


def _prune(given: argparse.Namespace) -> int:
    if given.limit is None and given.max_entries is None and given.older_than is None:
        raise _Refused("prune needs --limit, --max-entries or --older-than")
    limits = Limits(None if given.limit is None else parse_size(given.limit, "--limit"), given.max_entries)
    before = None if given.older_than is None else time.time() - _duration(given.older_than)
    with _open(given, only_looks=given.dry_run) as cache:
        chosen = {} if before is None else {row.entry_id: row for row in cache.index.rows() if row.used < before}
        chosen |= {row.entry_id: row for row in cache.index.lowest(given.policy, limits, set(chosen))}
        if not given.dry_run:
            cache.index.remove(chosen.values(), "evicted")
    freed = sum(row.size_bytes for row in chosen.values())
    told = {"removed": len(chosen), "bytes": freed, "dry_run": given.dry_run,
            "keys": [row.key for row in chosen.values()]}  # fmt: skip
    would = "would remove" if given.dry_run else "removed"
    _say(given, told, f"{would} {len(chosen)} entries, {format_size(freed)}")
    return 0


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise _Refused(f"--older-than must be a time such as 30d, 12h or 90m, but is {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _clear(given: argparse.Namespace) -> int:
    with _open(given) as cache:
        rows = [row for row in cache.index.rows() if given.fingerprint in (None, row.fingerprint)]
        cache.index.remove(rows)
        cache.files.clean_staging()
    freed = sum(row.size_bytes for row in rows)
    _say(given, {"removed": len(rows), "bytes": freed}, f"removed {len(rows)} entries, {format_size(freed)}")
    return 0


def _doctor(given: argparse.Namespace) -> int:
    try:
        cache = _open(given, only_looks=True)
    except PermissionError as error:
        _say(given, [{"severity": "fault", "text": str(error), "advice": ""}], f"fault  {error}")
        return 1
    with cache:
        current = fingerprint_of({**machine_parts(), "authentication": cache.key_id})
        findings = examine(cache, current)
    lines = [f"{one.severity:<6} {one.text}" + (f"\n       -> {one.advice}" if one.advice else "") for one in findings]
    _say(given, [dataclasses.asdict(one) for one in findings], *lines)
    return 1 if any(one.severity == "fault" for one in findings) else 0


def _import(given: argparse.Namespace) -> int:
    if not given.source.is_dir():
        raise _Refused(f"JAX_DIR must be a directory that JAX's own cache wrote, but there is none at {given.source}")
    with DiskCache(given.dir, given.limit, given.eviction, key_file=given.key_file) as cache:
        results = list(import_entries(cache, given.source))
    failed = [one for one in results if not one.taken]
    _say(
        given,
        {"imported": len(results) - len(failed), "failed": {one.path.name: one.reason for one in failed}},
        f"imported {len(results) - len(failed)} entries",
        *(f"{one.path.name} {one.reason}" for one in failed),
    )
    return 1 if failed else 0
