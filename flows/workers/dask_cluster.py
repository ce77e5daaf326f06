"""Dask cluster of a sweep: a scheduler, its own or another's, and workers that are checked before they get jobs."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dask import config
from distributed import Client, Nanny, Scheduler, Security, SpecCluster, rpc

from jaxcache.lab.environment import Environment
from jaxcache.lab.trial import Device

from ..planning.errors import UsageError
from ..planning.invocation import command_of
from ..planning.plan import Plan
from . import dask_task
from .sources import sources

_CONNECT_SECONDS = 10.0
_NO_PAGES: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # Dask starts a server anyway
_QUIET: dict[str, Any] = {"silence_logs": logging.ERROR}
config.set({"distributed.worker.daemon": False})  # daemonic processes may not have children, and trials are children
START = command_of("worker")  # the command that starts workers on a host


@dataclass(frozen=True)
class FoundWorker:
    """Worker that answered, with its description."""

    address: str
    host: str
    device: Device
    environment: Environment
    unseen: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.host} {self.device.platform} {self.device.index}"


@contextlib.contextmanager
def join(plan: Plan) -> Iterator[tuple[Client, list[FoundWorker]]]:
    """Connect to the scheduler at ``runner.address``, or start workers on this machine if there is none.

    Raises:
        UsageError: If no scheduler answers, it has no workers, or its workers do not compute alike.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the sweep reports problems itself, in one line
    with contextlib.ExitStack() as stack:
        address = plan.runner.address
        if address is None:
            cluster = stack.enter_context(_own_cluster(plan.devices))
            client = stack.enter_context(Client(cluster, set_as_default=False))
            client.wait_for_workers(len(plan.devices))
        else:
            client = stack.enter_context(_client(address))
        yield client, _find_workers(client, plan, address or "a cluster of its own")


def _client(address: str) -> Client:
    setting = f"runner.address={address}"
    asyncio.run(check_scheduler(address, setting))  # a client that cannot connect would be left half open
    with _refusing_silence(setting):
        return Client(address, set_as_default=False)


async def check_scheduler(address: str, setting: str) -> None:
    """Check that a Dask scheduler answers at an address.

    Raises:
        UsageError: If none answers; the message names the address as ``setting``.
    """
    with _refusing_silence(setting):
        arguments = Security().get_connection_args("client")
        async with rpc(address, timeout=_CONNECT_SECONDS, connection_args=arguments) as scheduler:
            await asyncio.wait_for(scheduler.identity(), 2 * _CONNECT_SECONDS)


@contextlib.contextmanager
def _refusing_silence(setting: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"no Dask scheduler answers at {setting} ({reason}); start one with: dask scheduler"
        ) from error


def _own_cluster(devices: tuple[Device, ...]) -> SpecCluster:
    """Return a cluster of this process: one worker for each device, on the loopback interface alone."""
    options = {"host": "127.0.0.1", "port": 0, **_NO_PAGES}
    workers = {device.index: {"cls": Nanny, "options": nanny_options(device, "127.0.0.1")} for device in devices}
    return SpecCluster(scheduler={"cls": Scheduler, "options": options}, workers=workers, **_QUIET)


def nanny_options(device: Device, host: str) -> dict[str, Any]:
    """Return Dask's options for the worker of a device; its jobs run in processes beside it.

    Args:
        device: Device of the worker.
        host: Address that the worker listens at. Whoever can connect to it can run code in the worker.
    """
    return {
        "host": host,
        "nthreads": 1,
        "memory_limit": 0,  # trials have their own processes and limits
        **_NO_PAGES,
        **_QUIET,
        "env": {dask_task.DEVICE_VARIABLE: device.model_dump_json()},
    }


def _find_workers(client: Client, plan: Plan, cluster: str) -> list[FoundWorker]:
    """Return the workers, all of which can do the plan's work and compute alike."""
    with _tokens(plan) as tokens:
        answers = cast("dict[str, Any]", client.run(dask_task.describe, tokens, on_error="return"))
    if not answers:
        raise UsageError(f"no worker is connected to {cluster}; start some, on each machine: {START} {cluster}")
    workers = [_checked(address, answer, plan) for address, answer in sorted(answers.items())]
    first = workers[0]
    for worker in workers:
        if not worker.environment.computes_as(first.environment) or worker.device.slot != first.device.slot:
            raise UsageError(
                f"{worker.name} computes otherwise than {first.name} (other packages, processor or kind of device); "
                "a sweep compares its trials, so give it workers that are alike"
            )
    return workers[: plan.runner.workers]


@contextlib.contextmanager
def _tokens(plan: Plan) -> Iterator[dict[str, str]]:
    """Write a file into each shared directory, for workers to find; yield the contents by path."""
    shared = {planned.trial.persistent.directory for planned in plan.trials}
    tokens = {str(path.absolute() / f".seen-{uuid.uuid4().hex}"): uuid.uuid4().hex for path in shared if path}
    try:
        for path, token in tokens.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(token)
        yield tokens
    finally:
        for path in tokens:
            Path(path).unlink(missing_ok=True)


def _checked(address: str, answer: Any, plan: Plan) -> FoundWorker:
    if isinstance(answer, Exception):
        raise UsageError(
            f"the worker at {address} does not have this code ({' '.join(str(answer).split())}); "
            f"start it in a checkout of this project: {START} {plan.runner.address}"
        )
    worker = FoundWorker(
        address, answer["host"], Device.model_validate(answer["device"]),
        Environment.model_validate(answer["environment"]), tuple(answer["unseen"]),
    )  # fmt: skip
    if answer["sources"] != sources():
        raise UsageError(
            f"the worker {worker.name} at {address} runs other sources than this; check out the same commit"
        )
    if answer["daemon"]:
        raise UsageError(
            f"the worker {worker.name} at {address} may not start processes, as trials need; start it with {START}"
        )
    if plan.runner.device not in ("auto", worker.device.platform):
        raise UsageError(
            f"runner.device is {plan.runner.device}, but the worker {worker.name} is a "
            f"{worker.device.platform}; write runner.device=auto, or start workers with --device {plan.runner.device}"
        )
    if worker.unseen:
        raise UsageError(
            f"the worker {worker.name} does not see {Path(worker.unseen[0]).parent}; give a persistent.directory on a "
            "file system that all machines share, or persistent=fresh"
        )
    return worker
