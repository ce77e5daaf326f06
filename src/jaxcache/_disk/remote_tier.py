"""RemoteTier: entries in an object store, asked after the directory and its layers."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .._remote.no_entry import NoEntry
from .._remote.urls import RemoteUrl, check_url
from .entry_format import Authentication, EntryFault, decode
from .faults import Faults
from .files import EntryFiles, EntryId
from .key_ring import KeyRing
from .layers import ROOT_USER
from .tier import FoundEntry
from .tier_answers import HIT, LEFT_ALONE, MISS, Count
from .trust import establish

_ANSWERS = {NoEntry.ABSENT: MISS, NoEntry.LEFT_ALONE: LEFT_ALONE}  # a fault is counted where it is told of


def check_trusted(
    address: RemoteUrl, authentication: Authentication, key_file: str | os.PathLike[str] | None = None
) -> None:
    """Refuse a store that is a folder to which others may write, if nothing authenticates entries.

    Raises:
        UntrustedDirectoryError: With the command that mends it.
    """
    if address.scheme == "file" and authentication is None:
        folder, owners = Path(unquote(urlsplit(address.text).path)), (os.geteuid(), ROOT_USER)
        establish(folder, key_file, owners=owners, argument="remote")


class RemoteTier:
    """Object store as a tier: what it returns was verified, what is compiled here is offered to it."""

    name, counter = "remote", "remote_hits"
    copies = True  # a second request of this machine is not to cross the network again

    def __init__(
        self,
        url: str,
        authentication: Authentication,
        files: EntryFiles,
        faults: Faults,
        count: Callable[[str], None],
        *,
        publish: bool,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            url: Address of the store.
            authentication: What authenticates entries.
            files: Of the local directory.
            faults: Of the local directory.
            count: Called with the name of a counter that rises by 1.
            publish: Whether what is compiled here is offered to the store.
            key_file: A file with the key that authenticates entries.

        Raises:
            ImportError: If obstore is not installed.
            ValueError: If the address or the provider's settings make no sense.
            UntrustedDirectoryError: If the store is a folder that others may write to, and there is no key.
        """
        address = check_url(url)
        key_ring = authentication if isinstance(authentication, KeyRing) else None
        check_trusted(address, authentication, key_file)
        from .._remote.remote import Remote  # here: it imports asyncio

        self._store = f"remote {address.text}"
        faults.tiers.expect(self._store)
        self._remote = Remote(
            address,
            publish=publish and (key_ring is None or key_ring.private is not None),
            program=program_name,
            count=count,
            report=lambda fault: faults.record_of(self._store, fault),
        )
        self._authentication, self._files, self._faults, self._count = authentication, files, faults, count
        self._bad: set[str] = set()

    def note(self, entry_id: EntryId) -> None:
        """Note that this program asks for an entry, in whatever tier it is: its next run will, too."""
        self._remote.note(entry_id.name)

    def find(self, entry_id: EntryId, key: str, count: Count) -> FoundEntry | None:
        """Return the entry of a key, if the store has one that can be trusted and gives it in time."""
        fingerprint = entry_id.fingerprint
        content = self._remote.find(
            fingerprint, entry_id.name, lambda name: self._files.exists(EntryId(fingerprint, name))
        )
        if not isinstance(content, bytes):
            if content in _ANSWERS:
                count(self._store, _ANSWERS[content])
            return None
        try:
            meta, value = decode(content, key, fingerprint, self._authentication)
        except EntryFault as fault:
            self._bad.add(entry_id.name)
            self._count("remote_faults")
            self._faults.record_of(self._store, f"has an entry that is not what it should be ({fault})")
            return None
        count(self._store, HIT)
        return FoundEntry(meta, value, content)

    def offer(self, entry_id: EntryId, content: bytes, *, replace: bool) -> None:
        """Write an entry in the background; a bad one in its place is replaced."""
        replace = replace or entry_id.name in self._bad
        self._remote.offer(entry_id.fingerprint, entry_id.name, content, replace=replace)

    def close(self) -> None:
        """Write what is waiting, within a bounded time."""
        self._remote.close()


def program_name() -> str:
    """Return by which name the last run of this program is known: of its module, or of its script's file."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name:
        return f"-m {spec.name.removesuffix('.__main__')}"
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "-"
