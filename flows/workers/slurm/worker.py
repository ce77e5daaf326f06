"""``python -m flows.workers.slurm.worker DIRECTORY``: command of one job of a sweep, such as a task of its array.

Imports at the top are light, since trials' processes import this module again, and since the fork server imports JAX at
the same time as this process does.
"""

import argparse
import sys
from pathlib import Path

from ...running.fork_server import start_before_imports


def main(words: list[str] | None = None) -> int:
    """Work on a sweep; return the exit code: 0 done or put back, 1 something is wrong with this job."""
    parser = argparse.ArgumentParser(prog="python -m flows.workers.slurm.worker")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--references", action="store_true", help="run the references alone")
    options = parser.parse_args(words)
    start_before_imports()

    from .job import run_job

    return run_job(options.directory, with_trials=not options.references)


if __name__ == "__main__":
    sys.exit(main())
