"""The Dask cluster of a sweep: a scheduler, its own or another's, and workers that are asked what they are."""

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

from ..planning.plan import Plan, UsageError
from . import dask_task as remote

_CONNECT_SECONDS = 10.0
_NO_PAGES: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # a server comes all the same
_QUIET: dict[str, Any] = {"silence_logs": logging.ERROR}
config.set({"distributed.worker.daemon": False})  # daemonic processes may not have children, and trials are children
START = "python -m flows.worker"  # what starts workers on a host


@dataclass(frozen=True)
class Found:
    """A worker that answered."""

    address: str
    host: str
    device: Device
    environment: Environment
    unseen: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.host} {self.device.platform} {self.device.index}"


@contextlib.contextmanager
def join(plan: Plan) -> Iterator[tuple[Client, list[Found]]]:
    """Connect to the scheduler at ``runner.address``, or start workers on this machine if there is none.

    Raises:
        UsageError: If nobody answers, nobody works there, or what works there does not compute alike.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in a line of ours
    with contextlib.ExitStack() as opened:
        address = plan.runner.address
        if address is None:
            cluster = opened.enter_context(_own_cluster(plan.devices))
            client = opened.enter_context(Client(cluster, set_as_default=False))
            client.wait_for_workers(len(plan.devices))
        else:
            client = opened.enter_context(_client(address))
        yield client, _look(client, plan, address or "a cluster of its own")


def _client(address: str) -> Client:
    told = f"runner.address={address}"
    asyncio.run(ask_scheduler(address, told))  # a client that cannot connect is left half open
    with _answering(told):
        return Client(address, set_as_default=False)


async def ask_scheduler(address: str, told: str) -> None:
    """Ask whether a Dask scheduler is there.

    Raises:
        UsageError: If none answers; the message speaks of the address as ``told``.
    """
    with _answering(told):
        arguments = Security().get_connection_args("client")
        async with rpc(address, timeout=_CONNECT_SECONDS, connection_args=arguments) as scheduler:
            await asyncio.wait_for(scheduler.identity(), 2 * _CONNECT_SECONDS)


@contextlib.contextmanager
def _answering(told: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"no Dask scheduler answers at {told} ({reason}); start one with: dask scheduler") from error


def _own_cluster(devices: tuple[Device, ...]) -> SpecCluster:
    """Return a cluster of this process's own: a worker a device, on the loopback interface alone."""
    options = {"host": "127.0.0.1", "port": 0, **_NO_PAGES}
    workers = {one.index: {"cls": Nanny, "options": nanny_options(one, "127.0.0.1")} for one in devices}
    return SpecCluster(scheduler={"cls": Scheduler, "options": options}, workers=workers, **_QUIET)


def nanny_options(device: Device, host: str) -> dict[str, Any]:
    """Return how Dask is to start the worker of a device; its orders run in processes of their own beside it.

    Args:
        device: The worker's.
        host: The address that it listens at: whoever reaches it can run code in it.
    """
    return {
        "host": host,
        "nthreads": 1,
        "memory_limit": 0,  # what the trials hold is not the worker's
        **_NO_PAGES,
        **_QUIET,
        "env": {remote.DEVICE: device.model_dump_json()},
    }


def _look(client: Client, plan: Plan, where: str) -> list[Found]:
    """Return the workers, all of which can do the plan's work and compute alike."""
    with _tokens(plan) as tokens:
        answers = cast("dict[str, Any]", client.run(remote.describe, tokens, on_error="return"))
    if not answers:
        raise UsageError(f"no worker is connected to {where}; on each machine: {START} {where}")
    found = [_checked(address, answer, plan) for address, answer in sorted(answers.items())]
    first = found[0]
    for one in found:
        if not one.environment.computes_as(first.environment) or one.device.slot != first.device.slot:
            raise UsageError(
                f"{one.name} computes otherwise than {first.name} (other packages, processor or kind of device); "
                "a sweep compares its trials, so give it workers that are alike"
            )
    return found[: plan.runner.workers]


@contextlib.contextmanager
def _tokens(plan: Plan) -> Iterator[dict[str, str]]:
    """Write a file into each shared directory, for workers to find; yield the contents by path."""
    places = {one.trial.persistent.directory for one in plan.trials} - {None}
    tokens = {str(place.absolute() / f".seen-{uuid.uuid4().hex}"): uuid.uuid4().hex for place in places if place}
    try:
        for path, token in tokens.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(token)
        yield tokens
    finally:
        for path in tokens:
            Path(path).unlink(missing_ok=True)


def _checked(address: str, answer: Any, plan: Plan) -> Found:
    if isinstance(answer, Exception):
        raise UsageError(
            f"the worker at {address} has not this code ({' '.join(str(answer).split())}); "
            f"start it in a checkout of this project: {START} {plan.runner.address}"
        )
    one = Found(
        address, answer["host"], Device.model_validate(answer["device"]),
        Environment.model_validate(answer["environment"]), tuple(answer["unseen"]),
    )  # fmt: skip
    if answer["sources"] != remote.sources():
        raise UsageError(f"the worker {one.name} at {address} runs other sources than this; check out the same commit")
    if answer["daemon"]:
        raise UsageError(f"the worker {one.name} at {address} must not have children; start it with {START}")
    if plan.runner.device not in ("auto", one.device.platform):
        raise UsageError(f"runner.device is {plan.runner.device}, but the worker {one.name} is a {one.device.platform}")
    if one.unseen:
        raise UsageError(
            f"the worker {one.name} does not see {Path(one.unseen[0]).parent}; give a persistent.directory on a file "
            "system that all machines share, or persistent=fresh"
        )
    return one
