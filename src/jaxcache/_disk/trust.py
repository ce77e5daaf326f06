"""Whose directory is it, and who may write to it: whoever may, may run code in this process.

Without a key, a directory is trusted if nobody else may write to it. With one, entries are authenticated instead.
"""

import hashlib
import hmac
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

KEY_VARIABLE = "JAXCACHE_KEY"
KEY_FILE_VARIABLE = "JAXCACHE_KEY_FILE"
_LEAST_KEY_BYTES = 16
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedDirectoryError(PermissionError):
    """Others may write to the directory, and no key is configured."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How entries of a directory are trusted.

    Attributes:
        secret: With which they are authenticated; None where they are not.
        mode: Of the folders made in the directory.
        owner: The user whose files alone are read; None where signatures decide.
        private: Whether nobody else may write to the directory.
    """

    secret: bytes | None
    mode: int
    owner: int | None
    private: bool

    @property
    def key_id(self) -> str:
        """Which key signs, without giving it away; ``none`` if there is none."""
        if self.secret is None:
            return "none"
        return hmac.new(self.secret, b"jaxcache key id", hashlib.sha256).hexdigest()[:16]


def establish(root: Path, key_file: str | os.PathLike[str] | None = None) -> Trust:
    """Return how the entries of ``root``, which need not be there yet, are trusted.

    Args:
        root: The shared directory.
        key_file: A file with the shared key; by default the one that ``JAXCACHE_KEY_FILE`` names, or the key in
            ``JAXCACHE_KEY`` itself.

    Raises:
        UntrustedDirectoryError: With the command that mends it.
        ValueError: If the key is too short, or others may read its file.
        OSError: If the key file cannot be read.
    """
    secret = _secret(key_file)
    try:
        told = root.stat()
    except OSError:  # to be made, or not to be had: nobody else may write to it
        return Trust(secret, 0o700, None if secret else os.geteuid(), private=True)
    if not stat.S_ISDIR(told.st_mode):
        raise NotADirectoryError(f"path must be a directory, but {root} is not one")
    fault, remedy = fault_of(root, told)
    if secret is not None:
        return Trust(secret, stat.S_IMODE(told.st_mode), None, private=fault is None)
    if fault is not None:
        raise UntrustedDirectoryError(
            f"path {root} {fault}: whoever may write to it may run code in your process. Mend it with\n  {remedy}\n"
            f"or, to share it with them, set {KEY_FILE_VARIABLE} to a file with a key that they and you have"
        )
    return Trust(None, 0o700, told.st_uid, private=True)


def fault_of(root: Path, told: os.stat_result) -> tuple[str | None, str]:
    """Return why a directory is not trusted without a key, and the command that mends it."""
    quoted = shlex.quote(str(root))
    if told.st_uid != os.geteuid():
        return f"belongs to user {told.st_uid}, not to you", f"sudo chown -R {os.geteuid()} {quoted}"
    for one in [root, root / "entries"]:
        try:
            found = one.lstat()
        except OSError:
            continue
        if found.st_uid != told.st_uid:
            return f"has a folder {one.name} of user {found.st_uid}", f"sudo chown -R {os.geteuid()} {quoted}"
        if found.st_mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(found.st_mode):
            return f"can be written to by others (mode {stat.S_IMODE(found.st_mode):o})", f"chmod -R go-w {quoted}"
    return None, ""


def _secret(key_file: str | os.PathLike[str] | None) -> bytes | None:
    named = key_file if key_file is not None else os.environ.get(KEY_FILE_VARIABLE)
    if named:
        path = Path(named)
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
