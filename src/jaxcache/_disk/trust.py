"""Trust in a shared directory: whoever may write to it may run code in the processes that read it.

Without a key, a directory is trusted if nobody else may write to it. With one, entries are authenticated instead.
"""

import hashlib
import hmac
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from .._primitives.checks import reading
from .entry_format import Authentication
from .key_ring import KeyRing

KEY_VARIABLE = "JAXCACHE_KEY"
KEY_FILE_VARIABLE = "JAXCACHE_KEY_FILE"
_LEAST_KEY_BYTES = 16
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedDirectoryError(PermissionError):
    """Others may write to the directory, and no key is configured."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Rules by which entries of a directory are trusted.

    Attributes:
        authentication: The shared key, or the pairs of keys, that authenticate entries; None where nothing does.
        mode: Mode of the folders that are made in the directory.
        owner: The user whose files alone are read; None where signatures decide.
        private: Whether nobody else may write to the directory.
    """

    authentication: Authentication
    mode: int
    owner: int | None
    private: bool

    @property
    def key_id(self) -> str:
        """Identifier of the way of authentication, which gives no key away; ``none`` if there is none.

        It is the same for all pairs of keys, so that another key can be trusted beside the former one, or in its place.
        """
        if self.authentication is None:
            return "none"
        if isinstance(self.authentication, KeyRing):
            return "ed25519"
        return hmac.new(self.authentication, b"jaxcache key id", hashlib.sha256).hexdigest()[:16]


def establish(
    root: Path,
    key_file: str | os.PathLike[str] | None = None,
    *,
    key_ring: KeyRing | None = None,
    owners: tuple[int, ...] | None = None,
    argument: str = "path",
) -> Trust:
    """Return how the entries of ``root``, which need not exist yet, are trusted.

    Args:
        root: The shared directory.
        key_file: A file with the shared key; by default the one that ``JAXCACHE_KEY_FILE`` names, or the key in
            ``JAXCACHE_KEY`` itself.
        key_ring: Pairs of keys that authenticate entries in the place of a shared key.
        owners: Users of whom one may own the directory; this process's own alone by default.
        argument: What the caller calls the directory, for messages.

    Raises:
        UntrustedDirectoryError: With the command that mends it.
        ValueError: If the key is too short, or others may read its file, or there are keys of both kinds.
        OSError: If the key file cannot be read.
    """
    secret: Authentication = _secret(key_file)
    if key_ring is not None:
        if secret is not None:
            raise ValueError(f"trusted_keys and sign_key go without key_file, {KEY_FILE_VARIABLE} and {KEY_VARIABLE}")
        secret = key_ring
    try:
        stat_result = root.stat()
    except OSError:  # it does not exist yet, or cannot be read: nobody else may write to it
        return Trust(secret, 0o700, None if secret else os.geteuid(), private=True)
    if not stat.S_ISDIR(stat_result.st_mode):
        raise NotADirectoryError(f"{argument} must be a directory, but {root} is not one")
    fault, remedy = fault_of(root, stat_result, owners or (os.geteuid(),))
    if secret is not None:
        return Trust(secret, stat.S_IMODE(stat_result.st_mode), None, private=fault is None)
    if fault is not None:
        raise UntrustedDirectoryError(
            f"{argument} {root} {fault}: whoever may write to it may run code in your process. Mend it with\n"
            f"  {remedy}\n"
            f"or, to share it with them, set {KEY_FILE_VARIABLE} to a file with a key that they and you have"
        )
    return Trust(None, 0o700, stat_result.st_uid, private=True)


def fault_of(root: Path, stat_result: os.stat_result, owners: tuple[int, ...]) -> tuple[str | None, str]:
    """Return why a directory is not trusted without a key, and the command that mends it."""
    quoted = shlex.quote(str(root))
    if stat_result.st_uid not in owners:
        return f"belongs to user {stat_result.st_uid}, not to you", f"sudo chown -R {os.geteuid()} {quoted}"
    for folder in [root, root / "entries"]:
        try:
            folder_stat = folder.lstat()
        except OSError:
            continue
        if folder_stat.st_uid != stat_result.st_uid:
            return f"has a folder {folder.name} of user {folder_stat.st_uid}", f"sudo chown -R {os.geteuid()} {quoted}"
        if folder_stat.st_mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(folder_stat.st_mode):
            return f"can be written to by others (mode {folder_stat.st_mode & 0o7777:o})", f"chmod -R go-w {quoted}"
    return None, ""


def _secret(key_file: str | os.PathLike[str] | None) -> bytes | None:
    named = key_file if key_file is not None else os.environ.get(KEY_FILE_VARIABLE)
    if named:
        path = Path(named)
        with reading(path, "key_file", "a file with a key"):
            if path.stat().st_mode & 0o007:
                raise ValueError(f"key_file {path} can be read by everybody; mend it with\n  chmod o-rwx {path}")
            secret, source = path.read_bytes().strip(), f"key_file {path}"
    else:
        secret, source = os.environ.get(KEY_VARIABLE, "").encode(), KEY_VARIABLE
        if not secret:
            return None
    if len(secret) < _LEAST_KEY_BYTES:
        raise ValueError(
            f"{source} must hold a key of at least {_LEAST_KEY_BYTES} bytes, such as `openssl rand -hex 32` prints, "
            f"but holds {len(secret)}"
        )
    return secret
