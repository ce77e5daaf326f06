"""Format of an entry file: a header that describes the entry, a checksum over all of the file, and the program.

::

    magic 8 | version 2 | flags 2 | meta length 4 | payload length 8 | digest 32 | meta (JSON) | payload | signature

Numbers are big-endian. The digest is SHA-256, or HMAC-SHA-256 where a key is configured, over every other byte before
the signature: an Ed25519 signature of the digest and what precedes it, by the key that the header names, or nothing.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from .key_ring import SIGNATURE_BYTES, KeyRing

MAGIC = b"JAXCACHE"
VERSION = 1
_AUTHENTICATED, _SIGNED = 1, 2  # by a shared key; by one of a pair
_PREFIX = struct.Struct(">8sHHIQ")
_DIGEST_BYTES = 32
HEADER_BYTES = _PREFIX.size + _DIGEST_BYTES
_MOST_META_BYTES = 64 * 1024
_to_json = json.JSONEncoder(separators=(",", ":")).encode

Authentication = bytes | KeyRing | None  # a shared key, pairs of keys, or nothing


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
        origin: JAX and kind of machine that it was compiled with, for people.
        signer: The public key of whoever signed the entry; empty where nobody did.
    """

    key: str
    fingerprint: str
    compile_seconds: float
    created: float
    origin: str = ""
    signer: str = ""


def origin_of(parts: Mapping[str, str]) -> str:
    """Return JAX and the kind of machine in the parts of a fingerprint, for people."""
    versions = [f"{name} {parts[name]}" for name in ("jax", "jaxlib") if parts.get(name)]
    return ", ".join([*versions, *(parts[name] for name in ("platform", "device_kinds", "cpu") if parts.get(name))])[
        :500
    ]


@dataclass(frozen=True, slots=True)
class Header:
    """Part of an entry before its payload."""

    meta: EntryMeta
    payload_bytes: int
    file_bytes: int
    authenticated: bool
    signed: bool


def _digest(secret: bytes | None, prefix: bytes, *parts: bytes | memoryview) -> bytes:
    hasher = hashlib.sha256(prefix) if secret is None else hmac.new(secret, prefix, hashlib.sha256)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def encode(meta: EntryMeta, payload: bytes, authentication: Authentication) -> bytes:
    """Return the content of an entry file.

    Raises:
        PermissionError: If it is to be signed, and there is no key to sign with.
    """
    signs = isinstance(authentication, KeyRing)
    fields: dict[str, str | float] = {
        "key": meta.key,
        "fingerprint": meta.fingerprint,
        "compile_seconds": meta.compile_seconds,
        "created": meta.created,
        "origin": meta.origin,
        "signer": authentication.signer if signs else "",
    }
    meta_json = _to_json({name: value for name, value in fields.items() if value != ""}).encode()
    secret = None if signs else authentication
    flags = _SIGNED if signs else 0 if secret is None else _AUTHENTICATED
    prefix = _PREFIX.pack(MAGIC, VERSION, flags, len(meta_json), len(payload))
    digest = _digest(secret, prefix, meta_json, payload)
    signature = authentication.sign(prefix + digest) if signs else b""
    return b"".join((prefix, digest, meta_json, payload, signature))


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
    expected = HEADER_BYTES + meta_bytes + payload_bytes + (SIGNATURE_BYTES if flags & _SIGNED else 0)
    if expected != file_bytes:
        reason = "truncated" if file_bytes < expected else "damaged"
        raise EntryFault(reason, f"the file has {file_bytes} bytes, its header says {expected}")
    if meta_bytes > _MOST_META_BYTES:
        raise EntryFault("damaged", "the header is too long")
    meta_json = content[HEADER_BYTES : HEADER_BYTES + meta_bytes]
    try:
        fields = json.loads(meta_json)
        meta = EntryMeta(
            str(fields["key"]),
            str(fields["fingerprint"]),
            float(fields["compile_seconds"]),
            float(fields["created"]),
            str(fields.get("origin", "")),
            str(fields.get("signer", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EntryFault("damaged", "the header cannot be read") from error
    if not (math.isfinite(meta.compile_seconds) and math.isfinite(meta.created)):
        raise EntryFault("damaged", "the header has impossible times")
    return Header(meta, payload_bytes, file_bytes, bool(flags & _AUTHENTICATED), bool(flags & _SIGNED))


def decode(
    content: bytes, key: str | None, fingerprint: str, authentication: Authentication
) -> tuple[EntryMeta, bytes]:
    """Return the description and the program of an entry, after every byte of it has been verified.

    Args:
        content: Content of the file.
        key: The key that was requested; None accepts the key in the header.
        fingerprint: The fingerprint that the entry must have.
        authentication: What authenticates entries; None where nothing does.

    Raises:
        EntryFault: With the reason; nothing of such a file may be used.
    """
    header = decode_header(content, len(content))
    ring = authentication if isinstance(authentication, KeyRing) else None
    secret = authentication if isinstance(authentication, bytes) else None
    if (header.authenticated, header.signed) != (secret is not None, ring is not None):
        reason = "signed" if header.authenticated or header.signed else "unsigned"
        raise EntryFault(reason, "the entry is authenticated otherwise than configured")
    view = memoryview(content)
    end = len(content) - (SIGNATURE_BYTES if header.signed else 0)
    payload_at = end - header.payload_bytes
    stored_digest = bytes(view[_PREFIX.size : HEADER_BYTES])
    digest = _digest(secret, content[: _PREFIX.size], view[HEADER_BYTES:end])
    if not hmac.compare_digest(stored_digest, digest):
        reason = "damaged" if secret is None else "wrong_signature"
        raise EntryFault(reason, "the content does not match the checksum")
    if ring is not None and not ring.is_signed(header.meta.signer, bytes(view[end:]), content[:HEADER_BYTES]):
        reason = "wrong_signature" if header.meta.signer in ring.trusted else "untrusted"
        raise EntryFault(reason, "no trusted key has signed the entry")
    if key is not None and header.meta.key != key:
        raise EntryFault("foreign", "the entry is of another key")
    if header.meta.fingerprint != fingerprint:
        raise EntryFault("foreign", "the entry is of another build or machine")
    return header.meta, bytes(view[payload_at:end])
