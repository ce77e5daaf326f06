"""Workers on many machines: Dask carries orders to them and results back.

Prefect's tasks stay threads of the flow's process, each of which waits for what it gave to Dask. So states are right
whatever happens to a worker, and workers need not reach the Prefect server. A worker that dies loses nothing: another
is given its order.
"""

import contextlib
import importlib
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from jaxcache._primitives.atomic_files import write_file
from jaxcache.lab.running import launch as run
from jaxcache.lab.running.progress_file import TrialProgress, write_advance
from jaxcache.lab.trial import Persistent, Reference, TrialResult, write_json

from ..planning.plan import Plan
from . import dask_task as remote
from .dask_cluster import START, Found, join
from .protocol import Say, Workers, limits

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 5.0  # for a scheduler to say who is there, while Ctrl-C waits
_ALONE_SECONDS = 300.0  # with no worker left, a sweep waits so long for one
_MOST_DEATHS = 4  # of workers, with one order
_GONE = "The Dask scheduler is gone: stopping."


@contextlib.contextmanager
def connect(plan: Plan, say: Say) -> Iterator[Workers]:
    """Take up the workers of a plan's Dask cluster; see :func:`flows.workers.dask_cluster.join`.

    Raises:
        UsageError: If there is none that can do the work.
    """
    with join(plan) as (client, found):
        yield DaskWorkers(client, found, plan, say)


@dataclass(eq=False)
class _Place:
    """Where one order at a time goes: a worker, and another if that one dies."""

    address: str
    name: str


class _Scratches:
    """Keeps how far trials on other machines are where those of this machine do, for whoever watches."""

    def __init__(self) -> None:
        self._places: dict[str, Path] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of(self, order: run.TrialJob) -> Iterator[None]:
        """Take note of what is heard of a trial, until it ends."""
        with self._lock:
            self._places[order.trial_id] = order.scratch
        try:
            yield
        finally:
            with self._lock:
                del self._places[order.trial_id]
                shutil.rmtree(order.scratch, ignore_errors=True)

    def heard(self, event: tuple[float, Any]) -> None:
        """Take note of an event that :func:`flows.workers.dask_task.carry_out` logged."""
        _, told = event
        with self._lock:
            place = self._places.get(told["trial_id"])
            if place is not None:
                with contextlib.suppress(OSError):
                    write_advance(place, TrialProgress.model_validate(told["advance"]))


class DaskWorkers:
    """As many orders at a time as there were workers at the start; others that come later take their place.

    An order is given to one worker by its address. Dask is not to choose: it may know workers that came later and are
    of other code, or not alike, which say so when they are given something.
    """

    def __init__(self, client: Client, found: list[Found], plan: Plan, say: Say) -> None:
        self.count, self.device, self.environment = len(found), found[0].device, found[0].environment
        self._limits, self._say = limits(plan), say
        self._client, self._sources = client, remote.sources()
        self._free: queue.SimpleQueue[_Place] = queue.SimpleQueue()
        self._places = [_Place(one.address, one.name) for one in found]
        for one in self._places:
            self._free.put(one)
        self._refused: set[str] = set()
        self._there = frozenset(one.address for one in found)
        self._looked = time.monotonic()
        self._alone_since: float | None = None
        self._lock = threading.Lock()
        self._scratches = _Scratches()
        self._topic = f"jaxcache-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._scratches.heard)

    def trial(self, order: run.TrialJob, stop: threading.Event, started: Say) -> TrialResult:
        """Run a trial on a worker."""
        try:
            with self._scratches.of(order):
                files = self._carry_out(order, stop, started)
        except run.Failed as error:
            return run.failed_result(order, str(error))
        result = TrialResult.model_validate_json(files.pop(run.RESULT)).model_copy(update={"config": order.trial})
        _write_all(order.directory, files)
        write_json(order.directory / run.RESULT, result)  # last: whoever finds it finds the rest
        return result

    def reference(self, order: run.TrialJob, stop: threading.Event) -> Reference:
        """Run a reference on a worker."""
        files = self._carry_out(order, stop, lambda _: None)
        reference = Reference.model_validate_json(files.pop(run.REFERENCE))
        _write_all(order.directory, files)
        write_json(order.directory / run.REFERENCE, reference)
        return reference

    def _carry_out(self, order: run.TrialJob, stop: threading.Event, started: Say) -> dict[str, bytes]:
        """Have an order carried out; return the files that it left, by name."""
        told = remote.ORDERS.dump_json(replace(order, trial=_from_anywhere(order.trial))).decode()
        bounds, at, deaths = asdict(self._limits.bounds), self._free.get(), 0
        try:
            while True:
                self._settle(at, stop)
                started(at.name)
                future = self._client.submit(
                    _carry_out, told, self._limits.timeout_seconds, bounds, self._sources, self._topic,
                    key=f"{order.kind}-{order.trial_id}-{uuid.uuid4().hex[:8]}", pure=False,
                    workers=[at.address], allow_other_workers=False,
                )  # fmt: skip
                outcome = self._wait(future, at.address, stop)
                if outcome is None:
                    deaths += 1
                    if deaths == _MOST_DEATHS:
                        raise run.Failed("every worker that tried it died, several in a row")
                elif outcome["refused"] is not None:
                    self._refuse(at.address, outcome["refused"])
                else:
                    return _files_of(order, outcome)
        finally:
            self._free.put(at)

    def _settle(self, at: "_Place", stop: threading.Event) -> None:
        """Wait until there is a worker at a place: the one that was, or another that no place has."""
        while True:
            there = self._look(stop)
            with self._lock:
                if at.address in there:
                    return
                others = there - {one.address for one in self._places}
                if others:
                    at.address = at.name = min(others)
                    return
            stop.wait(_POLL_SECONDS)

    def _wait(self, future: Future, address: str, stop: threading.Event) -> dict[str, Any] | None:
        """Return what came of an order; None if its worker died."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(_POLL_SECONDS):
            try:
                there = self._look(stop)
            except run.Interrupted:
                future.cancel()
                raise
            if address not in there and not done.is_set():
                future.cancel()
                return None
        if future.status == "finished":
            return future.result()
        if future.status != "error":  # cancelled or lost: the scheduler is gone, and with it what it was to do
            self._give_up(stop, _GONE)
            raise run.Interrupted
        error = cast("BaseException", future.exception())
        if isinstance(error, KilledWorker):
            return None
        if isinstance(error, ImportError):
            return {"refused": f"has not this code ({error})"}
        raise run.Failed(f"the worker could not run it: {error!r}") from error

    def _look(self, stop: threading.Event) -> frozenset[str]:
        """Return the addresses of the workers that may be given something, as of a moment ago.

        Says when none is left, and stops the sweep if none comes.

        Raises:
            Interrupted: If the sweep is to stop.
        """
        with self._lock:
            if not stop.is_set() and time.monotonic() - self._looked >= _POLL_SECONDS:
                self._there = self._ask() - self._refused
                self._looked = time.monotonic()
                self._look_after(stop)
            if stop.is_set():
                raise run.Interrupted
            return self._there

    def _ask(self) -> frozenset[str]:
        """Return the addresses of all workers; those of the last time if the scheduler is too busy to say."""
        try:
            asked: Any = self._client.scheduler
            answer: Any = self._client.sync(asked.ncores, callback_timeout=_ANSWER_SECONDS)
            return frozenset(answer)
        except (OSError, TimeoutError):
            return self._there

    def _look_after(self, stop: threading.Event) -> None:
        if self._client.status in ("closed", "closing"):
            self._give_up(stop, _GONE)
        elif self._there:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
            self._say(f"No worker is left; waiting {_ALONE_SECONDS:.0f} s for one ({START} ADDRESS).")
        elif time.monotonic() - self._alone_since > _ALONE_SECONDS:
            self._give_up(stop, "No worker came: stopping.")

    def _refuse(self, address: str, why: str) -> None:
        """Give a worker nothing more."""
        with self._lock:
            self._refused.add(address)
            self._there -= {address}
        self._say(f"The worker at {address} {why}: it is given nothing.")

    def _give_up(self, stop: threading.Event, why: str) -> None:
        if not stop.is_set():
            stop.set()
            self._say(why)


def _files_of(order: run.TrialJob, outcome: dict[str, Any]) -> dict[str, bytes]:
    if outcome["interrupted"]:
        raise run.Interrupted
    if outcome["failed"] is not None:
        _write_all(order.directory, outcome["files"])
        raise run.Failed(outcome["failed"])
    return outcome["files"]


# A lambda travels by value: the scheduler, which looks at what it passes on, then needs nothing of this project.
_carry_out = lambda *told: importlib.import_module("flows.workers.dask_task").carry_out(*told)  # noqa: E731


def _from_anywhere(trial: Any) -> Any:
    """Return the trial with its shared directory's full path: a worker may run in another directory."""
    persistent: Persistent = trial.persistent
    if persistent.directory is None:
        return trial
    full = persistent.model_copy(update={"directory": persistent.directory.absolute()})
    return trial.model_copy(update={"persistent": full})


def _write_all(directory: Path, files: dict[str, bytes]) -> None:
    """Write files, each at once or not at all."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content, durable=True)
