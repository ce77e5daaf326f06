"""The commands of ``python -m jaxcache``, which are also those of ``jaxcache`` that need only the core."""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._disk.connection import IndexUnavailable
from .._disk.disk_cache import DiskCache
from .._disk.index import Row
from .._disk.limits import Limits
from .._disk.priority import STORED_POLICIES
from .._disk.stats import DiskStats
from .._disk.verify import Verification
from .._jax.fingerprint import fingerprint_of, machine_parts
from .._jax.portable import LEVELS, level_parts
from .._primitives.counted import counted, counted_entries
from .._primitives.sizes import format_size, parse_size
from .._process.run_program import ProgramNotFound
from .._remote.object_store import RemoteUnavailable
from . import tier_commands
from .durations import SECONDS, duration
from .one_line import OneLineParser, WrongCommandLine, whole_number
from .run_options import Refused, add_options, usage
from .subcommands import Subcommands

_ORDERS: dict[str, Callable[[Row], float]] = {
    "largest": lambda row: -row.size_bytes,
    "coldest": lambda row: row.used,
    "costliest": lambda row: -row.compile_seconds,
    "newest": lambda row: -row.created,
}


def main(arguments: Sequence[str] | None = None, invocation: str = "python -m jaxcache") -> int:
    """Run a command; return its exit code: 0 done, 1 something was found or failed, 2 the command is wrong.

    Args:
        arguments: Words of the command line; those of this process by default.
        invocation: How the user has started it, for messages.
    """
    try:
        parsed = _parser(invocation).parse_args(arguments)
    except WrongCommandLine as error:
        return _refuse(error)
    try:
        return parsed.command(parsed)
    except (ValueError, OSError, ImportError, IndexUnavailable, ProgramNotFound, RemoteUnavailable) as error:
        if parsed.command is _run and not isinstance(error, _OURS):
            raise  # the program's own
        return _refuse(error)


def _refuse(error: Exception) -> int:
    print(f"jaxcache: {error}", file=sys.stderr)
    return 2


_OURS = (Refused, ProgramNotFound)


def _parser(invocation: str) -> argparse.ArgumentParser:
    parser = OneLineParser(
        invocation,
        description="Run a program as it is, bounded, recorded or watched, or look after a shared directory.",
    )
    commands = Subcommands(parser, invocation)
    run_text = "Run a Python program, unchanged: bounded, recorded, watched or guarded."
    add_options(commands.add("run", _run, run_text, usage=usage(invocation)))
    commands.add("ci-key", _ci_key, "Print what a cache of CI has to be keyed by.")
    for add in (_add_stats, _add_list, _add_verify, _add_prune, _add_clear, _add_doctor, _add_import):
        add(commands).add_argument("--json", action="store_true")
    tier_commands.add_commands(commands, _open)
    return parser


def _run(parsed: argparse.Namespace) -> int:
    from .run_command import run  # here: it imports JAX

    return run(parsed)


def _open(parsed: argparse.Namespace, *, only_looks: bool = False) -> DiskCache:
    if not parsed.dir.is_dir():
        raise Refused(f"--dir must be a shared directory, but there is none at {parsed.dir}")
    cache = DiskCache(
        parsed.dir,
        eviction=None,
        key_file=parsed.key_file,
        trusted_keys=parsed.trusted_keys,
        sign_key=parsed.sign_key,
    )
    database = cache.index.database
    is_shared_directory = cache.files.entries.is_dir() or os.path.lexists(database.path)
    database.is_read_only = only_looks or not is_shared_directory  # else it would become one
    return cache


def _print_result(parsed: argparse.Namespace, fields: Any, *lines: str) -> None:
    """Print JSON if that was asked for, else lines for people."""
    print(json.dumps(fields, indent=1, default=str) if parsed.json else "\n".join(lines))


def _ci_key(_parsed: argparse.Namespace) -> int:
    """Print versions for people and the fingerprint that entries of a shared directory are told apart by."""
    parts = machine_parts()
    names = [parts["platform"], f"jax{parts['jax']}", f"python{sys.version_info.major}.{sys.version_info.minor}"]
    print("-".join(["jaxcache", *names, fingerprint_of(parts).id]))
    return 0


def _add_stats(commands: Subcommands) -> argparse.ArgumentParser:
    text = "Hits, misses by reason, seconds saved and spent, bytes, by build and machine."
    stats = commands.add_with_directory("stats", _stats, text)
    stats.add_argument("--reset", action="store_true", help="begin counting anew, after printing")
    stats.add_argument("--remote", metavar="URL", help="tell too what an object store holds")
    return stats


def _stats(parsed: argparse.Namespace) -> int:
    with _open(parsed, only_looks=True) as cache:
        cache.index.state()  # one that cannot be used is told, and not shown as an empty one
        stats = cache.stats()
        fields = dataclasses.asdict(stats)
        del fields["process"]
        lines = _stats_lines(stats)
        if parsed.remote:
            fields["remote"], remote = tier_commands.remote_lines(parsed.remote)
            lines += remote
        _print_result(parsed, fields, *lines)
        if parsed.reset:
            cache.index.reset_counters()
    return 0


def _stats_lines(stats: DiskStats) -> list[str]:
    requests = stats.hits + stats.misses
    limit = "no limit" if stats.limit_bytes is None else format_size(stats.limit_bytes)
    copies = " with copies from other tiers" if stats.layer_hits or stats.remote_hits else ""
    lines = [
        f"since           {datetime.fromtimestamp(stats.since, UTC):%Y-%m-%d %H:%M} UTC",
        f"hits            {stats.hits}" + (f" ({stats.hits / requests:.0%})" if requests else ""),
        *([f"  from layers   {stats.layer_hits}"] if stats.layer_hits else []),
        *([f"  from remote   {stats.remote_hits}"] if stats.remote_hits else []),
        f"misses          {stats.misses}",
        *(f"  {reason.replace('_', ' '):<13} {count}" for reason, count in stats.misses_by_reason.items()),
        f"seconds saved   {stats.seconds_saved:.1f}",
        f"seconds spent   {stats.seconds_spent:.1f}",
        f"entries         {stats.entries}, {format_size(stats.size_bytes)} of {limit}, eviction {stats.eviction}",
        f"written         {stats.puts}, {format_size(stats.bytes_written)}{copies}; evicted {stats.evictions}, "
        f"refused {stats.refused}, too fast or too small to keep {stats.below_threshold}",
        f"waited          {counted(stats.waited, 'time')} for another process's compile, {stats.wait_timeouts} in vain",
        f"quarantined     {stats.quarantined}",
    ]
    if stats.verified:
        lines.append(f"verified        {stats.verified}, of which {stats.mismatched} differed")
    for name, counts in stats.by_fingerprint.items():
        held = f"{counted_entries(counts.entries)}, {format_size(counts.size_bytes)}"
        requests = f"{counted(counts.hits, 'hit')}, {counted(counts.misses, 'miss', 'misses')}"
        lines.append(f"{name}  {held}, {requests}  {tier_commands.about(counts.parts)}")
    return lines


def _add_list(commands: Subcommands) -> argparse.ArgumentParser:
    listed = commands.add_with_directory("list", _list, "The entries.")
    listed.add_argument("--sort", choices=_ORDERS, default="largest")
    listed.add_argument("--top", type=whole_number, default=20, metavar="N", help="how many; 0 is all (20)")
    return listed


def _list(parsed: argparse.Namespace) -> int:
    with _open(parsed, only_looks=True) as cache:
        rows = sorted(cache.index.rows(), key=_ORDERS[parsed.sort])
    if not rows and not parsed.json:
        print("no entries yet: jaxcache.use_directory, or run --dir, in a program that compiles makes some")
        return 0
    shown = rows[: parsed.top or None]
    now = time.time()
    _print_result(
        parsed,
        [dataclasses.asdict(row) for row in shown],
        f"{'size':>10}  {'compile s':>9}  {'asked':>6}  {'used':>10}  key",
        *(
            f"{format_size(row.size_bytes):>10}  {row.compile_seconds:9.3f}  {row.frequency:6}  "
            f"{_ago(now - row.used):>10}  {_short(row.key)}"
            for row in shown
        ),
        *([f"and {len(rows) - len(shown):,} more: --top 0 lists all"] if len(rows) > len(shown) else []),
    )
    return 0


def _short(key: str) -> str:
    name, _, digest = key.rpartition("-")
    return f"{name}-{digest[:12]}" if name else key[:60]


def _ago(seconds: float) -> str:
    for unit in ("w", "d", "h", "m"):
        if seconds >= 2 * SECONDS[unit]:
            return f"{seconds / SECONDS[unit]:.0f}{unit} ago"
    return f"{max(0.0, seconds):.0f}s ago"


def _add_verify(commands: Subcommands) -> argparse.ArgumentParser:
    text = "Check every byte of every entry, and the index; bad files go to quarantine."
    return commands.add_with_directory("verify", _verify, text)


def _verify(parsed: argparse.Namespace) -> int:
    with _open(parsed) as cache:
        checked = cache.verify()
    _print_result(
        parsed,
        dataclasses.asdict(checked),
        f"{counted_entries(checked.good + checked.bad)} checked: "
        + (f"{checked.bad} damaged, moved to quarantine" if checked.bad else "none damaged"),
        *(f"  {reason.replace('_', ' ')}: {count}" for reason, count in checked.reasons.items()),
        *(
            [f"{counted_entries(checked.unchecked)} left unchecked: another key authenticates them, or none is given"]
            if checked.unchecked
            else []
        ),
        *_index_lines(checked),
    )
    return 1 if checked.bad else 0


def _index_lines(checked: Verification) -> list[str]:
    """Return what has been put right beside the entries."""
    mended = {
        f"{counted_entries(checked.unknown)} added to the index": checked.unknown,
        f"{counted_entries(checked.gone)} without a file taken out of the index": checked.gone,
        f"{counted(checked.left_behind, 'file')} removed that a process left as it was killed": checked.left_behind,
    }
    return [line for line, count in mended.items() if count]


def _add_prune(commands: Subcommands) -> argparse.ArgumentParser:
    text = "Remove entries until the directory keeps to a limit, or those not used for long."
    prune = commands.add_with_directory("prune", _prune, text)
    prune.add_argument("--limit", metavar="SIZE", help="keep no more bytes: 20GiB, 500MiB")
    prune.add_argument("--max-entries", type=whole_number, metavar="N", help="keep no more")
    prune.add_argument(
        "--policy",
        default="lru",
        choices=STORED_POLICIES,
        help="who goes first, whatever the directory's own policy is (lru)",
    )
    prune.add_argument("--older-than", metavar="TIME", help="not used for so long: 30d, 12h, 90m")
    prune.add_argument("--dry-run", action="store_true", help="say what would go")
    return prune


def _prune(parsed: argparse.Namespace) -> int:
    if parsed.limit is None and parsed.max_entries is None and parsed.older_than is None:
        raise Refused("prune needs --limit SIZE, --max-entries N or --older-than TIME, such as --older-than 30d")
    limits = Limits(None if parsed.limit is None else parse_size(parsed.limit, "--limit"), parsed.max_entries)
    before = None if parsed.older_than is None else time.time() - duration(parsed.older_than, "--older-than")
    with _open(parsed, only_looks=parsed.dry_run) as cache:
        chosen = {} if before is None else {row.entry_id: row for row in cache.index.rows() if row.used < before}
        chosen |= {row.entry_id: row for row in cache.index.lowest(parsed.policy, limits, set(chosen))}
        if not parsed.dry_run:
            cache.index.remove(chosen.values())
    freed = sum(row.size_bytes for row in chosen.values())
    fields = {"removed": len(chosen), "bytes": freed, "dry_run": parsed.dry_run,
            "keys": [row.key for row in chosen.values()]}  # fmt: skip
    would = "would remove" if parsed.dry_run else "removed"
    line = f"{would} {counted_entries(len(chosen))}, {format_size(freed)}" if chosen else "nothing to remove"
    _print_result(parsed, fields, line)
    return 0


def _add_clear(commands: Subcommands) -> argparse.ArgumentParser:
    clear = commands.add_with_directory("clear", _clear, "Remove all entries, or those of one build and machine.")
    clear.add_argument("--fingerprint", metavar="ID", help="as stats shows it")
    return clear


def _clear(parsed: argparse.Namespace) -> int:
    with _open(parsed) as cache:
        cache.index.clean_staging()  # first: it may hold names of entries
        rows = [row for row in cache.index.rows() if parsed.fingerprint in (None, row.fingerprint)]
        cache.index.remove(rows)
        others = [each for each in cache.files.walk() if parsed.fingerprint in (None, each.fingerprint)]
        sizes = [row.size_bytes for row in rows] + [cache.files.remove(each) for each in others]  # of other indexes
    fields = {"removed": len(sizes), "bytes": sum(sizes)}
    _print_result(parsed, fields, f"removed {counted_entries(len(sizes))}, {format_size(sum(sizes))}")
    return 0


def _add_doctor(commands: Subcommands) -> argparse.ArgumentParser:
    text = "Why are there no hits: permissions, builds, thresholds, bad files, keys."
    return commands.add_with_directory("doctor", _doctor, text)


def _doctor(parsed: argparse.Namespace) -> int:
    try:
        cache = _open(parsed, only_looks=True)
    except PermissionError as error:
        _print_result(parsed, [{"severity": "fault", "text": str(error), "advice": ""}], f"fault  {error}")
        return 1
    from .._disk.doctor import examine  # here: it imports JAX

    with cache:
        here = {**machine_parts(), "authentication": cache.key_id}
        portable = [fingerprint_of({**here, "cpu": level_parts(level)}) for level in LEVELS]
        findings = examine(cache, [fingerprint_of(here), *portable], parsed.invocation)
    lines = [
        f"{finding.severity:<6} {finding.text}" + (f"\n       -> {finding.advice}" if finding.advice else "")
        for finding in findings
    ]
    _print_result(parsed, [dataclasses.asdict(finding) for finding in findings], *lines)
    return 1 if any(finding.severity == "fault" for finding in findings) else 0


def _add_import(commands: Subcommands) -> argparse.ArgumentParser:
    text = "Take over what JAX's own cache wrote, on this machine, with this JAX."
    import_ = commands.add_with_directory("import", _import, text)
    import_.add_argument("source", type=Path, metavar="JAX_DIR")
    import_.add_argument("--limit", metavar="SIZE", help="of the directory from here on; its own by default")
    import_.add_argument(
        "--eviction", choices=STORED_POLICIES, help="of the directory from here on; its own by default, or lru"
    )
    return import_


def _import(parsed: argparse.Namespace) -> int:
    if not parsed.source.is_dir():
        raise Refused(f"JAX_DIR must be a directory that JAX's own cache wrote, but there is none at {parsed.source}")
    from .._disk.jax_import import import_entries  # here: it imports JAX

    keys = {"key_file": parsed.key_file, "trusted_keys": parsed.trusted_keys, "sign_key": parsed.sign_key}
    own = {"limit": None, "eviction": "lru", "max_entries": None}
    if parsed.dir.is_dir():
        with _open(parsed, only_looks=True) as cache:
            state = cache.index.state()
        own = {"limit": state["limit_bytes"], "eviction": state["eviction"], "max_entries": state["max_entries"]}
    given = {name: value for name in ("limit", "eviction") if (value := getattr(parsed, name)) is not None}
    with DiskCache(parsed.dir, **{**own, **given}, **keys) as cache:
        results = list(import_entries(cache, parsed.source))
    failed = [result for result in results if not result.taken]
    _print_result(
        parsed,
        {"imported": len(results) - len(failed), "failed": {result.path.name: result.reason for result in failed}},
        f"imported {counted_entries(len(results) - len(failed))}"
        + (f"; {len(failed)} could not be:" if failed else "" if results else f": {parsed.source} holds none of JAX's"),
        *(f"  {result.path.name} {result.reason}" for result in failed),
    )
    return 1 if failed else 0
