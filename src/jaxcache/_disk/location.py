"""Location of a directory's index: within it, or on this host's own disk where SQLite cannot be trusted there."""

import hashlib
import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # how the kernel writes spaces
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "ceph", "fuse", "9p", "afs", "beegfs", "glusterfs", "virtiofs")


def index_path(root: Path, shared: bool) -> Path:
    """Return the path of the index.

    Args:
        root: The directory.
        shared: Whether other hosts or other users may write to the directory. SQLite's WAL mode works within one host
            alone, and an index that others can write is not to be trusted.
    """
    if not shared:
        return root / "index" / "index.sqlite"
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcache" / "index"
    return directory / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.sqlite"


def is_network(root: Path) -> bool:
    """Return whether ``root`` lies on a file system that other hosts may write to."""
    resolved = root.resolve()
    best, kind = "", ""
    try:
        for line in _MOUNTS.read_text().splitlines():
            fields = line.split()
            mounted = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
            if len(mounted) >= len(best) and resolved.is_relative_to(mounted):
                best, kind = mounted, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return False
    return kind.startswith(_NETWORK)
