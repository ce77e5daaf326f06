"""Files of the shared directory: paths of entries, their staging and moving in, and the quarantine of bad files.

::

    entries/FINGERPRINT/XX/SHA256.entry   one entry, under the first two digits of its key's hash
    entries/FINGERPRINT/about.json        what the fingerprint is made of
    staging/                              entries being written, and second names of those that have no row yet
    quarantine/                           the last few files that were not what they should be
    flights.lock                          compile leases: see _disk/compile_lease.py
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .._primitives.atomic_files import new_locked_file, remove_if_left_behind, temporary_file
from .._primitives.open_file import open_file
from .._remote.layout import decode_about
from .entry_format import HEADER_BYTES, EntryFault, decode_header

SUFFIX = ".entry"
_QUARANTINED_FILES = 16
_QUARANTINED_BYTES = 64 * 1024  # of each file: enough to see what happened
_QUARANTINED_NAME = 100  # characters: a file's name has 255 at most
_STAGING_SECONDS = 10.0  # the writer of a younger file may not have locked it yet
_FINGERPRINT = re.compile(r"[0-9a-zA-Z._-]{1,64}")


class EntryId(NamedTuple):
    """Identity of an entry: the id of its fingerprint, and the hash of its key."""

    fingerprint: str
    name: str


def entry_id_of(fingerprint: str, key: str) -> EntryId:
    """Return the identity of a key's entry."""
    return EntryId(fingerprint, EntryFiles.entry_name(key))


class EntryFiles:
    """Reader and writer of the files, without limits, statistics or JAX."""

    def __init__(self, root: Path, mode: int = 0o700, owner: int | None = None) -> None:
        """Look at ``root``; nothing is made until something is written.

        Args:
            root: The shared directory.
            mode: Mode of the folders that are made in it.
            owner: The user whose files alone are read; None reads everybody's.
        """
        self.root = root
        self.entries, self.staging, self.quarantine = root / "entries", root / "staging", root / "quarantine"
        self._mode = mode
        self._owner = owner
        self._entries_path, self._staging_path = str(self.entries), str(self.staging)  # a Path takes time at each put
        self._host = os.uname().nodename
        self._numbers = itertools.count()
        self._made: set[Path] = set()

    @staticmethod
    def entry_name(key: str) -> str:
        """Return the name of a key's entry."""
        return hashlib.sha256(key.encode()).hexdigest()

    def path(self, entry_id: EntryId) -> Path:
        """Return the path of an entry's file."""
        return self.entries / entry_id.fingerprint / entry_id.name[:2] / (entry_id.name + SUFFIX)

    def make(self, folder: Path) -> None:
        """Make a folder in the directory, with the directory's own mode; the root's parents with the usual one."""
        if folder in self._made:
            return
        try:
            self._make_missing(folder)
        except FileNotFoundError:  # one of those that were made before was removed
            self.forget_folders()
            self._make_missing(folder)

    def _make_missing(self, folder: Path) -> None:
        between = [each for each in folder.parents if self.root in each.parents]
        for each in [self.root, *reversed(between), folder]:
            if each not in self._made:
                self._make_folder(each)
                self._made.add(each)

    def forget_folders(self) -> None:
        """Make folders again when they are needed: they were removed."""
        self._made.clear()

    def _make_folder(self, folder: Path) -> None:
        try:
            if folder == self.root:
                folder.parent.mkdir(parents=True, exist_ok=True)
            _make_folder(folder, self._mode)
        except FileExistsError:
            return

    def read(self, entry_id: EntryId) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: If there is none.
            EntryFault: If it is no regular file, or another user's.
            OSError: If it cannot be read.
        """
        path = self.path(entry_id)
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EntryFault("foreign", "the entry is a symbolic link, a folder or a device")
        with self._opened(path) as file:
            stat_result = os.fstat(file.fileno())
            if self._owner is not None and stat_result.st_uid != self._owner:
                raise EntryFault("foreign", f"the entry belongs to user {stat_result.st_uid}")
            content = file.read(stat_result.st_size)
            while 0 < len(content) < stat_result.st_size:
                more = file.read(stat_result.st_size - len(content))
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

    def exists(self, entry_id: EntryId) -> bool:
        """Return whether an entry has a file."""
        return os.path.lexists(self.path(entry_id))

    @contextlib.contextmanager
    def staged(self, content: bytes) -> Iterator[Path]:
        """Write a file beside the entries, for :meth:`move_in`; it is removed afterwards unless it was moved.

        Its lock says that its writer lives. It is not synced: what a power loss leaves half written, the checksum
        finds, and waiting for the disk at each compile would cost every program more than that.
        """
        self.make(self.staging)
        try:
            with temporary_file(self._new_staging_path, self._file_mode) as file:
                file.write(content)
                yield Path(file.name)
        except FileNotFoundError:  # a folder was removed: this entry is lost, the next put makes it again
            self.forget_folders()
            raise

    def link_in(self, content: bytes, entry_id: EntryId) -> io.FileIO | None:
        """Write an entry whose row follows, and leave it a second name in ``staging``, which says that it has none yet.

        Where its writer is killed before, :meth:`clean_staging` finds that name.

        Returns:
            The staged file, for :meth:`drop_staged` when the row is there; None, and nothing is written, if the entry
            has a file already or cannot be written so: a file system may have no hard links.
        """
        try:
            file = self._new_staged_file()
        except OSError:
            return None
        try:
            file.write(content)
            self._link(file.name, entry_id)
        except OSError:
            self.drop_staged(file)
            return None
        return file

    def _new_staged_file(self) -> io.FileIO:
        try:
            return new_locked_file(self._new_staging_path, self._file_mode)
        except FileNotFoundError:
            self._made.discard(self.staging)
            self.make(self.staging)
            return new_locked_file(self._new_staging_path, self._file_mode)

    def _link(self, staged: str, entry_id: EntryId) -> None:
        folder = f"{self._entries_path}/{entry_id.fingerprint}/{entry_id.name[:2]}"
        target = f"{folder}/{entry_id.name}{SUFFIX}"
        try:
            os.link(staged, target)
        except FileNotFoundError:
            try:
                _make_folder(folder, self._mode)
            except FileExistsError:
                pass
            except FileNotFoundError:
                self.forget_folders()
                self.make(Path(folder))
            os.link(staged, target)

    def drop_staged(self, file: io.FileIO) -> None:
        """Remove a staged file's name."""
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        file.close()

    @property
    def _file_mode(self) -> int:
        return 0o600 if self._mode & 0o077 == 0 else self._mode & 0o666

    def _new_staging_path(self) -> str:
        return f"{self._staging_path}/{self._host}-{os.getpid()}-{time.time_ns()}-{next(self._numbers)}"

    def move_in(self, staged: Path, entry_id: EntryId) -> None:
        """Give a staged file the name of an entry, in one step; a former file is replaced."""
        target = self.path(entry_id)
        self.make(target.parent)
        try:
            os.replace(staged, target)
        except FileNotFoundError:  # the folder was removed
            self.forget_folders()
            self.make(target.parent)
            os.replace(staged, target)
        except IsADirectoryError:
            self.set_aside(entry_id, "foreign")
            os.replace(staged, target)

    def remove(self, entry_id: EntryId) -> int:
        """Remove an entry's file if it exists; return how many bytes it had."""
        path, size_bytes = self.path(entry_id), 0
        with contextlib.suppress(FileNotFoundError):
            size_bytes = path.lstat().st_size
            path.unlink()
        return size_bytes

    def set_aside(self, entry_id: EntryId, reason: str) -> None:
        """Move a bad file to the quarantine, of which the last few are kept, and no more than their beginnings."""
        self.set_path_aside(self.path(entry_id), reason)

    def set_path_aside(self, path: Path, reason: str) -> None:
        """Move any bad file to the quarantine; see :meth:`set_aside`."""
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

    def clean_staging(
        self, min_age_seconds: float = _STAGING_SECONDS, take_up: Callable[[EntryId], object] = lambda _: None
    ) -> int:
        """Remove the files that killed writers left behind; return how many.

        Args:
            min_age_seconds: Of a file.
            take_up: Called with each entry that its writer had put and that has no row yet, if nobody gave it one.
        """
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.staging) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat_result = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(stat_result.st_mode):
                        continue
                    is_entry = stat_result.st_nlink > 1  # its writer had locked it before
                    if is_entry or time.time() - stat_result.st_mtime >= min_age_seconds:
                        removed += remove_if_left_behind(entry.path, lambda file: self._take_up(file, take_up))
        return removed

    def _take_up(self, staged: io.FileIO, take_up: Callable[[EntryId], object]) -> None:
        stat_result = os.fstat(staged.fileno())
        if stat_result.st_nlink < 2:
            return
        with contextlib.suppress(EntryFault, FileNotFoundError):  # no entry of ours, or evicted since
            meta = decode_header(staged.read(HEADER_BYTES + 4096), stat_result.st_size).meta
            entry_id = entry_id_of(meta.fingerprint, meta.key)
            if _FINGERPRINT.fullmatch(meta.fingerprint) and os.path.samestat(self.path(entry_id).lstat(), stat_result):
                take_up(entry_id)

    def walk(self) -> Iterator[EntryId]:
        """Yield the identity of every entry file."""
        for fingerprint in self.fingerprints():
            for shard in _folders(self.entries / fingerprint):
                with contextlib.suppress(FileNotFoundError), os.scandir(shard) as entries:
                    for entry in entries:
                        if entry.name.endswith(SUFFIX) and entry.name.startswith(Path(shard).name):
                            yield EntryId(fingerprint, entry.name.removesuffix(SUFFIX))

    def strays(self) -> Iterator[Path]:
        """Yield the files among the entries that are no entries."""
        for fingerprint in self.fingerprints():
            for path in (self.entries / fingerprint).iterdir():
                if path.is_dir() and not path.is_symlink():
                    yield from (each for each in path.iterdir() if not _is_entry_name(each))
                elif path.name != "about.json":
                    yield path

    def fingerprints(self) -> list[str]:
        """Return the fingerprints that have a folder."""
        return [folder.name for folder in map(Path, _folders(self.entries)) if _FINGERPRINT.fullmatch(folder.name)]

    def record_fingerprint(self, fingerprint: str, parts: Mapping[str, str]) -> None:
        """Write down the parts of a fingerprint, once."""
        path = self.entries / fingerprint / "about.json"
        if path.exists():
            return
        with self.staged((json.dumps(dict(parts), indent=1, sort_keys=True) + "\n").encode()) as staged:
            self.make(path.parent)
            os.replace(staged, path)

    def about(self, fingerprint: str) -> dict[str, str]:
        """Return the parts of a fingerprint, as far as they were written down."""
        try:
            return decode_about((self.entries / fingerprint / "about.json").read_bytes())
        except OSError:
            return {}


def _make_folder(folder: Path | str, mode: int) -> None:
    os.mkdir(folder, mode)
    if stat.S_IMODE(os.stat(folder).st_mode) != mode:
        os.chmod(folder, mode)  # whatever the umask


def _is_entry_name(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.name.startswith(path.parent.name)


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
