"""Workers on many machines: Dask carries orders to them and results back.

Prefect's tasks stay threads of the flow's process, each of which waits for what it gave to Dask. So states are right
whatever happens to a worker, and workers need not reach the Prefect server. A worker that dies loses nothing: Dask
gives its order to another.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from dask import config
from distributed import Client, Future, Nanny, Scheduler, Security, SpecCluster, rpc
from distributed.scheduler import KilledWorker

from jaxcache.lab import run
from jaxcache.lab.environment import Environment
from jaxcache.lab.trial import Device, Persistent, Reference, TrialResult, write_json

from . import remote
from .plan import Plan, UsageError
from .workers import Say, Workers, limits

_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0
_ALONE_SECONDS = 300.0  # with no worker left, a sweep waits so long for one
_QUIET: dict[str, Any] = {"silence_logs": logging.ERROR}
config.set({"distributed.worker.daemon": False})  # daemonic processes may not have children, and trials are children
START = "python -m flows.worker"  # what starts workers on a host


@dataclass(frozen=True)
class _Found:
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
def connect(plan: Plan, say: Say) -> Iterator[Workers]:
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
        found = _look(client, plan, address or "a cluster of its own")
        yield DaskWorkers(client, found, plan, say)


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
    settings = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    workers = {one.index: {"cls": Nanny, "options": {**nanny_options(one), **settings}} for one in devices}
    return SpecCluster(scheduler={"cls": Scheduler, "options": {**settings, "port": 0}}, workers=workers, **_QUIET)


def nanny_options(device: Device) -> dict[str, Any]:
    """Return how Dask is to start the worker of a device; its orders run in processes of their own beside it."""
    return {
        "nthreads": 1,
        "memory_limit": 0,  # what the trials hold is not the worker's
        "dashboard": False,
        **_QUIET,
        "env": {remote.DEVICE: device.model_dump_json()},
    }


def _look(client: Client, plan: Plan, where: str) -> list[_Found]:
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


def _checked(address: str, answer: Any, plan: Plan) -> _Found:
    if isinstance(answer, Exception):
        raise UsageError(
            f"the worker at {address} has not this code ({' '.join(str(answer).split())}); "
            f"start it in a checkout of this project: {START} {plan.runner.address}"
        )
    one = _Found(
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


class DaskWorkers:
    """As many orders at a time as there were workers at the start; others that come later take their place."""

    def __init__(self, client: Client, found: list[_Found], plan: Plan, say: Say) -> None:
        self.count, self.device, self.environment = len(found), found[0].device, found[0].environment
        self._client, self._limits, self._say = client, limits(plan), say
        self._free: queue.SimpleQueue[_Found] = queue.SimpleQueue()
        for one in found:
            self._free.put(one)
        self._alone_since: float | None = None
        self._lock = threading.Lock()

    def trial(self, order: run.Order, stop: threading.Event, started: Say) -> TrialResult:
        """Run a trial on a worker."""
        try:
            self._carry_out(order, stop, started)
        except run.Failed as error:
            return run.failed_result(order, str(error))
        path = order.directory / run.RESULT
        result = TrialResult.model_validate_json(path.read_bytes()).model_copy(update={"config": order.trial})
        write_json(path, result)
        return result

    def reference(self, order: run.Order, stop: threading.Event) -> Reference:
        """Run a reference on a worker."""
        self._carry_out(order, stop, lambda _: None)
        return Reference.model_validate_json((order.directory / run.REFERENCE).read_bytes())

    def _carry_out(self, order: run.Order, stop: threading.Event, started: Say) -> None:
        """Have an order carried out, and write the files that it left to the order's directory."""
        told = remote.ORDERS.dump_json(replace(order, trial=_from_anywhere(order.trial))).decode()
        at = self._free.get()
        try:
            if stop.is_set():
                raise run.Interrupted
            started(at.name)
            future = self._client.submit(
                _carry_out, told, self._limits.timeout_seconds, asdict(self._limits.bounds),
                key=f"{order.kind}-{order.trial_id}-{uuid.uuid4().hex[:8]}", pure=False,
                workers=[at.address], allow_other_workers=True,
            )  # fmt: skip
            outcome = self._wait(future, stop)
        finally:
            self._free.put(at)
        if outcome["interrupted"]:
            raise run.Interrupted
        for name, content in outcome["files"].items():
            _write(order.directory / name, content)
        if outcome["failed"] is not None:
            raise run.Failed(outcome["failed"])

    def _wait(self, future: Future, stop: threading.Event) -> dict[str, Any]:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(_POLL_SECONDS):
            self._look_after(stop)
            if stop.is_set():
                future.cancel()
                raise run.Interrupted
        if future.status == "finished":
            return future.result()
        if future.status != "error":  # cancelled or lost: the scheduler is gone, and with it what it was to do
            self._give_up(stop, "The Dask scheduler is gone: stopping.")
            raise run.Interrupted
        error = cast("BaseException", future.exception())
        if isinstance(error, KilledWorker):
            raise run.Failed("every worker that tried it died, several in a row") from error
        raise run.Failed(f"the worker could not run it: {error!r}") from error

    def _look_after(self, stop: threading.Event) -> None:
        """Say when no worker is left, and stop the sweep if none comes."""
        with self._lock:
            if self._client.status in ("closed", "closing"):
                return self._give_up(stop, "The Dask scheduler is gone: stopping.")
            if self._client.ncores():
                self._alone_since = None
            elif self._alone_since is None:
                self._alone_since = time.monotonic()
                self._say(f"No worker is left; waiting {_ALONE_SECONDS:.0f} s for one ({START} ADDRESS).")
            elif time.monotonic() - self._alone_since > _ALONE_SECONDS:
                self._give_up(stop, "No worker came: stopping.")
        return None

    def _give_up(self, stop: threading.Event, why: str) -> None:
        if not stop.is_set():
            stop.set()
            self._say(why)


# A lambda travels by value: the scheduler, which looks at what it passes on, then needs nothing of this project.
_carry_out = lambda *told: importlib.import_module("flows.remote").carry_out(*told)  # noqa: E731


def _from_anywhere(trial: Any) -> Any:
    """Return the trial with its shared directory's full path: a worker may run in another directory."""
    persistent: Persistent = trial.persistent
    if persistent.directory is None:
        return trial
    full = persistent.model_copy(update={"directory": persistent.directory.absolute()})
    return trial.model_copy(update={"persistent": full})


def _write(path: Path, content: bytes) -> None:
    """Write a file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)
