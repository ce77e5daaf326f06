"""Our own files, which errors, warnings and the metadata of programs are not to name.

All files of the package are ours but those of ``lab``, whose workloads stand for a user's programs. The folder is
asked, not a pattern of names, so that a file that moves stays hidden.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
OWN_FILES = tuple(sorted(str(path) for path in PACKAGE.rglob("*.py") if "lab" not in path.relative_to(PACKAGE).parts))
