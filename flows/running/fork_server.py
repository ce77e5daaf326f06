"""Start of the trials' fork server before jaxcache is imported here, so that both import JAX at the same time."""

import importlib.util
import runpy
from pathlib import Path

_FILE = "lab/running/fork_server.py"  # imports only the standard library


def start_before_imports() -> None:
    """Start the fork server of the lab, whose file is run by its path, since importing it would import JAX."""
    package = importlib.util.find_spec("jaxcache")
    assert package is not None
    assert package.origin is not None
    runpy.run_path(str(Path(package.origin).parent / _FILE))["start"]()
