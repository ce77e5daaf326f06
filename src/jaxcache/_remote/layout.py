"""Names of objects in a store.

::

    FINGERPRINT/SHA256.entry        one entry, as a file of a shared directory has it
    FINGERPRINT/about.json          what the fingerprint is made of
    FINGERPRINT/runs/SHA256.json    manifest: the entries that the last run of a program has asked for, in order
    FINGERPRINT/listing.json        sizes of the entries, where a store is only read, by HTTPS, and cannot be listed
    clock.json                      nothing; a clean-up writes it to see what time it is at the store
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

SUFFIX = ".entry"
ABOUT = "about.json"
LISTING = "listing.json"
CLOCK = "clock.json"
RUNS = "runs"
_Entries = TypeVar("_Entries", list[Any], dict[str, Any])
_NAME = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-zA-Z._-]{1,64}")
_MOST_NAMES = 8192  # of a manifest
_MOST_LISTED = 1_000_000


def entry_object(folder: str, name: str) -> str:
    """Return the object's name of an entry."""
    return f"{folder}/{name}{SUFFIX}"


def manifest_object(folder: str, program: str) -> str:
    """Return the object's name of a program's manifest."""
    return f"{folder}/{RUNS}/{hashlib.sha256(program.encode()).hexdigest()}.json"


def parse_entry_object(name: str) -> tuple[str, str] | None:
    """Return folder and entry of an object, or None if it is no entry."""
    folder, _, file = name.rpartition("/")
    entry = file.removesuffix(SUFFIX)
    if file.endswith(SUFFIX) and _NAME.fullmatch(entry) and _FOLDER.fullmatch(folder) and folder not in (".", ".."):
        return folder, entry
    return None


def is_manifest(name: str) -> bool:
    """Return whether an object is a manifest."""
    return name.split("/")[1:2] == [RUNS] and name.endswith(".json")


def encode_manifest(names: Iterable[str]) -> bytes:
    """Return a manifest of entries' names, in the order in which they were asked for."""
    return json.dumps({"entries": list(names)[:_MOST_NAMES]}, separators=(",", ":")).encode()


def decode_manifest(content: bytes) -> list[str]:
    """Return the names in a manifest; none if it is damaged, since a manifest is a hint."""
    names = _decoded(content, list)
    return [name for name in names[:_MOST_NAMES] if isinstance(name, str) and _NAME.fullmatch(name)]


def encode_listing(sizes: Mapping[str, int]) -> bytes:
    """Return a listing of entries' sizes in bytes, by name."""
    return json.dumps({"entries": dict(sorted(sizes.items()))}, separators=(",", ":")).encode()


def decode_listing(content: bytes) -> dict[str, int]:
    """Return the sizes in a listing, by name; what is damaged is left out."""
    sizes = _decoded(content, dict)
    pairs = list(sizes.items())[:_MOST_LISTED]
    return {name: size for name, size in pairs if _NAME.fullmatch(name) and isinstance(size, int) and size >= 0}


def decode_about(content: bytes) -> dict[str, str]:
    """Return what a fingerprint is made of; nothing if that is damaged."""
    try:
        return {str(name): str(value) for name, value in json.loads(content).items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _decoded(content: bytes, kind: type[_Entries]) -> _Entries:
    try:
        entries = json.loads(content)["entries"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return kind()
    return entries if isinstance(entries, kind) else kind()
