"""Check a whole shared directory, and make its index equal to it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .entry_format import EntryFault, EntryMeta, decode
from .files import EntryFiles, Place
from .index import Index


@dataclass(frozen=True)
class Verification:
    """What a check found.

    Attributes:
        good: Entries of which every byte is vouched for.
        bad: Files that were not what they should be, now in quarantine.
        reasons: How many for each reason.
        unchecked: Entries that another key authenticates.
        unknown: Entries that the index had not known.
        gone: Entries that it knew and that are not there.
        left_behind: Files of writers that died, now removed.
    """

    good: int = 0
    bad: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    unchecked: int = 0
    unknown: int = 0
    gone: int = 0
    left_behind: int = 0


def verify_entries(files: EntryFiles, index: Index, secret: bytes | None, key_id: str) -> Verification:
    """Read every entry of every build and machine; move bad files and strays to quarantine.

    Raises:
        IndexUnavailable: If the index cannot be used; bad files are in quarantine then.
    """
    unchecked, reasons = 0, Counter[str]()
    read: dict[Place, tuple[EntryMeta, int]] = {}
    for place in files.walk():
        if files.about(place.fingerprint).get("authentication", key_id) != key_id:
            unchecked += 1
            continue
        try:
            content = files.read(place)
            meta, _ = decode(content, None, place.fingerprint, secret)
            if files.place_name(meta.key) != place.name:
                raise EntryFault("foreign", "the entry is of another key")
            read[place] = (meta, len(content))
        except FileNotFoundError:  # evicted meanwhile
            continue
        except EntryFault as fault:
            if fault.reason == "signed":  # by whoever has the key, of a build that left no word of that
                unchecked += 1
                continue
            reasons[fault.reason] += 1
            files.set_aside(place, fault.reason)
        except OSError:
            reasons["unreadable"] += 1
    for stray in list(files.strays()):
        reasons["foreign"] += 1
        files.set_path_aside(stray, "foreign")
    unknown, gone = index.reconcile(read)
    return Verification(len(read), reasons.total(), dict(reasons), unchecked, unknown, gone, files.clean_staging())
