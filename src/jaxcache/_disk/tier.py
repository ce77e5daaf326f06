"""Tier: a store of entries that is asked after the local directory."""

from dataclasses import dataclass
from typing import Protocol

from .entry_format import Authentication, EntryMeta, decode
from .files import EntryFiles, EntryId
from .tier_answers import Count


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """Entry of a tier, after every byte of it has been verified.

    Attributes:
        meta: Its description.
        value: The program.
        content: All of the entry's bytes, as a file has them.
    """

    meta: EntryMeta
    value: bytes
    content: bytes


def read_entry(files: EntryFiles, entry_id: EntryId, key: str, authentication: Authentication) -> FoundEntry:
    """Read the entry of a key from a directory, and verify every byte of it.

    Raises:
        FileNotFoundError: If there is none.
        EntryFault: If it is not what it should be.
        OSError: If it cannot be read.
    """
    content = files.read(entry_id)
    return FoundEntry(*decode(content, key, entry_id.fingerprint, authentication), content)


class Tier(Protocol):
    """Store of entries below the local directory. No fault of it is raised.

    Attributes:
        name: Its kind, for people.
        counter: Name of the counter of :class:`DiskCounts` for its hits.
        copies: Whether what is found is written to the local directory.
    """

    name: str
    counter: str
    copies: bool

    def find(self, entry_id: EntryId, key: str, count: Count) -> FoundEntry | None:
        """Return the entry of a key, or None if there is none that can be trusted.

        Args:
            entry_id: Of the entry.
            key: Its key.
            count: Called with a store's name and what it answered; faults are counted where they are told of.
        """
        ...
