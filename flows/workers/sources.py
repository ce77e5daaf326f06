"""Hash of the sources, by which workers elsewhere are known to run the same code as the sweep."""

from pathlib import Path

from jaxcache.lab.environment import code_version

_FLOWS = Path(__file__).resolve().parents[1]


def sources() -> str:
    """Return the hash of all code that a trial depends on, and of this package."""
    return f"{code_version()}-{code_version(_FLOWS)}"
