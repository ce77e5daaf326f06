"""``python -m flows.workers.slurm.worker DIRECTORY``: command of one job of a sweep, such as a task of its array.

Imports at the top are light, since trials' processes import this module again.
"""

import argparse
import sys
from pathlib import Path

from jaxcache.lab.running import fork_server


def main(words: list[str] | None = None) -> int:
    """Work on a sweep; return the exit code: 0 done or put back, 1 something is wrong with this job."""
    parser = argparse.ArgumentParser(prog="python -m flows.workers.slurm.worker")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--references", action="store_true", help="run the references alone")
    options = parser.parse_args(words)
    fork_server.start()  # it imports JAX while this process imports what follows

    from .job import run_job

    return run_job(options.directory, with_trials=not options.references)


if __name__ == "__main__":
    sys.exit(main())
