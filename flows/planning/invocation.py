"""Spelling of the pipeline's commands, as the user who reads a message would type them.

This file imports only the standard library, since commands that import neither Hydra nor Prefect use it too.
"""

import sys
from pathlib import Path


def command_of(name: str) -> str:
    """Return how to start a command: ``jaxcache sweep`` where this process was, else ``python -m flows.sweep``."""
    return f"jaxcache {name}" if Path(sys.argv[0]).name == "jaxcache" else f"python -m flows.{name}"
