"""Format of an entry file: a header that describes the entry, a checksum over all of the file, and the program.

::

    magic 8 | version 2 | flags 2 | meta length 4 | payload length 8 | digest 32 | meta (JSON) | payload

Numbers are big-endian. The digest is SHA-256, or HMAC-SHA-256 where a key is configured, over every other byte.
"""

import hashlib
import hmac
import json
import math
import struct
from dataclasses import asdict, dataclass

MAGIC = b"JAXCACHE"
VERSION = 1
_SIGNED = 1
_PREFIX = struct.Struct(">8sHHIQ")
_DIGEST_BYTES = 32
HEADER_BYTES = _PREFIX.size + _DIGEST_BYTES
_MOST_META_BYTES = 64 * 1024


class EntryFault(Exception):
    """A file is not the entry that its name promises; ``reason`` is the word under which that is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EntryMeta:
    """Description of an entry in its header.

    Attributes:
        key: JAX's own cache key.
        fingerprint: The id of the build and machine it was compiled for.
        compile_seconds: Seconds that compiling it took, exactly.
        created: Whole seconds since 1970, so that equal programs take equally many bytes.
    """

    key: str
    fingerprint: str
    compile_seconds: float
    created: float


@dataclass(frozen=True, slots=True)
class Header:
    """Part of an entry before its payload."""

    meta: EntryMeta
    payload_bytes: int
    file_bytes: int
    signed: bool


def _digest(secret: bytes | None, prefix: bytes, *parts: bytes | memoryview) -> bytes:
    hasher = hashlib.sha256(prefix) if secret is None else hmac.new(secret, prefix, hashlib.sha256)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def encode(meta: EntryMeta, payload: bytes, secret: bytes | None) -> bytes:
    """Return the content of an entry file."""
    meta_json = json.dumps(asdict(meta), separators=(",", ":")).encode()
    flags = 0 if secret is None else _SIGNED
    prefix = _PREFIX.pack(MAGIC, VERSION, flags, len(meta_json), len(payload))
    return b"".join((prefix, _digest(secret, prefix, meta_json, payload), meta_json, payload))


def decode_header(content: bytes, file_bytes: int) -> Header:
    """Return the header of a file, whose checksum has not been verified yet.

    Raises:
        EntryFault: If it is no entry, of another format, or not as long as it should be.
    """
    if file_bytes == 0:
        raise EntryFault("empty", "the file is empty")
    if len(content) < HEADER_BYTES or not content.startswith(MAGIC):
        reason = "truncated" if MAGIC.startswith(content[:8]) or content.startswith(MAGIC) else "foreign"
        raise EntryFault(reason, "the file does not begin as an entry does")
    _, version, flags, meta_bytes, payload_bytes = _PREFIX.unpack_from(content)
    if version != VERSION:
        raise EntryFault("foreign", f"the entry has format {version}, and this jaxcache reads {VERSION}")
    expected = HEADER_BYTES + meta_bytes + payload_bytes
    if expected != file_bytes:
        reason = "truncated" if file_bytes < expected else "damaged"
        raise EntryFault(reason, f"the file has {file_bytes} bytes, its header says {expected}")
    if meta_bytes > _MOST_META_BYTES:
        raise EntryFault("damaged", "the header is too long")
    meta_json = content[HEADER_BYTES : HEADER_BYTES + meta_bytes]
    try:
        fields = json.loads(meta_json)
        meta = EntryMeta(
            str(fields["key"]), str(fields["fingerprint"]), float(fields["compile_seconds"]), float(fields["created"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EntryFault("damaged", "the header cannot be read") from error
    if not (math.isfinite(meta.compile_seconds) and math.isfinite(meta.created)):
        raise EntryFault("damaged", "the header has impossible times")
    return Header(meta, payload_bytes, file_bytes, bool(flags & _SIGNED))


def decode(content: bytes, key: str | None, fingerprint: str, secret: bytes | None) -> tuple[EntryMeta, bytes]:
    """Return the description and the program of an entry, after every byte of it has been verified.

    Args:
        content: Content of the file.
        key: The key that was requested; None accepts the key in the header.
        fingerprint: The fingerprint that the entry must have.
        secret: The key that authenticates entries; None where there is none.

    Raises:
        EntryFault: With the reason; nothing of such a file may be used.
    """
    header = decode_header(content, len(content))
    if header.signed != (secret is not None):
        raise EntryFault("unsigned" if secret else "signed", "the entry is authenticated otherwise than configured")
    view = memoryview(content)
    payload_at = len(content) - header.payload_bytes
    stored_digest = bytes(view[_PREFIX.size : HEADER_BYTES])
    digest = _digest(secret, content[: _PREFIX.size], view[HEADER_BYTES:])
    if not hmac.compare_digest(stored_digest, digest):
        reason = "damaged" if secret is None else "wrong_signature"
        raise EntryFault(reason, "the content does not match the checksum")
    if key is not None and header.meta.key != key:
        raise EntryFault("foreign", "the entry is of another key")
    if header.meta.fingerprint != fingerprint:
        raise EntryFault("foreign", "the entry is of another build or machine")
    return header.meta, bytes(view[payload_at:])
