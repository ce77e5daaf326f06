"""Commands for object stores, bundles and keys: push, pull, gc, bundle, keygen."""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .._disk.disk_cache import DiskCache
from .._disk.files import EntryId, entry_id_of
from .._disk.key_ring import PUBLIC_SUFFIX, make_key
from .._disk.limits import Limits
from .._primitives.counted import counted_entries
from .._primitives.sizes import format_size, parse_size
from .._tiers.bundle import create_bundle, load_bundle
from .._tiers.sync import Synchronised, clean, pull, push, remote_stats
from .durations import duration
from .subcommands import Subcommands

Opener = Callable[[argparse.Namespace], DiskCache]


def add_commands(commands: Subcommands, open_directory: Opener) -> None:
    """Add the commands; ``open_directory`` opens that of ``--dir``."""
    url: dict[str, Any] = {"metavar": "URL", "help": "s3://bucket/prefix, gs://, az:// or file://"}

    pushed = commands.add_with_directory(
        "push", lambda parsed: _push(parsed, open_directory), "Copy the entries to an object store."
    )
    pushed.add_argument("url", **url)
    pulled = commands.add_with_directory(
        "pull", lambda parsed: _pull(parsed, open_directory), "Copy the entries of an object store."
    )
    pulled.add_argument("url", metavar="URL", help="s3://bucket/prefix, gs://, az://, file:// or https://")
    pulled.add_argument("--fingerprint", metavar="ID", help="of one build and machine alone, as stats shows it")
    pulled.add_argument("--limit", metavar="SIZE", help="keep no more; the directory's own limit by default")

    cleaned = commands.add("gc", _clean, "Remove entries of an object store that no run has used lately.")
    cleaned.add_argument("url", **url)
    cleaned.add_argument("--older-than", metavar="TIME", help="not used for so long: 30d, 12h, 90m")
    cleaned.add_argument("--limit", metavar="SIZE", help="keep no more bytes: 100GiB, 500MiB")
    cleaned.add_argument("--dry-run", action="store_true", help="say what would go")

    bundled = commands.add_with_directory(
        "bundle", lambda parsed: _bundle(parsed, open_directory), "Write entries to one file, or load such a file."
    )
    bundled.add_argument("action", choices=("create", "load"))
    bundled.add_argument("file", type=Path, metavar="FILE.jcb")
    bundled.add_argument("--used-since", metavar="TIME", help="create: only entries used in the last 7d, 12h, 90m")
    bundled.add_argument("--last-run", action="store_true", help="create: only what the last run has asked for")
    for parser in (pushed, pulled, cleaned, bundled):
        parser.add_argument("--json", action="store_true")

    keys = commands.add("keygen", _keygen, "Make a pair of keys: one that signs, and one to trust.")
    keys.add_argument("file", type=Path, metavar="FILE", help="for the private key; the public one is FILE.pub")


def remote_lines(url: str) -> tuple[dict[str, object], list[str]]:
    """Return what a store holds, as fields and as lines for people."""
    stats = remote_stats(url)
    lines = [f"remote          {counted_entries(stats.entries)}, {format_size(stats.size_bytes)}"]
    for fingerprint, (entries, size_bytes) in stats.by_fingerprint.items():
        lines.append(f"  {fingerprint}  {counted_entries(entries)}, {format_size(size_bytes)}")
    return dataclasses.asdict(stats), lines


def about(parts: Mapping[str, str]) -> str:
    """Return in words which build and machine a fingerprint is of."""
    devices, platform = parts.get("device_kinds", ""), parts.get("platform", "")
    jax_version = f"JAX {parts['jax']}" if parts.get("jax") else ""
    return ", ".join(dict.fromkeys(filter(None, (jax_version, platform, devices))))


def _print(parsed: argparse.Namespace, fields: object, line: str) -> None:
    print(json.dumps(fields, indent=1, default=str) if parsed.json else line)


def _push(parsed: argparse.Namespace, open_directory: Opener) -> int:
    with open_directory(parsed) as cache:
        return _tell(parsed, "pushed", push(cache, parsed.url))


def _pull(parsed: argparse.Namespace, open_directory: Opener) -> int:
    with open_directory(parsed) as cache:
        return _tell(parsed, "pulled", pull(cache, parsed.url, _limits(cache, parsed.limit), parsed.fingerprint))


def _tell(parsed: argparse.Namespace, did: str, result: Synchronised) -> int:
    line = f"{did} {counted_entries(result.copied)}, {format_size(result.size_bytes)}; already there: {result.present}"
    refused = f"; left out, damaged or not trusted: {result.refused}" if result.refused else ""
    _print(parsed, dataclasses.asdict(result), line + refused)
    return 1 if result.refused else 0


def _limits(cache: DiskCache, limit: str | None) -> Limits:
    state = cache.index.state()
    own, entries = state["limit_bytes"], state["max_entries"]
    limit_bytes = own if isinstance(own, int) else None
    return Limits(
        limit_bytes if limit is None else parse_size(limit, "--limit"), entries if isinstance(entries, int) else None
    )


def _clean(parsed: argparse.Namespace) -> int:
    if parsed.limit is None and parsed.older_than is None:
        raise ValueError("gc needs --older-than, such as 30d, or --limit, such as 100GiB")
    older = None if parsed.older_than is None else duration(parsed.older_than, "--older-than")
    limit_bytes = None if parsed.limit is None else parse_size(parsed.limit, "--limit")
    result = clean(parsed.url, older, limit_bytes, dry_run=parsed.dry_run)
    would = "would remove" if parsed.dry_run else "removed"
    line = f"{would} {counted_entries(result.removed)}, {format_size(result.removed_bytes)}"
    kept = f"{counted_entries(result.kept)}, {format_size(result.kept_bytes)}"
    _print(parsed, dataclasses.asdict(result), f"{line}; kept: {kept}")
    return 0


def _bundle(parsed: argparse.Namespace, open_directory: Opener) -> int:
    if parsed.action == "load" and (parsed.last_run or parsed.used_since is not None):
        raise ValueError("--last-run and --used-since go with bundle create: a bundle is loaded as a whole")
    with open_directory(parsed) as cache:
        if parsed.action == "load":
            loaded = load_bundle(cache, parsed.file, _limits(cache, None))
            line = f"loaded {counted_entries(loaded.loaded)}; already there: {loaded.present}"
            line += f"; left out, damaged, not trusted or beyond the limit: {loaded.refused}" if loaded.refused else ""
            for fingerprint, parts in loaded.fingerprints.items():
                line += f"\n  of {fingerprint}  {about(parts)}"
            _print(parsed, dataclasses.asdict(loaded), line)
            return 1 if loaded.refused else 0
        written = create_bundle(cache, parsed.file, _chosen(cache, parsed.used_since, last_run=parsed.last_run))
    line = f"{parsed.file} holds {counted_entries(written)}, {format_size(parsed.file.stat().st_size)}"
    _print(parsed, {"entries": written, "file": str(parsed.file)}, line)
    return 0


def _chosen(cache: DiskCache, used_since: str | None, *, last_run: bool) -> Iterable[EntryId]:
    """Return the entries of the last run, or those used lately, or all."""
    if last_run:
        runs = cache.index.runs.last()
        if not runs:
            raise ValueError("--last-run needs a run, but none has used this directory yet")
        requests, fingerprint = runs[0]["requests"], str(runs[0]["fingerprint"])
        return [entry_id_of(fingerprint, key) for key in requests] if isinstance(requests, dict) else []
    if used_since is None:
        return list(cache.files.walk())
    since = time.time() - duration(used_since, "--used-since")
    return [row.entry_id for row in cache.index.rows() if row.used >= since]


def _keygen(parsed: argparse.Namespace) -> int:
    public = make_key(parsed.file)
    print(f"{public}\n{parsed.file} signs: keep it where entries are published (--sign-key).\n"
          f"{parsed.file}{PUBLIC_SUFFIX} is for those who read them (--trusted-key).")  # fmt: skip
    return 0
