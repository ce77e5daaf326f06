"""Who runs the processes of a sweep: slots of this machine, or of many machines by :mod:`flows.workers.dask`."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from jaxcache.lab.environment import Environment, environment
from jaxcache.lab.running import launch as run
from jaxcache.lab.trial import Device, Reference, TrialResult

from ..planning.plan import Plan

Say = Callable[[str], None]


class Workers(Protocol):
    """What a sweep's tasks need of them. Methods may be called from any thread."""

    @property
    def count(self) -> int:
        """How many processes run at a time."""
        ...

    @property
    def device(self) -> Device:
        """One like those on which processes run; all are alike."""
        ...

    @property
    def environment(self) -> Environment:
        """Where processes run."""
        ...

    def trial(self, order: run.TrialJob, stop: threading.Event, started: Say) -> TrialResult:
        """Run a trial; ``started`` is told where. See :func:`jaxcache.lab.running.launch.run_trial`.

        Raises:
            Interrupted: If ``stop`` was set.
        """
        ...

    def reference(self, order: run.TrialJob, stop: threading.Event) -> Reference:
        """Run a reference. See :func:`jaxcache.lab.running.launch.run_reference`.

        Raises:
            Interrupted: If ``stop`` was set.
            Failed: If it did not finish, or gave a wrong answer.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """What each process may take."""

    timeout_seconds: float
    bounds: run.Bounds


def limits(plan: Plan) -> Limits:
    """Return the limits of a plan's processes."""
    return Limits(plan.runner.timeout_seconds, plan.bounds)


class LocalWorkers:
    """A slot for each device of this machine."""

    def __init__(self, plan: Plan) -> None:
        self.count, self.device = len(plan.devices), plan.devices[0]
        self.environment = environment()
        self._limits = limits(plan)
        self._free: queue.SimpleQueue[Device] = queue.SimpleQueue()
        for device in plan.devices:
            self._free.put(device)

    @contextlib.contextmanager
    def _taken(self) -> Iterator[Device]:
        """Hold a device; there are as many as threads, so none waits."""
        device = self._free.get()
        try:
            yield device
        finally:
            self._free.put(device)

    def trial(self, order: run.TrialJob, stop: threading.Event, started: Say) -> TrialResult:
        """Run a trial in a process of its own."""
        with self._taken() as device:
            started(f"{device.platform} {device.index}")
            order = replace(order, device=device)
            return run.run_trial(order, self._limits.timeout_seconds, stop, self._limits.bounds)

    def reference(self, order: run.TrialJob, stop: threading.Event) -> Reference:
        """Run a reference in a process of its own."""
        with self._taken() as device:
            order = replace(order, device=device)
            return run.run_reference(order, self._limits.timeout_seconds, stop, self._limits.bounds)


@contextlib.contextmanager
def open_workers(plan: Plan, say: Say) -> Iterator[Workers]:
    """Take up the workers of a plan's runner; ``say`` is told of troubles with them.

    Raises:
        UsageError: If they cannot be reached, or do not compute alike.
    """
    if plan.runner.name == "local":
        yield LocalWorkers(plan)
        return
    from .dask import connect  # takes a second to import

    with connect(plan, say) as workers:
        yield workers


def check_workers(plan: Plan) -> None:
    """Look whether workers that are there already can do a plan's work.

    Raises:
        UsageError: If they cannot.
    """
    if plan.runner.address is not None:
        with open_workers(plan, lambda _: None):
            pass
