"""Node that a job runs on: its id in SLURM, and the devices that SLURM has given it."""

import os
import socket
import uuid

from jaxcache.lab.running.device import available_cores, find_devices
from jaxcache.lab.trial import Device

from ...planning.runners import SlurmRunner
from .claims import Claim


def own_claim() -> Claim:
    """Return what this job's claims hold."""
    variables = os.environ
    array, task = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    job = variables["SLURM_JOB_ID"] if array is None else f"{array}_{task}"
    node = variables.get("SLURMD_NODENAME") or socket.gethostname()
    return Claim(job=job, restarts=int(variables.get("SLURM_RESTART_COUNT", 0)), worker=node, run=uuid.uuid4().hex)


def node_devices(runner: SlurmRunner) -> list[Device]:
    """Return the devices of this job: its GPUs, or one slot of the cores that it asked for.

    Raises:
        ValueError: If a GPU is asked for and there is none.
    """
    if runner.device != "cpu" and runner.asks_for_gpus:
        gpus = find_devices(runner.device)
        if gpus[0].platform == "gpu":
            return gpus
    return [Device(platform="cpu", index=0, cores=_own_cores(available_cores(), runner.cpus_per_task))]


def _own_cores(cores: list[int], count: int) -> tuple[int, ...]:
    """Return as many cores as the job asked for.

    Where the cluster does not hold a job to its cores, this is a share of the node's by the number of the job's task,
    so that jobs on one node do not all take the first.
    """
    if len(cores) <= count:
        return tuple(cores)
    shares = len(cores) // count
    first = int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)) % shares * count
    return tuple(cores[first : first + count])
