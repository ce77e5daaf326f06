"""Check a whole shared directory, and make its index equal to it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .entry_format import Authentication, EntryFault, EntryMeta, decode
from .files import EntryFiles, EntryId
from .index import Index


@dataclass(frozen=True)
class Verification:
    """Result of a check of every entry.

    Attributes:
        good: Entries of which every byte was verified.
        bad: Files that were not what they should be, now in quarantine.
        reasons: How many for each reason.
        unchecked: Entries that another key authenticates, or one that was not given.
        unknown: Entries that were not in the index.
        gone: Entries of the index that have no file.
        left_behind: Temporary files of killed writers, now removed.
    """

    good: int = 0
    bad: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    unchecked: int = 0
    unknown: int = 0
    gone: int = 0
    left_behind: int = 0


def verify_entries(files: EntryFiles, index: Index, authentication: Authentication, key_id: str) -> Verification:
    """Read every entry of every build and machine; move bad files and strays to quarantine.

    Raises:
        IndexUnavailable: If the index cannot be used; bad files are in quarantine then.
    """
    unchecked, reasons = 0, Counter[str]()
    read: dict[EntryId, tuple[EntryMeta, int]] = {}
    for entry_id in files.walk():
        if files.about(entry_id.fingerprint).get("authentication", key_id) != key_id:
            unchecked += 1
            continue
        try:
            content = files.read(entry_id)
            meta, _ = decode(content, None, entry_id.fingerprint, authentication)
            if files.entry_name(meta.key) != entry_id.name:
                raise EntryFault("foreign", "the entry is of another key")
            read[entry_id] = (meta, len(content))
        except FileNotFoundError:  # evicted meanwhile
            continue
        except EntryFault as fault:
            if fault.reason in ("signed", "untrusted"):  # whole for who has the key, of which there may be several
                unchecked += 1
                continue
            reasons[fault.reason] += 1
            files.set_aside(entry_id, fault.reason)
        except OSError:
            reasons["unreadable"] += 1
    for stray in list(files.strays()):
        reasons["foreign"] += 1
        files.set_path_aside(stray, "foreign")
    unknown, gone = index.reconcile(read)
    return Verification(len(read), reasons.total(), dict(reasons), unchecked, unknown, gone, index.clean_staging())
