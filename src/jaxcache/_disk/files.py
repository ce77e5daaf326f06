"""The files of the shared directory: where an entry stands, how it comes there whole, and where bad ones go.

::

    entries/FINGERPRINT/XX/SHA256.entry   one entry, under the first two digits of its key's hash
    entries/FINGERPRINT/about.json        what the fingerprint is made of
    staging/                              entries being written
    quarantine/                           the last few files that were not what they should be
    flights.lock                          who compiles what: see _disk/compile_lease.py
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .._primitives.atomic_files import is_left_behind, temporary_file
from .._primitives.open_file import open_file
from .entry_format import EntryFault

SUFFIX = ".entry"
_QUARANTINED_FILES = 16
_QUARANTINED_BYTES = 64 * 1024  # of each file: enough to see what happened
_QUARANTINED_NAME = 100  # characters: a file's name has 255 at most
_STAGING_SECONDS = 10.0  # what is younger may belong to somebody who has not locked it yet
_FINGERPRINT = re.compile(r"[0-9a-zA-Z._-]{1,64}")


class Place(NamedTuple):
    """Where an entry stands: the id of its fingerprint, and the hash of its key."""

    fingerprint: str
    name: str


def place_of(fingerprint: str, key: str) -> Place:
    """Return where the entry of a key stands."""
    return Place(fingerprint, EntryFiles.place_name(key))


class EntryFiles:
    """Reads and writes the files; knows nothing of limits, statistics or JAX."""

    def __init__(self, root: Path, mode: int = 0o700, owner: int | None = None) -> None:
        """Look at ``root``; nothing is made until something is written.

        Args:
            root: The shared directory.
            mode: Of the directories made in it.
            owner: The user whose files alone are read; None reads everybody's.
        """
        self.root = root
        self.entries, self.staging, self.quarantine = root / "entries", root / "staging", root / "quarantine"
        self._mode = mode
        self._owner = owner
        self._numbers = itertools.count()
        self._made: set[Path] = set()

    @staticmethod
    def place_name(key: str) -> str:
        """Return the name under which a key's entry stands."""
        return hashlib.sha256(key.encode()).hexdigest()

    def path(self, place: Place) -> Path:
        return self.entries / place.fingerprint / place.name[:2] / (place.name + SUFFIX)

    def make(self, folder: Path) -> None:
        """Make a folder in the directory, with the directory's own mode; the root's parents with the usual one."""
        if folder in self._made:
            return
        between = [one for one in folder.parents if self.root in one.parents]
        for one in [self.root, *reversed(between), folder]:
            self._make_one(one)
        self._made.add(folder)

    def forget_folders(self) -> None:
        """Make folders again that somebody has removed."""
        self._made.clear()

    def _make_one(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=self._mode)
        except FileNotFoundError:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=self._mode, exist_ok=True)
        except FileExistsError:
            return
        folder.chmod(self._mode)  # whatever the umask

    def read(self, place: Place) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: If there is none.
            EntryFault: If it is no regular file, or somebody else's.
            OSError: If it cannot be read.
        """
        path = self.path(place)
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EntryFault("foreign", "the entry is a symbolic link, a folder or a device")
        with self._opened(path) as file:
            told = os.fstat(file.fileno())
            if self._owner is not None and told.st_uid != self._owner:
                raise EntryFault("foreign", f"the entry belongs to user {told.st_uid}")
            content = file.read(told.st_size)
            while 0 < len(content) < told.st_size:
                more = file.read(told.st_size - len(content))
                if not more:
                    break
                content += more
            return content or b""

    @staticmethod
    def _opened(path: Path) -> io.FileIO:
        while True:
            try:
                return open_file(path, "rb")
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
            if not stat.S_ISREG(path.lstat().st_mode):  # else it was replaced meanwhile
                raise EntryFault("foreign", "the entry is a symbolic link")

    def exists(self, place: Place) -> bool:
        return os.path.lexists(self.path(place))

    @contextlib.contextmanager
    def staged(self, content: bytes) -> Iterator[Path]:
        """Write a file beside the entries, to be moved in by :meth:`move_in`; it is gone afterwards if it was not.

        Its lock says that its writer lives. It is not synced: what a power loss leaves half written, the checksum
        finds, and waiting for the disk at each compile would cost every program more than that.
        """
        self.make(self.staging)
        path = self.staging / f"{os.uname().nodename}-{os.getpid()}-{time.time_ns()}-{next(self._numbers)}"
        mode = 0o600 if self._mode & 0o077 == 0 else self._mode & 0o666
        try:
            with temporary_file(path, mode) as file:
                file.write(content)
                yield path
        except FileNotFoundError:  # somebody has removed a folder: this entry is lost, the next put makes it again
            self.forget_folders()
            raise

    def move_in(self, staged: Path, place: Place) -> None:
        """Put a staged file in its place, in one step; what stood there is replaced."""
        target = self.path(place)
        self.make(target.parent)
        try:
            os.replace(staged, target)
        except FileNotFoundError:  # somebody removed the folder
            self.forget_folders()
            self.make(target.parent)
            os.replace(staged, target)
        except IsADirectoryError:
            self.set_aside(place, "foreign")
            os.replace(staged, target)

    def remove(self, place: Place) -> None:
        """Remove an entry if it is there."""
        self.path(place).unlink(missing_ok=True)

    def set_aside(self, place: Place, reason: str) -> None:
        """Move a bad file to the quarantine, of which the last few are kept, and no more than their beginnings."""
        self.set_path_aside(self.path(place), reason)

    def set_path_aside(self, path: Path, reason: str) -> None:
        self.make(self.quarantine)
        target = self.quarantine / f"{time.time_ns()}-{reason}-{path.name[-_QUARANTINED_NAME:]}"
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and path.stat().st_size > _QUARANTINED_BYTES:
                with path.open("rb") as file:  # not cut to size: a backup may share it by a hard link
                    target.write_bytes(file.read(_QUARANTINED_BYTES))
                path.unlink()
            else:
                os.replace(path, target)
        for old in sorted(self.quarantine.iterdir())[:-_QUARANTINED_FILES]:
            with contextlib.suppress(OSError):
                old.unlink()

    def clean_staging(self, min_age_seconds: float = _STAGING_SECONDS) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.staging) as found:
            for one in found:
                with contextlib.suppress(OSError):
                    if not one.is_file(follow_symlinks=False):
                        continue
                    old = time.time() - one.stat(follow_symlinks=False).st_mtime >= min_age_seconds
                    if old and is_left_behind(one.path):
                        os.unlink(one.path)
                        removed += 1
        return removed

    def walk(self) -> Iterator[Place]:
        """Yield the place of every entry file."""
        for fingerprint in self.fingerprints():
            for shard in _folders(self.entries / fingerprint):
                with contextlib.suppress(FileNotFoundError), os.scandir(shard) as found:
                    for one in found:
                        if one.name.endswith(SUFFIX) and one.name.startswith(Path(shard).name):
                            yield Place(fingerprint, one.name.removesuffix(SUFFIX))

    def strays(self) -> Iterator[Path]:
        """Yield what lies among the entries and is none."""
        for fingerprint in self.fingerprints():
            for one in (self.entries / fingerprint).iterdir():
                if one.is_dir() and not one.is_symlink():
                    yield from (each for each in one.iterdir() if not _is_entry_name(each))
                elif one.name != "about.json":
                    yield one

    def fingerprints(self) -> list[str]:
        return [one.name for one in map(Path, _folders(self.entries)) if _FINGERPRINT.fullmatch(one.name)]

    def note_fingerprint(self, fingerprint: str, parts: Mapping[str, str]) -> None:
        """Write down once what a fingerprint is made of."""
        path = self.entries / fingerprint / "about.json"
        if path.exists():
            return
        with self.staged((json.dumps(dict(parts), indent=1, sort_keys=True) + "\n").encode()) as staged:
            self.make(path.parent)
            os.replace(staged, path)

    def about(self, fingerprint: str) -> dict[str, str]:
        """Return what a fingerprint is made of, as far as is known."""
        try:
            told = json.loads((self.entries / fingerprint / "about.json").read_text())
            return {str(name): str(value) for name, value in told.items()}
        except (OSError, ValueError, AttributeError):
            return {}


def _is_entry_name(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.name.startswith(path.parent.name)


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as found:
            return sorted(one.path for one in found if one.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
