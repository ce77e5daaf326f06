"""Workers on many machines: Dask carries jobs to them and results back.

Prefect's tasks remain threads of the flow's process, each waiting for its Dask task. So states are right whatever
happens to a worker, and workers need not reach the Prefect server. The job of a worker that dies is given to another.
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

from jaxcache.lab.files import write_file, write_json
from jaxcache.lab.layout import REFERENCE, RESULT
from jaxcache.lab.result import Reference, TrialResult
from jaxcache.lab.running import launch
from jaxcache.lab.running.job import TrialJob
from jaxcache.lab.running.progress_file import TrialProgress, write_progress
from jaxcache.lab.trial import Trial

from ..planning.plan import Plan
from . import dask_task
from .dask_cluster import START, FoundWorker, join
from .protocol import Reporter, Workers, limits
from .sources import sources

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 5.0  # for a scheduler's list of workers, during which a Ctrl-C waits
_NO_WORKER_SECONDS = 300.0  # how long a sweep waits for a worker when none is left
_MOST_DEATHS = 4  # of workers with one job
_NO_SCHEDULER = "The Dask scheduler is gone: stopping."


@contextlib.contextmanager
def connect(plan: Plan, report: Reporter) -> Iterator[Workers]:
    """Connect to the workers of a plan's Dask cluster; see :func:`flows.workers.dask_cluster.join`.

    Raises:
        UsageError: If no worker can do the work.
    """
    with join(plan) as (client, workers):
        yield DaskWorkers(client, workers, plan, report)


@dataclass(eq=False)
class _WorkerSlot:
    """Slot for one job at a time: a worker, replaced by another if it dies."""

    address: str
    name: str


class _Scratches:
    """Scratch directories of trials on other machines, which their progress is written to as for local trials."""

    def __init__(self) -> None:
        self._directories: dict[str, Path] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def recording(self, job: TrialJob) -> Iterator[None]:
        """Record a trial's progress until it ends."""
        with self._lock:
            self._directories[job.trial_id] = job.scratch
        try:
            yield
        finally:
            with self._lock:
                del self._directories[job.trial_id]
                shutil.rmtree(job.scratch, ignore_errors=True)

    def record_progress(self, event: tuple[float, Any]) -> None:
        """Write the progress in an event that :func:`flows.workers.dask_task.run_job` logged."""
        _, message = event
        with self._lock:
            directory = self._directories.get(message["trial_id"])
            if directory is not None:
                with contextlib.suppress(OSError):
                    write_progress(directory, TrialProgress.model_validate(message["progress"]))


class DaskWorkers:
    """Workers of a Dask cluster: as many jobs at a time as workers at the start; later workers replace dead ones.

    A job is given to one worker by its address. The choice is not left to Dask, which may know later workers with other
    code or hardware; such workers refuse their first job.
    """

    def __init__(self, client: Client, workers: list[FoundWorker], plan: Plan, report: Reporter) -> None:
        self.count, self.device, self.environment = len(workers), workers[0].device, workers[0].environment
        self._limits, self._report = limits(plan), report
        self._client, self._sources = client, sources()
        self._free: queue.SimpleQueue[_WorkerSlot] = queue.SimpleQueue()
        self._slots = [_WorkerSlot(worker.address, worker.name) for worker in workers]
        for slot in self._slots:
            self._free.put(slot)
        self._refused: set[str] = set()
        self._present = frozenset(worker.address for worker in workers)
        self._checked_at = time.monotonic()
        self._no_worker_since: float | None = None
        self._lock = threading.Lock()
        self._scratches = _Scratches()
        self._topic = f"jaxcache-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._scratches.record_progress)

    def trial(self, job: TrialJob, stop: threading.Event, started: Reporter) -> TrialResult:
        """Run a trial on a worker."""
        try:
            with self._scratches.recording(job):
                files = self._run_job(job, stop, started)
        except launch.Failed as error:
            return launch.failed_result(job, str(error))
        result = TrialResult.model_validate_json(files.pop(RESULT)).model_copy(update={"config": job.trial})
        _write_all(job.directory, files)
        write_json(job.directory / RESULT, result)  # last: a directory with a result has the other files too
        return result

    def reference(self, job: TrialJob, stop: threading.Event) -> Reference:
        """Run a reference on a worker."""
        files = self._run_job(job, stop, lambda _: None)
        reference = Reference.model_validate_json(files.pop(REFERENCE))
        _write_all(job.directory, files)
        write_json(job.directory / REFERENCE, reference)
        return reference

    def _run_job(self, job: TrialJob, stop: threading.Event, started: Reporter) -> dict[str, bytes]:
        """Run a job on a worker, and on another if that one dies; return the files that it wrote, by name."""
        job_json = dask_task.JOBS.dump_json(replace(job, trial=_with_absolute_directory(job.trial))).decode()
        slot, deaths = self._free.get(), 0
        try:
            while True:
                self._fill(slot, stop)
                started(slot.name)
                key = f"{job.kind}-{job.trial_id}-{uuid.uuid4().hex[:8]}"
                outcome = self._wait(self._submit(job_json, key, slot.address), slot.address, stop)
                if outcome is None:
                    deaths += 1
                    if deaths == _MOST_DEATHS:
                        raise launch.Failed("every worker that tried it died, several in a row")
                elif outcome["refused"] is not None:
                    self._refuse(slot.address, outcome["refused"])
                else:
                    return _files_of(job, outcome)
        finally:
            self._free.put(slot)

    def _submit(self, job_json: str, key: str, address: str) -> Future:
        return self._client.submit(
            _run_job, job_json, self._limits.timeout_seconds, asdict(self._limits.process), self._sources, self._topic,
            key=key, pure=False, workers=[address], allow_other_workers=False,
        )  # fmt: skip

    def _fill(self, slot: _WorkerSlot, stop: threading.Event) -> None:
        """Wait until a slot has a living worker: its own, or one that no slot has."""
        while True:
            present = self._workers(stop)
            with self._lock:
                if slot.address in present:
                    return
                others = present - {each.address for each in self._slots}
                if others:
                    slot.address = slot.name = min(others)
                    return
            stop.wait(_POLL_SECONDS)

    def _wait(self, future: Future, address: str, stop: threading.Event) -> dict[str, Any] | None:
        """Return the outcome of a job; None if its worker died."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(_POLL_SECONDS):
            try:
                present = self._workers(stop)
            except launch.Interrupted:
                future.cancel()
                raise
            if address not in present and not done.is_set():
                future.cancel()
                return None
        if future.status == "finished":
            return future.result()
        if future.status != "error":  # cancelled or lost: the scheduler is gone, and its tasks with it
            self._give_up(stop, _NO_SCHEDULER)
            raise launch.Interrupted
        error = cast("BaseException", future.exception())
        if isinstance(error, KilledWorker):
            return None
        if isinstance(error, ImportError):
            return {"refused": f"does not have this code ({error})"}
        raise launch.Failed(f"the worker could not run it: {error!r}") from error

    def _workers(self, stop: threading.Event) -> frozenset[str]:
        """Return the addresses of the workers that may get a job, as of at most a fifth of a second ago.

        It reports when none is left, and stops the sweep if none comes.

        Raises:
            Interrupted: If the sweep is to stop.
        """
        with self._lock:
            if not stop.is_set() and time.monotonic() - self._checked_at >= _POLL_SECONDS:
                self._present = self._ask_scheduler() - self._refused
                self._checked_at = time.monotonic()
                self._check_present(stop)
            if stop.is_set():
                raise launch.Interrupted
            return self._present

    def _ask_scheduler(self) -> frozenset[str]:
        """Return the addresses of all workers; the previous ones if the scheduler is too busy to answer."""
        try:
            scheduler: Any = self._client.scheduler
            answer: Any = self._client.sync(scheduler.ncores, callback_timeout=_ANSWER_SECONDS)
            return frozenset(answer)
        except (OSError, TimeoutError):
            return self._present

    def _check_present(self, stop: threading.Event) -> None:
        """Stop the sweep if the scheduler is gone, or if it has had no worker for too long."""
        if self._client.status in ("closed", "closing"):
            self._give_up(stop, _NO_SCHEDULER)
        elif self._present:
            self._no_worker_since = None
        elif self._no_worker_since is None:
            self._no_worker_since = time.monotonic()
            self._report(f"No worker is left; waiting {_NO_WORKER_SECONDS:.0f} s for one ({START} ADDRESS).")
        elif time.monotonic() - self._no_worker_since > _NO_WORKER_SECONDS:
            self._give_up(stop, "No worker came: stopping.")

    def _refuse(self, address: str, why: str) -> None:
        """Give a worker no more jobs."""
        with self._lock:
            self._refused.add(address)
            self._present -= {address}
        self._report(f"The worker at {address} {why}: it is given nothing.")

    def _give_up(self, stop: threading.Event, why: str) -> None:
        if not stop.is_set():
            stop.set()
            self._report(why)


def _files_of(job: TrialJob, outcome: dict[str, Any]) -> dict[str, bytes]:
    if outcome["interrupted"]:
        raise launch.Interrupted
    if outcome["failed"] is not None:
        _write_all(job.directory, outcome["files"])
        raise launch.Failed(outcome["failed"])
    return outcome["files"]


# A lambda travels by value, so that the scheduler, which unpickles what it passes on, needs no code of this project.
_run_job = lambda *arguments: importlib.import_module("flows.workers.dask_task").run_job(*arguments)  # noqa: E731


def _with_absolute_directory(trial: Trial) -> Trial:
    """Return the trial with absolute paths of its directories, since a worker may run in another directory."""
    persistent = trial.persistent
    directory = persistent.directory and persistent.directory.absolute()
    layers = tuple(layer.absolute() for layer in persistent.layers)
    absolute = persistent.model_copy(update={"directory": directory, "layers": layers})
    return trial.model_copy(update={"persistent": absolute})


def _write_all(directory: Path, files: dict[str, bytes]) -> None:
    """Write files, each in one step."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content, durable=True)
