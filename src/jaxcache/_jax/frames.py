"""Frames of our own files, hidden from JAX as soon as a module of ours uses it: it names the user's line instead."""

from .own_files import OWN_FILES


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
