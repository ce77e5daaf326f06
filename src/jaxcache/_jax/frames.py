"""Frames of our own files, which errors, warnings and the metadata of programs are not to name.

All files of the package are ours but those of ``lab``, whose workloads stand for a user's programs. The folder is
asked, not a pattern of names, so that a file that moves stays hidden.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
OWN_FILES = tuple(sorted(str(path) for path in PACKAGE.rglob("*.py") if "lab" not in path.relative_to(PACKAGE).parts))


def hide_own_frames() -> None:
    """Let JAX name the user's line, and not one of ours."""
    try:
        from jax._src import source_info_util, traceback_util

        for file in OWN_FILES:
            source_info_util.register_exclusion(file)
            traceback_util.register_exclusion(file)
    except Exception:  # another wording, nothing else
        return


hide_own_frames()
