"""Workers of a sweep's processes: slots of this machine, or of many machines by :mod:`flows.workers.dask`."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from jaxcache.lab.environment import Environment, environment
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.running import launch
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.trial import Device

from ..planning.errors import UsageError
from ..planning.invocation import command_of
from ..planning.plan import Plan

Reporter = Callable[[str], None]


class Workers(Protocol):
    """Interface of workers to a sweep's tasks. Methods may be called from any thread."""

    @property
    def count(self) -> int:
        """Number of processes that run at a time."""
        ...

    @property
    def device(self) -> Device:
        """Device of one of the workers; all are alike."""
        ...

    @property
    def environment(self) -> Environment:
        """Environment of the processes."""
        ...

    def trial(self, job: TrialJob, stop: threading.Event, started: Reporter) -> TrialResult:
        """Run a trial, and report its worker to ``started``. See :func:`jaxcache.lab.running.launch.run_trial`.

        Raises:
            Interrupted: If ``stop`` was set.
        """
        ...

    def reference(self, job: TrialJob, stop: threading.Event) -> Reference:
        """Run a reference. See :func:`jaxcache.lab.running.launch.run_reference`.

        Raises:
            Interrupted: If ``stop`` was set.
            Failed: If it did not finish, or gave a wrong answer.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """Limits of each process: its time, and its other limits."""

    timeout_seconds: float
    process: launch.ProcessLimits


def limits(plan: Plan) -> Limits:
    """Return the limits of a plan's processes."""
    return Limits(plan.runner.timeout_seconds, plan.process_limits)


class LocalWorkers:
    """Workers of this machine, one for each device."""

    def __init__(self, plan: Plan) -> None:
        self.count, self.device = len(plan.devices), plan.devices[0]
        self.environment = environment()
        self._limits = limits(plan)
        self._free: queue.SimpleQueue[Device] = queue.SimpleQueue()
        for device in plan.devices:
            self._free.put(device)

    @contextlib.contextmanager
    def _device(self) -> Iterator[Device]:
        """Reserve a device; there are as many as threads, so that none waits."""
        device = self._free.get()
        try:
            yield device
        finally:
            self._free.put(device)

    def trial(self, job: TrialJob, stop: threading.Event, started: Reporter) -> TrialResult:
        """Run a trial in its own process."""
        with self._device() as device:
            started(f"{device.platform} {device.index}")
            job = replace(job, device=device)
            return launch.run_trial(job, self._limits.timeout_seconds, stop, self._limits.process)

    def reference(self, job: TrialJob, stop: threading.Event) -> Reference:
        """Run a reference in its own process."""
        with self._device() as device:
            job = replace(job, device=device)
            return launch.run_reference(job, self._limits.timeout_seconds, stop, self._limits.process)


@contextlib.contextmanager
def open_workers(plan: Plan, report: Reporter) -> Iterator[Workers]:
    """Connect to the workers of a plan's runner; problems with them are reported to ``report``.

    Raises:
        UsageError: If they cannot be reached, or do not compute alike.
    """
    if plan.runner.name == "local":
        yield LocalWorkers(plan)
        return
    if plan.runner.name == "slurm":
        raise UsageError(
            f"runner=slurm is submitted by {command_of('sweep')} alone, which does not wait; write runner=local or "
            "runner=dask"
        )
    from .dask import connect  # takes a second to import

    with connect(plan, report) as workers:
        yield workers


def check_workers(plan: Plan) -> None:
    """Check that the workers at ``runner.address``, if the plan names one, can do the plan's work.

    Raises:
        UsageError: If they cannot, or a process that waits for its trials cannot use the runner.
    """
    if plan.runner.address is not None or plan.runner.name == "slurm":
        with open_workers(plan, lambda _: None):
            pass
