"""One job of a sweep, from its start to its end: is its node like the others', what do SLURM's signals ask for."""

import signal
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from types import FrameType

from jaxcache.lab.environment import environment
from jaxcache.lab.running import fork_server
from jaxcache.lab.trial import Device

from ...planning.plan import Plan
from ...planning.runners import SlurmRunner
from ...running.progress import Progress
from ...running.session import Session
from ..protocol import LocalWorkers
from ..sources import sources
from .claims import Claim
from .commands import SlurmError, requeue
from .files import Node, SlurmFiles
from .node import node_devices, own_claim
from .pulling import Puller

_JOIN_SECONDS = 0.2


class NodeRefused(Exception):
    """Raised when results of this node could not be compared with the others'; the message says why."""


def run_job(directory: Path, with_trials: bool) -> int:
    """Work on a sweep until nothing is left for this job; return the exit code."""
    own, files = own_claim(), SlurmFiles(directory)
    try:
        plan = _plan_for_this_node(files)
    except NodeRefused as error:
        files.refuse(own.job, f"{own.worker} {error}")
        print(f"This job does nothing, since its node {error}.", file=sys.stderr)
        return 1
    fork_server.start()
    session = Session(plan, directory, Progress(0, quiet=True), LocalWorkers(plan))
    puller = Puller(files, session, own.model_copy(update={"worker": f"{own.worker} {plan.devices[0].platform}"}))
    signals = _Signals(session.stop)
    if not _work_on_each_device(puller, len(plan.devices), with_trials):
        return 1
    if signals.asked_to_put_back and puller.has_left_work(with_trials):
        _queue_again(own)
    return 0


def _plan_for_this_node(files: SlurmFiles) -> Plan:
    plan, planned_sources = files.load_plan()
    if sources() != planned_sources:
        raise NodeRefused("has other sources than the sweep; were they edited since it was submitted?")
    assert isinstance(plan.runner, SlurmRunner)
    devices = _devices(plan.runner)
    agreed = files.agree_on_node(Node(device=devices[0], environment=environment()))
    if agreed.device.slot != devices[0].slot:
        raise NodeRefused(
            f"has {devices[0].slot} where the others have {agreed.device.slot}; choose nodes that are alike"
        )
    if not agreed.environment.computes_as(environment()):
        raise NodeRefused("computes otherwise than the others (packages or processor); choose nodes that are alike")
    return replace(plan, devices=tuple(devices))


def _devices(runner: SlurmRunner) -> list[Device]:
    try:
        return node_devices(runner)
    except ValueError as error:
        raise NodeRefused(f"does not have the device: {error}") from error


class _Signals:
    """Handlers that stop a session: SIGUSR1 comes some time before the walltime, SIGTERM when the job is cancelled."""

    def __init__(self, stop: threading.Event) -> None:
        self.asked_to_put_back, self._stop = False, stop
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.asked_to_put_back = self.asked_to_put_back or number == signal.SIGUSR1
        self._stop.set()


def _work_on_each_device(puller: Puller, devices: int, with_trials: bool) -> bool:
    """Work in a thread for each device, while the main thread handles signals; return whether none failed."""
    failed = threading.Event()

    def work() -> None:
        try:
            puller.work(with_trials)
        except Exception:
            traceback.print_exc()
            failed.set()

    threads = [threading.Thread(target=work) for _ in range(devices)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_JOIN_SECONDS)
    return not failed.is_set()


def _queue_again(own: Claim) -> None:
    """Queue this job again; where the cluster does not allow it, the next round of jobs goes on."""
    print(f"The walltime is nearly over: {own.job} has put its trials back, and is queued again.", file=sys.stderr)
    sys.stderr.flush()
    try:
        requeue(own.job)
    except SlurmError as error:
        print(f"It cannot be queued again: {error}", file=sys.stderr)
