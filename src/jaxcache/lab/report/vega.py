"""Vega's scripts for the page. Bundling them takes a second, so they are kept in the user's own cache directory."""

import contextlib
import functools
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import vl_convert

from ..files import write_file
from .images import vega_lite

_SCRIPT = "window.vegaEmbed = vegaEmbed;"


@functools.cache
def vega_scripts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed in one script."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcache"
    kept = cache / f"vega-lite-{vega_lite()}-vl-convert-{version('vl-convert-python')}.js"
    script = _read(kept)
    if script is None:
        script = vl_convert.javascript_bundle(_SCRIPT, vl_version=vega_lite())
        with contextlib.suppress(OSError):  # the next report bundles them again
            _write(kept, script)
    return script


def _read(path: Path) -> str | None:
    """Return what was kept; None if there is nothing, or not what was written."""
    try:
        digest, _, script = path.read_text().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return script if digest == _digest(script) else None


def _write(path: Path, script: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, f"{_digest(script)}\n{script}", durable=False, mode=0o600)


def _digest(script: str) -> str:
    return f"// {hashlib.sha256(script.encode()).hexdigest()}"
