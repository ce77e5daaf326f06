"""``python -m flows.deploy``: deploy the sweep to the Prefect server, to be started and scheduled from the UI.

    prefect deployment run sweep/sweep -p 'overrides=["eviction=lru,gdsf"]'

Without a pool, runs happen on this machine while this command runs; Ctrl-C withdraws the deployment. With a pool, they
wait for its workers, on whichever machines these are: see docs/many-machines.md.
"""

import argparse
import os
import sys
from typing import Any

from .planning.composition import PROJECT
from .prefect_server.connect import find_server

_RUN = "prefect deployment run sweep/sweep -p 'overrides=[\"eviction=lru,gdsf\"]'"


def main(words: list[str] | None = None) -> int:
    """Deploy the sweep; return the exit code."""
    options = _parse(words)
    problem = find_server()
    if problem is None and options.pool is not None:
        problem = _make_pool(options.pool)
    if problem is not None:
        print(f"deploy: {problem}", file=sys.stderr)
        return 2
    command = f"To start a sweep, from the UI or with:\n  PREFECT_API_URL={os.environ['PREFECT_API_URL']} {_RUN}"
    if options.pool is None:
        print(command, flush=True)
        _serve()
    else:
        _deploy_to_pool(options.pool, options.directory)
        print(command)
    return 0


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy", description="Offer the sweep to the Prefect server, to be started from the UI."
    )
    parser.add_argument("--pool", metavar="NAME", help="a work pool of type process, made if there is none; "
                        "default: run sweeps here while this command is up")  # fmt: skip
    parser.add_argument("--directory", metavar="DIRECTORY", default=str(PROJECT),
                        help="with --pool: the checkout on the pool's machines; default: the one here")  # fmt: skip
    return parser.parse_args(words)


def _deployment() -> dict[str, Any]:
    """Return the arguments that both kinds of deployment have."""
    from prefect.types.entrypoint import EntrypointType

    # By module: a flow that Prefect loads as a single file cannot import the rest of its package.
    return {"name": "sweep", "parameters": {"overrides": []}, "entrypoint_type": EntrypointType.MODULE_PATH}


def _serve() -> None:
    """Run sweeps here until interrupted."""
    from .running.flow import sweep

    sweep.serve(**_deployment())


def _deploy_to_pool(pool: str, directory: str) -> None:
    """Deploy the sweep to a work pool, and print how its workers are started."""
    from .running.flow import sweep

    deployment: Any = sweep.to_deployment(
        **_deployment(), work_pool_name=pool, job_variables={"working_dir": directory}
    )
    deployment.apply()
    print(f"sweep/sweep waits for workers of the pool {pool}. On each machine, in {directory}:")
    print(f"  prefect worker start --pool {pool}")


def _make_pool(name: str) -> str | None:
    """Create a work pool unless it exists; return a problem, or None."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from pydantic import ValidationError

    try:
        wanted = WorkPoolCreate(name=name, type="process")
    except ValidationError:
        return f"--pool must be a name without any of / % & > <, but is {name!r}"
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            pool = client.create_work_pool(wanted)
    if pool.type != "process":
        return f"--pool {name} is of type {pool.type}, but sweeps need one of type process; give another name"
    return None


if __name__ == "__main__":
    sys.exit(main())
