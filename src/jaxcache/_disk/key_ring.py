"""Ed25519 keys: who publishes entries signs them, and who reads them needs no key by which they could be forged.

A private key is a file in PKCS#8 PEM that its owner alone can read; a public one is a line ``ed25519:BASE64``.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._primitives.atomic_files import write_file
from .._primitives.checks import reading

TRUSTED_KEYS_VARIABLE = "JAXCACHE_TRUSTED_KEYS"  # with commas between them
SIGN_KEY_VARIABLE = "JAXCACHE_SIGN_KEY"
SIGNATURE_BYTES = 64
PUBLIC_SUFFIX = ".pub"
_PREFIX = "ed25519:"
_PUBLIC_BYTES = 32
_NEEDED = "signatures need cryptography: pip install 'jaxcache[remote]'"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of one tier.

    Attributes:
        trusted: The public keys whose entries are loaded, by their text.
        private: The key that signs; None where nothing can be signed.
        signer: The text of its public key; empty where there is none.
    """

    trusted: Mapping[str, Any] = field(repr=False)
    private: Any = field(default=None, repr=False)
    signer: str = ""

    def sign(self, content: bytes) -> bytes:
        """Return the signature of ``content``, 64 bytes.

        Raises:
            PermissionError: If there is no key to sign with.
        """
        if self.private is None:
            raise PermissionError("there is no key to sign with, and the entry is not kept")
        return self.private.sign(content)

    def is_signed(self, signer: str, signature: bytes, content: bytes) -> bool:
        """Return whether a trusted key has signed ``content``."""
        public = self.trusted.get(signer)
        if public is None:
            return False
        try:
            public.verify(signature, content)
        except Exception:  # whatever is wrong with it
            return False
        return True


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of a process: those of its own directory, and those of other tiers.

    Attributes:
        local: Also trusts what this user has compiled itself.
        others: Trusts the named keys alone, and signs what is published.
    """

    local: KeyRing
    others: KeyRing


def read_keys(
    trusted_keys: Sequence[str | os.PathLike[str]] | None, sign_key: str | os.PathLike[str] | None
) -> Keys | None:
    """Return the keys that a caller has named, or else ``JAXCACHE_TRUSTED_KEYS`` and ``JAXCACHE_SIGN_KEY``.

    None if nobody has named any.

    Without ``sign_key``, what is compiled here is signed by a key of this user's own, which is made when there is none
    and trusted in the local directory alone.

    Raises:
        ValueError: If a key is none, or others may read a private one.
        TypeError: If ``trusted_keys`` is a single one.
        OSError: If a file cannot be read.
        ImportError: If cryptography is not installed.
    """
    if trusted_keys is None and (listed := os.environ.get(TRUSTED_KEYS_VARIABLE)):
        trusted_keys = listed.split(",")
    sign_key = sign_key or os.environ.get(SIGN_KEY_VARIABLE) or None
    if trusted_keys is None and sign_key is None:
        return None
    if isinstance(trusted_keys, str | bytes | os.PathLike):
        raise TypeError(f"trusted_keys must be a list, such as [{str(trusted_keys)!r}], but is {trusted_keys!r}")
    named = [] if trusted_keys is None else [key_text(key) for key in trusted_keys]
    if not named and sign_key is None:
        raise ValueError("trusted_keys must name a key, such as ['team.key.pub'], but is empty")
    trusted = {text: _public(text) for text in named}
    if sign_key is not None:
        private = _read_private(Path(sign_key), "sign_key")
        signer = _text(private.public_key())
        ring = KeyRing({**trusted, signer: private.public_key()}, private, signer)
        return Keys(ring, ring)
    own = _own_key()
    if own is None:
        return Keys(KeyRing(trusted), KeyRing(trusted))
    signer = _text(own.public_key())
    return Keys(KeyRing({**trusted, signer: own.public_key()}, own, signer), KeyRing(trusted))


def make_key(path: Path) -> str:
    """Make a pair of keys: the private one in ``path``, the public one beside it, in ``path`` with ``.pub``.

    Returns:
        The public key's text.

    Raises:
        FileExistsError: If there is a file already.
        OSError: If it cannot be written.
        ImportError: If cryptography is not installed.
    """
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for each in (path, public_path):
        if each.exists():
            raise FileExistsError(f"{each} exists already, and is not replaced")
    ed25519, serialization = _cryptography()
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    text = _text(private.public_key())
    try:
        write_file(path, pem, durable=True, mode=0o600)
        write_file(public_path, text + "\n", durable=True, mode=0o644)
    except OSError as error:
        raise type(error)(f"{path} cannot be made ({error.strerror})") from error
    return text


def _own_key() -> Any:
    """Return the key of this user's own, made if there is none; None if it cannot be kept."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcache" / "own.key"
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_key(path)
        return _read_private(path, "the key of your own")
    except FileExistsError:  # another process was faster
        return _read_private(path, "the key of your own")
    except (OSError, ValueError):
        return None


def _read_private(path: Path, argument: str) -> Any:
    with reading(path, argument, "a key as `jaxcache keygen` makes it"):
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{argument} {path} can be read by others; mend it with\n  chmod go-rwx {path}")
        content = path.read_bytes()
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{argument} must be a key as `jaxcache keygen` makes it, but {path} is none") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{argument} must be an Ed25519 key as `jaxcache keygen` makes it, but {path} is another")
    return key


def key_text(key: str | os.PathLike[str]) -> str:
    """Return a public key's text: itself, or what a file holds."""
    if isinstance(key, str) and key.startswith(_PREFIX):
        return key.strip()
    wanted = f"public keys ({_PREFIX}…) or their files"
    with reading(key, "trusted_keys", wanted):
        text = Path(key).read_text(errors="replace").strip()
    if not text.startswith(_PREFIX):
        raise ValueError(f"trusted_keys must be {wanted}, but {os.fspath(key)} holds none")
    return text


def _public(text: str) -> Any:
    ed25519, _ = _cryptography()
    try:
        content = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not text.startswith(_PREFIX) or len(content) != _PUBLIC_BYTES:
        raise ValueError(f"trusted_keys must be public keys ({_PREFIX}…) or their files, but one is {text[:60]!r}")
    return ed25519.Ed25519PublicKey.from_public_bytes(content)


def _text(public: Any) -> str:
    return _PREFIX + base64.b64encode(public.public_bytes_raw()).decode()


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    return ed25519, serialization
