"""``python -m flows.deploy``: offer the sweep to the Prefect server, to be started and scheduled from the UI.

    prefect deployment run sweep/sweep -p 'overrides=["eviction=lru,gdsf"]'

Runs happen on this machine, in processes of their own, while this command is up. Ctrl-C withdraws the offer.
"""

import sys

from .sweep import find_server


def main() -> int:
    """Serve the sweep until interrupted; return the exit code."""
    problem = find_server()
    if problem is not None:
        print(f"deploy: {problem}", file=sys.stderr)
        return 2
    from prefect.types.entrypoint import EntrypointType

    from .pipeline import sweep

    # By module: the flow's package is not to be loaded as a lone file.
    sweep.serve(name="sweep", parameters={"overrides": []}, entrypoint_type=EntrypointType.MODULE_PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
